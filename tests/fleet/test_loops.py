"""The loops that run beside the turns: one that fails is logged and begins again, and the others are not held up."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import anyio
import pytest
import structlog

from orchestrator.errors import StoreError
from orchestrator.fleet.maintenance.loops import Loops

pytestmark = pytest.mark.anyio
PATIENCE_SECONDS = 30.0


@dataclass
class FailingLoop:
    """Ends as it is told, run after run: with this error, or by returning; works from then on."""

    name: str
    ends: list[Exception | None]
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    works: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(self) -> None:
        """End as long as ends are left."""
        if self.ends:
            self.ended.set()
            if (error := self.ends.pop(0)) is not None:
                raise error
            return
        self.works.set()
        await asyncio.Event().wait()


@dataclass
class SteadyLoop:
    """Does a round whenever it is asked for one."""

    name: str = "steady"
    starts: int = 0
    asked: asyncio.Queue[asyncio.Event] = field(default_factory=asyncio.Queue[asyncio.Event])

    async def run(self) -> None:
        """Do rounds."""
        self.starts += 1
        while True:
            (await self.asked.get()).set()

    async def do_round(self) -> None:
        """Ask for a round and return once it is done."""
        done = asyncio.Event()
        self.asked.put_nowait(done)
        await done.wait()


@pytest.mark.requirement("daemon:loops:survive-failures")
async def test_a_loop_that_ends_is_logged_and_run_again_while_the_others_work() -> None:
    broken = FailingLoop("broken", [ZeroDivisionError("one row"), StoreError("the disk is full"), None])
    steady = SteadyLoop()
    loops = Loops((broken, steady))
    with structlog.testing.capture_logs() as logged, anyio.fail_after(PATIENCE_SECONDS):
        loops.start()
        await broken.ended.wait()
        await steady.do_round()
        await broken.works.wait()
        await steady.do_round()
        await loops.aclose()
    assert steady.starts == 1
    assert [(line["event"], line["loop"], line["log_level"]) for line in logged] == [
        ("loop_failed", "broken", "error"),
        ("loop_without_database", "broken", "warning"),
        ("loop_ended", "broken", "error"),
    ]
