"""Reads an agent's text as lines in sections, and takes the gist of it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from orchestrator.domain.text import MARGIN, ForeignText, clean, quantity, raw, within

KEPT = frozenset({"check", "finding", "open", "test", "verdict"})
"""sections that say what holds, what does not, and what is left to do: a cut leaves them in"""
_KNOWN = KEPT | {"summary"}
_HEADING = re.compile(r"(?P<marks>#{1,6}|\*\*)\s*\W*(?P<title>\w[^*:\n]*)(?:\*\*)?:?\s*(?:\*\*)?")
_INLINE = re.compile(r"(?:\*\*)?(?P<title>\w+(?: \w+)?)(?:\*\*)?:(?:\*\*)?\s*(?P<rest>.*)")
_ITEM = re.compile(r"(?:(?:\*\*)?\d+[.)]|[-*])\s+")
_NOTHING = frozenset({"", "na", "no", "none", "nothing", "nothingisopen", "nothingopen"})
"""the letters of a line that says that there is nothing to say"""
MAX_HEADING_CHARACTERS = 120
MAX_NOTHING_CHARACTERS = 40
MAX_PROSE_BYTES = 64
"""of a gist that is only the first line of a text: it decides nothing"""
BOLD_LEVEL, INLINE_LEVEL = 7, 8
"""titles in bold, and in front of their text, rank below those with up to six number signs"""


@dataclass(frozen=True)
class ResultLine:
    """A line of an agent's text behind its margin, and where it begins in the text."""

    shown: str
    offset: int
    heading: str = ""
    """the title, if it is nothing else"""
    section: str = ""
    """the first word of the title above it, in lower case and the singular"""
    said: str = ""
    """its words but for a title"""
    rank: int = 0
    """its place in a section that a cut leaves in, from 1; 0: it is in none"""


def read_lines(text: ForeignText) -> list[ResultLine]:
    """Return the lines that are not blank; lower headings inside a section that is kept belong to it."""
    whole, lines, at = raw(text), list[ResultLine](), 0
    section, level, rank = "", 0, 0
    for line in clean(whole).splitlines():
        if not (bare := line.strip()):
            continue
        at = max(at, whole.find(bare, at))
        title, said, depth = _title(bare)
        name = _name(title)
        if section in KEPT and depth > level and name != "verdict":
            said = said and bare
        elif title:
            rank = rank if name == section else int(name in KEPT)
            section, level = name, depth
        heading = title if title and not said else ""
        lines.append(ResultLine(f"{MARGIN}{line.rstrip()}", at, heading, section, said, rank))
        rank += rank > 0
        at += len(bare)
    return lines


def _title(line: str) -> tuple[str, str, int]:
    """Return the title in the line, the words after it, and its level; without a title '', the line, and 0."""
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


def gist(lines: Sequence[ResultLine], summary: int, other: int, *, counts_findings: bool) -> list[ResultLine]:
    """Return the summary, and what is left open or was found; of a text without either, its first line.

    `summary` and `other` limit the two lines, in bytes.
    """
    told = [within(text, summary) for text in _said(lines, "summary")[:1]]
    if left := _items(_said(lines, "open")):
        more = f" ({len(left)} in all)" if len(left) > 1 else ""
        told.append(within(f"Open{more}: {left[0]}", other))
    elif counts_findings and (found := _items(_said(lines, "finding"))):
        told.append(within(f"{quantity(len(found), 'finding')}: {found[0]}", other))
    if not told:
        prose = [line.said for line in lines if line.said and not line.said.startswith("```")]
        told.append(within(prose[0] if prose else lines[0].heading, min(other, MAX_PROSE_BYTES)))
    return [ResultLine(f"{MARGIN}{text}", 0) for text in told]


def _said(lines: Sequence[ResultLine], section: str) -> list[str]:
    return [line.said for line in lines if line.section == section and not _says_nothing(line.said)]


def _says_nothing(text: str) -> bool:
    return len(text) <= MAX_NOTHING_CHARACTERS and "".join(re.findall(r"\w", text)).lower() in _NOTHING


def _items(said: Sequence[str]) -> list[str]:
    """Return the items of the list; of words that are no list all as one item."""
    return [_ITEM.sub("", text, count=1) for text in said if _ITEM.match(text)] or list(said[:1])


def folded(lines: Sequence[ResultLine]) -> list[ResultLine]:
    """Return the lines with each heading before the line that follows it."""
    found: list[ResultLine] = []
    titles: list[str] = []
    for line in lines:
        if titles:
            above = found.pop()
            words = ": ".join([*titles, line.heading or line.shown.removeprefix(MARGIN).strip().removeprefix("- ")])
            found.append(ResultLine(f"{MARGIN}{words}", above.offset, rank=above.rank or line.rank))
        else:
            found.append(line)
        titles = [*titles, line.heading] if line.heading else []
    return found
