"""Measures what surrounds a session: starting it under supervision, and mirroring its transcript."""

from __future__ import annotations

import asyncio
import os
import time
import uuid
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from bench import machine
from bench.figures import Figure
from bench.past import workers
from bench.stage import Sizes, Stage, staged
from orchestrator.domain.event import Ended, SessionOutcome
from orchestrator.domain.tool import Allow, GateDecision, ToolCall
from orchestrator.errors import InvalidError
from orchestrator.fleet.sessions.transcripts import Transcripts
from orchestrator.providers.base import Prompt, Session, SessionSpec, TranscriptStore
from orchestrator.providers.claude.provider import ClaudeProvider
from orchestrator.store.engine.database import open_store
from orchestrator.supervision import tiers
from orchestrator.supervision.tiers import Tier

TURN = "Read five times, at once"
STARTS = "a session's start in supervision tier A against tier C, median of pairs"
MIRROR = "a turn of 5 tool calls with the mirror of its transcript against one without, median of pairs"
NO_TIER_A = "tier A does not work on this machine"
CALLS = 6
START_GOAL, MIRROR_GOAL_MS = 1.10, 5.0
"""the second is 1 % of a call of the model that takes 0.5 s: a fifth of what Fleet may add in all"""


@dataclass
class Taken:
    """Seconds by the clock, and CPU seconds of this process and all that descends from it."""

    wall: list[float] = field(default_factory=list[float])
    cpu: list[float] = field(default_factory=list[float])

    async def take(self, work: Awaitable[None]) -> None:
        """Do the work and keep what it took."""
        cpu, begun = machine.cpu_seconds(os.getpid()), time.perf_counter()
        await work
        self.wall.append(time.perf_counter() - begun)
        self.cpu.append(machine.cpu_seconds(os.getpid()) - cpu)


Pair = tuple[Taken, Taken]


def measure(sizes: Sizes) -> Iterator[Figure]:
    """Sessions of the provider itself, without a fleet around them; both sides take turns in one run."""
    with staged() as stage:
        found = asyncio.run(_starts(stage, sizes))
        if found is not None:
            yield from _figures("session.start", STARTS, found, ("tier A", "tier C"), {"p50": START_GOAL})
        else:
            print(f"  session.start: {NO_TIER_A}", flush=True)
        found = asyncio.run(_mirrored(stage, sizes))
        yield from _figures("session.mirror", MIRROR, found, ("mirrored", "not mirrored"), {})
        more = [1000 * (one - other) / CALLS for one, other in zip(found[0].wall, found[1].wall, strict=True)]
        yield Figure(
            key="session.mirror.more",
            row=MIRROR,
            unit="ms more a model call",
            samples=more,
            shown=("p50",),
            goal={"p50": MIRROR_GOAL_MS},
        )


def _figures(key: str, row: str, pair: Pair, names: tuple[str, str], goal: dict[str, float]) -> Iterator[Figure]:
    one, other = pair
    for part, kind, ones, others, limit in (
        ("x the time", "", one.wall, other.wall, goal),
        ("x the CPU", ".cpu", one.cpu, other.cpu, {}),
    ):
        ratios = [mine / theirs for mine, theirs in zip(ones, others, strict=True)]
        yield Figure(key=f"{key}{kind}", row=row, unit=part, samples=ratios, shown=("p50",), goal=limit)
    for name, taken in zip(names, pair, strict=True):
        suffix = name.replace(" ", "_")
        for kind, samples in (("wall", taken.wall), ("cpu", taken.cpu)):
            milliseconds = [1000 * seconds for seconds in samples]
            shown = ("min", "p50", "max")
            yield Figure(
                key=f"{key}.{suffix}.{kind}",
                row="",
                part=f"{name}, {kind}",
                unit="ms",
                samples=milliseconds,
                shown=shown,
            )


async def _starts(stage: Stage, sizes: Sizes) -> Pair | None:
    """New sessions by turns in both tiers, each started and closed."""
    path = stage.environment["PATH"]
    try:
        both = tiers.choose_tier("A", path), tiers.choose_tier("C", path)
    except InvalidError:
        return None
    pair = Taken(), Taken()
    for number in range(sizes.starts + 1):
        sides = list(zip(both, pair, strict=True))
        for tier, taken in sides if number % 2 else reversed(sides):
            kept = taken if number else Taken()  # the first ones read the program from the disk
            provider, opened = _provider(stage, tier), list[Session]()
            await kept.take(_open(provider, _spec(stage, "ag_start"), opened))
            await opened[0].close()
    return pair


async def _open(provider: ClaudeProvider, spec: SessionSpec, opened: list[Session]) -> None:
    opened.append(await provider.open(spec))


async def _mirrored(stage: Stage, sizes: Sizes) -> Pair:
    """The same turns in two sessions by turns, one of them mirrored into a store."""
    pair = Taken(), Taken()
    tier = tiers.choose_tier("", stage.environment["PATH"])
    async with open_store(Path(stage.root) / "mirror.db") as store:
        (claim,) = await workers(store, stage.project, 1)
        async with (
            _session(stage, tier, claim.agent_id, Transcripts(store)) as mirrored,
            _session(stage, tier, "ag_plain", None) as plain,
        ):
            sides = list(zip((mirrored, plain), pair, strict=True))
            for number in range(sizes.mirrored_turns + 1):
                for run, taken in sides if number % 2 else reversed(sides):
                    await (taken if number else Taken()).take(run())
    return pair


@asynccontextmanager
async def _session(
    stage: Stage, tier: Tier, agent_id: str, transcripts: TranscriptStore | None
) -> AsyncGenerator[Callable[[], Awaitable[None]]]:
    session = await _provider(stage, tier, transcripts).open(_spec(stage, agent_id))

    async def run() -> None:
        prompt = Prompt(id=str(uuid.uuid4()), text=TURN)
        ends = [event async for event in session.run(prompt) if isinstance(event, Ended)]
        assert ends[0].outcome is SessionOutcome.COMPLETE, ends

    try:
        yield run
    finally:
        await session.close()


def _provider(stage: Stage, tier: Tier, transcripts: TranscriptStore | None = None) -> ClaudeProvider:
    return ClaudeProvider(shim_dir=stage.root / "run", tier=tier, transcripts=transcripts)


def _spec(stage: Stage, agent_id: str) -> SessionSpec:
    """A scout's session that has never run."""
    return SessionSpec(
        agent_id=agent_id,
        agent_name="measured",
        persona="scout",
        session_id=str(uuid.uuid4()),
        resume=False,
        cwd=stage.project,
        folder=stage.root / "sessions" / uuid.uuid4().hex,
        system_prompt="You are measured.",
        environment={name: value for name, value in stage.environment.items() if not name.startswith("FLEET_")},
        decide=_allow,
        tools=("Read", "Grep", "Glob"),
        rehearsal=True,
    )


async def _allow(_call: ToolCall) -> GateDecision:
    return Allow()
