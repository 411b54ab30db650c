"""Orders names and descriptions by how well they fit what somebody asked for."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from difflib import SequenceMatcher
from typing import TypeVar

_Thing = TypeVar("_Thing")
MAX_COMPARED_CHARACTERS = 64
_SIMILAR = 0.6
_WORDS = re.compile(r"\w+")


def nearest(wanted: str, names: Sequence[str]) -> list[str]:
    """Return all names, those that are most like the wanted one first."""
    return sorted(names, key=lambda name: (-_similarity(wanted, name), name))


def is_similar(wanted: str, name: str) -> bool:
    """Whether the name may be meant by the wanted one."""
    return _similarity(wanted, name) >= _SIMILAR


def fitting(wanted: str, things: Sequence[_Thing], texts: Callable[[_Thing], tuple[str, str]]) -> list[_Thing]:
    """Return the things whose name and description have all words, or else some, or else a similar name; best first.

    A word in the name counts more than one in the description, and a whole word more than a part of one.
    """
    words = set(_WORDS.findall(wanted.lower().replace("-", " ")))
    found = [(thing, *(text.lower() for text in texts(thing))) for thing in things]
    scores = [[4 * _hits(word, name) + _hits(word, about) for word in words] for _, name, about in found]
    whole = any(all(score) for score in scores)
    ranked = [
        (sum(score), thing)
        for score, (thing, _, _) in zip(scores, found, strict=True)
        if any(score) and (all(score) or not whole)
    ]
    similar = [thing for thing, name, _ in found if is_similar(wanted, name)]
    return [thing for _, thing in sorted(ranked, key=lambda one: -one[0])] or similar


def _hits(word: str, text: str) -> int:
    return 2 if word in _WORDS.findall(text) else int(word in text)


def _similarity(wanted: str, name: str) -> float:
    one, other = wanted.lower()[:MAX_COMPARED_CHARACTERS], name.lower()[:MAX_COMPARED_CHARACTERS]
    matcher = SequenceMatcher(a=other, b=one, autojunk=False)
    return 0.0 if matcher.quick_ratio() < _SIMILAR / 2 else matcher.ratio()
