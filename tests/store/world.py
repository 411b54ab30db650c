"""A store with a clock that the test moves, and builders for the arguments of operations, with defaults.

The one place in tests/store that knows the signatures of operations and the shape of what they take.
"""

from __future__ import annotations

import asyncio
import itertools
import tempfile
from collections.abc import AsyncGenerator, Callable, Collection, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

from sqlalchemy import Executable, func, select

from orchestrator.domain.agent import Account, AgentSpec
from orchestrator.domain.budget import Headroom, Scope, Unit
from orchestrator.domain.durable_wait import NewDurableWait
from orchestrator.domain.persona import FLEET, Persona
from orchestrator.domain.question import AnsweredBy, NewQuestion, QuestionKind
from orchestrator.domain.tool import CallingTurn
from orchestrator.domain.turn import DeliveryMode, TurnResult, TurnStatus
from orchestrator.domain.usage import RunUsage, Usage
from orchestrator.domain.wait import QuotaRefusal, Wait, WaitKind
from orchestrator.store.agents import commands, lifecycle, orchestrator_waits
from orchestrator.store.agents.commands import Command, Commanded
from orchestrator.store.engine.connection import Connection
from orchestrator.store.engine.database import Store, open_store
from orchestrator.store.engine.migrate import migrate
from orchestrator.store.families import budgets
from orchestrator.store.families.children import ChildLimits
from orchestrator.store.scheduling.admission import Admission, admit
from orchestrator.store.schema.states import read_wait
from orchestrator.store.schema.tables import AGENT, BREAKER, DURABLE_WAIT, EVENT, INPUT, LEASE, QUESTION, TURN
from orchestrator.store.turns import recovery, turns
from orchestrator.store.turns.recovery import Loss
from orchestrator.store.turns.turns import Claim
from orchestrator.store.waits import durable_waits, inputs, leases, pauses

P = ParamSpec("P")
T = TypeVar("T")
NOON = 1_800_000_000.0
MINUTE, HOUR, DAY = 60.0, 3_600.0, 86_400.0
OWNER = "daemon-1"
PROJECT, ORCHESTRATOR = "/project", "host-1"
LIMITS = ChildLimits(agents=1_000, depth=5, children=20)


def agent_spec(
    name: str, now: float, *, writes: bool = False, scope: Scope = Scope.AGENT, account: str = "account-1", **more: Any
) -> AgentSpec:
    """A new agent, a reader in the project of everyone unless told otherwise."""
    tools = ("Read", *(["Write"] if writes else []), *([FLEET] if scope is Scope.SUBTREE else []))
    spec = AgentSpec(
        id=f"ag_{name}",
        name=name,
        project=PROJECT,
        orchestrator=ORCHESTRATOR,
        created_at=now,
        persona=Persona(name="scout", description="", prompt="", source="", tools=tools),
        provider="claude",
        model=None,
        task=f"the task of {name}",
        turn_id="",
        cwd=PROJECT,
        checkout=PROJECT,
        desks="/desks",
        session_id=f"session-{name}",
        account=Account(id=account, public={}, environment={}),
    )
    spec = replace(spec, **more)
    return replace(spec, turn_id=spec.id.replace("ag_", "tn_"))


def usage(tokens: int = 10, cost_usd: float | None = 0.01, *, model_calls: int = 1, **more: int) -> RunUsage:
    """What a run used: `tokens` of input, and one call of the model."""
    return RunUsage(tokens=Usage(input_tokens=tokens, model_calls=model_calls, **more), cost_usd=cost_usd)


NOTHING_USED = usage(0, 0.0, model_calls=0)


def ended(status: TurnStatus = TurnStatus.COMPLETE, reason: str = "", **more: Any) -> TurnResult:
    """How a turn ended."""
    return replace(TurnResult(status=status, reason=reason, result="done"), **more)


def asked(kind: QuestionKind, now: float, **more: Any) -> NewQuestion:
    """What an agent asks, in a call that is named after the kind."""
    question = NewQuestion(
        kind=kind,
        call_id=f"call-{kind}",
        tool="Bash",
        input={"command": "make"},
        text="which one?",
        asked_at=now,
        fallback="decide yourself",
    )
    return replace(question, **more)


def durable_wait(wait_id: str, now: float, **more: Any) -> NewDurableWait:
    """A durable wait of the orchestrator for all of its agents."""
    wait = NewDurableWait(id=wait_id, project=PROJECT, orchestrator=ORCHESTRATOR, until="all", expires_at=now + DAY)
    return replace(wait, **more)


@dataclass
class World:
    """An open store and the moment at which everything in it happens."""

    store: Store
    now: float = NOON
    numbers: Iterator[int] = field(default_factory=itertools.count)

    async def write(self, op: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run an operation in a transaction of its own."""
        return await self.store.write(op, *args, **kwargs)

    # agents and turns

    async def create(
        self, name: str = "a", *, parent: Claim | None = None, limits: ChildLimits = LIMITS, **spec: Any
    ) -> str:
        """Create an agent with its first turn and return its id: `ag_<name>`, or that of a child."""
        run = None if parent is None else CallingTurn(agent_id=parent.agent_id, epoch=parent.epoch)
        made, _ = await self.write(lifecycle.create, agent_spec(name, self.now, **spec), limits, run)
        return made

    async def admit(
        self, slots: int = 100, owner: str = OWNER, payable: Callable[[str], bool] = lambda _: True
    ) -> dict[str, Claim]:
        """Claim all that may start now, by agent id, in the order of admission."""
        claims = await self.write(admit, Admission(owner=owner, slots=slots, payable=payable), self.now)
        return {claim.agent_id: claim for claim in claims}

    async def start(self, name: str = "a", **options: Any) -> Claim:
        """Create an agent that starts at once, with all others that may."""
        made = await self.create(name, **options)
        return (await self.admit())[made]

    async def queue(self, agent_id: str, prompt: str = "more") -> str:
        """Queue one more turn and return its id."""
        turn_id = f"tn_more_{next(self.numbers)}"
        await self.write(turns.queue_turn, agent_id, turn_id=turn_id, prompt=prompt, now=self.now)
        return turn_id

    async def admit_more(self, agent_id: str) -> dict[str, Claim]:
        """Queue one more turn of the agent and claim all that may start."""
        await self.queue(agent_id)
        return await self.admit()

    async def command(
        self, agent_id: str, text: str = "more", mode: DeliveryMode = DeliveryMode.QUEUE, **more: Any
    ) -> Commanded:
        """Send a command."""
        values: dict[str, Any] = {
            "inputs": None,
            "turn_id": f"tn_command_{next(self.numbers)}",
            "call_key": None,
            "account": Account(id="account-1", public={}, environment={}),
        }
        return await self.write(
            commands.command, Command(agent_id=agent_id, text=text, mode=mode, **{**values, **more}), self.now
        )

    async def finish(
        self,
        claim: Claim,
        status: TurnStatus = TurnStatus.COMPLETE,
        reason: str = "",
        used: RunUsage | None = None,
        **more: Any,
    ) -> None:
        """End the claimed turn."""
        await self.write(turns.finish, claim, ended(status, reason, **more), used or usage(), self.now)

    async def lose(
        self, claim: Claim, reason: str = "process", *, counts: bool = True, max_resumes: int = 3, **more: Any
    ) -> TurnResult | None:
        """Give the claimed run up, as lost."""
        loss = Loss(reason=reason, detail="it is gone", counts=counts)
        return await self.write(recovery.give_up_run, claim, loss, usage(**more), self.now, max_resumes)

    async def take_over(self, owner: str = "daemon-2", max_resumes: int = 3) -> list[str]:
        """Start a new daemon after the former one died."""
        return await self.write(recovery.take_over, owner, self.now, max_resumes)

    async def delete(self, agent_id: str) -> str:
        """Delete one agent."""
        return await self.write(lifecycle.delete, agent_id, self.now)

    # suspending and resuming

    async def ask(self, claim: Claim, kind: QuestionKind = QuestionKind.QUESTION, **more: Any) -> str:
        """Let the agent wait for an answer, and return the question's id."""
        question = asked(kind, self.now, **more)
        await self.write(turns.suspend_for_answer, claim, question, usage(), self.now)
        return str((await self.open_questions(claim.agent_id))[0].id)

    async def answer(
        self, agent_id: str, text: str = "this one", by: AnsweredBy = AnsweredBy.PERSON, question_id: str | None = None
    ) -> None:
        """Answer what the agent asks."""
        await self.write(turns.answer, agent_id, text, self.now, by=by, question_id=question_id)

    async def wait_for_children(self, claim: Claim) -> None:
        """Let the agent wait for its children."""
        question = asked(QuestionKind.CHILDREN, self.now)
        await self.write(turns.suspend_for_children, claim, question, usage(), self.now)

    async def wait_for_agents(self, claim: Claim, refusal: str = "", **more: Any) -> str:
        """Let an orchestrator that Fleet runs wait for its agents, and return the id of its durable wait."""
        question = asked(QuestionKind.AGENTS, self.now)
        wait = durable_wait(f"sl_{next(self.numbers)}", self.now, **more)
        await self.write(orchestrator_waits.suspend, claim, question, wait, usage(), self.now, refusal=refusal)
        return wait.id

    async def begin_wait(self, wait_id: str, **more: Any) -> str:
        """Begin a durable wait of an orchestrator outside, and return the id that stands for it."""
        return await self.write(durable_waits.begin, durable_wait(wait_id, self.now, **more), self.now)

    async def pause(self, claim: Claim, wait: Wait, *, prompt_received: bool = True, **used: Any) -> None:
        """Suspend the turn with this wait."""
        await self.write(turns.suspend_turn, claim, wait, usage(**used), self.now, prompt_received=prompt_received)

    async def refuse(self, claim: Claim, resets_at: float | None = None, *, ends: bool = True) -> None:
        """Suspend the turn because its account is refused."""
        told = QuotaRefusal(resets_at=resets_at, detail="the limit is reached", ends=ends)
        await self.write(turns.suspend_for_quota, claim, told, usage(), self.now)

    async def wake(self) -> list[str]:
        """Let those go on whose time has come; their ids."""
        return await self.write(pauses.wake, self.now)

    async def next_wake(self) -> float | None:
        """When the next of those that wait for a time goes on."""
        return await self.store.read(pauses.next_wake)

    async def set_inputs(self, agent_id: str, turn: int, sources: Sequence[str]) -> None:
        """Give the turn these inputs."""
        await self.write(inputs.set_inputs, agent_id, turn, sources)

    # what is there now

    async def rows(self, query: Executable) -> Sequence[Any]:
        """What a statement finds."""
        return await self.store.read(lambda connection: connection.execute(query).all())

    async def agent(self, agent_id: str) -> Any:
        """The agent's row."""
        return (await self.rows(select(AGENT).where(AGENT.c.id == agent_id)))[0]

    async def status(self, agent_id: str) -> str:
        """The agent's status."""
        return str((await self.agent(agent_id)).status)

    async def statuses(self) -> dict[str, str]:
        """Every agent's status, by name."""
        rows = await self.rows(select(AGENT.c.name, AGENT.c.status).order_by(AGENT.c.created_at, AGENT.c.id))
        return {row.name: str(row.status) for row in rows}

    async def wait(self, agent_id: str) -> Wait | None:
        """What the agent waits for."""
        row = await self.agent(agent_id)
        return read_wait(row.wait_kind, row.wait_on, row.wait_until, row.wait_detail, blocked=bool(row.wait_blocked))

    async def waits_for(self, agent_id: str) -> WaitKind | None:
        """What kind of wait that is."""
        wait = await self.wait(agent_id)
        return wait.kind if wait else None

    async def turns(self, agent_id: str) -> Sequence[Any]:
        """The agent's turns, in order."""
        return await self.rows(select(TURN).where(TURN.c.agent_id == agent_id).order_by(TURN.c.ordinal))

    async def turn(self, turn_id: str) -> Any:
        """One turn."""
        return (await self.rows(select(TURN).where(TURN.c.id == turn_id)))[0]

    async def events(self, agent_id: str | None = None) -> Sequence[Any]:
        """The events of one agent, or of all, in the order of their cursors."""
        query = select(EVENT).order_by(EVENT.c.id)
        return await self.rows(query if agent_id is None else query.where(EVENT.c.agent_id == agent_id))

    async def kinds(self, agent_id: str) -> list[str]:
        """The kinds of the agent's events."""
        return [str(event.kind) for event in await self.events(agent_id)]

    async def inputs(self, agent_id: str) -> dict[str, str]:
        """What became of the inputs of the agent's turns, by source: open, settled or blocked."""
        rows = await self.rows(
            select(INPUT).where(INPUT.c.agent_id == agent_id).order_by(INPUT.c.turn, INPUT.c.position)
        )
        return {row.source_id: "settled" if row.settled else "blocked" if row.blocked else "open" for row in rows}

    async def held(self, kind: str = leases.CHECKOUT) -> dict[str, str]:
        """Who holds what of this kind, by its name."""
        rows = await self.rows(select(LEASE).where(LEASE.c.kind == kind, LEASE.c.released_at.is_(None)))
        assert len({row.name for row in rows}) == len(rows)
        return {row.name: row.agent_id for row in rows}

    async def questions(self, agent_id: str) -> Sequence[Any]:
        """All that the agent ever asked, in order."""
        return await self.rows(select(QUESTION).where(QUESTION.c.agent_id == agent_id).order_by(QUESTION.c.asked_at))

    async def open_questions(self, agent_id: str) -> Sequence[Any]:
        """What the agent asks now."""
        return [row for row in await self.questions(agent_id) if row.state == "open"]

    async def durable_wait(self, wait_id: str) -> Any:
        """The row of a durable wait."""
        return (await self.rows(select(DURABLE_WAIT).where(DURABLE_WAIT.c.id == wait_id)))[0]

    async def breakers(self) -> dict[str, Any]:
        """The accounts that are refused, by account."""
        return {row.account: row for row in await self.rows(select(BREAKER))}

    async def headroom(self, agent_id: str) -> dict[tuple[str, Unit], Headroom]:
        """Every cap that applies to the agent, by the id of its owner and its unit."""
        found = await self.store.read(lambda connection: budgets.rooms(connection, agent_id, self.now))
        return {(room.subject, room.unit): room for room in found}

    async def count(self, *tables: str) -> list[int]:
        """How many rows these tables have."""
        found = AGENT.metadata.tables
        return [(await self.rows(select(func.count()).select_from(found[name])))[0][0] for name in tables]


def nobody_pays(account: str) -> bool:
    """That no account's secrets are at hand."""
    return False


def names(claims: Collection[str]) -> list[str]:
    """The names of these agents, given by the ids of agents without parents."""
    return [agent_id.removeprefix("ag_") for agent_id in claims]


@cache
def _empty_database() -> bytes:
    """An empty database of the newest schema; to make one takes ten times as long as to copy it."""
    with tempfile.TemporaryDirectory(prefix="fleet-world-") as folder:
        path = Path(folder) / "empty.db"
        asyncio.run(migrate(path))
        return path.read_bytes()


@asynccontextmanager
async def open_world(path: Path) -> AsyncGenerator[World]:
    """A world in this file, which is made if it is not there."""
    if not path.exists():
        path.write_bytes(await asyncio.to_thread(_empty_database))
    async with open_store(path) as store:
        yield World(store)
