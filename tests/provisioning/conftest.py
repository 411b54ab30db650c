"""A repository, and the place where Fleet keeps what it knows of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fixtures.repositories import repository


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """Where Fleet keeps its own git directories."""
    place = tmp_path / "state"
    place.mkdir()
    return place


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A repository with one commit."""
    return repository(tmp_path / "checkout")
