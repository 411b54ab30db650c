"""The fleet's verbs, which every door calls: each checks its input, changes rows in one transaction, returns views."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from orchestrator import paths
from orchestrator.domain.agent import NewAgent, Status, checked_text
from orchestrator.domain.budget import Unit, checked_caps
from orchestrator.domain.command import interrupt_happened
from orchestrator.domain.durable_wait import DurableWait, Reply
from orchestrator.domain.question import AnsweredBy
from orchestrator.domain.tool import Call, Caller
from orchestrator.domain.turn import Mode
from orchestrator.errors import ConflictError, InvalidError
from orchestrator.fleet.checks.criteria import NOTHING_NEW, Verify
from orchestrator.fleet.context import FleetContext, stored_key
from orchestrator.fleet.digest_views import Digest
from orchestrator.fleet.projections import agent_views
from orchestrator.fleet.questions import shown
from orchestrator.fleet.sessions import processes
from orchestrator.fleet.sessions.slot import DELETED
from orchestrator.fleet.verbs import budget, catch_up, children, command, create, durable_wait, query, wait
from orchestrator.fleet.verbs.backup import PagesCopied, back_up
from orchestrator.fleet.views import (
    AgentDetail,
    AgentView,
    BudgetsView,
    Created,
    Deleted,
    EventView,
    FleetView,
    Health,
    OutputPage,
    Receipt,
    Registry,
)
from orchestrator.store.agents import lifecycle
from orchestrator.store.agents.commands import Command, interrupt
from orchestrator.store.queries import agents as agent_queries
from orchestrator.store.schema.tables import AgentTable
from orchestrator.store.waits import leases

SCOPES = ("mine", "project")


class Fleet:
    """A running fleet; made by `app.open_fleet`."""

    def __init__(self, context: FleetContext) -> None:
        self._context = context

    async def create(self, call: Call, new: NewAgent) -> Created:
        """Start an agent; returns at once, with what it does or waits for.

        Raises:
            FleetError: nothing was created.
        """
        await self._context.enter(call)
        parent = None if call.run is None else await children.parent_of(self._context.work, call.run)
        agent_id, existed = await create.create(self._context, call, new, parent)
        return Created(agent=await self._view(call, agent_id), existed=existed)

    async def command(
        self,
        call: Call,
        agent: str,
        task: str = "",
        *,
        mode: Mode = Mode.QUEUE,
        inputs: Sequence[str] | None = None,
        caps: Mapping[Unit, float | None] | None = None,
        verify: Verify = NOTHING_NEW,
    ) -> Receipt:
        """Give the agent its next task, or the answer that it waits for, or new caps, under which a paused one goes on.

        Raises:
            FleetError: nothing was changed.
        """
        return await self._command(call, agent, task, mode=mode, inputs=inputs, caps=caps, verify=verify)

    async def _command(
        self,
        call: Call,
        agent: str,
        task: str,
        *,
        mode: Mode = Mode.QUEUE,
        inputs: Sequence[str] | None = None,
        only_answer: bool = False,
        question: str | None = None,
        caps: Mapping[Unit, float | None] | None = None,
        verify: Verify = NOTHING_NEW,
    ) -> Receipt:
        seen = self._context.shown.by(call)  # before anything else is shown: calls of one message overtake each other
        await self._context.enter(call)
        found = await self._context.find(call.caller, agent)
        account = self._context.work.accounts.bring(call.caller)
        given = checked_caps(caps or {})
        sources = None
        if inputs is not None:
            sources = [source.id for source in await self._context.find_all(call.caller, inputs, deleted=True)]
        asked = Command(
            agent_id=found.id,
            text=checked_text("task", task) if task or not given else "",
            caps=given,
            mode=mode,
            inputs=sources,
            turn_id=create.new_id("tn"),
            call_key=stored_key(call),
            account=(account.id, dict(account.public), dict(account.environment)),
            verify=verify.columns(),
            only_answer=only_answer,
            by=AnsweredBy.PERSON if call.person else AnsweredBy.ORCHESTRATOR,
            question_id=question or shown.meant_by(call, seen.get(found.id)),
        )
        return await command.send(self._context, call, found.name, asked)

    async def answer(self, call: Call, agent: str, text: str, *, question: str | None = None) -> Receipt:
        """Answer the question that the agent waits with, or decide on its permission: allow, always, deny: why.

        `question` is its id or the beginning of it; None: the one that the caller was shown last.

        Raises:
            ConflictError: it is not waiting for an answer, or asks another question.
            InvalidError: it waits for a permission, and this answers none.
        """
        return await self._command(call, agent, text, only_answer=True, question=question)

    async def interrupt(self, call: Call, agent: str) -> Receipt:
        """Stop the agent's turn; it keeps its context, and queued turns stay.

        Raises:
            ConflictError: it has no open turn.
        """
        await self._context.enter(call)
        found = await self._context.find(call.caller, agent)
        running = await self._context.work.commit(interrupt, found.id, self._context.work.clock())
        for agent_id, turn_id in running.items():
            self._context.slots.interrupt(agent_id, "interrupted", turn_id)
        happened = interrupt_happened(ends_running=bool(running))
        return Receipt(agent=found.id, name=found.name, turn_id=None, happened=happened)

    async def status(
        self, call: Call, references: Sequence[str] = (), *, everyone: bool = False, most: int | None = None
    ) -> FleetView:
        """The agents asked for (deleted ones too), or all that live in the project (everyone: anywhere).

        Of these the oldest `most` are shown; the totals are those of all.
        """
        await self._context.enter(call)
        return await query.status(self._context, call, references, everyone=everyone, most=most)

    async def detail(self, call: Call, agent: str) -> AgentDetail:
        """All about one agent, deleted or not."""
        found = await self._context.find(call.caller, agent, deleted=True)
        return await query.detail(self._context, call, found)

    async def output(
        self, call: Call, agent: str, *, turn: int | None = None, offset: int = 0, limit: int = 6000
    ) -> OutputPage:
        """A page of the agent's result: of its last ended turn, or of the turn asked for."""
        await self._context.enter(call)
        found = await self._context.find(call.caller, agent, deleted=True)
        return await query.output(self._context, found, turn=turn, offset=offset, limit=limit)

    async def registry(
        self, call: Call, *, status: str | None = None, capability: str | None = None, most: int | None = None
    ) -> Registry:
        """Living agents and the personas that can be had, that match; of the agents the caller shows `most`."""
        await self._context.enter(call)
        return await query.registry(self._context, call, status=status, capability=capability, most=most)

    async def wait(
        self,
        call: Call,
        *,
        agents: Sequence[str] = (),
        until: str = "all",
        timeout_seconds: float | None = None,
        since: str | None = None,
    ) -> Digest:
        """Sleep until the agents are done or one needs its orchestrator; never an error for a time-out.

        A caller whose host lets no call wait long is answered in slices: its digest says to wait again.
        """
        await self._context.enter(call)
        slices = [seconds for seconds in (timeout_seconds, call.caller.wait_seconds) if seconds is not None]
        timeout_seconds = min(slices, default=None)
        return await wait.wait(
            self._context, call, agents=agents, until=until, timeout_seconds=timeout_seconds, since=since
        )

    async def catch_up(self, call: Call) -> str:
        """What other sessions left behind in this project, one line, told to each session once; '' if nothing."""
        return await catch_up.catch_up(self._context, call)

    async def begin_durable_wait(
        self, call: Call, request: durable_wait.WaitRequest, *, asks_person: bool
    ) -> DurableWait | Digest:
        """Begin a wait that outlives its connection; the digest at once if there is nothing to wait for."""
        return await durable_wait.begin(self._context, call, request, asks_person=asks_person)

    async def durable_wait(self, call: Call, wait_id: str) -> DurableWait:
        """The sleep as it stands.

        Raises:
            NotFoundError: this orchestrator has no such sleep.
        """
        return await durable_wait.get(self._context, call, wait_id)

    async def reply_to_forms(self, call: Call, wait_id: str, given: Mapping[str, Reply]) -> None:
        """A person has replied to forms of the sleep: the agents that asked go on."""
        for reply in await durable_wait.replies(self._context, call, wait_id, given):
            with suppress(ConflictError):  # somebody else was faster: the form is of no use any more
                await self.answer(reply.call, reply.agent_id, reply.text, question=reply.question_id)

    async def cancel_durable_wait(self, call: Call, wait_id: str) -> None:
        """End the sleep; the agents work on."""
        await durable_wait.cancel(self._context, call, wait_id)

    async def delete(self, call: Call, references: Sequence[str]) -> tuple[Deleted, ...]:
        """Stop the agents and free their places; their record, results and changes stay. Twice does it once.

        Raises:
            NotFoundError: one is unknown; then none was deleted.
        """
        await self._context.enter(call)
        if not references:
            raise InvalidError("no agents are named", hint="name them, or use delete_all_agents")
        return await self._delete(await self._context.find_all(call.caller, references, deleted=True))

    async def delete_all(self, call: Call, *, scope: str = "mine") -> tuple[Deleted, ...]:
        """The same for all agents that the caller created, or for the whole project's."""
        await self._context.enter(call)
        if scope not in SCOPES:
            raise InvalidError(f"scope is {scope!r}", hint="give mine or project")
        living = await self._context.work.store.read(lambda at: agent_queries.living(at, call.caller.project))
        mine = [agent for agent in living if scope == "project" or agent.orchestrator == call.caller.orchestrator]
        if call.run is not None:
            mine = [agent for agent in mine if not call.run.stands_under(agent.id)]
        return await self._delete(mine)

    async def _delete(self, found: Sequence[AgentTable]) -> tuple[Deleted, ...]:
        before = await self._context.work.commit(
            lifecycle.delete_families, [agent.id for agent in found], self._context.work.clock()
        )
        self._context.shown.forget(before)
        found = await self._context.work.store.read(lambda at: agent_queries.by_ids(at, before))
        rows = {agent.id: agent for agent in found}
        await asyncio.gather(*[self._context.slots.stop(agent_id, DELETED) for agent_id in before])
        for agent_id in before:
            await self._context.work.commit(leases.release, agent_id, self._context.work.clock())
        return tuple(
            [
                Deleted(agent=agent.id, name=agent.name, was=was, work=await query.work_left(self._context, agent))
                for agent, was in [(rows[agent_id], was) for agent_id, was in before.items()]
            ]
        )

    async def budget(self, call: Call, agent: str | None = None) -> BudgetsView:
        """The caps of one agent (and of those above it), or of the fleet, and what counts against them."""
        found = None if agent is None else await self._context.find(call.caller, agent, deleted=True)
        return await budget.show(self._context.work, found)

    async def set_budget(
        self, call: Call, caps: Mapping[Unit, float | None], *, agent: str | None = None, subtree: bool = False
    ) -> BudgetsView:
        """Set caps of one agent, of its subtree, or of the fleet; whoever paused there and has room goes on.

        Raises:
            InvalidError: no cap is given, or one that is none.
            RefusedError: a child's cap does not fit into what its parent has left.
        """
        found = None if agent is None else await self._context.find(call.caller, agent)
        await budget.set_caps(self._context.work, found, checked_caps(caps), subtree=subtree)
        return await budget.show(self._context.work, found)

    async def events(
        self, call: Call, *, since: str | None, agent: str | None = None, limit: int = 500
    ) -> tuple[EventView, ...]:
        """Recorded events behind the cursor, oldest first."""
        found = await self._context.find(call.caller, agent, deleted=True) if agent else None
        return await query.events(self._context, call, query.event_cursor(since), found, limit)

    def follow(
        self, call: Call, *, since: str | None, agent: str | None = None, live: bool = True
    ) -> AsyncGenerator[EventView]:
        """Recorded events behind the cursor, then (if `live`) each as it is recorded; close it with its consumer."""
        return query.follow(self._context, call, since, agent, live=live)

    async def backup(self, target: Path, *, overwrite: bool, report: Callable[[PagesCopied], None]) -> int:
        """Copy the database to `target` while agents work, and return the copy's size in bytes.

        Raises:
            FleetError: `target` cannot be used, exists (without `overwrite`), or cannot be written; nothing is left.
        """
        return await back_up(self._context.state, target, overwrite=overwrite, report=report)

    async def greet(self, caller: Caller) -> None:
        """A door brought its account: agents that wait for it go on."""
        account = self._context.work.accounts.bring(caller)
        await self._context.work.commit(lifecycle.account_arrived, account.id, self._context.work.clock())

    async def busy(self) -> dict[str, int]:
        """How many agents are queued, working, wait."""
        return await self._context.work.store.read(lifecycle.count_by_status)

    async def health(self) -> Health:
        """The daemon about itself."""
        context, counts = self._context, await self._context.work.store.read(lifecycle.count_by_status)
        return Health(
            build=context.build,
            pid=os.getpid(),
            state=str(context.state),
            database=str(paths.database_path(context.state)),
            log=str(paths.log_path(context.state)),
            uptime_seconds=time.time() - context.started_at,
            working=counts[Status.WORKING],
            queued=counts[Status.QUEUED],
            waiting=counts[Status.WAITING],
            sessions=context.slots.session_count(),
            slots=context.settings.slots,
            rehearsal=bool(context.settings.rehearsal),
            supervision=context.supervision,
            http=context.http,
            memory_bytes=processes.memory_bytes(),
            lost_events=context.work.store.lost_events,
        )

    def interrupt_at_end(self) -> None:
        """Let the end of this daemon interrupt what runs instead of leaving it to the next one."""
        self._context.slots.interrupt_at_end()

    async def _view(self, call: Call, agent_id: str) -> AgentView:
        store = self._context.work.store
        rows = await store.read(lambda at: agent_views.rows_of(at, agent_queries.by_ids(at, {agent_id})))
        [view] = agent_views.views(rows, call.caller, self._context.work.clock(), self._context.patience)
        self._context.shown.note(call, [view])
        return view
