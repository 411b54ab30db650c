"""The contract with the real `claude` program, and what is peculiar to it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from orchestrator import rehearsal
from orchestrator.providers.base import Session
from orchestrator.providers.claude import ClaudeProvider
from orchestrator.providers.silence import Limits

from .contract import Contract
from .lab import Lab, Vendor

pytestmark = pytest.mark.anyio

MODEL = "claude-haiku-4-5"


def environment(url: str, home: Path) -> dict[str, str]:
    return {
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "HOME": str(home),
        "LANG": "C.UTF-8",
        "ANTHROPIC_BASE_URL": url,
        "ANTHROPIC_API_KEY": "not-a-key",
    }


def make(place: Path) -> ClaudeProvider:
    return ClaudeProvider(shim_dir=place / "shim dir's", max_retries=1)


VENDOR = Vendor(
    make=make,
    script=Path(__file__).with_name("scripts") / "claude.yaml",
    environment=environment,
    model=MODEL,
    shell="Bash",
    ask="mcp__crew__ask",
)


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[rehearsal.Rehearsal]:
    with rehearsal.start(VENDOR.script, log=tmp_path_factory.mktemp("endpoint") / "log.jsonl") as running:
        yield running


@pytest.fixture
async def lab(endpoint: rehearsal.Rehearsal, tmp_path: Path) -> AsyncIterator[Lab]:
    (tmp_path / "work").mkdir()
    lab = Lab(VENDOR, endpoint, tmp_path)
    yield lab
    await lab.close()


@pytest.fixture
async def impatient(lab: Lab) -> Session:
    """A session that is watched with short limits."""
    limits = Limits(stall_seconds=1, silence_seconds=2, tool_seconds=20)
    return await lab.open(lab.spec(), ClaudeProvider(shim_dir=lab.place / "shim", max_retries=1, limits=limits))


class TestClaude(Contract):
    """Every behaviour of the contract."""
