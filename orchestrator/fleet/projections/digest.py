"""The digest that ends a wait: facts from Fleet first, then the agents' own words as their data.

At most 400 tokens (1,600 bytes); cuts are marked and made between lines.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from orchestrator.domain.check import FAILED_CHECK_REASONS
from orchestrator.domain.duration import format_age
from orchestrator.domain.question import QuestionKind, fits_line, line_of
from orchestrator.domain.text import (
    MAX_OPTION_CHARACTERS,
    ForeignText,
    choices,
    margin,
    named,
    one_line,
    quantity,
    quoted,
    raw,
    within,
    within_brackets,
)
from orchestrator.domain.turn import TurnStatus
from orchestrator.domain.usage import shown_cost, shown_tokens
from orchestrator.domain.wait import WaitKind
from orchestrator.fleet.digest_views import OutcomeView
from orchestrator.fleet.projections.change_words import change_words
from orchestrator.fleet.state_views import ProgressView, QuestionView
from orchestrator.fleet.views import AgentView, CheckView, Totals

MAX_BYTES = 1600
MAX_REASON_CHARACTERS = 120
MAX_QUESTION_BYTES = 600
MAX_LIST_BYTES = 400
"""limit of one list of names, options or files"""
MAX_FILES = 6
MAX_CHECK_CHARACTERS = 60
MAX_SAID_CHARACTERS = 80
MAX_CHECKS_BYTES = 260
MIN_TEXT_BYTES = 60
MAX_MISSING_BYTES = 320
"""reserved for the line about ended turns that do not fit"""
COMPLETE, FAILED = str(TurnStatus.COMPLETE), str(TurnStatus.FAILED)
MAX_QUIET = 4
FRESH_SECONDS = 60.0
_DOES: Mapping[str, str] = {
    TurnStatus.QUEUED: "is queued",
    TurnStatus.WORKING: "works",
    TurnStatus.WAITING: "waits",
    TurnStatus.RECOVERING: "recovers",
}
"""what an open turn does"""


@dataclass(frozen=True, kw_only=True)
class DigestInput:
    """What the digest is built from."""

    totals: Totals
    slept_seconds: float
    timed_out: bool
    needs: Sequence[AgentView]
    outcomes: Sequence[OutcomeView]
    """ended turns, the oldest of each agent first"""
    quiet: Sequence[AgentView] = ()
    """working agents that are stalled, in a loop, or being resumed"""
    left_by_others: str = ""
    """what other sessions left behind"""
    seen_before: bool = False
    """whether an agent that was asked for has ended, with nothing left to deliver"""


def digest_text(awake: DigestInput) -> str:
    """Return the digest within its limit; needs and facts are placed before any agent's text."""
    lines = _bounded(_standing(awake), MAX_BYTES - (2 * MIN_TEXT_BYTES if awake.outcomes else 0))
    last = {outcome.id: index for index, outcome in enumerate(awake.outcomes)}
    several = Counter(outcome.id for outcome in awake.outcomes)
    facts = [
        _fact(outcome, is_one_of_several=several[outcome.id] > 1, is_last=last[outcome.id] == index)
        for index, outcome in enumerate(awake.outcomes)
    ]
    kept = _kept(awake.outcomes, facts, MAX_BYTES - _size(lines))
    room = MAX_BYTES - _size([*lines, *(facts[index] for index in kept)])
    missing = _missing([one for index, one in enumerate(awake.outcomes) if index not in kept], room - MIN_TEXT_BYTES)
    room -= _size(missing)
    texts = {index: _words(awake.outcomes[index]) for index in kept}
    share = _share(list(texts.values()), room)
    hidden: list[OutcomeView] = []
    for index, words in texts.items():
        shown = _fitting(words, share, awake.outcomes[index])
        if words and not shown:
            hidden.append(awake.outcomes[index])
        lines.extend([facts[index], *shown])
    return "\n".join([*lines, *_hidden(hidden), *missing])


def _standing(awake: DigestInput) -> list[str]:
    """Return the lines before any outcome."""
    quiet = [_quiet(agent) for agent in awake.quiet[:MAX_QUIET]]
    left = [awake.left_by_others] if awake.left_by_others else []
    return [_head(awake), *(_need(agent) for agent in awake.needs), *quiet, *left]


def _kept(outcomes: Sequence[OutcomeView], facts: Sequence[str], room: int) -> list[int]:
    """Return the outcomes whose fact line fits: all, or the first ones, with failures before the others."""
    room -= MIN_TEXT_BYTES
    if _size(facts) <= room:
        return list(range(len(facts)))
    room -= MAX_MISSING_BYTES - MIN_TEXT_BYTES
    kept: list[int] = []
    for index in sorted(range(len(facts)), key=lambda index: outcomes[index].status == COMPLETE):
        room -= _size([facts[index]])
        if room < 0:
            break
        kept.append(index)
    return sorted(kept)


def _missing(outcomes: Sequence[OutcomeView], room: int) -> list[str]:
    """Return the line that counts the ended turns that do not fit, and names them if possible."""
    if not outcomes:
        return []
    failed = sum(outcome.status == FAILED for outcome in outcomes)
    count = f"{quantity(len(outcomes), 'more turn')} ended{f', {failed} failed' if failed else ''}"
    turns: dict[str, list[int]] = {}
    for outcome in outcomes:
        turns.setdefault(outcome.name, []).append(outcome.turn)
    named = ", ".join(f"{name} {within(_spans(numbers), MAX_SAID_CHARACTERS)}" for name, numbers in turns.items())
    width = min(room, MAX_MISSING_BYTES - MIN_TEXT_BYTES) - len(count) - MIN_TEXT_BYTES // 2
    return [f"({count}: {within(named, width)}: get_agent_output)" if width > 0 else f"({count}: get_agent_status)"]


def _spans(numbers: Sequence[int]) -> str:
    """Return the numbers of turns, e.g. `turns 2, 4-6`."""
    spans: list[tuple[int, int]] = []
    for number in sorted(numbers):
        if spans and number == spans[-1][1] + 1:
            spans[-1] = (spans[-1][0], number)
        else:
            spans.append((number, number))
    shown = ", ".join(str(first) if first == last else f"{first}-{last}" for first, last in spans)
    return f"turn{'s' if len(numbers) > 1 else ''} {shown}"


def shown_needs(text: str, needs: Sequence[AgentView]) -> list[AgentView]:
    """Return the agents whose line fits into the digest."""
    lines = set(text.splitlines())
    return [agent for agent in needs if _need(agent) in lines]


def _head(awake: DigestInput) -> str:
    by_status = ", ".join(f"{count} {status}" for status, count in awake.totals.by_status.items()) or "no agents"
    cost = shown_cost(awake.totals.cost_usd)
    if awake.totals.cost_usd is None and awake.totals.known_cost_usd:
        cost = f"at least {shown_cost(awake.totals.known_cost_usd)}"
    parts = [by_status, f"slept {format_age(awake.slept_seconds)}", f"your agents {cost}"]
    if awake.totals.rehearsal:
        parts.append("rehearsal")
    if awake.timed_out:
        parts.append("your time-out came first: wait again, or look with get_agent_status")
    elif awake.seen_before and not awake.outcomes and not awake.needs:
        parts.append("nothing new: you have had these outcomes")
    return " · ".join(parts)


def _need(agent: AgentView) -> str:
    who = f"NEEDS YOU {agent.name}{_age(agent.age_seconds)}"
    if agent.question and agent.question.kind == "permission":
        wanted, tool = line_of(agent.question.text), named(agent.question.tool, 60)
        return (
            f"{who} wants to use {tool}: {wanted}{_else(agent.question)} -> {_reading(agent)}"
            f'command_agent(agent="{agent.name}", task="allow" or "always" or "deny: <why>"), then wait again'
        )
    if agent.question:
        asked, numbered = within(agent.question.text, MAX_QUESTION_BYTES), choices(agent.question.options)
        options, answer = (f" (options: {numbered})", "your answer or its number") if numbered else ("", "your answer")
        return (
            f"{who} asks: {quoted(asked, len(asked))}{options}{_else(agent.question)} -> {_reading(agent)}"
            f'command_agent(agent="{agent.name}", task="<{answer}>"), then wait again'
        )
    if agent.status == "waiting" and agent.remedy:
        return f"{who}: {agent.reason} -> {agent.remedy}"
    if agent.status == "waiting":
        return f"{who}: waits for its account -> start a session with that login or key, or delete it"
    if agent.wait is not None and agent.wait.kind == WaitKind.CHECKOUT:
        answer = f"answer {agent.wait.on}; if it is not yours, a person can: fleet answer"
        return f"{who} cannot start: {agent.reason} -> {answer}"
    rest = [name for name in agent.inputs if name not in agent.blocked_by]
    return (
        f"{who} cannot start: {agent.reason} -> retry that one with command_agent, or "
        f'command_agent(agent="{agent.name}", task="go on without it", inputs={_json(rest)})'
    )


def _quiet(agent: AgentView) -> str:
    """Return what speaks for and against leaving a working agent alone."""
    return f"{agent.name} works ({one_line(agent.reason, MAX_REASON_CHARACTERS)}, {format_age(agent.age_seconds)})" + (
        f": {evidence_words(agent.evidence)}" if agent.evidence else ""
    )


def with_detail(reason: str, detail: ForeignText, limit_characters: int = MAX_REASON_CHARACTERS) -> str:
    """Return why a turn ended: the code, then the sentence, which may quote programs and services."""
    return f"{reason}: {quoted(detail, limit_characters)}" if detail else reason


def evidence_words(found: ProgressView) -> str:
    """Return in words what a working agent has done since its last line of progress."""
    if found.progress_age_seconds is None:
        since = "no progress line yet"
    else:
        since = f"last progress line {format_age(found.progress_age_seconds)} ago"
    files = quantity(found.files_since_progress, "file")
    parts = [since, f"{shown_tokens(found.tokens_since_progress)} tokens and {files} since"]
    if found.tool_age_seconds is not None:
        parts.append(f"{'in its tool for' if found.in_tool else 'last tool'} {format_age(found.tool_age_seconds)}")
    if found.same_calls > 1:
        parts.append(f"same call {found.same_calls} x")
    return ", ".join(parts)


def _age(seconds: float) -> str:
    """Return how long it has been so; '' if less than a minute."""
    return f" ({format_age(seconds)})" if seconds >= FRESH_SECONDS else ""


def _reading(agent: AgentView) -> str:
    """Return the call that reads what the line cuts, which must come before the answer; '' if it cuts nothing."""
    question = agent.question
    if question is None:
        return ""
    if question.kind == QuestionKind.PERMISSION:
        cut = not fits_line(QuestionKind.PERMISSION, question.text)
    else:
        cut = within(question.text, MAX_QUESTION_BYTES) != one_line(raw(question.text), len(question.text) + 1)
        cut |= any(len(option) > MAX_OPTION_CHARACTERS for option in question.options)
        cut |= choices(question.options) != choices(question.options, MAX_BYTES)
    return f'get_agent_output(agent="{agent.name}") shows it whole; then ' if cut else ""


def _else(question: QuestionView) -> str:
    """Return what happens without an answer."""
    if question.deadline_seconds is None:
        return ""
    return f" (in {format_age(question.deadline_seconds)}: {quoted(question.fallback, 60)})"


def _json(names: Sequence[str]) -> str:
    listed = "[" + ", ".join(f'"{name}"' for name in names) + "]"
    return listed if len(listed) <= MAX_LIST_BYTES else f"[<its other {len(names)} inputs>]"


def _fact(outcome: OutcomeView, *, is_one_of_several: bool, is_last: bool) -> str:
    ahead = outcome.open_turn
    parts = [f"{outcome.name} {outcome.status}"]
    if outcome.reason:
        told = outcome.checks and outcome.reason in FAILED_CHECK_REASONS  # the failed checks are named behind it
        parts[0] += f" ({outcome.reason if told else with_detail(outcome.reason, outcome.detail)})"
    parts[0] += _age(outcome.age_seconds)
    if outcome.turn > 1 or is_one_of_several or ahead is not None:
        parts.append(f"turn {outcome.turn}")
    if ahead is not None and is_last:
        parts.append(f"turn {ahead.turn} {_DOES[ahead.status]}")
    if outcome.place:
        parts.append(f"in {outcome.place}")
    parts.append(shown_cost(outcome.cost_usd))
    if outcome.checks:
        parts.append(_checks(outcome.checks))
    parts.append(change_words(outcome.changes, outcome.changes_unknown, max_files=MAX_FILES, max_bytes=MAX_LIST_BYTES))
    return f"[{within_brackets(' · '.join(filter(None, parts)))}]"


def _checks(checks: Sequence[CheckView]) -> str:
    """Return each check with its result, failed ones first."""
    failed, passed = [[_check(check) for check in checks if check.passed is ok] for ok in (False, True)]
    named = "; ".join([*failed, *passed])
    if len(named.encode()) <= MAX_CHECKS_BYTES:
        return f"checks: {named}"
    counted = f"{len(failed)} failed, {len(passed)} ok"
    return f"checks: {counted}: {within(named, MAX_CHECKS_BYTES - len(counted))}"


def _check(check: CheckView) -> str:
    found = "ok" if check.passed and check.kind != "verdict" else one_line(check.said, MAX_SAID_CHARACTERS)
    return f"{named(check.check, MAX_CHECK_CHARACTERS)} {found}"


def _words(outcome: OutcomeView) -> list[str]:
    if outcome.handed_on and outcome.status == COMPLETE:
        return []
    return margin(outcome.text)


def _share(texts: Sequence[Sequence[str]], room: int) -> int:
    """Return how many bytes each text may take."""
    if sum(_size(words) for words in texts) <= room:
        return room
    return (room - MIN_TEXT_BYTES) // sum(bool(words) for words in texts)


def _fitting(words: Sequence[str], room: int, outcome: OutcomeView) -> list[str]:
    """Return the first lines that fit, and a line that says what is missing and which call returns it."""
    if _size(words) <= room:
        return list(words)
    room -= _size([_cut(len(words), outcome)])
    kept: list[str] = []
    for line in words:
        if _size([*kept, line]) > room:
            break
        kept.append(line)
    return [*kept, _cut(len(words) - len(kept), outcome)] if room >= 0 else []


def _cut(missing: int, outcome: OutcomeView) -> str:
    return f"({quantity(missing, 'more line')}: {_call_for(outcome)})"


def _call_for(outcome: OutcomeView) -> str:
    """Return the call that returns this turn's text; without a number, it returns the agent's last ended turn."""
    if _is_last_word(outcome):
        return "get_agent_output"
    return f'get_agent_output(agent="{outcome.name}", turn={outcome.turn})'


def _is_last_word(outcome: OutcomeView) -> bool:
    return outcome.is_latest and outcome.open_turn is None  # an open turn may have ended when the call comes


def _hidden(outcomes: Sequence[OutcomeView]) -> list[str]:
    """Return the line that counts the outcomes of which no text fits."""
    if not outcomes:
        return []
    call = "get_agent_output" if all(map(_is_last_word, outcomes)) else "get_agent_output with agent and turn"
    return [f"({quantity(len(outcomes), 'result')} not shown: {call})"]


def _bounded(lines: Sequence[str], limit_bytes: int) -> list[str]:
    """Return all lines within the limit; if they do not fit, a count replaces the last ones."""
    if _size(lines) <= limit_bytes:
        return list(lines)
    kept = list(lines)
    while len(kept) > 1 and _size(kept) > limit_bytes - MIN_TEXT_BYTES:
        kept.pop()
    return [*kept, f"({quantity(len(lines) - len(kept), 'more line')}: get_agent_status)"]


def _size(lines: Sequence[str]) -> int:
    return sum(len(line.encode()) + 1 for line in lines)
