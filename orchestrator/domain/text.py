"""Text made safe to store and to show: what agents write is data, never instructions or terminal control."""

from __future__ import annotations

import re

_ESCAPES = re.compile(
    # strings for the terminal or a device (titles, links, graphics), as ESC or one C1 character begins them
    r"(?:\x1b[\]PX^_]|[\x90\x98\x9d-\x9f])[^\x07\x1b\x9c]*(?:\x07|\x1b\\|\x9c)?"
    r"|(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]?"  # colours, cursor
    r"|\x1b[ -/]*[0-~]?"
)
_UNSEEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f"  # control characters but tab and line feed
    "\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f"
    "\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb"  # zero width, directions, variations, fillers
    "\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U00013430-\U0001343f"  # marks of shorthand, notes, hieroglyphs
    "\U000e0000-\U000e0fff]"  # tags and more variations: text that only a model can read
)
_SURROGATE = re.compile("[\ud800-\udfff]")


LINE_CHARACTERS = 160


def is_plain(text: str) -> bool:
    """Whether the text can be stored, sent and used in a path: it has no NUL and no lone surrogate."""
    return "\x00" not in text and not _SURROGATE.search(text)


def storable(text: str) -> str:
    """The text with U+FFFD in place of lone surrogates, so that it can be encoded."""
    return _SURROGATE.sub("\ufffd", text)


def clean(text: str) -> str:
    """The text without escape sequences and invisible characters; tabs and line feeds stay."""
    seen = _UNSEEN.sub("", _ESCAPES.sub("", text.replace("\r\n", "\n").replace("\u2028", "\n").replace("\u2029", "\n")))
    return storable(seen)


def visible(text: str) -> str:
    """The text with every invisible character named (`<U+202E>`): nothing is hidden from the person who judges it."""
    return _UNSEEN.sub(lambda found: f"<U+{ord(found[0]):04X}>", text)


def one_line(text: str, limit_characters: int = LINE_CHARACTERS) -> str:
    """The cleaned text on one line of at most so many characters; a cut shows as `…`."""
    flat = " ".join(clean(text).split())
    return flat if len(flat) <= limit_characters else flat[: limit_characters - 1].rstrip() + "…"


def quoted(line: str) -> str:
    """The line between quotation marks that it cannot close, so that nothing in it reads like Fleet's own words."""
    return '"' + line.replace('"', "'") + '"'


def within_brackets(line: str) -> str:
    """The line without square brackets, which it could close."""
    return line.replace("[", "(").replace("]", ")")
