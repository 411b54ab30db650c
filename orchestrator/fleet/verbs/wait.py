"""Sleeping: wait until agents are done or one needs the orchestrator. A wake is a bell, never a poll."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from orchestrator.domain.activity import DOUBTFUL, activity_words
from orchestrator.domain.agent import ENDED, OPEN, Status
from orchestrator.domain.durable_wait import MAX_WAIT_SECONDS, UNTIL
from orchestrator.domain.text import one_line
from orchestrator.domain.tool import Call
from orchestrator.domain.wait import ANSWERS, WaitKind
from orchestrator.errors import ConflictError, InvalidError, NotFoundError
from orchestrator.fleet.context import FleetContext
from orchestrator.fleet.lookup import cursor_of, find_all
from orchestrator.fleet.projections import agent_views
from orchestrator.fleet.projections.digest import Awake, digest_text, shown_needs
from orchestrator.fleet.verbs import catch_up, children
from orchestrator.fleet.views import AgentView, Changes, Digest, OutcomeView
from orchestrator.provisioning.changes import ChangesUnknownError, checkout_of, place
from orchestrator.store.engine.database import Connection
from orchestrator.store.queries import agents as agent_queries
from orchestrator.store.schema.states import activity_of, wait_of
from orchestrator.store.schema.tables import Agent, Turn
from orchestrator.store.schema.transitions import owner_name

PROGRESS_SECONDS = 20.0
REREAD_SECONDS = 2.0
ARRIVAL_SECONDS = 2.0
"""a wait may overtake the creates of its own message by this much"""
MAX_QUIET_CHARACTERS = 160


@dataclass(frozen=True, kw_only=True)
class Seen:
    """One look at the agents that somebody waits for."""

    agents: Sequence[Agent]
    cursor: int
    since: int | None
    asks_person: bool = False
    """questions wait for a person, so they end no sleep"""
    by_client: bool = True
    """a client looks, whose door has brought its account; else an agent that waits for one may yet be served"""

    def fresh(self, agent: Agent) -> bool:
        """Whether the agent has an outcome that its orchestrator does not know yet."""
        known = agent.ended_cursor <= self.since if self.since is not None else not agent_views.unread(agent)
        return Status(agent.status) in ENDED and not known

    def needs(self, agent: Agent) -> bool:
        """Whether the agent waits until its orchestrator acts."""
        wait = wait_of(agent)
        if wait is None or not wait.is_needy or wait.kind in self._left_to_others:
            return False
        return wait.kind is not WaitKind.CHECKOUT or wait.on not in self._asking  # their own questions are told

    @property
    def _left_to_others(self) -> frozenset[WaitKind]:
        """What the person answers, and what a door may yet bring."""
        by_person = ANSWERS | {WaitKind.CHECKOUT} if self.asks_person else frozenset[WaitKind]()
        return by_person if self.by_client else by_person | {WaitKind.ACCOUNT}

    @property
    def _asking(self) -> set[str]:
        return {one.name for one in self.agents if one.wait_kind in ANSWERS}

    def news(self) -> dict[str, int]:
        """The outcomes that a digest of this look tells: agent id -> turn."""
        return {agent.id: agent.turns for agent in self.agents if self.fresh(agent)}

    def tells(self) -> bool:
        """Whether there is anything that the orchestrator does not know."""
        return any(self.fresh(agent) or self.needs(agent) for agent in self.agents)

    def wakes(self, until: str) -> bool:
        """Whether this look ends the sleep."""
        if any(self.needs(agent) for agent in self.agents):
            return True
        if any(self.fresh(agent) and Status(agent.status) is not Status.COMPLETE for agent in self.agents):
            return True
        if until == "any" and any(self.fresh(agent) for agent in self.agents):
            return True
        return not any(Status(agent.status) in OPEN for agent in self.agents)


async def wait(
    context: FleetContext,
    call: Call,
    *,
    agents: Sequence[str] = (),
    until: str = "all",
    timeout_seconds: float | None = None,
    since: str | None = None,
) -> Digest:
    """Sleep until all (or any) of the agents are done, or one needs its orchestrator; then tell.

    A wait that finds nobody, or nothing new, gives the creates and commands of its own message two seconds to arrive.

    Raises:
        NotFoundError, InvalidError: before any sleep.
    """
    check(until, timeout_seconds)
    begun = time.monotonic()
    deadline = None if timeout_seconds is None else begun + timeout_seconds
    grace = begun + (ARRIVAL_SECONDS if timeout_seconds is None else min(ARRIVAL_SECONDS, timeout_seconds))
    after = known(since)
    with context.work.notifier.subscribe() as subscription:
        told = begun
        while True:
            subscription.narrow(None)  # whom it concerns is known once it has looked
            now = time.monotonic()
            arriving = now < grace
            late = deadline is not None and now >= deadline
            seen, found = await context.work.store.read(
                partial(_look, call=call, wish=(agents, until, after), arriving=arriving, late=late)
            )
            if seen is not None and found is not None:
                slept = now - begun
                digest = await tell(context, call, seen, slept, timed_out=late and not seen.wakes(until), told=found)
                context.offer(call, seen.news())
                return digest
            if now - told >= PROGRESS_SECONDS:
                told = now
                await call.progress(now - begun, progress(seen))
            subscription.narrow(listens_to(call, agents, seen))
            await subscription.wait(_nap(now, grace, deadline))


def _look(
    connection: Connection, *, call: Call, wish: tuple[Sequence[str], str, int | None], arriving: bool, late: bool
) -> tuple[Seen | None, Told | None]:
    """One look, and what its digest tells if it ends the sleep: both of one moment, in one hop."""
    references, until, since = wish
    seen = glance_at(connection, call, references, since, arriving)
    over = seen is not None and (late or (seen.wakes(until) and (seen.tells() or not arriving)))
    return seen, told_at(connection, seen) if seen is not None and over else None


def _nap(now: float, *ends: float | None) -> float:
    """Seconds until the next re-read, or until one of these moments that lies ahead."""
    return min([REREAD_SECONDS, *[end - now for end in ends if end is not None and end > now]])


def check(until: str, timeout_seconds: float | None) -> None:
    """Return if one can wait like this.

    Raises:
        InvalidError: it says what is valid.
    """
    if until not in UNTIL:
        raise InvalidError(f"until is {until!r}", hint="give all or any")
    if timeout_seconds is not None and not 0 <= timeout_seconds <= MAX_WAIT_SECONDS:
        raise InvalidError(
            f"timeout_seconds is {timeout_seconds}", hint=f"give 0 to {MAX_WAIT_SECONDS}, or leave it out"
        )


def known(since: str | None) -> int | None:
    """The cursor up to which the orchestrator knows all.

    Raises:
        InvalidError: it is not a cursor.
    """
    return None if since is None else cursor_of(since)


async def glance(
    context: FleetContext, call: Call, references: Sequence[str], since: int | None, *, arriving: bool
) -> Seen | None:
    """The agents now; None while some named ones, or any at all, may still be on their way."""
    return await context.work.store.read(lambda connection: glance_at(connection, call, references, since, arriving))


def glance_at(
    connection: Connection, call: Call, references: Sequence[str], since: int | None, arriving: bool
) -> Seen | None:
    """The same, where one reads already."""
    caller = call.caller
    try:
        found = find_all(connection, caller, references)
    except (NotFoundError, ConflictError):
        if arriving:
            return None
        raise
    if not references:
        found = list(agent_queries.living_of(connection, caller.project, caller.orchestrator))
    seen = Seen(agents=found, cursor=agent_queries.last_cursor(connection), since=since)
    below = agent_queries.families(connection, found)
    asking = children.askers(caller.orchestrator, found, [agent for agent in below if seen.needs(agent)], below)
    return None if arriving and not found else replace(seen, agents=[*found, *asking])


def listens_to(call: Call, references: Sequence[str], seen: Seen | None) -> set[str] | None:
    """Whom a ring must be about to be worth the next look: the families seen, and who of its own may come.

    None: anybody, while named agents are on their way.
    """
    if seen is None:
        return None
    families = {agent.root for agent in seen.agents}
    return families if references else families | {owner_name(call.caller.project, call.caller.orchestrator)}


def progress(seen: Seen | None) -> str:
    """How far they are, in a few words."""
    if seen is None:
        return "waiting for agents to appear"
    open_now = [agent for agent in seen.agents if Status(agent.status) in OPEN]
    quiet = [f"{agent.name} {activity_words(activity_of(agent))}" for agent in open_now if agent.activity in DOUBTFUL]
    behind = one_line(f"; {', '.join(quiet)}", MAX_QUIET_CHARACTERS) if quiet else ""
    return f"{len(open_now)} of {len(seen.agents)} agents at work{behind}"


@dataclass(frozen=True, kw_only=True)
class Told:
    """What the digest of a look is made of."""

    rows: agent_views.Rows
    ends: Mapping[str, int]
    """the turn that each agent ended last"""
    turns: Mapping[str, Turn]
    """the same as a row, where it had begun"""
    receivers: Collection[str]


def told_at(connection: Connection, seen: Seen) -> Told:
    """Read what a digest of this look tells."""
    ends = agent_queries.ends(connection, [agent.id for agent in seen.agents if seen.fresh(agent)])
    turns = {one: turn for one, turn in agent_queries.outcomes(connection, ends).items() if turn.ordinal == ends[one]}
    receivers = agent_queries.receivers(connection, turns)
    return Told(
        rows=agent_views.rows_of(connection, seen.agents, files=False), ends=ends, turns=turns, receivers=receivers
    )


async def tell(
    context: FleetContext, call: Call, seen: Seen, slept: float, *, timed_out: bool, told: Told | None = None
) -> Digest:
    """The digest of this look."""
    told = told or await context.work.store.read(lambda connection: told_at(connection, seen))
    fresh = [agent for agent in seen.agents if seen.fresh(agent)]
    shown = agent_views.views(told.rows, call.caller, context.work.clock(), context.patience)
    by_id = {view.id: view for view in shown}
    needs = [by_id[agent.id] for agent in seen.agents if seen.needs(agent)]
    outcomes = [
        await _outcome(context, agent, by_id[agent.id], told)
        for agent in sorted(fresh, key=lambda agent: agent.ended_cursor)
    ]
    ended = [agent for agent in seen.agents if Status(agent.status) in ENDED]
    awake = Awake(
        totals=agent_views.totals(shown, context.settings.slots),
        slept_seconds=slept,
        timed_out=timed_out,
        needs=needs,
        quiet=[view for view in shown if view.activity is not None and view.activity.kind in DOUBTFUL],
        outcomes=outcomes,
        news=await catch_up.news(context, call),
        handed_on=frozenset(by_id[agent_id].name for agent_id in told.receivers),
        seen_before=len(ended) - len(fresh),
    )
    text = digest_text(awake)
    context.shown.note(call, shown_needs(text, needs))
    return Digest(
        text=text,
        cursor=str(seen.cursor),
        timed_out=timed_out,
        needs=tuple(agent.name for agent in needs),
        outcomes=tuple(outcomes),
        working=tuple(view.name for view in shown if Status(view.status) in OPEN),
        slept_seconds=slept,
    )


async def _outcome(context: FleetContext, agent: Agent, view: AgentView, told: Told) -> OutcomeView:
    turn = told.turns.get(agent.id)
    failed = turn is not None and turn.status != Status.COMPLETE
    reason = ""
    if turn is not None and failed:
        reason = ": ".join(filter(None, [turn.reason, turn.detail])) + (f" -> {turn.hint}" if turn.hint else "")
    return OutcomeView(
        name=agent.name,
        id=agent.id,
        status=agent.status,
        reason=reason or view.reason,
        code=turn.reason if turn is not None and failed else "",
        turn=told.ends.get(agent.id, agent.turns),
        text=turn.result if turn else "",
        cost_usd=view.cost_usd,
        changes=await changes_now(context, agent, turn),
        age_seconds=view.age_seconds,
        checks=agent_views.checks_of(turn),
    )


async def changes_now(context: FleetContext, agent: Agent, turn: Turn | None) -> Changes | None:
    """What the turn changed, and where that is at this very moment."""
    if turn is None or turn.changes is None:
        return None
    found = agent_views.changes_of(turn)
    checkout = checkout_of(Path(agent.cwd))
    if found is None or not found.files_changed or checkout is None:
        return found
    try:
        async with asyncio.timeout(10):
            where = await place(checkout, context.state, found.files)
    except (ChangesUnknownError, TimeoutError) as error:
        where = f"this checkout (git cannot tell more: {error})"
    return found.model_copy(update={"where": where})
