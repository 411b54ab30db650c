"""Text made safe to store and to show: what agents write is data, never instructions or terminal control."""

from __future__ import annotations

import re

_ESCAPES = re.compile(
    # strings for the terminal or a device (titles, links, graphics), introduced by ESC or a C1 character
    r"(?:\x1b[\]PX^_]|[\x90\x98\x9d-\x9f])[^\x07\x1b\x9c]*(?:\x07|\x1b\\|\x9c)?"
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


LINE_CHARACTERS = 160


def is_plain(text: str) -> bool:
    """Whether the text can be stored, sent and used in a path: it has no NUL and no lone surrogate."""
    return "\x00" not in text and not _SURROGATE.search(text)


def storable(text: str) -> str:
    """Replace lone surrogates by U+FFFD, so that the text can be encoded."""
    return _SURROGATE.sub("\ufffd", text)


def clean(text: str) -> str:
    """Remove escape sequences and invisible characters; tabs and line feeds stay."""
    seen = _UNSEEN.sub("", _ESCAPES.sub("", text.replace("\r\n", "\n").replace("\u2028", "\n").replace("\u2029", "\n")))
    return storable(seen)


def visible(text: str) -> str:
    """Name every invisible character (`<U+202E>`), so that nothing is hidden from the person who judges the text."""
    return _UNSEEN.sub(lambda found: f"<U+{ord(found[0]):04X}>", text)


def one_line(text: str, limit_characters: int = LINE_CHARACTERS) -> str:
    """Return the cleaned text on one line of at most this many characters; a cut shows as `…`."""
    flat = " ".join(clean(text).split())
    return flat if len(flat) <= limit_characters else flat[: limit_characters - 1].rstrip() + "…"


def quantity(count: int, noun: str) -> str:
    """Return the count with its noun: `1 file`, `2 files`."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def quoted(line: str) -> str:
    """Return the line in quotation marks that it cannot close, so that its text cannot pass for Fleet's."""
    return '"' + line.replace('"', "'") + '"'


def within_brackets(line: str) -> str:
    """Return the line without square brackets, so that it cannot close Fleet's."""
    return line.replace("[", "(").replace("]", ")")
