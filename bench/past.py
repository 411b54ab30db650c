"""A store with a past: agents that were created, worked a turn and rest, written by the store's own operations."""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import time
import uuid
from collections.abc import Mapping
from pathlib import Path

from orchestrator import paths
from orchestrator.domain.event import SessionEvent, ToolEnded, ToolStarted, Used
from orchestrator.domain.usage import Usage
from orchestrator.fleet.sessions.recorder import fact_of
from orchestrator.fleet.verbs.create import _START, new_id
from orchestrator.personas import find_persona
from orchestrator.store.agents import admission, lifecycle
from orchestrator.store.engine.database import Connection, Store, open_store
from orchestrator.store.turns import events, turns
from orchestrator.store.turns.events import Fact

SLICE = 500
OWNER = "a former daemon"
Values = Mapping[str, object]
RESULT = "## Places\n- `README.md:1` - A project. - because of it\n"
USAGE = {
    "input_tokens": 1000,
    "output_tokens": 100,
    "cache_read_tokens": 0,
    "cache_write_tokens": 0,
    "model_calls": 2,
    "context_tokens": 1100,
    "context_window_tokens": 200_000,
    "cost_usd": 0.01,
    "session_cost_usd": 0.01,
}
ENDED = {
    "status": "complete",
    "reason": "",
    "detail": "",
    "hint": "",
    "result": RESULT,
    "changes": None,
    "changes_unknown": "",
}


def give_past(state: Path, project: Path, count: int, *, facts: int = 4) -> None:
    """Write `count` resting agents, each with a turn of `facts` session events, where no daemon runs."""
    asyncio.run(_give(state, project, count, facts))


async def _give(state: Path, project: Path, count: int, facts: int) -> None:
    async with open_store(paths.database_path(state)) as store:
        common = _common(project)
        for start in range(0, count, SLICE):
            names = [f"past-{number:05d}" for number in range(start, min(start + SLICE, count))]
            await asyncio.gather(*(store.write(_live, common, name, facts) for name in names))


def _live(connection: Connection, common: Values, name: str, facts: int) -> None:
    """One agent's whole past."""
    claim = _begin(connection, common, name)
    events.append(connection, claim, session_facts(facts))
    turns.finish(connection, claim, ENDED, USAGE, time.time())


def _begin(connection: Connection, common: Values, name: str) -> turns.Claim:
    own = {"id": new_id("ag"), "name": name, "created_at": time.time(), "session_id": str(uuid.uuid4())}
    desk = f"{common['project']}/.fleet/desk/{own['id']}"
    lifecycle.create(connection, {**common, **own}, turn_id=new_id("tn"), inputs=[], desk=desk)
    rules = admission.Admission(owner=OWNER, slots=1 << 20, payable=lambda _account: True)
    (claim,) = admission.admit(connection, rules, time.time())
    return claim


def _common(project: Path) -> Values:
    """What the agents share."""
    persona = find_persona("scout", project, None)
    return {
        **_START,
        "project": str(project),
        "orchestrator": "mcp",
        "call_key": None,
        "persona": persona.name,
        "persona_body": dataclasses.asdict(persona),
        "provider": "claude",
        "model": persona.model,
        "task": "Find the places",
        "cwd": str(project),
        "checkout": str(project),
        "writes": persona.writes,
        "max_turns": None,
        "rehearsal": True,
        "account": "none",
        "account_public": {},
        "environment": {"HOME": str(project), "PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8"},
    }


def session_facts(count: int) -> list[Fact]:
    """What a working session reports: tool calls with their ends and the figures after each model call."""
    kinds = itertools.cycle([_started, _ended, _used])
    found = [fact_of(next(kinds)(number), time.time()) for number in range(count)]
    return [fact for fact in found if fact is not None]


def _started(number: int) -> SessionEvent:
    return ToolStarted(call_id=f"toolu_{number:024d}", tool="Read", summary="inventory/stock.py")


def _ended(number: int) -> SessionEvent:
    return ToolEnded(call_id=f"toolu_{number:024d}", tool="Read", ok=True, summary="22 lines")


def _used(number: int) -> SessionEvent:
    return Used(usage=Usage(input_tokens=number, output_tokens=number, context_tokens=20_000 + number, model_calls=1))


async def workers(store: Store, project: Path, count: int) -> list[turns.Claim]:
    """Claims of agents that work now."""
    common = _common(project)
    return [await store.write(_begin, common, f"now-{number:05d}") for number in range(count)]
