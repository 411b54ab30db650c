"""Decisions of the gate before a tool call."""

from __future__ import annotations

import pytest

from orchestrator.domain.clearance import ASK, decide
from orchestrator.domain.persona import Persona
from orchestrator.domain.question import CallRecord, QuestionKind
from orchestrator.domain.tool import Allow, Defer, Deny, ToolCall

READER = ("Read", "Grep")
QUESTION = {"question": "red or blue?"}


def call(name: str, **values: object) -> ToolCall:
    """A call of an agent."""
    return ToolCall(
        id=str(values.get("id", "c1")),
        name=name,
        input=values if "question" in values else {},
        in_subagent=bool(values.get("in_subagent")),
    )


def holder(tools: tuple[str, ...] | None) -> Persona:
    """Who has these tools."""
    return Persona(name="p", description="", prompt="x", source="s", tools=tools)


def record(answer: str | None = None, *, withdrawn: bool = False) -> CallRecord:
    """What became of the question."""
    return CallRecord(kind=QuestionKind.QUESTION, answer=answer, withdrawn=withdrawn)


def asks(question: object = "red or blue?", *, call_id: str = "c1", in_subagent: bool = False) -> ToolCall:
    """The question of an agent."""
    return ToolCall(id=call_id, name=ASK, input={"question": question}, in_subagent=in_subagent)


@pytest.mark.parametrize(
    ("name", "tools", "verdict"),
    [
        ("Read", READER, Allow),
        ("Write", READER, Deny),
        ("read", READER, Deny),
        ("Read(x)", READER, Deny),
        ("", READER, Deny),
        ("Write", None, Allow),
        ("Write", (), Deny),
        ("mcp__crew__report_progress", READER, Allow),
        ("mcp__crew__report_progress", (), Allow),
        ("mcp__other__x", READER, Deny),
        ("mcp__crew", READER, Deny),
    ],
)
def test_whole_tools_of_the_persona_run_and_no_others(name: str, tools: tuple[str, ...] | None, verdict: type) -> None:
    assert type(decide(call(name), holder(tools), None)) is verdict


def test_a_denied_tool_says_which_there_are_and_what_to_do() -> None:
    verdict = decide(call("Write"), holder(READER), None)
    assert verdict == Deny("Write is not among your tools (Read, Grep); report what you need instead")


@pytest.mark.parametrize("found", [None, record()])
def test_a_question_without_its_answer_is_deferred(found: CallRecord | None) -> None:
    assert decide(asks(), holder(None), found) == Defer()


@pytest.mark.parametrize("answer", ["red", "", "deny: no"])
def test_the_answer_lets_the_very_call_that_asked_run(answer: str) -> None:
    assert decide(asks(), holder(()), record(answer)) == Allow()


@pytest.mark.parametrize("answer", [None, "red"])
def test_a_withdrawn_question_is_denied_even_if_an_answer_came(answer: str | None) -> None:
    assert isinstance(decide(asks(), holder(None), record(answer, withdrawn=True)), Deny)


@pytest.mark.parametrize("question", ["", " \n", None])
def test_an_empty_question_is_denied_with_what_to_say(question: object) -> None:
    verdict = decide(asks(question or ""), holder(None), None)
    assert isinstance(verdict, Deny)
    assert "empty" in verdict.reason


def test_a_sub_agent_cannot_ask() -> None:
    verdict = decide(asks(in_subagent=True), holder(None), None)
    assert isinstance(verdict, Deny)
    assert "sub-agent" in verdict.reason


@pytest.mark.parametrize(
    ("tools", "writes", "may_change"),
    [
        (None, True, True),
        (("Read",), False, False),
        (("Read", "Bash"), False, True),
        (("Read", "Edit"), True, True),
        (("NotebookEdit",), True, True),
        ((), False, False),
    ],
)
def test_who_can_write_takes_turns_and_who_can_change_is_looked_at(
    tools: tuple[str, ...] | None, writes: bool, may_change: bool
) -> None:
    persona = holder(tools)
    assert (persona.writes, persona.may_change) == (writes, may_change)
