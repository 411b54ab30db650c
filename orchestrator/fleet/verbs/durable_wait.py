"""Durable waits: waits that are rows, so that they survive the end of their door and of the daemon.

A durable wait is examined when its client asks, and by one watch that is notified of changes; the first to find
that it is over stores its result. If a daemon dies in between, nothing needs repair: the next one examines it again.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial

from orchestrator.domain.durable_wait import (
    DurableWait,
    DurableWaitStatus,
    Form,
    NewDurableWait,
    Reply,
    WaitEnd,
    WaitRequest,
    answer_in,
    permission_form,
    question_form,
)
from orchestrator.domain.question import QuestionKind, lines_of
from orchestrator.domain.text import MAX_RESULT_BYTES, within
from orchestrator.domain.tool import CallContext, Caller
from orchestrator.domain.wait import WaitKind
from orchestrator.errors import ConflictError, FleetError, NotFoundError, StoreError
from orchestrator.fleet.context import FleetContext, stored_key
from orchestrator.fleet.digest_views import Digest
from orchestrator.fleet.projections import agent_views
from orchestrator.fleet.questions.shown import in_full
from orchestrator.fleet.verbs import wait
from orchestrator.fleet.verbs.command import command
from orchestrator.fleet.verbs.create import new_id
from orchestrator.store.agents import orchestrator_waits
from orchestrator.store.schema.rows import AgentRow, DurableWaitRow
from orchestrator.store.waits import durable_waits

TTL_SECONDS = 30 * 86_400.0
DURABLE_WAITS = "durable waits"
"""topic that is published for a new durable wait"""
PERSON = "person"
"""who answers a form: not the orchestrator, so the answer does not count as a call that confirms delivery"""


async def begin(
    context: FleetContext, call: CallContext, request: WaitRequest, *, asks_person: bool, claimed: Sequence[str]
) -> DurableWait | Digest:
    """Return the durable wait once its row is written; the digest at once if there is nothing to wait for.

    The same idempotency key returns the same wait. The creates of its own message have two seconds to arrive.
    `claimed` names the agents that the caller has just taken over.

    Raises:
        NotFoundError, InvalidError: no wait was begun.
    """
    wait.check(request.until, request.timeout_seconds)
    wait.known(request.since)
    await context.enter(call)
    key, now = stored_key(call), context.work.clock()
    if (known := await _known(context, key)) is not None:
        return await get(context, call, known)
    seen = await _arrived(context, call, request)
    if seen.wakes(request.until):
        digest = await wait.tell(context, call, seen, 0.0, timed_out=False, claimed=claimed)
        wait.handed_out(context, call, seen)
        return digest
    ids = [agent.id for agent in seen.agents] if request.agents else []
    begun = new_wait(call, replace(request, agents=ids), now, asks_person=asks_person)
    wait_id = await context.work.store.write(durable_waits.begin, begun, now)
    context.work.notifier.publish({DURABLE_WAITS})
    return await get(context, call, wait_id)


def new_wait(call: CallContext, request: WaitRequest, now: float, *, asks_person: bool) -> NewDurableWait:
    """Return the durable wait that begins now; `request.agents` are ids."""
    return NewDurableWait(
        id=new_id("sl"),
        project=call.caller.project,
        orchestrator=call.caller.orchestrator,
        until=request.until,
        expires_at=now + TTL_SECONDS,
        call_key=stored_key(call),
        agents=request.agents,
        since=request.since,
        asks_person=asks_person,
        deadline=None if request.timeout_seconds is None else now + request.timeout_seconds,
    )


async def _known(context: FleetContext, key: str | None) -> str | None:
    if key is None:
        return None
    row = await context.work.store.read(partial(durable_waits.by_key, call_key=key))
    return row.id if row is not None else None


async def _arrived(context: FleetContext, call: CallContext, request: WaitRequest) -> wait.WaitSnapshot:
    """Take the first snapshot that is meaningful: the agents exist, or no more are expected."""
    grace = time.monotonic() + wait.ARRIVAL_SECONDS
    with context.work.notifier.subscribe() as subscription:
        while True:
            left = grace - time.monotonic()
            seen = await wait.glance(context, call, request.agents, wait.known(request.since), arriving=left > 0)
            if seen is not None and (left <= 0 or seen.tells() or not seen.wakes(request.until)):
                return seen
            await subscription.wait(max(0.0, left))


async def get(context: FleetContext, call: CallContext, wait_id: str) -> DurableWait:
    """Return the current durable wait; its result counts as delivered with the orchestrator's next call.

    Raises:
        NotFoundError: it does not exist, has expired, or belongs to another project or orchestrator.
    """
    row = await _row(context, call, wait_id)
    seen: wait.WaitSnapshot | None = None
    if row.status == DurableWaitStatus.WORKING:
        seen = await settle(context, row, by_client=row.question_id is None)
        row = await _row(context, call, wait_id)
    if row.status == DurableWaitStatus.COMPLETED:
        context.offer(call, row.outcomes)
    forms = (
        _forms(row, seen, context.work.clock()) if row.status == DurableWaitStatus.WORKING and seen is not None else {}
    )
    return DurableWait(
        id=row.id,
        status=DurableWaitStatus.INPUT_REQUIRED if forms else row.status,
        created_at=row.created_at,
        updated_at=row.updated_at,
        ttl_seconds=row.expires_at - row.created_at,
        message=wait.progress(seen) if row.status == DurableWaitStatus.WORKING else "",
        forms=forms,
        result=row.result,
        is_error=row.is_error,
    )


async def reply(context: FleetContext, call: CallContext, wait_id: str, given: Mapping[str, Reply]) -> None:
    """Apply a person's replies as answers to the questions that are still open.

    If one of them was declined, the questions wake the orchestrator.

    Raises:
        NotFoundError: the wait does not exist.
        InvalidError: a reply contains no answer.
    """
    row = await _row(context, call, wait_id)
    if row.status != DurableWaitStatus.WORKING:
        return
    seen = await _look(context, row, by_client=True)
    asked = {_form_key(agent): agent for agent in _askers(row, seen, context.work.clock())}
    current = {key: one for key, one in given.items() if key in asked}
    if any(one.fields is None for one in current.values()):
        await context.work.commit(durable_waits.ask_nobody, wait_id, context.work.clock())
    person = replace(call.caller, orchestrator=PERSON)
    answers = {
        key: answer_in(one.fields, permission=asked[key].wait_kind == WaitKind.PERMISSION)
        for key, one in current.items()
        if one.fields is not None
    }
    for key, text in answers.items():
        by_person = replace(call, caller=person, key=f"{wait_id}/{key}", person=True)
        question_id = str((asked[key].pending or {}).get("id"))
        view = agent_views.question_of(asked[key], context.work.clock())
        is_read = view is not None and in_full(view)
        with suppress(ConflictError):  # somebody else answered first: the form is obsolete
            await command(
                context, by_person, asked[key].id, text, only_answer=True, question=question_id, is_read=is_read
            )


async def cancel(context: FleetContext, call: CallContext, wait_id: str) -> None:
    """End the durable wait; the agents keep working. Does nothing if it has already ended.

    Raises:
        NotFoundError: the wait does not exist.
    """
    row = await _row(context, call, wait_id)
    now = context.work.clock()
    await context.work.commit(orchestrator_waits.end, row.id, DurableWaitStatus.CANCELLED, now, WaitEnd())


def topics(row: DurableWaitRow, seen: wait.WaitSnapshot | None) -> set[str]:
    """Return the topics whose changes can end this wait, after this snapshot of it."""
    return {row.id, *(wait.listens_to(_call(row), row.agents, seen) or ())}


async def _row(context: FleetContext, call: CallContext, wait_id: str) -> DurableWaitRow:
    row = await context.work.store.read(partial(durable_waits.by_id, wait_id=wait_id, now=context.work.clock()))
    whose = None if row is None else (row.project, row.orchestrator)
    if row is None or whose != (call.caller.project, call.caller.orchestrator):
        raise NotFoundError(f"no task {wait_id[:80]!a}", hint="call wait_for_agents again")
    return row


async def settle(context: FleetContext, row: DurableWaitRow, *, by_client: bool = False) -> wait.WaitSnapshot | None:
    """Take a snapshot and end the wait if it is over; returns the snapshot, or None.

    After a start, doors have yet to bring their accounts: only a client, not the watch, ends a wait for one.
    """
    now, call = context.work.clock(), _call(row)
    try:
        seen = await _look(context, row, by_client=by_client)
        late = row.deadline is not None and now >= row.deadline
        if not seen.wakes(row.until) and not late:
            return seen
        told = replace(seen, asks_person=False)
        digest = await wait.tell(context, call, told, now - row.created_at, timed_out=not seen.wakes(row.until))
        ended = WaitEnd(result=digest.text, outcomes=told.received_by(row.orchestrator))
    except StoreError:
        raise
    except FleetError as error:  # an agent was deleted meanwhile: the error tells the orchestrator
        seen, ended = None, WaitEnd(result=within(str(error), MAX_RESULT_BYTES), is_error=True)
    await context.work.commit(orchestrator_waits.end, row.id, DurableWaitStatus.COMPLETED, now, ended)
    if seen is not None:
        context.told_of_others(_call(row)).update(seen.of_others(row.orchestrator))
    return seen


async def _look(context: FleetContext, row: DurableWaitRow, *, by_client: bool) -> wait.WaitSnapshot:
    seen = await wait.glance(context, _call(row), row.agents, wait.known(row.since), arriving=False)
    if seen is None:
        raise NotFoundError("no agents are left", hint="create_agent")
    return replace(seen, asks_person=row.asks_person, by_client=by_client)


def _call(row: DurableWaitRow) -> CallContext:
    return CallContext(caller=Caller(project=row.project, orchestrator=row.orchestrator, cwd=row.project))


def _askers(row: DurableWaitRow, seen: wait.WaitSnapshot, now: float) -> list[AgentRow]:
    return [agent for agent in seen.agents if row.asks_person and agent_views.question_of(agent, now) is not None]


def _form_key(agent: AgentRow) -> str:
    return f"{agent.id}:{(agent.pending or {}).get('call_id')}"


def _forms(row: DurableWaitRow, seen: wait.WaitSnapshot, now: float) -> dict[str, Form]:
    forms: dict[str, Form] = {}
    for agent in _askers(row, seen, now):
        question = agent_views.question_of(agent, now)
        if question is None:
            continue
        if question.kind == QuestionKind.PERMISSION:
            forms[_form_key(agent)] = permission_form(
                agent.name, question.tool, lines_of(question.text), whole=in_full(question)
            )
        else:
            forms[_form_key(agent)] = question_form(agent.name, question.text, question.options)
    return forms
