"""What a digest says about one ended turn: Fleet's facts in brackets, then the agent's own words behind a margin."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product, takewhile

from orchestrator.domain.check import FAILED_CHECK_REASONS, CheckKind, verdict_of
from orchestrator.domain.duration import format_age
from orchestrator.domain.text import (
    MARGIN,
    ForeignText,
    clean,
    named,
    one_line,
    quantity,
    quoted,
    raw,
    size_bytes,
    within,
    within_brackets,
)
from orchestrator.domain.turn import TurnStatus
from orchestrator.domain.usage import shown_cost
from orchestrator.fleet.digest_views import OutcomeView
from orchestrator.fleet.projections.change_words import change_words
from orchestrator.fleet.views import CheckView

MAX_REASON_CHARACTERS = 160
MAX_FILES = 12
SHOWN_SECONDS = 10.0
"""a shorter duration tells nobody anything"""
MAX_CHECK_CHARACTERS = 60
MAX_SAID_CHARACTERS = 80
MAX_TAIL_CHARACTERS = 100
MAX_SHORT_TAIL_CHARACTERS = 60
"""of a passed check's output: a longer one says nothing new"""
MAX_CHECKS_BYTES = 260
LINE_BYTES = (180, 120, 80, 60)
"""of one line of a text that must be cut: the first of these with which it says the most important"""
MAX_SUMMARY_CHARACTERS = 150
MAX_GIST_CHARACTERS = 64
"""of a result that another agent receives: the room is for those that its reader must judge"""
_DOES: Mapping[str, str] = {
    TurnStatus.QUEUED: "is queued",
    TurnStatus.WORKING: "works",
    TurnStatus.WAITING: "waits",
    TurnStatus.RECOVERING: "recovers",
}
"""what an open turn does"""
_HEADING = re.compile(r"(?:#{1,6}\s*|\*\*)\W*(?P<title>\w[^*:\n]*)(?:\*\*)?:?\s*(?:\*\*)?", re.IGNORECASE)
_KEPT = re.compile(r"(?:[#*\s]*)(tests?|checks?|open|verdict)\b", re.IGNORECASE)
"""begins a line that says what holds, what does not, and what is left to do: a cut leaves it in"""
_NUMBERED = re.compile(r"\d+[.)]\s")
_NOTHING = re.compile(r"\W*(none|nothing|no|n/?a|-)?\W*", re.IGNORECASE)


def fact(outcome: OutcomeView, *, is_one_of_several: bool, is_last: bool, same_files_as: str = "") -> str:
    """Return the bracketed line of facts; an agent may be named whose line lists the same files."""
    ahead = outcome.open_turn
    parts = [f"{outcome.name} {outcome.status}"]
    if outcome.reason:
        told = outcome.checks and outcome.reason in FAILED_CHECK_REASONS  # the failed checks are named behind it
        parts[0] += f" ({outcome.reason if told else with_detail(outcome.reason, outcome.detail)})"
    if outcome.turn > 1 or is_one_of_several or ahead is not None:
        parts.append(f"turn {outcome.turn}")
    if ahead is not None and is_last:
        parts.append(f"turn {ahead.turn} {_DOES[ahead.status]}")
    if outcome.place:
        parts.append(f"in {outcome.place}")
    if outcome.elapsed_seconds is not None and outcome.elapsed_seconds >= SHOWN_SECONDS:
        parts.append(f"ran {format_age(outcome.elapsed_seconds)}")
    parts.append(shown_cost(outcome.cost_usd))
    if outcome.checks:
        parts.append(_checks(outcome.checks))
    parts.append(
        change_words(outcome.changes, outcome.changes_unknown, max_files=MAX_FILES, same_files_as=same_files_as)
    )
    return f"[{within_brackets(' · '.join(filter(None, parts)))}]"


def with_detail(reason: str, detail: ForeignText, limit_characters: int = MAX_REASON_CHARACTERS) -> str:
    """Return why a turn ended: the code, then the sentence, which may quote programs and services."""
    return f"{reason}: {quoted(detail, limit_characters)}" if detail else reason


def _checks(checks: Sequence[CheckView]) -> str:
    """Return each check with its result and the last line that it printed, failed ones first."""
    ordered = sorted(checks, key=lambda check: check.passed)
    shown = [_check(check) for check in ordered]
    if size_bytes(shown) > MAX_CHECKS_BYTES:
        shown = [_check(check, with_tail=not check.passed) for check in ordered]
    kept: list[str] = []
    for one in shown:
        if kept and size_bytes([*kept, one]) > MAX_CHECKS_BYTES:
            break
        kept.append(one)
    failed = sum(not check.passed for check in ordered[len(kept) :])
    more = len(shown) - len(kept)
    rest = f"; {more} more{f', {failed} failed' if failed else ''}" if more else ""
    return f"checks: {'; '.join(kept)}{rest}"


def _check(check: CheckView, *, with_tail: bool = True) -> str:
    is_verdict = check.kind == CheckKind.VERDICT
    found = "ok" if check.passed and not is_verdict else one_line(check.said, MAX_SAID_CHARACTERS)
    last = _last_line(check) if with_tail else ""
    return f"{named(check.check, MAX_CHECK_CHARACTERS)} {found}" + (f" {last}" if last else "")


def _last_line(check: CheckView) -> str:
    lines = clean(raw(check.tail)).strip().splitlines()
    if not lines or (check.passed and (len(lines) > 1 or len(lines[0]) > MAX_SHORT_TAIL_CHARACTERS)):
        return ""
    return quoted(lines[-1], MAX_TAIL_CHARACTERS)


@dataclass(frozen=True)
class ResultLine:
    """A line of an agent's text behind its margin, and where it begins in the text."""

    shown: str
    offset: int
    rank: int = 0
    """its place in a section that a cut leaves in, from 1; 0: it is in none"""


def words(outcome: OutcomeView) -> list[ResultLine]:
    """Return the agent's own words: all of them, or the gist of a result that another agent receives.

    A verdict that Fleet has read is among the facts, and not repeated.
    """
    found = _lines(outcome.text)
    judged = any(check.kind == CheckKind.VERDICT for check in outcome.checks) and verdict_of(raw(outcome.text))
    if judged and len(found) > 1:
        found = found[:-1]
    is_elsewhere = outcome.handed_on and outcome.status == TurnStatus.COMPLETE
    return _gist(found) if is_elsewhere and found else found


def _lines(text: ForeignText) -> list[ResultLine]:
    whole, lines, at, rank = raw(text), list[ResultLine](), 0, 0
    for line in clean(whole).splitlines():
        if not line.strip():
            continue
        at = max(at, whole.find(line.strip(), at))
        if _KEPT.match(line):
            rank = 1
        elif _HEADING.fullmatch(line.strip()):
            rank = 0
        lines.append(ResultLine(f"{MARGIN}{line.rstrip()}", at, rank))
        rank += rank > 0
        at += len(line.strip())
    return lines


def _gist(lines: Sequence[ResultLine]) -> list[ResultLine]:
    """Return the summary under that title, and what the agent left open, or its findings; or its first sentence."""
    texts = [line.shown.removeprefix(MARGIN).strip() for line in lines]
    summary, left = _section(texts, "summary")[:1], _section(texts, "open")
    found = [text for text in _section(texts, "findings") if _NUMBERED.match(text)]
    said = [ResultLine(within(f"{MARGIN}{text}", MAX_SUMMARY_CHARACTERS), 0) for text in summary]
    if left:
        more = f" ({len(left)} in all)" if len(left) > 1 else ""
        said.append(_short(f"Open{more}: {left[0].lstrip('-* ')}"))
    elif found:
        said.append(_short(f"{quantity(len(found), 'finding')}: {_NUMBERED.sub('', found[0])}"))
    prose = [text for text in texts if not _HEADING.fullmatch(text)]
    return said or [_short((prose or texts)[0])]


def _short(text: str) -> ResultLine:
    return ResultLine(within(f"{MARGIN}{text}", MAX_GIST_CHARACTERS), 0, rank=1)


def _section(texts: Sequence[str], title: str) -> list[str]:
    """Return what the first section with something in it says under a title that begins like this."""
    for at, line in enumerate(texts):
        if re.match(rf"[#*\s]*{title}\b", line, re.IGNORECASE):
            inline = re.sub(rf"^[#*\s]*{title}[^:]*:?[*\s]*", "", line, flags=re.IGNORECASE)
            body = takewhile(lambda text: not (_HEADING.fullmatch(text) or _KEPT.match(text)), texts[at + 1 :])
            if said := [text for text in (inline, *body) if text and not _NOTHING.fullmatch(text)]:
                return said
    return []


def fitting(lines: Sequence[ResultLine], room: int, call: Callable[[int], str]) -> list[str]:
    """Return the lines that fit; the first cut names the call.

    First come the first lines of the text and of each section that is kept, then the rest of those sections, then what
    follows the beginning; in a text without such a section also its end. A heading and its first line are one line,
    and long lines are shortened, so that more of them fit.
    """
    if size_bytes([line.shown for line in lines]) <= room:
        return [line.shown for line in lines]
    whole = _folded(lines)
    from_end = range(len(whole) - 1, -1, -1)
    kept = sorted((index for index in from_end if whole[index].rank), key=lambda index: whole[index].rank)
    most_important = [*(index for index in kept if whole[index].rank == 1), 0]
    for wanted, width in product(({*kept, 0}, set(most_important)), LINE_BYTES):
        lines = [replace(line, shown=_shortened(line.shown, width)) for line in whole]
        if size_bytes(_cut(lines, wanted, call)) <= room:
            break
    chosen: set[int] = set()
    _add(lines, [*most_important, *kept], chosen, room, call)
    _add(lines, [] if kept else from_end, chosen, room // 3, call)
    _add(lines, range(len(lines)), chosen, room, call)
    return _cut(lines, chosen, call) if chosen and size_bytes(_cut(lines, chosen, call)) <= room else []


def _folded(lines: Sequence[ResultLine]) -> list[ResultLine]:
    """Put each heading before the line that follows it."""
    folded: list[ResultLine] = []
    title = ""
    for line in lines:
        text = line.shown.removeprefix(MARGIN).strip()
        heading = _HEADING.fullmatch(text)
        if title and not heading:
            folded[-1] = replace(folded[-1], shown=f"{MARGIN}{title}: {text.removeprefix('- ')}")
        else:
            folded.append(line)
        title = heading["title"].strip() if heading else ""
    return folded


def _shortened(line: str, limit: int) -> str:
    return line if len(line.encode()) <= limit else MARGIN + within(line.removeprefix(MARGIN), limit)


def _add(
    lines: Sequence[ResultLine], indexes: Sequence[int], chosen: set[int], room: int, call: Callable[[int], str]
) -> None:
    for index in indexes:
        if index not in chosen:
            if size_bytes(_cut(lines, chosen | {index}, call)) > room:
                return
            chosen.add(index)


def _cut(lines: Sequence[ResultLine], chosen: set[int], call: Callable[[int], str]) -> list[str]:
    shown: list[str] = []
    missing: list[ResultLine] = []
    calls = 0
    for index in [*range(len(lines)), -1]:
        if index >= 0 and index not in chosen:
            missing.append(lines[index])
            continue
        if missing:
            where = f": {call(missing[0].offset)}" if not calls else f" from offset={missing[0].offset}"
            shown.append(f"({quantity(len(missing), 'more line')}{where})")
            missing, calls = [], calls + 1
        if index >= 0:
            shown.append(lines[index].shown)
    return shown if calls else [*shown, f"(lines are cut: {call(0)})"]


def shares(sizes: Sequence[int], room: int) -> list[int]:
    """Return how much of the room each text gets: what it needs, or an equal part of what the small ones leave."""
    given = [0] * len(sizes)
    left = max(0, room)
    order = sorted(range(len(sizes)), key=lambda index: sizes[index])
    for position, index in enumerate(order):
        given[index] = min(sizes[index], left // (len(order) - position))
        left -= given[index]
    return given
