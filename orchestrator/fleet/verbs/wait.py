"""Waits until agents are done or one needs the orchestrator, woken by notifications."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from orchestrator.domain.activity import DOUBTFUL, activity_words
from orchestrator.domain.agent import ENDED, OPEN, Status
from orchestrator.domain.durable_wait import MAX_WAIT_SECONDS, UNTIL
from orchestrator.domain.text import one_line, quoted, raw
from orchestrator.domain.tool import CallContext
from orchestrator.domain.turn import TurnStatus
from orchestrator.domain.wait import ANSWERS, WaitKind
from orchestrator.errors import ConflictError, InvalidError, NotFoundError
from orchestrator.fleet.context import FleetContext
from orchestrator.fleet.digest_views import Digest, OutcomeView
from orchestrator.fleet.lookup import cursor_of, find_all
from orchestrator.fleet.projections import agent_views, turn_views
from orchestrator.fleet.projections.digest import DigestInput, digest_text, shown_needs
from orchestrator.fleet.verbs import catch_up, children
from orchestrator.fleet.verbs.adopt import yours_now
from orchestrator.fleet.views import AgentView, Changes
from orchestrator.provisioning.changes import location
from orchestrator.provisioning.checkouts import checkout_of
from orchestrator.provisioning.files import ChangesUnknownError
from orchestrator.store.engine.connection import Connection
from orchestrator.store.queries import agents as agent_queries
from orchestrator.store.queries import outcomes
from orchestrator.store.queries.outcomes import EndedTurn, LatestTurns
from orchestrator.store.schema.rows import AgentRow, TurnRow
from orchestrator.store.schema.states import activity_of, wait_of
from orchestrator.store.schema.transitions import owner_name

PROGRESS_SECONDS = 20.0
REREAD_SECONDS = 2.0
ARRIVAL_SECONDS = 2.0
"""how much earlier a wait may arrive than the creates of its own message"""
MAX_QUIET_CHARACTERS = 160


@dataclass(frozen=True, kw_only=True)
class WaitSnapshot:
    """The agents that somebody waits for and the turns to deliver, read in one transaction."""

    agents: Sequence[AgentRow]
    untold: Sequence[EndedTurn]
    """ended turns that the orchestrator has not received yet, in the order of their ends"""
    cursor: int
    awaited: Collection[str] = ()
    """ids of those that ask for changes and start the agent that makes them: nobody else need act"""
    behind: Sequence[AgentRow] = ()
    """other agents for whose ends those wait"""
    asks_person: bool = False
    """a person answers the questions, so they do not end the wait"""
    by_client: bool = True
    """a client asks, so its door has brought its account; otherwise a missing account may yet arrive"""

    def needs(self, agent: AgentRow) -> bool:
        """Whether the agent waits until its orchestrator acts."""
        wait = wait_of(agent)
        if wait is None or not wait.needs_action or wait.kind in self._left_to_others:
            return False
        # the digest shows the questions of those that are asking
        return wait.kind is not WaitKind.CHECKOUT or wait.on not in self._asking

    @property
    def _left_to_others(self) -> frozenset[WaitKind]:
        """Waits that a person answers, or that a door may yet end by bringing an account."""
        by_person = ANSWERS | {WaitKind.CHECKOUT} if self.asks_person else frozenset[WaitKind]()
        return by_person if self.by_client else by_person | {WaitKind.ACCOUNT}

    @property
    def _asking(self) -> set[str]:
        return {one.name for one in self.agents if one.wait_kind in ANSWERS}

    def turn_ids(self) -> list[str]:
        """The turns whose outcomes a digest of this snapshot contains."""
        return [turn.id for turn in self.untold]

    def received_by(self, orchestrator: str) -> list[str]:
        """The turns that its digest delivers to this orchestrator: not those of agents that another one commands."""
        foreign = _foreign(self.agents, orchestrator)
        return [turn.id for turn in self.untold if turn.agent_id not in foreign]

    def of_others(self, orchestrator: str) -> list[str]:
        """The turns that its digest shows without delivering them."""
        foreign = _foreign(self.agents, orchestrator)
        return [turn.id for turn in self.untold if turn.agent_id in foreign]

    def tells(self) -> bool:
        """Whether there is anything that the orchestrator has not received."""
        return bool(self.untold) or any(self.needs(agent) for agent in self.agents)

    def wakes(self, until: str) -> bool:
        """Whether this snapshot ends the wait.

        An undelivered turn does, whatever its agent does now, if `until` is any, or if it failed and is not awaited.
        """
        if any(self.needs(agent) for agent in self.agents):
            return True
        if any(turn.status != TurnStatus.COMPLETE and turn.id not in self.awaited for turn in self.untold):
            return True
        if until == "any" and self.untold:
            return True
        return not any(agent.status in OPEN for agent in self.agents)


def _foreign(agents: Sequence[AgentRow], orchestrator: str) -> set[str]:
    """The ids of the agents that another orchestrator commands."""
    return {one.id for one in agents if one.parent is None and one.orchestrator != orchestrator}


async def wait(
    context: FleetContext,
    call: CallContext,
    *,
    agents: Sequence[str] = (),
    until: str = "all",
    timeout_seconds: float | None = None,
    since: str | None = None,
    claimed: Sequence[str] = (),
) -> Digest:
    """Wait until all (or any) of the agents are done, or one needs its orchestrator; returns the digest.

    A wait that finds no agents, or nothing new, gives creates and commands of its own message two seconds to arrive.
    `claimed` names those that its caller has just taken over.

    Raises:
        NotFoundError, InvalidError: raised before it waits.
    """
    check(until, timeout_seconds)
    begun = time.monotonic()
    deadline = None if timeout_seconds is None else begun + timeout_seconds
    grace = begun + (ARRIVAL_SECONDS if timeout_seconds is None else min(ARRIVAL_SECONDS, timeout_seconds))
    after, had = known(since), context.told_of_others(call)
    with context.work.notifier.subscribe() as subscription:
        told = begun
        while True:
            subscription.narrow(None)  # which topics matter is known only after a snapshot
            now = time.monotonic()
            arriving = now < grace
            late = deadline is not None and now >= deadline
            seen, found = await context.work.store.read(
                partial(_look, call=call, request=(agents, until, after), had=had, arriving=arriving, late=late)
            )
            if seen is not None and found is not None:
                timed_out = late and not seen.wakes(until)
                digest = await tell(context, call, seen, now - begun, timed_out=timed_out, rows=found, claimed=claimed)
                handed_out(context, call, seen)
                return digest
            if now - told >= PROGRESS_SECONDS:
                told = now
                await call.progress(now - begun, progress(seen))
            subscription.narrow(listens_to(call, agents, seen))
            await subscription.wait(_nap(now, grace, deadline))


def handed_out(context: FleetContext, call: CallContext, seen: WaitSnapshot) -> None:
    """Note that the caller receives the digest of this snapshot."""
    context.offer(call, seen.received_by(call.caller.orchestrator))
    context.told_of_others(call).update(seen.of_others(call.caller.orchestrator))


def _look(
    connection: Connection,
    *,
    call: CallContext,
    request: tuple[Sequence[str], str, int | None],
    had: Collection[str],
    arriving: bool,
    late: bool,
) -> tuple[WaitSnapshot | None, DigestRows | None]:
    """Take a snapshot and read what its digest needs if it ends the wait, in one transaction."""
    references, until, since = request
    seen = glance_at(connection, call, references, since, had, arriving)
    over = seen is not None and (late or (seen.wakes(until) and (seen.tells() or not arriving)))
    return seen, rows_at(connection, seen) if seen is not None and over else None


def _nap(now: float, *ends: float | None) -> float:
    """Return the seconds until the next re-read, or until the first of these times in the future."""
    return min([REREAD_SECONDS, *[end - now for end in ends if end is not None and end > now]])


def check(until: str, timeout_seconds: float | None) -> None:
    """Check the arguments of a wait.

    Raises:
        InvalidError: one is not valid; the hint says what is.
    """
    if until not in UNTIL:
        raise InvalidError(f"until is {until!r}", hint="give all or any")
    if timeout_seconds is not None and not 0 <= timeout_seconds <= MAX_WAIT_SECONDS:
        raise InvalidError(f"timeout_seconds is {timeout_seconds}", hint=f"give 0 to {MAX_WAIT_SECONDS}, or omit it")


def known(since: str | None) -> int | None:
    """Return the cursor up to which the orchestrator knows everything.

    Raises:
        InvalidError: it is not a cursor.
    """
    return None if since is None else cursor_of(since)


async def glance(
    context: FleetContext, call: CallContext, references: Sequence[str], since: int | None, *, arriving: bool
) -> WaitSnapshot | None:
    """Return the agents; None while some of the named ones, or all, may still be on their way."""
    had = context.told_of_others(call)
    return await context.work.store.read(
        lambda connection: glance_at(connection, call, references, since, had, arriving)
    )


def glance_at(
    connection: Connection,
    call: CallContext,
    references: Sequence[str],
    since: int | None,
    had: Collection[str],
    arriving: bool,
) -> WaitSnapshot | None:
    """Return the same inside a transaction, without the turns of other sessions' agents that the caller `had`."""
    caller = call.caller
    try:
        found = find_all(connection, caller, references)
    except (NotFoundError, ConflictError):
        if arriving:
            return None
        raise
    if not references:
        found = list(agent_queries.living_of(connection, caller.project, caller.orchestrator))
    untold = outcomes.untold(connection, [agent.id for agent in found], since)
    if since is None:
        foreign = _foreign(found, caller.orchestrator)
        untold = [turn for turn in untold if turn.id not in had or turn.agent_id not in foreign]
    seen = WaitSnapshot(
        agents=found,
        untold=untold,
        cursor=agent_queries.last_cursor(connection),
        awaited=outcomes.awaited_verdicts(connection, untold),
    )
    below = agent_queries.families(connection, found)
    asking = children.askers(caller.orchestrator, found, [agent for agent in below if seen.needs(agent)], below)
    behind = agent_queries.awaited_by(connection, found)
    mine = [one for one in behind if one.parent is None and one.orchestrator == caller.orchestrator and seen.needs(one)]
    more = {agent.id: agent for agent in [*asking, *mine]}.values()
    return None if arriving and not found else replace(seen, agents=[*found, *more], behind=behind)


def listens_to(call: CallContext, references: Sequence[str], seen: WaitSnapshot | None) -> set[str] | None:
    """Return the topics whose notifications matter: the families seen or waited for, and the caller's new agents.

    None means all topics, while named agents are on their way.
    """
    if seen is None:
        return None
    families = {agent.root for agent in [*seen.agents, *seen.behind]}
    return families if references else families | {owner_name(call.caller.project, call.caller.orchestrator)}


def progress(seen: WaitSnapshot | None) -> str:
    """Return how far the agents are, in a few words."""
    if seen is None:
        return "waiting for agents to appear"
    open_now = [agent for agent in seen.agents if agent.status in OPEN]
    quiet = [f"{agent.name} {activity_words(activity_of(agent))}" for agent in open_now if agent.activity in DOUBTFUL]
    behind = one_line(f"; {', '.join(quiet)}", MAX_QUIET_CHARACTERS) if quiet else ""
    return f"{len(open_now)} of {len(seen.agents)} agents at work{behind}"


@dataclass(frozen=True, kw_only=True)
class DigestRows:
    """The rows that a digest is built from."""

    views: agent_views.Rows
    turns: Sequence[TurnRow]
    """undelivered turns, in the order of their ends"""
    handed_on: Collection[str]
    """ids of those turns whose result another agent receives"""
    latest: Mapping[str, LatestTurns]
    """of the agents with undelivered turns that have had several turns, by agent id"""


def rows_at(connection: Connection, seen: WaitSnapshot) -> DigestRows:
    """Read the rows for a digest of this snapshot."""
    turns = outcomes.turns(connection, seen.turn_ids())
    at_rest = {agent.id for agent in seen.agents if agent.status in ENDED}
    has_several = {agent.id for agent in seen.agents if agent.turns > 1}
    return DigestRows(
        views=agent_views.rows_of(connection, seen.agents, files=False),
        turns=turns,
        handed_on=outcomes.handed_on(connection, turns, at_rest),
        latest=outcomes.latest(connection, has_several & {turn.agent_id for turn in turns}),
    )


async def tell(
    context: FleetContext,
    call: CallContext,
    seen: WaitSnapshot,
    slept: float,
    *,
    timed_out: bool,
    rows: DigestRows | None = None,
    claimed: Sequence[str] = (),
) -> Digest:
    """Build the digest of this snapshot."""
    rows = rows or await context.work.store.read(lambda connection: rows_at(connection, seen))
    shown = agent_views.views(rows.views, call.caller, context.work.clock(), context.patience)
    needs = _needs(seen, shown)
    told = await _outcomes(context, seen, rows)
    news_of = {turn.agent_id for turn in rows.turns}
    awake = DigestInput(
        totals=agent_views.totals(shown, context.settings.slots),
        slept_seconds=slept,
        timed_out=timed_out,
        person=call.person,
        needs=needs,
        quiet=[view for view in shown if view.activity is not None and view.activity.kind in DOUBTFUL],
        outcomes=told,
        left_by_others=await catch_up.catch_up(context, call),
        claimed=yours_now(claimed),
        seen_before=any(agent.status in ENDED and agent.id not in news_of for agent in seen.agents),
    )
    text = digest_text(awake)
    asking = {agent.id for agent in needs}
    context.shown.note(call, shown_needs(text, needs, person=call.person))
    context.shown.note(call, [view for view in shown if view.id in news_of - asking and view.question is None])
    return Digest(
        text=text,
        cursor=str(seen.cursor),
        timed_out=timed_out,
        needs=tuple(agent.name for agent in needs),
        outcomes=tuple(told),
        working=tuple(view.name for view in shown if Status(view.status) in OPEN),
        slept_seconds=slept,
    )


def _needs(seen: WaitSnapshot, shown: Sequence[AgentView]) -> list[AgentView]:
    by_id = {view.id: view for view in shown}
    return [by_id[agent.id] for agent in seen.agents if seen.needs(agent)]


async def _outcomes(context: FleetContext, seen: WaitSnapshot, rows: DigestRows) -> list[OutcomeView]:
    agents, now = {agent.id: agent for agent in seen.agents}, context.work.clock()
    return [
        turn_views.outcome_view(
            agents[turn.agent_id],
            turn,
            now,
            changes=await changes_now(context, agents[turn.agent_id], turn),
            handed_on=turn.id in rows.handed_on,
            latest=rows.latest.get(turn.agent_id),
        )
        for turn in rows.turns
    ]


async def changes_now(context: FleetContext, agent: AgentRow, turn: TurnRow | None) -> Changes | None:
    """Return what the turn changed, and where the changes are now."""
    if turn is None or turn.changes is None:
        return None
    found = turn_views.changes_of(turn)
    checkout = checkout_of(Path(agent.cwd))
    if found is None or not found.files_changed or checkout is None:
        return found
    try:
        where = await location(checkout, context.state, tuple(map(raw, found.files)))
    except ChangesUnknownError as error:
        where = f"this checkout (git cannot tell more: {quoted(str(error))})"
    return found.model_copy(update={"where": where})
