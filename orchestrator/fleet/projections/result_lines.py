"""Reads an agent's text as lines in sections, and takes the gist of it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from orchestrator.domain.text import MARGIN, MAX_RESULT_BYTES, ForeignText, clean, quantity, raw, within

KEPT = frozenset({"check", "finding", "open", "test", "verdict"})
"""titles of the sections that a reader acts on, so that a cut keeps them"""
URGENT = frozenset({"finding", "open"})
"""titles of the sections that a reader may have to act on at once"""
_KNOWN = KEPT | {"summary"}
_HEADING = re.compile(r"(?P<marks>#{1,6}|\*\*)\s*\W*(?P<title>\w[^*:\n]*)(?:\*\*)?:?\s*(?:\*\*)?")
_INLINE = re.compile(r"(?:\*\*)?(?P<title>\w+(?: \w+)?)(?:\*\*)?:(?:\*\*)?\s*(?P<rest>.*)")
_ITEM = re.compile(r"(?:(?:\*\*)?\d+[.)]|[-*])\s+")
_NOTHING = frozenset({"", "na", "no", "none", "nothing", "nothingisopen", "nothingopen"})
"""the letters of lines that mean: nothing"""
MAX_HEADING_CHARACTERS = 120
MAX_NOTHING_CHARACTERS = 40
MAX_GIST_BYTES = 150
MAX_PROSE_BYTES = 64
"""of a gist without any of these sections: the first line of a text decides little"""
BOLD_LEVEL, INLINE_LEVEL = 7, 8
"""bold titles, and titles on the same line as their text, rank below those with number signs (1 to 6)"""


@dataclass(frozen=True)
class ResultLine:
    """A line of an agent's text behind its margin, and where it begins in the text."""

    shown: str
    offset: int
    heading: str = ""
    """the title, if the line holds nothing else"""
    section: str = ""
    """the first word of the title above it, in lower case and the singular"""
    said: str = ""
    """the line without its title"""
    rank: int = 0
    """its place in a section that a cut keeps, from 1; 0 outside of these"""


def read_lines(text: ForeignText) -> list[ResultLine]:
    """Return the lines that are not blank; a lower heading does not end a section that a cut keeps."""
    whole, lines, at = raw(text), list[ResultLine](), 0
    section, level, rank = "", 0, 0
    for line in clean(whole).splitlines():
        if not (bare := line.strip()):
            continue
        at = max(at, whole.find(bare, at))
        begins = at
        at += len(bare)
        bare = bare[:MAX_RESULT_BYTES]  # a digest never shows more of one line
        title, said, depth = _title(bare)
        name = _name(title)
        if section in KEPT and depth > level and name != "verdict":
            said = said and bare
        elif title:
            rank = rank if name == section else int(name in KEPT)
            section, level = name, depth
        heading = title if title and not said else ""
        shown = f"{MARGIN}{line.rstrip()[:MAX_RESULT_BYTES]}"
        lines.append(ResultLine(shown, begins, heading, section, said, rank))
        rank += rank > 0
    return lines


def _title(line: str) -> tuple[str, str, int]:
    """Return the line's title, the words after it, and the title's level; a line without a title is all words."""
    heading = _HEADING.fullmatch(line) if len(line) <= MAX_HEADING_CHARACTERS else None
    if heading:
        return heading["title"].strip(), "", len(heading["marks"]) if line.startswith("#") else BOLD_LEVEL
    inline = _INLINE.match(line)
    if inline and _name(inline["title"]) in _KNOWN:
        return inline["title"], inline["rest"], INLINE_LEVEL
    if line.isalpha() and _name(line) in _KNOWN:
        return line, "", BOLD_LEVEL
    return "", line, 0


def _name(title: str) -> str:
    first = re.match(r"\w*", title.lower())
    return first[0].removesuffix("s") if first else ""


def gist_of(lines: Sequence[ResultLine], *, with_findings: bool) -> list[ResultLine]:
    """Return the summary, and the first item that is left open or was found; of a text without them, the first line."""
    gist = [_gist_line(text, section="summary") for text in _said(lines, "summary")[:1]]
    if left := _items(_said(lines, "open")):
        more = f" ({len(left)} in all)" if len(left) > 1 else ""
        gist.append(_gist_line(f"Open{more}: {left[0]}"))
    elif with_findings and (found := _items(_said(lines, "finding"))):
        gist.append(_gist_line(f"{quantity(len(found), 'finding')}: {found[0]}"))
    if not gist:
        prose = [line.said for line in lines if line.said and not line.said.startswith("```")]
        gist.append(_gist_line(prose[0] if prose else lines[0].heading, limit=MAX_PROSE_BYTES))
    return gist


def _gist_line(text: str, *, limit: int = MAX_GIST_BYTES, section: str = "") -> ResultLine:
    return ResultLine(f"{MARGIN}{within(text, limit)}", 0, section=section)


def narrowed(gist: Sequence[ResultLine], summary: int, other: int) -> list[ResultLine]:
    """Return the gist with its summary and its other line within so many bytes."""
    limits = [summary if line.section == "summary" else other for line in gist]
    return [replace(line, shown=shortened(line.shown, limit)) for line, limit in zip(gist, limits, strict=True)]


def shortened(line: str, limit: int) -> str:
    """Return the line, cut if it has more bytes than that."""
    return line if len(line.encode()) <= limit else MARGIN + within(line.removeprefix(MARGIN), limit)


def _said(lines: Sequence[ResultLine], section: str) -> list[str]:
    return [line.said for line in lines if line.section == section and not _says_nothing(line.said)]


def _says_nothing(text: str) -> bool:
    return len(text) <= MAX_NOTHING_CHARACTERS and "".join(re.findall(r"\w", text)).lower() in _NOTHING


def _items(said: Sequence[str]) -> list[str]:
    """Return the items of a list; other text counts as one item."""
    return [_ITEM.sub("", text, count=1) for text in said if _ITEM.match(text)] or list(said[:1])


def folded(lines: Sequence[ResultLine]) -> list[ResultLine]:
    """Return the lines with each heading before the line that follows it."""
    found: list[ResultLine] = []
    titles: list[str] = []
    for line in lines:
        if titles:
            above = found.pop()
            words = ": ".join([*titles, line.heading or line.shown.removeprefix(MARGIN).strip().removeprefix("- ")])
            found.append(replace(line, shown=f"{MARGIN}{words}", offset=above.offset, rank=above.rank or line.rank))
        else:
            found.append(line)
        titles = [*titles, line.heading] if line.heading else []
    return found
