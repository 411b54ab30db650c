"""What a digest says about one ended turn: Fleet's facts in brackets, then the agent's own words behind a margin."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product, takewhile

from orchestrator.domain.check import FAILED_CHECK_REASONS, FAILED_VERDICT, CheckKind, verdict_of
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
"""limits for each line of a text that must be cut, tried in this order until its key lines fit"""
MAX_HEADING_CHARACTERS = 120
GIST_CHARACTERS = ((150, 150), (150, 100), (150, 64), (110, 64), (80, 64), (60, 60))
"""limits of a gist's summary and of its other line, from much room to little"""
_DOES: Mapping[str, str] = {
    TurnStatus.QUEUED: "is queued",
    TurnStatus.WORKING: "works",
    TurnStatus.WAITING: "waits",
    TurnStatus.RECOVERING: "recovers",
}
"""what an open turn does"""
_HEADING = re.compile(r"(?:#{1,6}\s*|\*\*)\W*(?P<title>\w[^*:\n]*)(?:\*\*)?:?\s*(?:\*\*)?", re.IGNORECASE)
_KEPT = re.compile(r"[#*\s]*(test|check|open|verdict)s?\b", re.IGNORECASE)
"""begins a line that says what holds, what does not, and what is left to do: a cut leaves it in"""
_NUMBERED = re.compile(r"\d+[.)]\s")
_NOTHING = frozenset({"", "none", "nothing", "no", "na"})
"""the letters of a line that says that there is nothing to say"""
MAX_NOTHING_CHARACTERS = 40


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
    """Return each check with its result and the last line that it printed: the verdict first, then failed ones."""
    ordered = sorted(checks, key=lambda check: (check.kind != CheckKind.VERDICT, check.passed))
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


def words(outcome: OutcomeView, gist_characters: tuple[int, int]) -> list[ResultLine]:
    """Return the agent's own words: all of them, or the gist of a result that another agent receives.

    A verdict that Fleet has read is among the facts, and not repeated.
    """
    found = _lines(outcome.text)
    if any(check.kind == CheckKind.VERDICT for check in outcome.checks) and verdict_of(raw(outcome.text)):
        found = found[:-1]
    return _gist(found, outcome, *gist_characters) if found and is_elsewhere(outcome) else found


def is_elsewhere(outcome: OutcomeView) -> bool:
    """Return whether another agent works with this result: a failed one only if it is a review, for who mends."""
    return outcome.handed_on and (outcome.status == TurnStatus.COMPLETE or outcome.reason == FAILED_VERDICT)


def _lines(text: ForeignText) -> list[ResultLine]:
    whole, lines, at, section, rank = raw(text), list[ResultLine](), 0, "", 0
    for line in clean(whole).splitlines():
        if not line.strip():
            continue
        at = max(at, whole.find(line.strip(), at))
        if (kept := _KEPT.match(line)) or _heading(line.strip()):
            before, section = section, kept[1].lower() if kept else ""
            rank = rank if section == before else int(section != "")
        lines.append(ResultLine(f"{MARGIN}{line.rstrip()}", at, rank))
        rank += rank > 0
        at += len(line.strip())
    return lines


def _heading(line: str) -> str:
    """Return the title if the line is a heading, otherwise ''."""
    found = _HEADING.fullmatch(line) if len(line) <= MAX_HEADING_CHARACTERS else None
    return found["title"].strip() if found else ""


def _gist(lines: Sequence[ResultLine], outcome: OutcomeView, summary: int, other: int) -> list[ResultLine]:
    """Return the summary under that title, and what is left open or was found; without either the first sentence.

    Findings that are to be mended are not counted: their summary says what needs changes.
    """
    texts = [line.shown.removeprefix(MARGIN).strip() for line in lines]
    said = [within(text, summary) for text in _section(texts, "summary")[:1]]
    passed = any(check.kind == CheckKind.VERDICT and check.passed for check in outcome.checks)
    found = [text for text in _section(texts, "findings") if passed and _NUMBERED.match(text)]
    if left := _section(texts, "open"):
        more = f" ({len(left)} in all)" if len(left) > 1 else ""
        said.append(within(f"Open{more}: {left[0].lstrip('-* ')}", other))
    elif found:
        said.append(within(f"{quantity(len(found), 'finding')}: {_NUMBERED.sub('', found[0])}", other))
    prose = [text for text in texts if not _heading(text)]
    return [ResultLine(f"{MARGIN}{text}", 0) for text in said or [within((prose or texts)[0], other)]]


def _section(texts: Sequence[str], title: str) -> list[str]:
    """Return the lines of the first section that is not empty and whose title begins like this."""
    for at, line in enumerate(texts):
        if re.match(rf"[#*\s]*{title}\b", line, re.IGNORECASE):
            inline = re.sub(rf"^[#*\s]*{title}[^:]*:?[*\s]*", "", line, flags=re.IGNORECASE)
            body = takewhile(lambda text: not (_heading(text) or _KEPT.match(text)), texts[at + 1 :])
            if said := [text for text in (inline, *body) if not _says_nothing(text)]:
                return said
    return []


def _says_nothing(text: str) -> bool:
    return len(text) <= MAX_NOTHING_CHARACTERS and "".join(re.findall(r"\w", text)).lower() in _NOTHING


def fitting(lines: Sequence[ResultLine], room: int, call: Callable[[int], str]) -> list[str]:
    """Return the lines that fit; the first cut names the call.

    First come the first line of the text and that of each section that is kept, then the rest of those sections, then
    what follows the beginning; in a text without such a section also its end. A heading and its first line are one
    line, and long lines are shortened, so that more of them fit.
    """
    if size_bytes([line.shown for line in lines]) <= room:
        return [line.shown for line in lines]
    lines = _folded(lines)
    from_end = range(len(lines) - 1, -1, -1)
    kept = sorted((index for index in from_end if lines[index].rank), key=lambda index: lines[index].rank)
    key_lines = [0, *(index for index in kept if lines[index].rank == 1)]
    cut = _Cut(lines, room, LINE_BYTES[-1], call)
    for wanted, width in product(({*kept, 0}, set(key_lines)), LINE_BYTES):
        if (wider := replace(cut, width=width)).fits(wanted):
            cut = wider
            break
    for index in key_lines:
        cut.add([index])
    cut.add(kept)
    if not kept:
        cut.add(from_end, room // 3)
    cut.add(range(len(lines)))
    for index in range(1, len(lines) - 1):  # a single line may be no longer than the one that would count it
        if {index - 1, index + 1} <= cut.chosen:
            cut.add([index])
    return cut.shown(cut.chosen) if cut.chosen else []


def _folded(lines: Sequence[ResultLine]) -> list[ResultLine]:
    """Put each heading before the line that follows it."""
    folded: list[ResultLine] = []
    title = ""
    for line in lines:
        text = line.shown.removeprefix(MARGIN).strip()
        heading = _heading(text)
        if title and not heading:
            before = folded[-1]
            shown = f"{MARGIN}{title}: {text.removeprefix('- ')}"
            folded[-1] = replace(before, shown=shown, rank=before.rank or line.rank)
        else:
            folded.append(line)
        title = heading
    return folded


@dataclass(frozen=True)
class _Cut:
    """A choice of the lines of a text that is too long, with what a reader is told of the others."""

    lines: Sequence[ResultLine]
    room: int
    width: int
    call: Callable[[int], str]
    chosen: set[int] = field(default_factory=set[int])

    def add(self, indexes: Iterable[int], room: int | None = None) -> None:
        """Choose these lines in order, up to the first that does not fit."""
        for index in indexes:
            if not self.fits({*self.chosen, index}, room):
                return
            self.chosen.add(index)

    def fits(self, indexes: set[int], room: int | None = None) -> bool:
        return size_bytes(self.shown(indexes)) <= (self.room if room is None else room)

    def shown(self, indexes: set[int]) -> list[str]:
        """Return these lines; where some are missing, how many, and how to read them."""
        shown: list[str] = []
        cuts = following = 0
        for index in [*sorted(indexes), len(self.lines)]:
            if index > following:
                offset = self.lines[following].offset
                where = f" from offset={offset}" if cuts else f": {self.call(offset)}"
                shown.append(f"({quantity(index - following, 'more line')}{where})")
                cuts += 1
            if index < len(self.lines):
                shown.append(_shortened(self.lines[index].shown, self.width))
            following = index + 1
        return shown if cuts else [*shown, f"(lines are cut: {self.call(0)})"]


def _shortened(line: str, limit: int) -> str:
    return line if len(line.encode()) <= limit else MARGIN + within(line.removeprefix(MARGIN), limit)


def shares(sizes: Sequence[int], room: int) -> list[int]:
    """Return how much of the room each text gets: what it needs, or an equal part of what the small ones leave."""
    given = [0] * len(sizes)
    left = max(0, room)
    order = sorted(range(len(sizes)), key=lambda index: sizes[index])
    for position, index in enumerate(order):
        given[index] = min(sizes[index], left // (len(order) - position))
        left -= given[index]
    return given
