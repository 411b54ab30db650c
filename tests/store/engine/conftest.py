"""Every engine, and an empty store of it."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from orchestrator.store.engine.database import Store
from tests.store.engine.driver import DRIVERS, Driver


@pytest.fixture(params=sorted(DRIVERS))
def engine(request: pytest.FixtureRequest) -> str:
    """The name of the engine under test."""
    return str(request.param)


@pytest.fixture
def driver(engine: str) -> Driver:
    """The engine under test."""
    return DRIVERS[engine]


@pytest.fixture
async def store(driver: Driver, tmp_path: Path) -> AsyncGenerator[Store]:
    """An empty store."""
    async with driver.open(tmp_path / "fleet.db") as store:
        yield store
