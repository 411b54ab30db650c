"""Admission against a small pure model: only agents that may start do, and none that may start is left behind."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

from orchestrator.domain.turn import TurnStatus
from orchestrator.domain.wait import WaitKind
from orchestrator.store.agents import lifecycle
from orchestrator.store.turns.turns import Claim
from tests.store.world import World, names, open_world

SLOTS = 3
PICK = st.integers(0, 30)
CHECKOUTS = ("/left", "/left/inner", "/right")
ACCOUNTS = ("home", "home", "home", "away")


@dataclass(eq=False)
class Queued:
    """What the model knows of an agent; `state`: queued, working, asking, away, ended or deleted."""

    name: str
    priority: int
    checkout: str | None
    """where it writes"""
    account: str
    sources: dict[str, str]
    """open, settled or blocked, by name"""
    state: str = "queued"
    begun: bool = False
    """it is in the middle of a turn, so it holds its checkout"""
    turns: int = 1
    """how many are open"""


def _overlap(one: str | None, other: str) -> bool:
    return one is not None and (f"{one}/".startswith(f"{other}/") or f"{other}/".startswith(f"{one}/"))


@dataclass
class Queue:
    """The fleet as it must be."""

    agents: dict[str, Queued] = field(default_factory=dict[str, Queued])
    at_hand: set[str] = field(default_factory=lambda: {"home"})

    def of(self, *states: str) -> list[Queued]:
        """The agents in these states."""
        return [agent for agent in self.agents.values() if agent.state in states]

    def holder(self, checkout: str) -> Queued | None:
        """Who has begun to write there, inside or around it."""
        return next((one for one in self.agents.values() if one.begun and _overlap(one.checkout, checkout)), None)

    def is_ready(self, agent: Queued) -> bool:
        """Whether its inputs are there."""
        return agent.state == "queued" and (agent.begun or set(agent.sources.values()) <= {"settled"})

    def may_start(self, agent: Queued) -> bool:
        """Whether nothing but a slot is missing."""
        holder = self.holder(agent.checkout) if agent.checkout else None
        return self.is_ready(agent) and agent.account in self.at_hand and holder in {None, agent}

    def leave_for_accounts(self) -> None:
        """Whose inputs are there and whose account is not leaves the queue."""
        for agent in self.of("queued"):
            if self.is_ready(agent) and agent.account not in self.at_hand:
                agent.state = "away"

    def opened(self, name: str) -> None:
        """The agent has an open turn again, or one more."""
        for waiter in self.agents.values():
            if waiter.sources.get(name) == "blocked":
                waiter.sources[name] = "open"

    def ended(self, name: str, result: str) -> None:
        """No turn of the agent is open any more."""
        for waiter in self.agents.values():
            if waiter.sources.get(name) in {"open", "blocked"} and waiter.state != "deleted":
                waiter.sources[name] = result


class AdmissionMachine(RuleBasedStateMachine):
    """Few slots, two checkouts, inputs, an account that comes and goes."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory(prefix="fleet-admission-")
        self.runner = asyncio.Runner()
        self.opened: AbstractAsyncContextManager[World] = open_world(Path(self.folder.name) / "fleet.db")
        self.world = self.runner.run(self.opened.__aenter__())
        self.queue = Queue()
        self.claims: dict[str, Claim] = {}

    def teardown(self) -> None:
        self.runner.run(self._close())
        self.runner.close()
        self.folder.cleanup()

    async def _close(self) -> None:
        await self.opened.__aexit__(None, None, None)

    def pick(self, number: int, *states: str) -> Queued | None:
        """An agent in one of these states."""
        found = self.queue.of(*states)
        self.world.now += 1
        return found[number % len(found)] if found else None

    @rule(
        priority=st.integers(-1, 1),
        checkout=st.none() | st.sampled_from(CHECKOUTS),
        account=st.sampled_from(ACCOUNTS),
        numbers=st.lists(PICK, max_size=2),
    )
    def create(self, priority: int, checkout: str | None, account: str, numbers: list[int]) -> None:
        name = f"a{len(self.queue.agents)}"
        living = self.queue.of("queued", "working", "asking", "away", "ended")
        sources = [living[number % len(living)] for number in numbers] if living else []
        told = {source.name: "settled" if source.state == "ended" else "open" for source in sources}
        self.queue.agents[name] = Queued(name, priority, checkout, account, told)
        self.runner.run(
            self.world.create(
                name,
                priority=priority,
                writes=checkout is not None,
                checkout=checkout or "/project",
                account=account,
                inputs=[f"ag_{source}" for source in told],
            )
        )

    @rule(number=PICK, status=st.sampled_from([TurnStatus.COMPLETE, TurnStatus.FAILED, TurnStatus.INTERRUPTED]))
    def end(self, number: int, status: TurnStatus) -> None:
        if (agent := self.pick(number, "working")) is None:
            return
        agent.begun, agent.turns = False, agent.turns - 1
        agent.state = "queued" if agent.turns else "ended"
        agent.sources = {}  # of a turn that is over
        if not agent.turns:
            self.queue.ended(agent.name, "settled" if status is TurnStatus.COMPLETE else "blocked")
        self.runner.run(self.world.finish(self.claims.pop(agent.name), status))

    @rule(number=PICK)
    def queue_one_more(self, number: int) -> None:
        if (agent := self.pick(number, "queued", "working", "asking", "ended")) is None:
            return
        agent.turns += 1
        agent.state = "queued" if agent.state == "ended" else agent.state
        self.queue.opened(agent.name)
        self.runner.run(self.world.queue(f"ag_{agent.name}"))

    @rule(number=PICK)
    def ask(self, number: int) -> None:
        if (agent := self.pick(number, "working")) is None:
            return
        agent.state = "asking"
        self.runner.run(self.world.ask(self.claims.pop(agent.name)))

    @rule(number=PICK)
    def answer(self, number: int) -> None:
        if (agent := self.pick(number, "asking")) is None:
            return
        agent.state = "queued"
        self.runner.run(self.world.answer(f"ag_{agent.name}"))

    @rule(number=PICK)
    def delete(self, number: int) -> None:
        if (agent := self.pick(number, "queued", "asking", "away", "ended")) is None:
            return
        agent.state, agent.begun = "deleted", False
        self.queue.ended(agent.name, "blocked")
        self.runner.run(self.world.delete(f"ag_{agent.name}"))

    @rule(comes=st.booleans())
    def account(self, comes: bool) -> None:
        self.world.now += 1
        if not comes:
            self.queue.at_hand.discard("away")
            return
        self.queue.at_hand.add("away")
        for agent in self.queue.of("away"):
            agent.state = "queued"
        self.runner.run(self.world.write(lifecycle.account_arrived, "away", self.world.now))

    @rule(slots=st.integers(1, SLOTS))
    def admit(self, slots: int) -> None:
        self.world.now += 1
        self.queue.leave_for_accounts()
        before = {agent.name for agent in self.queue.agents.values() if self.queue.may_start(agent)}
        claims = self.runner.run(self.world.admit(slots, payable=self.queue.at_hand.__contains__))
        started = names(claims)
        assert set(started) <= before
        for name in started:
            agent = self.queue.agents[name]
            assert self.queue.may_start(agent), f"{name} shares a checkout with {agent.checkout}"
            agent.state, agent.begun = "working", True
            self.claims[name] = claims[f"ag_{name}"]
        working = len(self.queue.of("working"))
        left = [agent for agent in self.queue.of("queued") if self.queue.may_start(agent)]
        if started:
            assert working <= slots
        if working < slots:
            assert left == []
        for agent in left:
            assert all(self.queue.agents[name].priority >= agent.priority for name in started)
        self.runner.run(self.compare())

    async def compare(self) -> None:
        """The rows say what the model says, and why each one waits."""
        words = {"asking": "waiting", "away": "waiting"}
        statuses = await self.world.statuses()
        for name, agent in self.queue.agents.items():
            if agent.state != "ended":
                assert statuses[name] == words.get(agent.state, agent.state)
        held = await self.world.held()
        assert held == {agent.checkout: f"ag_{agent.name}" for agent in self.writers()}
        for agent in self.queue.of("queued"):
            kind = await self.world.waits_for(f"ag_{agent.name}")
            if not self.queue.is_ready(agent):
                assert kind is WaitKind.INPUTS
            elif self.queue.may_start(agent):
                assert kind is WaitKind.SLOT

    def writers(self) -> Iterator[Queued]:
        """Who has begun to write."""
        return (agent for agent in self.queue.agents.values() if agent.begun and agent.checkout)


TestAdmission = pytest.mark.requirement("limit:slots:others-queued")(AdmissionMachine.TestCase)
TestAdmission.settings = settings(
    max_examples=25, stateful_step_count=30, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
