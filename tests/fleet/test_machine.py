"""Verbs, ends, questions and restarts in any order, against a small pure model."""

from __future__ import annotations

import asyncio
import dataclasses
import tempfile
from collections import Counter
from collections.abc import Coroutine
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule
from sqlalchemy import select

from orchestrator.domain.event import TERMINAL, Ended, SessionOutcome
from orchestrator.domain.tool import CallContext
from orchestrator.domain.turn import DeliveryMode
from orchestrator.errors import ConflictError, InvalidError
from orchestrator.store.schema.tables import AGENT, EVENT, LEASE, TURN
from orchestrator.store.waits.leases import CHECKOUT
from tests.fixtures.personas import define
from tests.fleet.model import Model, RefusedError
from tests.fleet.scripted import USED, Ask, Crash, Lab, ScriptedProvider, Step, eventually, open_lab

SLOTS = 2
NOON, HOUR = 1_800_000_000.0, 3600.0
FETCH = Ask("", tool="WebFetch", input={"url": "https://example.com", "prompt": "read"})
PERSONAS = {"hand": "tools: Read, Write\nask: [WebFetch]", "eye": "tools: Read\nask: [WebFetch]"}
ANSWERS = st.sampled_from(["allow", "always", "deny: not now", "this one"])
PICK = st.integers(0, 30)
MODES = st.sampled_from(list(DeliveryMode))


class FleetMachine(RuleBasedStateMachine):
    """Agents with few slots and one checkout, pushed around."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory(prefix="fleet-machine-")
        self.runner = asyncio.Runner()
        self.provider = ScriptedProvider(steerable=True)
        self.model = Model()
        self.now = NOON
        self.ids: dict[str, str] = {}
        self.opened: AbstractAsyncContextManager[Lab] = self._lab()
        self.lab = self.runner.run(self.opened.__aenter__())

    def _lab(self) -> AbstractAsyncContextManager[Lab]:
        place = Path(self.folder.name)
        for name, front in PERSONAS.items():
            define(place / "project", name, front)
        return open_lab(
            place,
            slots=SLOTS,
            rest_seconds=0.01,
            provider=self.provider,
            max_resumes=100,
            clock=lambda: self.now,
            FLEET_TURN_RETRIES=20,
        )

    def _close(self) -> None:
        self.runner.run(self._leave())

    async def _leave(self) -> None:
        await self.opened.__aexit__(None, None, None)

    def teardown(self) -> None:
        self._close()
        self.runner.close()
        self.folder.cleanup()

    def pick(self, number: int, *statuses: str) -> str | None:
        """An agent of one of these statuses."""
        names = [name for name, agent in self.model.agents.items() if not statuses or agent.status in statuses]
        return names[number % len(names)] if names else None

    def person(self) -> CallContext:
        """The call of a person: an orchestrator would have to look at a permission first."""
        return dataclasses.replace(self.lab.call(), person=True)

    def some(self, numbers: list[int]) -> list[str]:
        """Some agents, each once."""
        return list(dict.fromkeys(name for name in map(self.pick, numbers) if name is not None))

    def run(self, verb: Coroutine[object, object, object], *, refused: bool) -> None:
        """Carry the verb out, which must be taken or refused as the model says, then compare."""
        if refused:
            with pytest.raises((ConflictError, InvalidError)):
                self.runner.run(verb)
        else:
            self.runner.run(verb)
        self.runner.run(self.compare())

    @rule(writes=st.booleans(), numbers=st.lists(PICK, max_size=3))
    def create(self, writes: bool, numbers: list[int]) -> None:
        name, sources = f"a{len(self.model.agents)}", self.some(numbers)

        async def verb() -> None:
            inputs = [self.ids[source] for source in sources]
            made = await self.lab.create(name, persona="hand" if writes else "eye", inputs=inputs)
            self.ids[name] = made.agent.id

        self.model.create(name, writes=writes, inputs=sources)
        self.run(verb(), refused=False)

    @rule(number=PICK, mode=MODES, numbers=st.none() | st.lists(PICK, max_size=2), text=ANSWERS)
    def command(self, number: int, mode: DeliveryMode, numbers: list[int] | None, text: str) -> None:
        if (name := self.pick(number)) is None:
            return
        sources = None if numbers is None else self.some(numbers)
        inputs = None if sources is None else [self.ids[source] for source in sources]
        refused = False
        try:
            self.model.command(name, text, mode=mode, inputs=sources)
        except RefusedError:
            refused = True
        verb = self.lab.fleet.command(self.person(), self.ids[name], text, mode=mode, inputs=inputs)
        self.run(verb, refused=refused)

    @rule(number=PICK, ok=st.booleans())
    def end(self, number: int, ok: bool) -> None:
        if (name := self.pick(number, "working")) is None:
            return
        self.model.end_active(name, "complete" if ok else "failed")

        async def verb() -> None:
            (self.lab.finish if ok else self.lab.fail)(name)

        self.run(verb(), refused=False)

    @rule(number=PICK, what=st.sampled_from(["question", "permission"]))
    def ask(self, number: int, what: str) -> None:
        if (name := self.pick(number, "working")) is None:
            return
        self.model.ask(name, what)
        self.play(name, FETCH if what == "permission" else Ask("which one?"))

    def play(self, name: str, step: Step) -> None:
        """Let the agent do this, then compare."""

        async def verb() -> None:
            self.lab.play(name, step)

        self.run(verb(), refused=False)

    @rule(number=PICK, text=ANSWERS)
    def answer(self, number: int, text: str) -> None:
        if (name := self.pick(number)) is None:
            return
        refused = False
        try:
            self.model.answer(name, text)
        except RefusedError:
            refused = True
        self.run(self.lab.fleet.answer(self.person(), self.ids[name], text), refused=refused)

    @rule(number=PICK, how=st.sampled_from(["process", "silence"]))
    def session_dies(self, number: int, how: str) -> None:
        if (name := self.pick(number, "working")) is None:
            return
        self.model.lose(name)
        self.play(
            name, Ended(outcome=SessionOutcome.FAILED, reason=how, detail="it is gone", usage=USED, cost_usd=0.01)
        )

    @rule(number=PICK, how=st.sampled_from(["raises", "cancelled"]))
    def worker_dies(self, number: int, how: str) -> None:
        if (name := self.pick(number, "working")) is None:
            return
        self.model.end_active(name, "failed")
        self.play(name, Crash(RuntimeError("a bug") if how == "raises" else asyncio.CancelledError("a bug")))

    @rule(number=PICK)
    def overload(self, number: int) -> None:
        if (name := self.pick(number, "working")) is None:
            return
        self.model.pause(name)
        self.play(name, Ended(outcome=SessionOutcome.FAILED, reason="overloaded", detail="HTTP 529", usage=USED))

    @rule(hours=st.sampled_from([1, 24]))
    def time_passes(self, hours: int) -> None:
        self.model.time_comes()

        async def verb() -> None:
            self.now += hours * HOUR
            self.lab.context.work.notifier.publish()
            await eventually(self.nobody_is_due)

        self.run(verb(), refused=False)

    @rule(number=PICK)
    def interrupt(self, number: int) -> None:
        if (name := self.pick(number)) is None:
            return
        refused = False
        try:
            self.model.interrupt(name)
        except RefusedError:
            refused = True
        self.run(self.lab.fleet.interrupt(self.lab.call(), self.ids[name]), refused=refused)

    @rule(number=PICK)
    def delete(self, number: int) -> None:
        if (name := self.pick(number)) is None:
            return
        self.model.delete(name)
        self.run(self.lab.fleet.delete(self.lab.call(), [self.ids[name]]), refused=False)

    @rule(how=st.sampled_from(["killed", "told to end", "interrupted"]))
    def restart(self, how: str) -> None:
        async def verb() -> None:
            if how == "killed":
                await self.lab.die()
            if how == "interrupted":
                self.lab.fleet.interrupt_at_end()
            await self._leave()
            self.opened = self._lab()
            self.lab = await self.opened.__aenter__()

        self.model.stop(interrupts=how == "interrupted")
        self.run(verb(), refused=False)

    async def compare(self) -> None:
        """Once all is quiet the fleet stands where the model stands."""
        try:
            await eventually(self.quiet, seconds=30)
        except TimeoutError:
            raise AssertionError(f"it does not come to rest: {await self.statuses()}") from None
        for name, status in (await self.statuses()).items():
            if status == "working" and self.model.agents[name].state != "working":
                self.model.admit(name)
        assert await self.statuses() == {name: agent.status for name, agent in self.model.agents.items()}
        working = [agent for agent in self.model.agents.values() if agent.state == "working"]
        assert len(working) <= SLOTS
        if len(working) < SLOTS:
            assert [name for name in self.model.agents if self.model.could_run(name)] == []
        assert self.provider.violations == []
        await self.check_rows()

    async def statuses(self) -> dict[str, str]:
        return {row.name: row.status for row in await self.lab.rows(select(AGENT))}

    async def nobody_is_due(self) -> bool:
        """Whether the alarm has done all that the clock asks for."""
        waiting = await self.lab.rows(select(AGENT.c.wait_until).where(AGENT.c.status == "waiting"))
        return not any(at is not None and at <= self.now for (at,) in waiting)

    async def quiet(self) -> bool:
        """Whether every session waits for its script, and every other one's end is recorded."""
        if any(slot.busy and slot.stopping for slot in self.lab.slots()):
            return False
        at_work = [session for session in self.provider.sessions if session.running]
        running = {session.spec.agent_name for session in at_work if session.listens}
        working = {name for name, status in (await self.statuses()).items() if status == "working"}
        return (
            len(at_work) == len(running)
            and running == working
            and all(self.provider.script(name).empty() for name in running)
        )

    async def check_rows(self) -> None:
        """Events are dense, every ended turn has exactly one terminal event, the checkout has one writer."""
        events = await self.lab.rows(select(EVENT).order_by(EVENT.c.agent_id, EVENT.c.seq))
        turns = await self.lab.rows(select(TURN))
        held = await self.lab.rows(select(LEASE).where(LEASE.c.kind == CHECKOUT, LEASE.c.released_at.is_(None)))
        seqs: dict[str, list[int]] = {}
        for event in events:
            seqs.setdefault(event.agent_id, []).append(event.seq)
        assert all(found == list(range(1, len(found) + 1)) for found in seqs.values())
        terminal = Counter((event.agent_id, event.turn, event.kind) for event in events if event.kind in TERMINAL)
        ends = {
            (self.ids[name], ordinal, f"turn.{how}"): 1
            for name, agent in self.model.agents.items()
            for ordinal, how in agent.ends.items()
        }
        assert terminal == ends
        for name, agent in self.model.agents.items():
            rows = {turn.ordinal: turn.status for turn in turns if turn.agent_id == self.ids[name]}
            assert len(rows) == agent.turns
            assert {ordinal: rows[ordinal] for ordinal in agent.ends} == agent.ends
        writers = [self.ids[name] for name, agent in self.model.agents.items() if agent.writes and agent.active]
        assert [lease.agent_id for lease in held] == writers


TestFleetMachine = pytest.mark.requirement("agent:verbs:state-machine", "guarantee:session:one-live-per-agent")(
    FleetMachine.TestCase
)
TestFleetMachine.settings = settings(
    max_examples=15, stateful_step_count=18, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
