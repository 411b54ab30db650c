"""The vendor's own conformance test of session stores, on Fleet's mirror: one agent per conversation."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AsyncExitStack
from itertools import count
from pathlib import Path
from typing import cast

import pytest
from claude_agent_sdk import SessionKey, SessionStore, SessionStoreEntry
from claude_agent_sdk.testing import run_session_store_conformance

from orchestrator.fleet.sessions.transcripts import Transcripts
from orchestrator.providers.claude.transcript.mirror import mirror
from orchestrator.providers.claude.transcript.restore import CHUNK_BYTES, restore
from orchestrator.store.engine.database import Store, open_store
from tests.store.engine.driver import create

pytestmark = pytest.mark.anyio


class Household(SessionStore):
    """Every conversation is an agent's own: appended through its mirror, loaded the way it is written back."""

    def __init__(self, store: Store, place: Path) -> None:
        self.store, self.place = store, place
        self.agents: dict[tuple[str, str], str] = {}

    async def append(self, key: SessionKey, entries: list[SessionStoreEntry]) -> None:
        """As the program's lines come."""
        whose = (key["project_key"], key["session_id"])
        if whose not in self.agents:
            self.agents[whose] = await self.store.write(create, len(self.agents) + 1)
        await mirror(Transcripts(self.store), self.agents[whose]).append(key, entries)

    async def load(self, key: SessionKey) -> list[SessionStoreEntry] | None:
        """What lies in a fresh configuration folder once the transcript is written back there."""
        agent = self.agents.get((key["project_key"], key["session_id"]))
        if agent is None:
            return None
        restored = await restore(self.place, self.place, key["session_id"], Transcripts(self.store), agent)
        if restored is None:
            return None
        written = self.place / restored
        if subpath := key.get("subpath"):
            written = written.with_suffix("") / f"{subpath}.jsonl"
        if not written.exists():
            return None
        return [json.loads(line) for line in written.read_text().splitlines()]


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as stack:
        yield stack


@pytest.mark.requirement("recovery:session:fresh-home-other-cwd", "session:mirror:vendor-contracts")
async def test_the_mirror_keeps_the_contracts_of_the_vendors_session_stores(
    tmp_path: Path, stack: AsyncExitStack
) -> None:
    numbers = count(1)

    async def fresh() -> SessionStore:
        place = tmp_path / str(next(numbers))
        place.mkdir()
        store = await stack.enter_async_context(open_store(place / "fleet.db"))
        return Household(store, place)  # pyright: ignore[reportAbstractUsage] - the SDK's own defaults say "not supported"

    await run_session_store_conformance(fresh)
    assert next(numbers) > 6, "each contract has a store of its own"


async def test_a_line_that_is_sent_again_is_kept_once_and_a_name_that_leads_out_is_not_written(
    tmp_path: Path, stack: AsyncExitStack
) -> None:
    store = await stack.enter_async_context(open_store(tmp_path / "fleet.db"))
    place = tmp_path / "config"
    household = Household(store, place)  # pyright: ignore[reportAbstractUsage] - as above
    key: SessionKey = {"project_key": "p", "session_id": "s"}
    entries: list[SessionStoreEntry] = [{"type": "user", "uuid": "u1"}, {"type": "assistant", "uuid": "u2"}]
    await household.append(key, entries)
    await household.append(key, entries)
    assert await household.load(key) == entries
    await household.append({**key, "subpath": "../../../out"}, [{"type": "user", "uuid": "u3"}])
    assert await household.load(key) == entries
    assert [path.name for path in tmp_path.rglob("*.jsonl")] == ["s.jsonl"]


class Broken(Transcripts):
    """A store that fails in the middle of a conversation."""

    def __init__(self, store: Store, error: Exception) -> None:
        super().__init__(store)
        self.error = error

    async def lines(self, agent_id: str, subpath: str) -> AsyncGenerator[str]:
        async for line in super().lines(agent_id, subpath):
            yield line
        raise self.error


@pytest.mark.parametrize("error", [ValueError("a line is damaged"), OSError("the disk is gone")])
async def test_a_store_that_cannot_be_read_restores_nothing_and_says_so_itself(
    tmp_path: Path, stack: AsyncExitStack, error: Exception
) -> None:
    store = await stack.enter_async_context(open_store(tmp_path / "fleet.db"))
    agent = await store.write(create, 1)
    key: SessionKey = {"project_key": "p", "session_id": "s"}
    await mirror(Transcripts(store), agent).append(key, [{"type": "user", "uuid": "u1"}])
    folder = tmp_path / "folder"
    with pytest.raises(type(error)) as caught:
        await restore(folder, tmp_path, "s", Broken(store, error), agent)
    assert caught.value is error
    assert [path for path in folder.rglob("*") if path.is_file()] == []


async def test_a_transcript_of_many_chunks_is_restored_as_it_was(tmp_path: Path, stack: AsyncExitStack) -> None:
    store = await stack.enter_async_context(open_store(tmp_path / "fleet.db"))
    household = Household(store, tmp_path / "config")  # pyright: ignore[reportAbstractUsage] - as above
    key: SessionKey = {"project_key": "p", "session_id": "s"}
    long = {"content": "x" * (CHUNK_BYTES // 2)}
    entries = [cast("SessionStoreEntry", {"type": "user", "uuid": f"u{number}", **long}) for number in range(5)]
    await household.append(key, entries)
    assert await household.load(key) == entries
