"""What a digest says about one ended turn: Fleet's facts in brackets, then the agent's own words behind a margin."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product

from orchestrator.domain.check import FAILED_CHECK_REASONS, FAILED_VERDICT, CheckKind, verdict_of
from orchestrator.domain.duration import format_age
from orchestrator.domain.text import (
    ForeignText,
    clean,
    named,
    one_line,
    quantity,
    quoted,
    raw,
    size_bytes,
    within_brackets,
)
from orchestrator.domain.turn import TurnStatus
from orchestrator.domain.usage import shown_cost
from orchestrator.fleet.digest_views import OutcomeView
from orchestrator.fleet.projections.change_words import change_words
from orchestrator.fleet.projections.result_lines import URGENT, ResultLine, folded, gist_of, read_lines, shortened
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
LINE_BYTES = ((180, 180), (180, 120), (180, 80), (150, 60), (120, 60), (120, 50), (80, 50), (60, 50))
"""how long lines of a cut text may be: (its first line, open points and findings; any other); tried in this order, with
all lines of kept sections, then with key lines only"""
GIST_BYTES = ((150, 150), (150, 120), (120, 120), (110, 100), (100, 80), (80, 64), (60, 60))
"""how long a gist's summary and its other line may be: tried in this order"""
_DOES: Mapping[str, str] = {
    TurnStatus.QUEUED: "is queued",
    TurnStatus.WORKING: "works",
    TurnStatus.WAITING: "waits",
    TurnStatus.RECOVERING: "recovers",
}
"""what an open turn does"""


def fact(outcome: OutcomeView, *, is_one_of_several: bool, is_last: bool, same_files_as: str = "") -> str:
    """Return the bracketed line of facts; `same_files_as` is an agent whose line lists the same files."""
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


def words(outcome: OutcomeView) -> list[ResultLine]:
    """Return the agent's own words, or the gist of a result that another agent works with.

    A verdict that is among the facts is not repeated. The findings of a review that did not pass are left out:
    another agent fixes them.
    """
    found = read_lines(outcome.text)
    verdicts = [check for check in outcome.checks if check.kind == CheckKind.VERDICT]
    if verdicts and verdict_of(raw(outcome.text)):
        found = found[:-1]
    if not found or not is_elsewhere(outcome):
        return found
    return gist_of(found, with_findings=any(check.passed for check in verdicts))


def is_elsewhere(outcome: OutcomeView) -> bool:
    """Return whether another agent works with the result: it has the report, or it fixes what the review found."""
    return outcome.handed_on and (outcome.status == TurnStatus.COMPLETE or outcome.reason == FAILED_VERDICT)


def fitting(lines: Sequence[ResultLine], room: int, call: Callable[[int], str]) -> list[str]:
    """Return the lines that fit; the first cut names the call.

    The key lines come first: the first and the last line of the text, and the first of each section that a cut keeps.
    Then come the rest of those sections (or, if there are none, the end of the text) and what follows the beginning.
    Headings join the line below them, and long lines are shortened, so that more of them fit.
    """
    if size_bytes([line.shown for line in lines]) <= room:
        return [line.shown for line in lines]
    lines = folded(lines)
    from_end = range(len(lines) - 1, -1, -1)
    kept = sorted((index for index in from_end if lines[index].rank), key=lambda index: lines[index].rank)
    key_lines = [0, *(index for index in kept if lines[index].rank == 1)]
    cut = _Cut(lines, room, LINE_BYTES[-1], call)
    for wanted, widths in product(({*kept, 0}, set(key_lines)), LINE_BYTES):
        if (wider := replace(cut, widths=widths)).fits(wanted):
            cut = wider
            break
    for index in (*key_lines, len(lines) - 1):
        cut.add([index])
    cut.add(kept)
    if not kept:
        cut.add(from_end, room // 3)
    cut.add(range(len(lines)))
    for index in range(1, len(lines) - 1):  # the line that counts one missing line may be the longer one
        if {index - 1, index + 1} <= cut.chosen:
            cut.add([index])
    return cut.shown(cut.chosen) if cut.chosen else []


@dataclass(frozen=True)
class _Cut:
    """Which lines of a long text are shown, and how a reader gets the others."""

    lines: Sequence[ResultLine]
    room: int
    widths: tuple[int, int]
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
                line = self.lines[index]
                shown.append(shortened(line.shown, self.widths[index > 0 and line.section not in URGENT]))
            following = index + 1
        return shown if cuts else [*shown, f"(lines are cut: {self.call(0)})"]


def shares(sizes: Sequence[int], room: int) -> list[int]:
    """Return how much of the room each text gets: what it needs, or an equal part of what the small ones leave."""
    given = [0] * len(sizes)
    left = max(0, room)
    order = sorted(range(len(sizes)), key=lambda index: sizes[index])
    for position, index in enumerate(order):
        given[index] = min(sizes[index], left // (len(order) - position))
        left -= given[index]
    return given
