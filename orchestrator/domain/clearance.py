"""What a tool call of an agent is answered, decided from plain facts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from orchestrator.domain.tool import Allow, Defer, Deny, ToolCall, Verdict

CREW = "mcp__crew__"
ASK = CREW + "ask_orchestrator"
WAIT_FOR_CHILDREN = CREW + "wait_for_children"
DEFERRED = frozenset({ASK, WAIT_FOR_CHILDREN})
"""calls that wait: the turn ends in them, and goes on with their answer"""


def decide(call: ToolCall, tools: tuple[str, ...] | None, pending: Mapping[str, Any] | None) -> Verdict:
    """The verdict on one call.

    `tools` are the whole tools of the agent's persona (None: all); `pending` is the question that it asked last, with
    its `call_id` and, once it was given, its `answer`. A question is deferred until its answer is there.
    """
    if call.name in DEFERRED:
        return _decide_question(call, pending)
    if call.name.startswith(CREW) or tools is None or call.name in tools:
        return Allow()
    return Deny(f"{call.name} is not among your tools ({', '.join(tools)}); report what you need instead")


def _decide_question(call: ToolCall, pending: Mapping[str, Any] | None) -> Verdict:
    if call.in_subagent and call.name == WAIT_FOR_CHILDREN:
        return Deny("a sub-agent cannot wait for agents: end, the agent that started you waits for them")
    if call.in_subagent:
        return Deny("a sub-agent cannot ask: return the question as your result, the agent that started you asks it")
    if call.name == ASK and not str(call.input.get("question", "")).strip():
        return Deny("the question is empty: say in one or two sentences what you need to know, with options if you can")
    if pending and pending.get("call_id") == call.id:
        if pending.get("dropped"):
            return Deny("your question was withdrawn: a new task follows")
        if "answer" in pending:
            return Allow()
    return Defer()
