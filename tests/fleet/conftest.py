"""One scripted fleet per test."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from tests.fleet.scripted import Lab, open_lab


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncGenerator[Lab]:
    """A fleet with four slots, in a project that is no git checkout."""
    async with open_lab(tmp_path) as lab:
        yield lab
        assert lab.provider.violations == []
