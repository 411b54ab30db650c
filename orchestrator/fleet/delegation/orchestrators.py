"""Orchestrators that Fleet runs: agents that have the fleet's tools, and wait for their agents without a process.

Their `wait_for_agents` never blocks. It ends the run and becomes a durable wait; the same call returns the result in
the next run, whichever daemon runs it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial

from orchestrator import paths
from orchestrator.domain.agent import input_reference
from orchestrator.domain.durable_wait import DurableWaitStatus, WaitRequest, wait_request_of
from orchestrator.domain.persona import FLEET
from orchestrator.domain.question import NewQuestion
from orchestrator.domain.tool import CallContext, Caller, CallingTurn, Json, Tool, ToolCall
from orchestrator.domain.usage import RunUsage
from orchestrator.errors import ConflictError, FleetError, InvalidError, RefusedError
from orchestrator.fleet.context import FleetContext, stored_key
from orchestrator.fleet.lookup import find_living
from orchestrator.fleet.sessions.slot import AgentSlot
from orchestrator.fleet.verbs.durable_wait import DURABLE_WAITS, new_wait
from orchestrator.store.agents import orchestrator_waits
from orchestrator.store.queries import agents as agent_queries
from orchestrator.store.schema.rows import AgentRow
from orchestrator.store.turns.cancellation import unless_cancelled
from orchestrator.store.turns.turns import Claim
from orchestrator.store.waits import durable_waits

NAMES = ("agent", "agents", "inputs")
"""arguments that name agents"""
READS = frozenset({"get_agent_status", "get_agent_output", "list_agents"})
"""tools that an agent may use on itself"""


def granted_names(tools: Iterable[str]) -> frozenset[str]:
    """Return the names by which a persona may ask for these fleet tools: one for all, and one for each."""
    return frozenset({FLEET, *(f"{FLEET}__{tool}" for tool in tools)})


@dataclass(frozen=True)
class ManagedOrchestrators:
    """The orchestrators that this fleet runs; `table` has the tools that each of them may get."""

    context: FleetContext
    table: Sequence[Tool]

    def tools(self, slot: AgentSlot) -> tuple[Tool, ...]:
        """Return the tools, called as this agent; its wait only returns the result of a durable wait that is over."""
        return tuple(replace(tool, call=partial(self._called, tool, slot), begin=None) for tool in self.table)

    async def begin_wait(self, claim: Claim, call: ToolCall, asked: NewQuestion, usage: RunUsage) -> None:
        """End the run with a durable wait, whose row is written before the process is released.

        If there is nothing to wait for, the same call returns at once what any wait would return.

        Raises:
            StaleOwnerError: the claim is over; nothing is written.
        """
        context, now = self.context, self.context.work.clock()
        request = wait_request_of(call.input) or WaitRequest()
        mine = await self._call(claim.agent_id, claim, call.id)
        await context.enter(mine)
        ids, refusal = list(request.agents), ""
        try:
            found = await context.find_all(mine.caller, request.agents)
            check_targets(mine, found)
            ids = [agent.id for agent in found]
        except FleetError as error:
            refusal = str(error)
        begun = new_wait(mine, replace(request, agents=ids), now, asks_person=False)
        await context.work.commit(
            unless_cancelled, orchestrator_waits.suspend, claim, now, asked, begun, usage, now, refusal=refusal
        )
        context.work.notifier.publish({DURABLE_WAITS})

    async def _called(self, tool: Tool, slot: AgentSlot, call: CallContext, arguments: Json) -> str:
        if slot.live is None:
            raise ConflictError("no turn is running", hint="end your turn")
        mine = await self._call(slot.agent_id, slot.live.claim, call.key)
        if tool.waits:
            return await self._woken(mine, tool, arguments)
        if tool.name not in READS:
            check_targets(mine, await self._named(mine, arguments))
        # a verb runs to completion even if the session is closed meanwhile
        return await asyncio.shield(tool.call(mine, arguments))

    async def _call(self, agent_id: str, claim: Claim, key: str | None) -> CallContext:
        """Build the agent's call: in its project, with its environment and its account."""
        [agent] = await self.context.work.store.read(partial(agent_queries.by_ids, ids={agent_id}))
        return CallContext(
            caller=_caller(agent, self.context.work.accounts.secrets(agent.account)),
            key=f"{agent_id}/{key}" if key else None,
            roots=(agent.cwd,),
            run=CallingTurn(agent_id=agent_id, epoch=claim.epoch),
        )

    async def _woken(self, call: CallContext, tool: Tool, arguments: Json) -> str:
        """Return the result of this call's wait; the gate runs the call only then, or if its arguments are wrong."""
        key = stored_key(call)
        row = (
            await self.context.work.store.read(partial(durable_waits.by_key, call_key=key)) if key is not None else None
        )
        if row is None and wait_request_of(arguments) is None:
            return await tool.call(call, arguments)  # the error says what is wrong with them
        if row is None or row.status != DurableWaitStatus.COMPLETED:
            raise ConflictError("this wait is not over yet", hint="call wait_for_agents again, alone")
        if row.is_error:
            raise ConflictError(row.result)
        self.context.offer(call, row.outcomes)
        return row.result

    async def _named(self, call: CallContext, arguments: Json) -> list[AgentRow]:
        """Return the living agents that the arguments name; none for an argument that the verb itself will refuse."""
        found: list[AgentRow] = []
        for name in NAMES:
            given = arguments.get(name, ())
            words = [str(word) for word in ((given,) if isinstance(given, str) else given)]
            references = [input_reference(word).agent for word in words]
            named = partial(find_living, caller=call.caller, references=references)
            with suppress(InvalidError):
                found += await self.context.work.store.read(named)
        return found


def check_targets(call: CallContext, found: Sequence[AgentRow]) -> None:
    """Check that the caller may command these agents and wait for them.

    Raises:
        RefusedError: one is the caller itself or directs it, so they would wait for each other forever.
    """
    run = call.run
    for agent in found:
        if run is not None and run.stands_under(agent.id):
            who = "you yourself" if agent.id == run.agent_id else "who directs you"
            raise RefusedError(f"{agent.name} is {who}", hint="name agents that you created; to end, write your report")


def _caller(agent: AgentRow, secrets: Mapping[str, str]) -> Caller:
    """Rebuild the caller that created the agent, so that its account is the same."""
    accounts = {name: value for name, value in secrets.items() if name in paths.ACCOUNT}
    others = {name: value for name, value in secrets.items() if name in paths.ENVIRONMENT or name.startswith("LC_")}
    environment = {**agent.environment, **others}
    environment.pop(paths.SSH_AGENT, None)  # it may be out of date, so it must not count as the project's latest
    return Caller(
        project=agent.project,
        orchestrator=agent.id,
        cwd=agent.cwd,
        account={**agent.account_public, **accounts},
        environment=environment,
        passed={name: value for name, value in secrets.items() if name not in accounts and name not in others},
    )
