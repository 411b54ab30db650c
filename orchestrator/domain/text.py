"""Text made safe to store and to show: what Fleet did not write is data, never instructions or terminal control.

`ForeignText` carries such text to its readers. Whatever shows it goes through `quoted`, `named`, `listed`, `fenced` or
`margin`, so no line outside of quotation marks and fences is anyone's but Fleet's. What its reader permits is shown
`exact`: no two values give the same text.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

_ESCAPES = re.compile(
    # strings for the terminal or a device (titles, links, graphics), where they end on their line; without an end, and
    # behind a C1 character (which mojibake contains), only what introduces them goes, so that no text is lost
    r"\x1b[\]PX^_][^\x07\x1b\x9c\n]*(?:\x07|\x1b\\|\x9c)"
    r"|(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]?"  # colours, cursor movement
    r"|\x1b[ -/]*[0-~]?"
)
_UNSEEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f"  # control characters except tab and line feed
    "\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f"
    "\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb"  # zero width, directions, variation selectors, fillers
    "\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U00013430-\U0001343f"  # marks of shorthand, notes, hieroglyphs
    "\U000e0000-\U000e0fff]"  # tags, selectors: text that only a model reads
)
_SURROGATE = re.compile("[\ud800-\udfff]")
_TICKS = re.compile("`{3,}")
_MARKS = re.compile('["\u201c-\u201f\u2033\u2036\u301d-\u301f\uff02]')
_BEYOND_ASCII = re.compile("[^ -~]+")
_SEEMS_BLANK = re.compile("[\u2800\U0001d159]")
"""a letter of Braille without dots, and a note without a head"""
_ESCAPED = re.compile(r"\\(.)")
_AFTER_SPACE = re.compile("(?<= ) ")
_WORD = re.compile(r"[\w./+@~%=:#-]+")
"""a name that cannot be mistaken for words of Fleet's: without spaces, quotation marks, brackets and separators"""

LINE_CHARACTERS = 160
MARGIN = "| "
"""begins each line that quotes a text; what follows it is not Fleet's"""
MAX_OPTION_CHARACTERS = 60
MAX_PATH_CHARACTERS = 400
MAX_VALUE_CHARACTERS = 80
MAX_LIST_BYTES = 400
"""limit of one list of names"""
MIN_PATH_BYTES = 20
"""no path is shortened further: it would say nothing"""
MAX_RESULT_BYTES = 1600
"""limit of each result that an orchestrator reads, unless it asked for a page: 400 tokens"""


@dataclass(frozen=True, slots=True, repr=False, eq=False)
class ForeignText:
    """Text of an agent, a repository or a program, which cannot reach a reader as if Fleet had written it.

    `str` and f-strings show it quoted on one line. `raw` returns the text itself, for data: storage, JSON, files.
    """

    _raw: str = ""

    def __str__(self) -> str:
        """The text in quotation marks, on one line."""
        return quoted(self)

    def __format__(self, spec: str) -> str:
        """The text in quotation marks, on one line."""
        return format(quoted(self), spec)

    def __repr__(self) -> str:
        """The beginning of the text, in ASCII."""
        return f"ForeignText({self._raw[:LINE_CHARACTERS]!a})"

    def __eq__(self, other: object) -> bool:
        """Whether it is the same text, foreign or not."""
        return self._raw == (other._raw if isinstance(other, ForeignText) else other)

    def __hash__(self) -> int:
        """The hash of the text."""
        return hash(self._raw)

    def __contains__(self, part: str) -> bool:
        """Whether the text has this part."""
        return part in self._raw

    def __bool__(self) -> bool:
        """Whether there is any text."""
        return bool(self._raw)

    def __len__(self) -> int:
        """Its number of characters."""
        return len(self._raw)


NO_TEXT = ForeignText()


def raw(text: ForeignText | str) -> str:
    """Return the text itself: data, never part of a line that somebody reads."""
    return text._raw if isinstance(text, ForeignText) else text  # noqa: SLF001 - only this function unwraps a ForeignText


def is_plain(text: str) -> bool:
    """Whether the text can be stored, sent and used in a path: it has no NUL and no lone surrogate."""
    return "\x00" not in text and not _SURROGATE.search(text)


def storable(text: str) -> str:
    """Replace lone surrogates by U+FFFD, so that the text can be encoded."""
    return _SURROGATE.sub("\ufffd", text)


def storable_value(value: object) -> object:
    """Replace lone surrogates in every text of a JSON value."""
    if isinstance(value, str):
        return storable(value)
    if isinstance(value, Mapping):
        items = cast("Mapping[str, object]", value).items()
        return {storable(str(key)): storable_value(one) for key, one in items}
    return [storable_value(one) for one in cast("list[object]", value)] if isinstance(value, list) else value


def clean(text: str) -> str:
    """Remove escape sequences and invisible characters; tabs and line feeds stay."""
    seen = _UNSEEN.sub("", _ESCAPES.sub("", text.replace("\r\n", "\n").replace("\u2028", "\n").replace("\u2029", "\n")))
    return storable(seen)


def exact(value: object) -> str:
    """Return the value as JSON on one line that no other value has and that no cleaning changes.

    What is invisible, joins the character before it, or looks like a blank or a quotation mark is escaped. Letters of
    different scripts may look alike, and a terminal may reorder those that are written from right to left.
    """
    return _BEYOND_ASCII.sub(_told_apart, json.dumps(value, ensure_ascii=False, default=str))


def _told_apart(found: re.Match[str]) -> str:
    distinct = {one: one if _is_plain_letter(one) else json.dumps(one)[1:-1] for one in set(found[0])}
    return "".join(map(distinct.__getitem__, found[0]))


def _is_plain_letter(one: str) -> bool:
    """Whether the character shows, and neither joins the one before it nor passes for a blank or a quotation mark."""
    is_other = any(pattern.match(one) for pattern in (_UNSEEN, _MARKS, _SEEMS_BLANK))
    return one.isprintable() and not is_other and not unicodedata.category(one).startswith("M")


def blanks_shown(shown: str) -> str:
    """Return what `exact` returned, with each blank after another blank escaped, so that flattening changes nothing."""
    return _AFTER_SPACE.sub(r"\\u0020", shown)


def spread(shown: str) -> str:
    """Return what `exact` returned on several lines, with a break behind each escaped line feed."""
    return _ESCAPED.sub(lambda found: f"{found[0]}\n" if found[1] == "n" else found[0], shown)


def exact_ends(text: str, limit_bytes: int) -> str:
    """Return both ends of a long text, each on one line in quotation marks, and how much is missing between them.

    A quotation mark in it shows as `'`, a backslash as itself.
    """
    head = _ending(text[:limit_bytes], limit_bytes - limit_bytes // 3)
    rest = text[len(head) :]
    tail = _ending(reversed(rest[-limit_bytes:]), limit_bytes // 3)
    missing = len(rest) - len(tail)
    if missing <= 0:
        return f'"{"".join(head)}{"".join(reversed(tail))}"'
    return f'"{"".join(head)}" [… {quantity(missing, "character")} …] "{"".join(reversed(tail))}"'


def _ending(text: Iterable[str], limit_bytes: int) -> list[str]:
    """The first characters that fit, each as it is shown."""
    kept: list[str] = []
    for one in text:
        shown = {'"': "'", "\\": "\\"}.get(one) or exact(one)[1:-1]
        limit_bytes -= len(shown.encode())
        if limit_bytes < 0:
            break
        kept.append(shown)
    return kept


def one_line(text: str, limit_characters: int = LINE_CHARACTERS) -> str:
    """Return the cleaned text on one line of at most this many characters; a cut shows as `…`."""
    flat = " ".join(clean(text).split())
    return flat if len(flat) <= limit_characters else flat[: limit_characters - 1].rstrip() + "…"


def quantity(count: int, noun: str) -> str:
    """Return the count with its noun: `1 file`, `2 files`."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def quoted(text: ForeignText | str, limit_characters: int = LINE_CHARACTERS) -> str:
    """Return the text on one line, in quotation marks that it cannot close."""
    line = _MARKS.sub("'", one_line(raw(text), limit_characters))
    return f'"{line}"'


def quoted_ends(text: ForeignText | str, limit_characters: int) -> str:
    """Return the text quoted on one line; a long one is cut in the middle, because either end may matter."""
    shown = shortened(raw(text), limit_characters)
    return quoted(shown, len(shown))


def shortened(text: str, limit_characters: int) -> str:
    """Return the text on one line; a long one is cut in the middle, with a mark that says how much is missing."""
    flat = one_line(text, len(text) + 1)
    if len(flat) <= limit_characters:
        return flat
    tail = limit_characters // 3
    head = limit_characters - tail
    return f"{flat[:head].rstrip()} [… {len(flat) - head - tail} characters …] {flat[-tail:].lstrip()}"


def named(text: ForeignText | str, limit_characters: int = LINE_CHARACTERS) -> str:
    """Return a name: as it is if it is one plain word, such as most paths are, otherwise quoted."""
    name = raw(text)
    return name if len(name) <= limit_characters and _WORD.fullmatch(name) else quoted(name, limit_characters)


def named_path(path: object) -> str:
    """Return a path: as it is if it is one plain word, otherwise quoted; a long one keeps both ends."""
    text = str(path)
    plain = len(text) <= MAX_PATH_CHARACTERS and _WORD.fullmatch(text)
    return text if plain else quoted_ends(text, MAX_PATH_CHARACTERS)


def named_value(value: object) -> str:
    """Return a value of a file on one line: a number or a word such as true as it is, anything else quoted."""
    if isinstance(value, str):
        return quoted(value, MAX_VALUE_CHARACTERS)
    return json.dumps(value) if value is None or isinstance(value, bool) else named(str(value), MAX_VALUE_CHARACTERS)


def listed(
    names: Sequence[ForeignText | str], most: int, *, limit_bytes: int = MAX_LIST_BYTES, total: int | None = None
) -> str:
    """Return the first names, at most this many and within the limit, and the number of the others.

    `total` counts them all if only some are given.
    """
    return joined([named(name) for name in names[:most]], limit_bytes, max(total or 0, len(names)))


def listed_paths(
    paths: Sequence[ForeignText | str], most: int, *, limit_bytes: int = MAX_LIST_BYTES, total: int | None = None
) -> str:
    """Return the first paths and the number of the others; long ones are shortened so that `most` fit in the limit.

    A shortened path has `…` in its middle. Fewer are shown where too little of each would be left.
    """
    shown = [named(path, len(path) + 1) for path in paths[:most]]
    count = max(total or 0, len(paths))
    around = 2 * len(shown) + len(f" and {count} more")
    share = max(_share([len(one.encode()) for one in shown], limit_bytes - around), MIN_PATH_BYTES)
    return joined([_shorter(one, share) for one in shown], limit_bytes, count)


def _share(sizes: Sequence[int], room: int) -> int:
    """The size to which larger ones must shrink so that all have room."""
    for at, size in enumerate(sorted(sizes)):
        if size > room // (len(sizes) - at):
            return room // (len(sizes) - at)
        room -= size
    return max(sizes, default=0)


def _shorter(shown: str, limit_bytes: int) -> str:
    """The path as it is shown; a longer one keeps more of its end, which says more, than of its beginning."""
    if len(shown.encode()) <= limit_bytes:
        return shown
    mark = '"' if shown.startswith('"') else ""  # a plain name has none
    name = shown.strip('"').encode()
    kept = limit_bytes - len(f"{mark}…{mark}".encode())
    head, tail = name[: kept // 3], name[kept // 3 - kept :]
    return f"{mark}{head.decode(errors='ignore')}…{tail.decode(errors='ignore')}{mark}"


def choices(options: Sequence[ForeignText | str], limit_bytes: int = MAX_LIST_BYTES) -> str:
    """Return the options of a question, each quoted behind its number, and how many do not fit."""
    shown = [f"{at} {quoted(option, MAX_OPTION_CHARACTERS)}" for at, option in enumerate(options, 1)]
    return joined(shown, limit_bytes, len(options))


def joined(shown: Sequence[str], limit_bytes: int, total: int | None = None) -> str:
    """Return as many of these as fit, and the number of the others; each must be safe to show unchanged."""
    kept: list[str] = []
    for one in shown:
        if kept and size_bytes([*kept, one]) + len(kept) > limit_bytes:
            break
        kept.append(one)
    more = max(total or 0, len(shown)) - len(kept)
    return f"{', '.join(kept)} and {more} more" if more else ", ".join(kept)


def fenced(text: ForeignText | str) -> str:
    """Return the cleaned text in a fence that it cannot close."""
    inside = clean(raw(text)).rstrip("\n")  # blanks at the end of a page belong to a command
    fence = "`" * (max((len(run) for run in _TICKS.findall(inside)), default=2) + 1)
    return f"{fence}\n{inside}\n{fence}"


def margin(text: ForeignText | str) -> list[str]:
    """Return the lines of the cleaned text, each behind a margin; empty ones are left out."""
    return [f"{MARGIN}{line.rstrip()}" for line in clean(raw(text)).splitlines() if line.strip()]


def labelled(label: str, text: ForeignText | str) -> list[str]:
    """Return the cleaned text behind its label, or below it if the text has several lines."""
    lines = [line for line in clean(raw(text)).splitlines() if line.strip()]
    return [f"{label}: {lines[0].strip()}"] if len(lines) == 1 else [f"{label}:", *margin(text)]


def within(text: ForeignText | str, limit_bytes: int) -> str:
    """Return the text on one line of at most this many bytes; a cut shows as `…`."""
    flat = one_line(raw(text), limit_bytes)
    encoded = flat.encode()
    return flat if len(encoded) <= limit_bytes else encoded[: limit_bytes - 3].decode(errors="ignore") + "…"


def size_bytes(lines: Sequence[str]) -> int:
    """Return the size of the lines, each with its line feed."""
    return sum(len(line.encode()) + 1 for line in lines)


def bounded(lines: Sequence[str], rest: str, limit_bytes: int = MAX_RESULT_BYTES, *, missing: int = 0) -> list[str]:
    """Return all lines if they fit, otherwise the first ones and one that counts the others and says `rest`.

    `missing` counts what is not among the lines. The first line is always kept, cut if it must be.
    """
    if not missing and size_bytes(lines) <= limit_bytes:
        return list(lines)
    kept: list[str] = []
    used = size_bytes([_rest(len(lines) + missing, rest)])
    for line in lines:
        used += size_bytes([line])
        if used > limit_bytes:
            break
        kept.append(line)
    kept = kept or [within(lines[0], limit_bytes - size_bytes([_rest(len(lines) + missing, rest)]) - 1)]
    return [*kept, _rest(len(lines) - len(kept) + missing, rest)] if len(kept) < len(lines) + missing else kept


def _rest(count: int, rest: str) -> str:
    return f"… and {count} more: {rest}"


def within_brackets(line: str) -> str:
    """Return the line without square brackets, so that it cannot close Fleet's."""
    return line.replace("[", "(").replace("]", ")")
