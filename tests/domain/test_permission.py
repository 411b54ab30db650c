"""The decision on one tool call, for any rules, records and grants."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.domain import clearance
from orchestrator.domain.persona import Persona
from orchestrator.domain.question import CallRecord, Grant, Policy, QuestionKind, checked_answer
from orchestrator.domain.tool import Allow, Defer, Deny, ToolCall
from orchestrator.errors import InvalidError

TOOLS = ("Bash", "Read", "WebFetch", "Write", "mcp__other__thing")
names = st.sampled_from(TOOLS)
some_names = st.lists(names, max_size=3).map(tuple)
inputs = st.fixed_dictionaries({"command": st.sampled_from(["ls", "rm x", "ls "])}, optional={"description": st.text()})
calls = st.builds(
    ToolCall,
    id=st.just("toolu_1"),
    name=st.one_of(names, st.just(clearance.ASK)),
    input=st.one_of(inputs, st.just({"question": "which?"}), st.just({"question": " "})),
    in_subagent=st.booleans(),
)
personas = st.builds(
    Persona,
    name=st.just("p"),
    description=st.just(""),
    prompt=st.just(""),
    source=st.just(""),
    tools=st.one_of(st.none(), some_names),
    ask=some_names,
    deny=some_names,
)
answers = st.sampled_from([None, "allow", "always", "deny: no", "anything"])
records = st.one_of(
    st.none(), st.builds(CallRecord, kind=st.sampled_from(list(QuestionKind)), answer=answers, withdrawn=st.booleans())
)
grants = st.lists(st.builds(Grant, tool=names, input=inputs), max_size=3)


@given(calls, personas, records, grants)
def test_a_call_in_a_sub_agent_is_never_left_waiting_unless_it_was_asked_before(
    call: ToolCall, persona: Persona, record: CallRecord | None, grants: list[Grant]
) -> None:
    verdict = clearance.decide(call, persona, record, grants)
    if call.in_subagent and record is None:
        assert not isinstance(verdict, Defer)


@given(calls, personas, records, grants)
def test_a_denied_tool_never_runs_whoever_allowed_it(
    call: ToolCall, persona: Persona, record: CallRecord | None, grants: list[Grant]
) -> None:
    if call.name in persona.deny:
        assert isinstance(clearance.decide(call, persona, record, grants), Deny)


@given(calls, personas, records, grants)
def test_what_is_asked_for_runs_only_with_an_answer_or_a_grant_that_fits(
    call: ToolCall, persona: Persona, record: CallRecord | None, grants: list[Grant]
) -> None:
    verdict = clearance.decide(call, persona, record, grants)
    if call.name in persona.ask and isinstance(verdict, Allow):
        if record is None:
            assert any(clearance.granted(call, grant) for grant in grants)
        else:
            assert not record.withdrawn
            assert record.answer is not None
            assert clearance.kind_of(call) is not QuestionKind.PERMISSION or record.answer in {"allow", "always"}


@given(calls, personas, grants)
def test_a_withdrawn_call_never_runs(call: ToolCall, persona: Persona, grants: list[Grant]) -> None:
    record = CallRecord(kind=QuestionKind.PERMISSION, answer="allow", withdrawn=True)
    if clearance.rule(call, persona) is None:
        assert clearance.decide(call, persona, record, grants) == Deny(clearance.WITHDRAWN)


@given(calls, personas)
def test_a_tool_that_nobody_gave_is_denied(call: ToolCall, persona: Persona) -> None:
    offered = persona.offered
    if offered is not None and call.name not in offered and call.name != clearance.ASK:
        assert isinstance(clearance.decide(call, persona, None), Deny)


def test_a_grant_for_a_shell_covers_the_same_input_only() -> None:
    def bash(**given: Any) -> ToolCall:
        return ToolCall(id="1", name="Bash", input=given)

    grant = Grant(tool="Bash", input={"command": "git push", "description": "a"})
    assert clearance.granted(bash(command="git push", description="b", timeout=5), grant)
    for other in ({"command": "git push "}, {"command": "git push", "dangerouslyDisableSandbox": True}, {}):
        assert not clearance.granted(bash(**other), grant)


@pytest.mark.parametrize("text", ["", "yes", "allow me", "deny", "deny:", "deny:  ", "no", "allow always"])
def test_only_three_things_answer_a_permission(text: str) -> None:
    with pytest.raises(InvalidError):
        checked_answer(QuestionKind.PERMISSION, text)


def test_answers_of_permissions_are_stored_in_one_form() -> None:
    assert [checked_answer(QuestionKind.PERMISSION, text) for text in (" Allow\n", "ALWAYS", "Deny:why: because")] == [
        "allow",
        "always",
        "deny: why: because",
    ]


def test_the_first_policy_that_fits_counts() -> None:
    found = (
        Policy(answer="allow", kind="permission", tool="WebFetch"),
        Policy(answer="deny: not today", kind="permission"),
        Policy(answer="as you like", kind="question"),
    )
    persona = Persona(name="p", description="", prompt="", source="", tools=("Bash",), policy=found)

    def answer(name: str) -> str | None:
        return clearance.policy_answer(ToolCall(id="1", name=name, input={}), persona)

    assert [answer(name) for name in ("WebFetch", "Bash", clearance.ASK)] == ["allow", "deny: not today", "as you like"]
