"""The verbs of the fleet, which every door calls: they check input, change rows in transactions, return views."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from dataclasses import replace
from pathlib import Path

from orchestrator.domain.agent import NewAgent
from orchestrator.domain.budget import Unit, checked_caps
from orchestrator.domain.durable_wait import DurableWait, Reply, WaitRequest
from orchestrator.domain.tool import CallContext, Caller
from orchestrator.domain.turn import DeliveryMode
from orchestrator.errors import InvalidError
from orchestrator.fleet.checks.criteria import NOTHING_NEW, Verify
from orchestrator.fleet.context import FleetContext
from orchestrator.fleet.digest_views import Digest
from orchestrator.fleet.projections import agent_views
from orchestrator.fleet.state_views import BudgetsView
from orchestrator.fleet.verbs import (
    adopt,
    budget,
    catch_up,
    children,
    command,
    create,
    delete,
    durable_wait,
    events,
    health,
    interrupt,
    query,
    trust,
    wait,
)
from orchestrator.fleet.verbs.backup import PagesCopied, back_up
from orchestrator.fleet.views import (
    Adopted,
    AgentDetail,
    AgentView,
    Created,
    Deleted,
    EventView,
    FleetView,
    Health,
    Orphans,
    OutputPage,
    Receipt,
    Registry,
    TrustedPersona,
)
from orchestrator.store.agents import lifecycle


class Fleet:
    """A running fleet, built by `app.open_fleet`."""

    def __init__(self, context: FleetContext) -> None:
        self._context = context

    async def create(self, call: CallContext, new: NewAgent) -> Created:
        """Create an agent and return at once, with what it does or waits for.

        Raises:
            FleetError: nothing was created.
        """
        async with self._context.preparing(call):
            await self._context.confirm(call)
            parent = None if call.run is None else await children.parent_of(self._context.work, call.run)
            agent_id, existed = await create.create(self._context, call, new, parent)
        agent = await query.view(self._context, call, agent_id)
        return Created(agent=agent, existed=existed, branch=await asyncio.to_thread(agent_views.branch_at, agent.cwd))

    async def command(
        self,
        call: CallContext,
        agent: str,
        task: str = "",
        *,
        mode: DeliveryMode = DeliveryMode.QUEUE,
        inputs: Sequence[str] | None = None,
        caps: Mapping[Unit, float | None] | None = None,
        verify: Verify = NOTHING_NEW,
    ) -> Receipt:
        """Give the agent its next task, the answer that it waits for, or new caps, with which a suspended one resumes.

        Raises:
            FleetError: nothing was changed.
        """
        return await command.command(
            self._context, call, agent, task, mode=mode, inputs=inputs, caps=caps, verify=verify
        )

    async def answer(self, call: CallContext, agent: str, text: str, *, question: str | None = None) -> Receipt:
        """Answer the agent's open question, or decide on its permission: allow, always, or deny: why.

        `question` is its id or the beginning of it; None means the one that the caller was shown last.

        Raises:
            ConflictError: the agent does not wait for an answer, or has another question.
            InvalidError: the agent waits for a permission, and the text does not answer one.
        """
        return await command.command(self._context, call, agent, text, only_answer=True, question=question)

    async def interrupt(self, call: CallContext, agent: str) -> Receipt:
        """Interrupt the agent's turn and all work below it; the agent keeps its context and its queued turns.

        Raises:
            ConflictError: it has no open turn.
        """
        await self._context.enter(call)
        found = await self._context.find(call.caller, agent)
        return await interrupt.interrupt(self._context, found)

    async def status(
        self,
        call: CallContext,
        references: Sequence[str] = (),
        *,
        everyone: bool = False,
        most: int | None = None,
        notes: bool = True,
    ) -> FleetView:
        """Return the agents asked for (deleted ones too), or all living ones of the project (`everyone`: anywhere).

        The view has the oldest `most` of them; its totals count all. Without `notes`, pass those shown to `note_shown`.
        """
        await self._context.enter(call)
        return await query.status(self._context, call, references, everyone=everyone, most=most, notes=notes)

    def note_shown(self, call: CallContext, agents: Sequence[AgentView], whole: Collection[str]) -> None:
        """Record that the caller is shown these agents with their questions, those with these ids in full."""
        self._context.shown.note(call, agents, lambda question: question.id in whole)

    async def detail(self, call: CallContext, agent: str) -> AgentDetail:
        """Return everything about one agent, deleted or not."""
        found = await self._context.find(call.caller, agent, deleted=True)
        return await query.detail(self._context, call, found)

    async def output(
        self, call: CallContext, agent: str, *, turn: int | None = None, offset: int = 0, limit: int = 6000
    ) -> OutputPage:
        """Return a page of the result of one turn, by default of the last that ended, or of what the agent asks now."""
        await self._context.enter(call)
        found = await self._context.find(call.caller, agent, deleted=True)
        return await query.output(self._context, call, found, turn=turn, offset=offset, limit=limit)

    async def registry(
        self,
        call: CallContext,
        *,
        status: str | None = None,
        capability: str | None = None,
        notes: bool = True,
    ) -> Registry:
        """Return the living agents and the personas that match; without `notes`, pass what is shown to `note_shown`."""
        await self._context.enter(call)
        return await query.registry(self._context, call, status=status, capability=capability, notes=notes)

    async def wait(
        self,
        call: CallContext,
        *,
        agents: Sequence[str] = (),
        until: str = "all",
        timeout_seconds: float | None = None,
        since: str | None = None,
    ) -> Digest:
        """Wait until the agents are done or one needs its orchestrator; a time-out is not an error.

        If the caller's host limits how long a call may wait, the digest comes by then and says to wait again.
        """
        await self._context.enter(call)
        if call.caller.wait_problem:
            hint = "correct the variable where you start this session, then start it again; the other tools work"
            raise InvalidError(call.caller.wait_problem, hint=hint)
        slices = [seconds for seconds in (timeout_seconds, call.caller.wait_seconds) if seconds is not None]
        timeout_seconds = min(slices, default=None)
        claimed = await adopt.claim(self._context, call, agents)
        return await wait.wait(
            self._context,
            call,
            agents=agents,
            until=until,
            timeout_seconds=timeout_seconds,
            since=since,
            claimed=claimed,
        )

    async def catch_up(self, call: CallContext) -> str:
        """Return one line about what other sessions left behind in this project, once per session; '' if nothing."""
        return await catch_up.catch_up(self._context, call)

    def catching_up(self, call: CallContext) -> AbstractAsyncContextManager[str]:
        """Return a context manager that gives the same line; if its block fails, the line counts as not told."""
        return catch_up.catching_up(self._context, call)

    async def begin_durable_wait(
        self, call: CallContext, request: WaitRequest, *, asks_person: bool
    ) -> DurableWait | Digest:
        """Begin a wait that outlives its connection; returns the digest at once if there is nothing to wait for."""
        claimed = await adopt.claim(self._context, call, request.agents)
        found = await durable_wait.begin(self._context, call, request, asks_person=asks_person, claimed=claimed)
        if isinstance(found, Digest):
            return found
        return replace(found, message="; ".join(filter(None, [found.message, adopt.yours_now(claimed)])))

    async def durable_wait(self, call: CallContext, wait_id: str) -> DurableWait:
        """Return the current state of a durable wait.

        Raises:
            NotFoundError: this orchestrator has no such wait.
        """
        return await durable_wait.get(self._context, call, wait_id)

    async def reply_to_forms(self, call: CallContext, wait_id: str, given: Mapping[str, Reply]) -> None:
        """Apply a person's replies to forms of the durable wait as answers to the agents that asked."""
        await durable_wait.reply(self._context, call, wait_id, given)

    async def cancel_durable_wait(self, call: CallContext, wait_id: str) -> None:
        """End the durable wait; the agents keep working."""
        await durable_wait.cancel(self._context, call, wait_id)

    async def delete(self, call: CallContext, references: Sequence[str]) -> tuple[Deleted, ...]:
        """Stop and delete the agents; their record, results and changes are kept. Deleting twice has no further effect.

        Raises:
            NotFoundError: one does not exist; then none was deleted.
        """
        await self._context.enter(call)
        found = await delete.named(self._context, call, references)
        return await delete.delete(self._context, found)

    async def delete_all(self, call: CallContext, *, scope: str = "mine") -> tuple[Deleted, ...]:
        """Delete all agents that the caller created, or all of the project."""
        await self._context.enter(call)
        found = await delete.in_scope(self._context, call, scope)
        return await delete.delete(self._context, found)

    async def budget(self, call: CallContext, agent: str | None = None) -> BudgetsView:
        """Return the caps that apply to one agent, or those of the fleet, and what counts against them."""
        found = None if agent is None else await self._context.find(call.caller, agent, deleted=True)
        return await budget.show(self._context.work, found)

    async def set_budget(
        self, call: CallContext, caps: Mapping[Unit, float | None], *, agent: str | None = None, subtree: bool = False
    ) -> BudgetsView:
        """Set caps of one agent, its subtree, or the fleet; agents suspended at a cap resume if they have room.

        Raises:
            InvalidError: no cap is given, or one is not valid.
            RefusedError: a child's cap is more than its parent has left.
        """
        found = None if agent is None else await self._context.find(call.caller, agent)
        await budget.set_caps(self._context.work, found, checked_caps(caps), subtree=subtree)
        return await budget.show(self._context.work, found)

    async def events(
        self, call: CallContext, *, since: str | None, agent: str | None = None, limit: int = 500
    ) -> tuple[EventView, ...]:
        """Return recorded events after the cursor, oldest first."""
        found = await self._context.find(call.caller, agent, deleted=True) if agent else None
        return await events.events(self._context, call, events.event_cursor(since), found, limit)

    def follow(
        self, call: CallContext, *, since: str | None, agent: str | None = None, live: bool = True
    ) -> AsyncGenerator[EventView]:
        """Yield recorded events after the cursor, then (if `live`) new ones; close it when you stop reading."""
        return events.follow(self._context, call, since, agent, live=live)

    async def backup(self, target: Path, *, overwrite: bool, report: Callable[[PagesCopied], None]) -> int:
        """Copy the database to `target` while agents work, and return the copy's size in bytes.

        Raises:
            FleetError: `target` is not usable, exists (without `overwrite`), or cannot be written; no part is left.
        """
        return await back_up(self._context.state, target, overwrite=overwrite, report=report)

    async def orphans(self, call: CallContext) -> Orphans:
        """Return the agents whose sessions have ended or whose project was moved, and the connected sessions."""
        return await adopt.orphans(self._context, call)

    async def adopt(
        self, call: CallContext, references: Sequence[str], *, everything: bool = False, to: str | None = None
    ) -> tuple[Adopted, ...]:
        """Give these agents, or all whose sessions have ended, to another session.

        Raises:
            FleetError: one cannot be adopted; the message says which and why.
        """
        return await adopt.adopt(self._context, call, references, everything=everything, to=to)

    async def trust(self, call: CallContext, persona: str) -> TrustedPersona:
        """Let the persona's file, as it is now, do more than Fleet's own persona of its name.

        Raises:
            FleetError: the persona does not exist, or it is one of Fleet's own.
        """
        return await trust.trust(self._context, call, persona)

    def trusted(self) -> tuple[TrustedPersona, ...]:
        """Return all persona files that are trusted."""
        return trust.trusted(self._context)

    def revoke_trust(self, persona: str) -> tuple[TrustedPersona, ...]:
        """End the trust in the files of this name, path or hash, and return them.

        Raises:
            NotFoundError: none is trusted.
        """
        return trust.revoke(self._context, persona)

    def connected(self, caller: Caller) -> AbstractContextManager[None]:
        """Count the caller as connected while the block runs."""
        return self._context.connections.connected(caller)

    def heard(self, caller: Caller) -> AbstractContextManager[None]:
        """Count a caller without a connection of its own as connected while the block runs, and for a while after."""
        return self._context.connections.heard(caller)

    async def greet(self, caller: Caller) -> None:
        """Register the account of a door; agents that wait for it resume."""
        account = self._context.work.accounts.bring(caller)
        await self._context.work.commit(lifecycle.account_arrived, account.id, self._context.work.clock())

    async def wait_started(self, seconds: float) -> None:
        """Return once every running agent is at work or never will be, at the latest after `seconds`."""
        await self._context.slots.wait_started(seconds)

    async def warm_up(self, most: int) -> None:
        """Read the status of at most `most` agents, so that the first caller's is as fast as later ones."""
        await query.warm_up(self._context, most)

    async def busy(self) -> dict[str, int]:
        """Return how many agents have each status."""
        return await self._context.work.store.read(lifecycle.count_by_status)

    async def health(self) -> Health:
        """Return the daemon's health."""
        return await health.health(self._context)

    def interrupt_at_end(self) -> None:
        """Make the end of this daemon interrupt running turns instead of leaving them to the next one."""
        self._context.slots.interrupt_at_end()
