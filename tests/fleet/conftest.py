"""A scripted fleet for each test."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator
from pathlib import Path

import pytest
import structlog

from tests.fleet.scripted import Lab, open_lab


@pytest.fixture(autouse=True)
def _quiet_log() -> Iterator[None]:
    """Keep the log in memory: drawing a traceback for a terminal takes seconds."""
    with structlog.testing.capture_logs():
        yield


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncGenerator[Lab]:
    """A fleet with four slots, in a project that is not a git checkout."""
    async with open_lab(tmp_path) as lab:
        yield lab
        assert lab.provider.violations == []
