"""Text of agents, made safe to show: it is data, whoever wrote it."""

from __future__ import annotations

import re

_ESCAPES = re.compile(
    r"\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)?"  # operating system commands: titles, links
    r"|(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]?"  # colours, cursor
    r"|\x1b[PX^_][^\x1b]*(?:\x1b\\)?"  # strings for devices
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


def is_plain(text: str) -> bool:
    """Whether the text can be stored, sent and used in a path: no NUL, no lone surrogate."""
    return "\x00" not in text and not _SURROGATE.search(text)


def storable(text: str) -> str:
    """The text with a mark in place of what is not valid Unicode, so that it can be encoded."""
    return _SURROGATE.sub("\ufffd", text)


def clean(text: str) -> str:
    """The text without escape sequences and without characters that are not seen; tabs and line feeds stay."""
    seen = _UNSEEN.sub("", _ESCAPES.sub("", text.replace("\r\n", "\n").replace("\u2028", "\n").replace("\u2029", "\n")))
    return storable(seen)


def visible(text: str) -> str:
    """The text with a name in place of each character that is not seen: nothing is hidden from who judges it."""
    return _UNSEEN.sub(lambda found: f"<U+{ord(found[0]):04X}>", text)


def one_line(text: str, limit_characters: int) -> str:
    """The text on one line, cut with a mark."""
    flat = " ".join(clean(text).split())
    return flat if len(flat) <= limit_characters else flat[: limit_characters - 1].rstrip() + "…"


def quoted(line: str) -> str:
    """The line between quotation marks that it cannot close, so that nothing in it reads like Fleet's own words."""
    return '"' + line.replace('"', "'") + '"'


def within_brackets(line: str) -> str:
    """The line without square brackets, which it could close."""
    return line.replace("[", "(").replace("]", ")")
