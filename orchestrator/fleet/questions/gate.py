"""The gate before tool calls: a call that no rule decides becomes a question in the inbox, or a policy answers it.

A question is stored before anybody is notified, so no question is lost when a process dies.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import cast

from orchestrator.domain import clearance
from orchestrator.domain.duration import format_duration
from orchestrator.domain.event import EventKind
from orchestrator.domain.persona import Persona
from orchestrator.domain.question import (
    INBOX,
    CallRecord,
    Grant,
    NewQuestion,
    QuestionKind,
    QuestionState,
    fallback,
    shown_text,
)
from orchestrator.domain.text import storable
from orchestrator.domain.tool import Allow, Decide, Deny, GateDecision, ToolCall
from orchestrator.fleet.engine.unit_of_work import UnitOfWork
from orchestrator.fleet.sessions.slot import AgentSlot
from orchestrator.store.engine.connection import Connection
from orchestrator.store.schema.rows import QuestionRow
from orchestrator.store.turns.events import Fact
from orchestrator.store.waits import questions

STOPPED_SECONDS = 60.0


def gate(work: UnitOfWork, slot: AgentSlot, persona: Persona) -> Decide:
    """Return the gate that decides every tool call of this agent; it fails closed if the store raises.

    At a cap it allows no tool, so that the model is not called again.
    """
    decide = _gate(work, slot, persona)

    async def metered(call: ToolCall) -> GateDecision:
        if slot.live is not None and not await slot.live.meter.allows(call):
            await asyncio.sleep(
                STOPPED_SECONDS
            )  # the turn is being interrupted; an answer would cost another model call
            return Deny("the budget is spent")
        return await decide(call)

    return metered


def _gate(work: UnitOfWork, slot: AgentSlot, persona: Persona) -> Decide:
    """Decide by rules, grants, policies and answers, without regard to the budget."""

    async def decide(call: ToolCall) -> GateDecision:
        if (ruled := clearance.rule(call, persona)) is not None:
            return ruled
        agent_id, live = slot.agent_id, slot.live
        turn = live.claim.turn if live is not None else 0
        found, granted = await work.store.read(partial(_known, agent_id=agent_id, call_id=call.id))
        grants = [Grant(tool=row.tool, input=row.input) for row in granted]
        record = None if found is None else _record(found, turn)
        verdict = clearance.decide(call, persona, record, grants)
        answer = clearance.policy_answer(call, persona)
        if record is None and answer is not None and not isinstance(verdict, Allow):
            asked_now = asked(call, persona, None, work.clock())
            await work.store.write(
                questions.ask_policy, agent_id, turn, asked_now, answer=answer, now=asked_now.asked_at
            )
            if live is not None:
                live.recorder.note(_answered_by_policy(call, answer, work.clock()))
            return clearance.decide(call, persona, CallRecord(kind=clearance.kind_of(call), answer=answer))
        if found is not None and found.state == QuestionState.ANSWERED and record is not None and not record.withdrawn:
            await work.store.write(questions.settle, found.id)
        return verdict

    return decide


def _known(connection: Connection, agent_id: str, call_id: str) -> tuple[QuestionRow | None, Sequence[QuestionRow]]:
    return questions.of_call(connection, agent_id, call_id), questions.always(connection, agent_id)


def _record(row: QuestionRow, turn: int) -> CallRecord:
    withdrawn = row.state == QuestionState.DROPPED or row.turn != turn
    return CallRecord(kind=row.kind, answer=row.answer, withdrawn=withdrawn)


def _answered_by_policy(call: ToolCall, answer: str, at: float) -> Fact:
    body = {"call_id": call.id, "by": "policy", "tool": call.name, "answer": answer}
    return Fact(kind=EventKind.ANSWERED, at=at, body=body)


def asked(call: ToolCall, persona: Persona | None, answer_seconds: float | None, now: float) -> NewQuestion:
    """Return the question that this call asks; `answer_seconds` None means that it waits forever."""
    kind = clearance.kind_of(call)
    answer_seconds = (
        answer_seconds if kind in INBOX else None
    )  # questions that other agents answer by ending have no deadline
    options: object = call.input.get("options") if kind is QuestionKind.QUESTION else None
    given = cast("list[object]", options) if isinstance(options, list) else []
    text = str(call.input.get("question", "")) if kind is QuestionKind.QUESTION else shown_text(call.name, call.input)
    within = format_duration(answer_seconds) if answer_seconds is not None else "its time"
    return NewQuestion(
        kind=kind,
        call_id=call.id,
        tool=call.name,
        input=call.input,
        text=storable(text),
        asked_at=now,
        options=[storable(str(option)) for option in given],
        deadline_at=None if answer_seconds is None else now + answer_seconds,
        fallback=fallback(kind, persona.default_answer if persona else "", within),
    )


async def answer_of(work: UnitOfWork, agent_id: str, call_id: str | None) -> str | None:
    """Return the answer to this tool call's question (None: the agent's last one), or None if it has no answer yet."""
    if call_id is not None:
        found = await work.store.read(partial(questions.of_call, agent_id=agent_id, call_id=call_id))
        return found.answer if found else None
    rows = await work.store.read(partial(questions.of_agent, agent_id=agent_id))
    answers = [row.answer for row in rows if row.answer is not None]
    return answers[-1] if answers else None
