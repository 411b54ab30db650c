"""The calls that readers make next: an orchestrator calls tools, a person at a terminal types `fleet` commands."""

from __future__ import annotations

from collections.abc import Sequence

from orchestrator.domain.check import FAILED_CHECKS, FAILED_VERDICT
from orchestrator.domain.question import MAX_LINE_CHARACTERS, QuestionKind, is_whole
from orchestrator.domain.text import MAX_OPTION_CHARACTERS, MAX_RESULT_BYTES, choices, one_line, quoted, raw, within
from orchestrator.domain.wait import WaitKind
from orchestrator.fleet.digest_views import OutcomeView
from orchestrator.fleet.state_views import QuestionView
from orchestrator.fleet.views import AgentView, ChangesAsked

MAX_INPUT_CHARACTERS = 200
MAX_HINT_CHARACTERS = 160
MAX_QUESTION_BYTES = 600
QUESTION_CHARACTERS = 11
"""of a question's id, in a command to type"""
NEEDS_NEW_AGENT = frozenset({"context"})
_FIRST = {
    "auth": "renew the account's key or login, then ",
    "credit": "pay for the account or use another, then ",
    "not_found": "choose a model that the account may use, or ",
    "quota": "when the limit has reset: ",
    "overloaded": "later: ",
    "api": "check the network and the base URL, then ",
}
"""what to do before the agent is commanded again, by the reason of its failure"""


def command(agent: str, task: str, *, person: bool) -> str:
    """Return the call that gives the agent this task."""
    return f'fleet command {agent} "{task}"' if person else f'command_agent(agent="{agent}", task="{task}")'


def answer(agent: AgentView, *, person: bool, shown: int | None = None) -> str:
    """Return the call that answers the agent's question or permission, and no later one if a person makes it.

    `shown`: how much of the question the line before it shows, if more than in a list.
    """
    question = agent.question
    if question is None:
        return ""
    is_permission = question.kind == QuestionKind.PERMISSION
    own = '"<answer or number>"' if question.options else '"<your answer>"'
    first = ""
    if person:
        words = 'allow | always | "deny: <why>"' if is_permission else own
        if is_cut(question, shown):
            verb = "show" if is_whole(QuestionKind(question.kind), question.text) else "output"
            first = f"fleet {verb} {agent.name} shows it whole; then "
        which = f" --question {question.id[:QUESTION_CHARACTERS]}" if question.id else ""
        return f"{first}fleet answer {agent.name} {words}{which}"
    if is_cut(question, shown):
        first = f'get_agent_output(agent="{agent.name}") shows it whole; then '
    task = '"allow" or "always" or "deny: <why>"' if is_permission else own
    return f'{first}command_agent(agent="{agent.name}", task={task})'


def is_cut(question: QuestionView, shown: int | None = None) -> bool:
    """Whether the line about the question leaves some of it out, which must be read before the answer."""
    if question.kind == QuestionKind.PERMISSION:
        return not is_whole(QuestionKind.PERMISSION, question.text, shown or MAX_LINE_CHARACTERS)
    cut = within(question.text, shown or MAX_QUESTION_BYTES) != one_line(raw(question.text), len(question.text) + 1)
    cut |= any(len(option) > MAX_OPTION_CHARACTERS for option in question.options)
    return cut or choices(question.options) != choices(question.options, MAX_RESULT_BYTES)


def need(agent: AgentView, *, person: bool, shown: int | None = None) -> str:
    """Return the call that ends the agent's wait; '' if it waits for nothing that its reader can do."""
    if agent.question is not None:
        return answer(agent, person=person, shown=shown)
    wait = agent.wait
    if wait is None:
        return ""
    if agent.remedy:
        return agent.remedy_command if person else agent.remedy
    if wait.kind == WaitKind.ACCOUNT:
        return "start a session with that login or key, or delete it"
    if not wait.blocked:
        return ""
    if wait.kind == WaitKind.CHECKOUT:
        return f"answer {wait.on}; if it is not yours, a person can: fleet answer"
    return _without_input(agent, person=person) if wait.kind == WaitKind.INPUTS else ""


def changes_told(agent: AgentView) -> ChangesAsked | None:
    """Return the changes whose calls the agent's need names."""
    is_blocked = agent.wait is not None and agent.wait.kind == WaitKind.INPUTS and agent.wait.blocked
    if agent.question is not None or agent.remedy or not is_blocked:
        return None
    return next((one for one in agent.changes if one.reviewer == agent.blocked_by[0]), None)


def _without_input(agent: AgentView, *, person: bool) -> str:
    failed = agent.blocked_by[0] if agent.blocked_by else "<its input>"
    retry = command(failed, "<try again>", person=person)
    if (asked := changes_told(agent)) is not None:
        return _have_it_fixed(asked, person=person)
    rest = [name for name in agent.inputs if name not in agent.blocked_by]
    if person:
        return f"{retry}, or go on without it: fleet rm {agent.name}, and create it anew"
    return f'{retry}, or command_agent(agent="{agent.name}", task="go on without it", inputs={_json(rest)})'


def _json(names: Sequence[str]) -> str:
    listed = "[" + ", ".join(f'"{name}"' for name in names) + "]"
    return listed if len(listed) <= MAX_INPUT_CHARACTERS else f"[<its other {len(names)} inputs>]"


def after_failure(outcome: OutcomeView, *, person: bool) -> str:
    """Return the call to make after a failed turn; '' if it did not fail or its agent already works on another."""
    if outcome.status != "failed" or outcome.open_turn is not None or not outcome.is_latest:
        return ""
    name = outcome.name
    if outcome.reason == FAILED_VERDICT and outcome.handed_on:
        return ""  # who has it as input makes the changes
    if outcome.reason == FAILED_VERDICT:
        return _have_it_fixed(ChangesAsked(reviewer=name), person=person)
    if outcome.reason in NEEDS_NEW_AGENT:
        return "create another agent with a shorter task"
    task = "<fix what failed>" if outcome.reason == FAILED_CHECKS else "<try again>"
    advice = f"{quoted(outcome.hint, MAX_HINT_CHARACTERS)}, then " if outcome.hint else ""
    return (_FIRST.get(outcome.reason) or advice) + command(name, task, person=person)


def _have_it_fixed(asked: ChangesAsked, *, person: bool) -> str:
    """Return the calls that lead to the next verdict; in one message, too: the reviewer waits for the builder."""
    reviewer, who = asked.reviewer, asked.builder or "<builder>"
    if person:
        fix = f"fleet command {who} … --input {reviewer}"
        check = f'fleet command {reviewer} "check again" --input {who}'
    else:
        word = f'"{who}"' if asked.builder else who
        fix = f'command_agent(agent={word}, task=…, inputs=["{reviewer}"])'
        check = f'command_agent(agent="{reviewer}", task="check again", inputs=[{word}])'
    return check if asked.is_commanded else f"have it fixed: {fix}, then {check}"


def output(outcome: OutcomeView, offset: int | None = None, *, person: bool) -> str:
    """Return the call that reads the turn's text, from this character on."""
    is_last = outcome.is_latest and outcome.open_turn is None  # an open turn may have ended when the call comes
    if person:
        turn = "" if is_last else f" --turn {outcome.turn}"
        return f"fleet output {outcome.name}{turn}" + (f" --offset {offset}" if offset else "")
    turn = "" if is_last else f", turn={outcome.turn}"
    return f'get_agent_output(agent="{outcome.name}"{turn}' + (f", offset={offset})" if offset else ")")
