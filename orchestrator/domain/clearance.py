"""Decides whether a tool call of an agent is allowed, denied or deferred, from plain facts.

Rules name whole tools, however they are spelled. Lists of banned *commands* were evaded in 6 of 16 ways (Claude Code
2.1.329, measured), so Fleet has none. A tool is allowed, asked for each time, or denied; `always` allows the exact
input of a shell call, and the whole tool for any other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import IntEnum
from typing import Any

from orchestrator.domain.durable_wait import wait_request_of
from orchestrator.domain.persona import FLEET, Persona
from orchestrator.domain.question import ALLOW, ALWAYS, DENY, SHELLS, CallRecord, Grant, QuestionKind
from orchestrator.domain.text import named
from orchestrator.domain.tool import Allow, Defer, Deny, GateDecision, ToolCall
from orchestrator.domain.tool_names import is_named

CREW = "mcp__crew__"
ASK = CREW + "ask_orchestrator"
WAIT_FOR_CHILDREN = CREW + "wait_for_children"
FLEET_TOOL = FLEET + "__"
WAIT_FOR_AGENTS = FLEET_TOOL + "wait_for_agents"
AUTHOR = "author"
"""tool name of Fleet's own question for the author of an agent's commits, asked before its turn begins"""
PLAN = "plan"
"""tool name of a plan: the end of a turn that asks for children in its text"""
DEFERRED = {
    ASK: QuestionKind.QUESTION,
    AUTHOR: QuestionKind.QUESTION,
    WAIT_FOR_CHILDREN: QuestionKind.CHILDREN,
    PLAN: QuestionKind.CHILDREN,
    WAIT_FOR_AGENTS: QuestionKind.AGENTS,
}
"""calls that end the turn, which resumes with their answer"""
_DESCRIBING = frozenset({"description", "timeout"})
"""fields of a shell's call that `always` leaves out of account"""
WITHDRAWN = "your question was withdrawn: a new task follows"


def rule(call: ToolCall, persona: Persona) -> GateDecision | None:
    """Return the verdict of the persona's rules; None if no rule applies, so that somebody must be asked."""
    if call.name == ASK:
        if not str(call.input.get("question") or "").strip():
            return Deny(
                "the question is empty: say in one or two sentences what you need to know, with options if you can"
            )
        return None
    if call.name.startswith(CREW):
        return None if call.name == WAIT_FOR_CHILDREN else Allow()
    if call.name.startswith(FLEET_TOOL) and persona.directs_with(call.name.removeprefix(FLEET_TOOL)):
        # a call with invalid arguments is allowed: the tool itself says what is wrong
        suspends = call.name == WAIT_FOR_AGENTS and wait_request_of(call.input) is not None
        return None if suspends or is_named(call.name, persona.ask) else Allow()
    return _of_whole_tools(call, persona)


def _of_whole_tools(call: ToolCall, persona: Persona) -> GateDecision | None:
    if is_named(call.name, persona.deny):
        return Deny(f"{named(call.name)} is denied to you; report what you need instead")
    if is_named(call.name, persona.ask):
        return None
    if persona.tools is None or call.name in persona.tools:
        return Allow()
    offered = ", ".join(map(named, persona.offered or ()))
    return Deny(f"{named(call.name)} is not among your tools ({offered}); report what you need instead")


class Right(IntEnum):
    """What happens to a call of a tool, from least to most permissive."""

    DENIED = 0
    ASKED = 1
    ALLOWED = 2


def right(persona: Persona, tool: str) -> Right:
    """Return what the persona may do with a tool that is not one of the fleet's, including answers of its policy."""
    verdict = _of_whole_tools(ToolCall(id="", name=tool, input={}), persona)
    if verdict is not None:
        return Right.ALLOWED if isinstance(verdict, Allow) else Right.DENIED
    answer = next((one.answer for one in persona.policy if one.fits(QuestionKind.PERMISSION, tool)), None)
    if answer is None:
        return Right.ASKED
    return Right.ALLOWED if answer in {ALLOW, ALWAYS} else Right.DENIED


def beyond(child: Persona, parent: Persona) -> dict[str, Right]:
    """Return the tools with which the child could do more than its parent, and what the parent may do with each.

    If both have every tool, or the child names its own, the tools that are named anywhere are all that can differ.
    """
    named = dict.fromkeys((*(child.tools or ()), *child.ask, *parent.deny, *parent.ask))
    fleets = {tool: Right.DENIED for tool in child.tools or () if tool.startswith(FLEET) and not parent.orchestrates}
    others = {tool: right(parent, tool) for tool in named if not tool.startswith(FLEET)}
    return {**fleets, **{tool: held for tool, held in others.items() if right(child, tool) > held}}


def wider(persona: Persona, own: Persona) -> list[str]:
    """Return, in words, what the persona may do and Fleet's own persona of that name may not; empty if nothing.

    Its tools count, the children and commits that it may make, and the verdict that others wait for.
    """
    tools = ((named(tool), held) for tool, held in beyond(persona, own).items())
    more = [f"{tool} without asking" if held is Right.ASKED else tool for tool, held in tools]
    if persona.tools is None and own.tools is not None:
        more = ["every tool"]
    if persona.children > own.children:
        more.append(f"create {persona.children} agents")
    if persona.commits and not own.commits:
        more.append("commit")
    if own.verdict and not persona.verdict:
        more.append("end without a verdict")
    return more


def decide(call: ToolCall, persona: Persona, record: CallRecord | None, grants: Sequence[Grant] = ()) -> GateDecision:
    """Decide one call.

    `record` is the state of this call's own question, None if it was never asked; `grants` are the calls of this
    agent that were answered `always`. An unanswered call is deferred, except in a sub-agent, where a
    deferred call would be lost.
    """
    ruled = rule(call, persona)
    if ruled is not None:
        return ruled
    if record is not None:
        return _by_record(call, record)
    if any(granted(call, grant) for grant in grants):
        return Allow()
    if not call.in_subagent:
        return Defer()
    if call.name in {WAIT_FOR_CHILDREN, WAIT_FOR_AGENTS}:
        return Deny("a sub-agent cannot wait for agents: end, the agent that started you waits for them")
    if call.name == ASK:
        return Deny("a sub-agent cannot ask: return the question as your result, the agent that started you asks it")
    return Deny(
        f"{named(call.name)} needs a permission that a sub-agent cannot wait for: return what you need as your result"
    )


def _by_record(call: ToolCall, record: CallRecord) -> GateDecision:
    if record.withdrawn:
        return Deny(WITHDRAWN)
    if record.answer is None:
        return Defer()
    if kind_of(call) is not QuestionKind.PERMISSION or record.answer in {ALLOW, ALWAYS}:
        return Allow()
    return Deny(f"denied: {record.answer.removeprefix(DENY).strip()}")


def kind_of(call: ToolCall) -> QuestionKind:
    """Return the question for a call that no rule decides."""
    return DEFERRED.get(call.name, QuestionKind.PERMISSION)


def policy_answer(call: ToolCall, persona: Persona) -> str | None:
    """Return the answer of the persona's policy, if it has one."""
    kind = kind_of(call)
    return next((one.answer for one in persona.policy if one.fits(kind, call.name)), None)


def granted(call: ToolCall, grant: Grant) -> bool:
    """Whether `always`, given to that call, covers this one: a shell's same input, otherwise the whole tool."""
    if call.name != grant.tool:
        return False
    return call.name not in SHELLS or _telling(call.input) == _telling(grant.input)


def _telling(tool_input: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in tool_input.items() if name not in _DESCRIBING}
