"""The digest that ends a wait: facts from Fleet first, then the agents' own words as their data.

At most 400 tokens (1,600 bytes); cuts are marked and made between lines.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from orchestrator.domain.duration import format_age
from orchestrator.domain.question import MAX_LINE_CHARACTERS, line_of
from orchestrator.domain.text import (
    MAX_RESULT_BYTES,
    bounded,
    choices,
    named,
    quantity,
    quoted,
    raw,
    size_bytes,
    within,
)
from orchestrator.domain.turn import TurnStatus
from orchestrator.domain.usage import shown_cost, shown_tokens
from orchestrator.domain.wait import WaitKind
from orchestrator.fleet.digest_views import OutcomeView
from orchestrator.fleet.projections import calls, outcome_lines
from orchestrator.fleet.projections.change_words import counted_files
from orchestrator.fleet.projections.result_lines import ResultLine, narrowed
from orchestrator.fleet.state_views import ProgressView, QuestionView
from orchestrator.fleet.views import AgentView, Totals

MAX_SAID_CHARACTERS = 80
MIN_TEXT_BYTES = 60
MAX_MISSING_BYTES = 320
"""reserved for the line about ended turns that do not fit"""
COMPLETE, FAILED = str(TurnStatus.COMPLETE), str(TurnStatus.FAILED)
MAX_QUIET = 4
FRESH_SECONDS = 60.0
CENT_USD = 0.005


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
    claimed: str = ""
    """which agents of ended sessions are the reader's from now on"""
    person: bool = False
    """a person reads it, and types `fleet` commands where an orchestrator calls tools"""
    seen_before: bool = False
    """whether an agent that was asked for has ended, with nothing left to deliver"""


def digest_text(awake: DigestInput) -> str:
    """Return the digest within its limit; needs and facts are placed before any agent's text."""
    reserved = 2 * MIN_TEXT_BYTES if awake.outcomes else 0
    last = [awake.claimed] if awake.claimed else []
    limit = MAX_RESULT_BYTES - size_bytes(last)
    lines = bounded(_standing(awake), _more(awake, "get_agent_status", "fleet ps"), limit - reserved)
    room = limit - size_bytes(lines)
    facts = _facts(awake)
    kept = _kept(awake.outcomes, facts, room)
    if len(kept) < len(facts):  # perhaps without the line whose files another one refers to
        facts = _facts(awake, names_files_once=False)
        kept = _kept(awake.outcomes, facts, room)
    room -= size_bytes([line for index in kept for line in facts[index]])
    missing = _missing(awake, [one for index, one in enumerate(awake.outcomes) if index not in kept], room)
    room -= size_bytes(missing)
    shown = _words([awake.outcomes[index] for index in kept], room, person=awake.person)
    for index, told in zip(kept, shown, strict=True):
        first, *others = facts[index]
        lines += [first, *(told or []), *others]
    hidden = [awake.outcomes[index] for index, told in zip(kept, shown, strict=True) if told is None]
    return "\n".join([*lines, *_hidden(awake, hidden), *missing, *last])


def _words(outcomes: Sequence[OutcomeView], room: int, *, person: bool) -> list[list[str] | None]:
    """Return what fits of each agent's own words (None: nothing); room that one leaves goes to those that were cut."""
    texts, given = _shared(outcomes, room)
    calls_of = [partial(calls.output, outcome, person=person) for outcome in outcomes]
    shown = [outcome_lines.fitting(*one) for one in zip(texts, given, calls_of, strict=True)]
    left = sum(given) - sum(map(size_bytes, shown))
    for index, text in enumerate(texts):
        before = shown[index]
        if left > 0 and _size(text) > given[index]:
            wider = outcome_lines.fitting(text, size_bytes(before) + left, calls_of[index])
            if len(wider) >= len(before):
                shown[index] = wider
                left -= size_bytes(wider) - size_bytes(before)
    return [lines if lines or not text else None for lines, text in zip(shown, texts, strict=True)]


def _shared(outcomes: Sequence[OutcomeView], room: int) -> tuple[list[list[ResultLine]], list[int]]:
    """Return each agent's words and the bytes they may take; gists leave a quarter of the room to the other texts."""
    texts = [outcome_lines.words(outcome) for outcome in outcomes]
    if (whole := [_size(text) for text in texts]) and sum(whole) <= room:
        return texts, whole
    gists = [index for index, outcome in enumerate(outcomes) if outcome_lines.is_elsewhere(outcome)]
    others = sum(whole) - sum(whole[index] for index in gists)
    room -= MIN_TEXT_BYTES  # for the line that counts what does not fit
    room_of_gists = room - min(others, room // 4)
    narrow: dict[int, list[ResultLine]] = {}
    for limits in outcome_lines.GIST_BYTES:
        narrow = {index: narrowed(texts[index], *limits) for index in gists}
        if sum(map(_size, narrow.values())) <= room_of_gists:
            break
    given = dict(zip(gists, outcome_lines.shares(list(map(_size, narrow.values())), room_of_gists), strict=True))
    rest = [index for index in range(len(texts)) if index not in given]
    room_of_rest = room - sum(given.values())
    given |= zip(rest, outcome_lines.shares([whole[index] for index in rest], room_of_rest), strict=True)
    return [narrow.get(index, text) for index, text in enumerate(texts)], [given[index] for index in range(len(texts))]


def _size(lines: Sequence[ResultLine]) -> int:
    return size_bytes([line.shown for line in lines])


def _facts(awake: DigestInput, *, names_files_once: bool = True) -> list[list[str]]:
    """Return Fleet's own lines about each outcome: the facts and, after a failure, the call to continue with."""
    last = {outcome.id: index for index, outcome in enumerate(awake.outcomes)}
    several = Counter(outcome.id for outcome in awake.outcomes)
    asked = [calls.changes_told(agent) for agent in awake.needs]
    held = {agent.name for agent in awake.needs} | {one.reviewer for one in asked if one}  # their calls are told there
    found: list[list[str]] = []
    told: dict[tuple[str, ...], str] = {}
    for index, outcome in enumerate(awake.outcomes):
        is_last = last[outcome.id] == index
        files = _files(outcome) if names_files_once else ()
        same = told.get(files, "")
        line = outcome_lines.fact(
            outcome,
            is_one_of_several=several[outcome.id] > 1,
            is_last=is_last,
            same_files_as=same if same != outcome.name else "",
        )
        if len(" ".join(files)) > len(outcome.name) + len("those of"):
            told.setdefault(files, outcome.name)
        call = calls.after_failure(outcome, person=awake.person) if is_last and outcome.name not in held else ""
        found.append([line, f"-> {call}"] if call else [line])
    return found


def _files(outcome: OutcomeView) -> tuple[str, ...]:
    """Return the names of all files that its line counts, or none if not all are known."""
    counted = counted_files(outcome.changes) if outcome.changes else None
    known = tuple(map(raw, counted.files)) if counted else ()
    return known if counted and len(known) == counted.files_changed else ()


def _standing(awake: DigestInput) -> list[str]:
    """Return the lines before any outcome."""
    quiet = [_quiet(agent) for agent in awake.quiet[:MAX_QUIET]]
    left = [awake.left_by_others] if awake.left_by_others else []
    return [_head(awake), *(need(agent, person=awake.person) for agent in awake.needs), *quiet, *left]


def _more(awake: DigestInput, call: str, command: str) -> str:
    return command if awake.person else call


def _kept(outcomes: Sequence[OutcomeView], facts: Sequence[Sequence[str]], room: int) -> list[int]:
    """Return the outcomes whose facts fit: all, or the first ones, with failures before the others."""
    room -= MIN_TEXT_BYTES
    if sum(map(size_bytes, facts)) <= room:
        return list(range(len(facts)))
    room -= MAX_MISSING_BYTES - MIN_TEXT_BYTES
    kept: list[int] = []
    for index in sorted(range(len(facts)), key=lambda index: outcomes[index].status == COMPLETE):
        room -= size_bytes(facts[index])
        if room < 0:
            break
        kept.append(index)
    return sorted(kept)


def _missing(awake: DigestInput, outcomes: Sequence[OutcomeView], room: int) -> list[str]:
    """Return the line that counts the ended turns that do not fit, and names them if possible."""
    if not outcomes:
        return []
    failed = sum(outcome.status == FAILED for outcome in outcomes)
    count = f"{quantity(len(outcomes), 'more turn')} ended{f', {failed} failed' if failed else ''}"
    turns: dict[str, list[int]] = {}
    for outcome in outcomes:
        turns.setdefault(outcome.name, []).append(outcome.turn)
    names = ", ".join(f"{name} {within(_spans(numbers), MAX_SAID_CHARACTERS)}" for name, numbers in turns.items())
    width = min(room - MIN_TEXT_BYTES, MAX_MISSING_BYTES - MIN_TEXT_BYTES) - len(count) - MIN_TEXT_BYTES // 2
    if width > 0:
        return [f"({count}: {within(names, width)}: {_more(awake, 'get_agent_output', 'fleet output')})"]
    return [f"({count}: {_more(awake, 'get_agent_status', 'fleet ps')})"]


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


def shown_needs(text: str, needs: Sequence[AgentView], *, person: bool = False) -> list[AgentView]:
    """Return the agents whose line fits into the digest."""
    lines = set(text.splitlines())
    return [agent for agent in needs if need(agent, person=person) in lines]


def _head(awake: DigestInput) -> str:
    by_status = ", ".join(f"{count} {status}" for status, count in awake.totals.by_status.items()) or "no agents"
    parts = [by_status, f"slept {format_age(awake.slept_seconds)}", _cost(awake)]
    if awake.totals.rehearsal:
        parts.append("rehearsal")
    if awake.timed_out:
        parts.append(f"your time-out came first: wait again, or {_more(awake, 'get_agent_status', 'fleet ps')}")
    elif awake.seen_before and not awake.outcomes and not awake.needs:
        parts.append("nothing new: you have had these outcomes")
    return " · ".join(parts)


def _cost(awake: DigestInput) -> str:
    """Return what the agents have cost; if that is not the sum of the turns below, also what those have."""
    whole = awake.totals.cost_usd
    cost = shown_cost(whole)
    if whole is None and awake.totals.known_cost_usd:
        cost = f"at least {shown_cost(awake.totals.known_cost_usd)}"
    costs = [outcome.cost_usd for outcome in awake.outcomes]
    told = sum(one for one in costs if one is not None)
    if not costs or None in costs or (whole is not None and abs(whole - told) < CENT_USD):
        return f"your agents {cost}"
    return f"your agents {cost} (turns below {shown_cost(told)})"


def need(agent: AgentView, *, person: bool) -> str:
    """Return the line about an agent that waits for its reader, with the call that ends the wait."""
    who = f"NEEDS YOU {agent.name}{_age(agent.age_seconds)}"
    call = calls.need(agent, person=person)
    if agent.question is not None:
        return f"{who} {asked(agent.question)} -> {call}, then wait again"
    if agent.status == "waiting":
        is_account = agent.wait is not None and agent.wait.kind == WaitKind.ACCOUNT
        return f"{who}: {'waits for its account' if is_account else agent.reason} -> {call}"
    return f"{who} cannot start: {agent.reason} -> {call}"


def asked(question: QuestionView, limit_characters: int | None = None) -> str:
    """Return what an agent asks or wants to do, and what happens without an answer; without a limit, as in a list."""
    if question.kind == "permission":
        wanted = line_of(question.text, limit_characters or MAX_LINE_CHARACTERS)
        return f"wants to use {named(question.tool)}: {wanted}{_default(question)}"
    options = f" (options: {choices(question.options)})" if question.options else ""
    text = within(question.text, limit_characters or calls.MAX_QUESTION_BYTES)
    return f"asks: {quoted(text, len(text))}{options}{_default(question)}"


def _default(question: QuestionView) -> str:
    """Return what counts as the answer if none is given."""
    if question.deadline_seconds is None:
        return ""
    return f" (in {format_age(question.deadline_seconds)}: {quoted(question.fallback, 60)})"


def _quiet(agent: AgentView) -> str:
    """Return what speaks for and against leaving a working agent alone."""
    found = f": {evidence_words(agent.evidence)}" if agent.evidence else ""
    return f"{agent.name} works ({doing(agent)}){found}"


def doing(agent: AgentView) -> str:
    """Return what a working agent does, and for how long unless the words say so."""
    is_timed = agent.activity is None or agent.activity.seconds is not None
    return agent.reason if is_timed else f"{agent.reason}, {format_age(agent.age_seconds)}"


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
    """Return for how long it has waited; '' if less than a minute."""
    return f" (for {format_age(seconds)})" if seconds >= FRESH_SECONDS else ""


def _hidden(awake: DigestInput, outcomes: Sequence[OutcomeView]) -> list[str]:
    """Return the line that counts the outcomes of which no text fits."""
    if not outcomes:
        return []
    return [f"({quantity(len(outcomes), 'result')} not shown: {_more(awake, 'get_agent_output', 'fleet output')})"]
