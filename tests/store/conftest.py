"""A world for each test."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from tests.store.world import World, open_world


@pytest.fixture
async def world(tmp_path: Path) -> AsyncGenerator[World]:
    """An empty store at noon."""
    async with open_world(tmp_path / "fleet.db") as world:
        yield world
