"""The author of an agent's commits, as given in an answer to the agent's question."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

_AUTHOR = re.compile(r"([^<>\n]*[^<>\s])\s*<([^<>\s@]+@[^<>\s@]+)>")
FORM = "Name <mail@example.org>"


@dataclass(frozen=True, kw_only=True)
class Author:
    """A name and a mail address."""

    name: str
    mail: str

    def variables(self) -> Mapping[str, str]:
        """Return the variables with which git takes this author, also as the committer."""
        roles = ("AUTHOR", "COMMITTER")
        return {
            f"GIT_{role}_{what}": value for role in roles for what, value in (("NAME", self.name), ("EMAIL", self.mail))
        }


def author_in(answer: str) -> Author | None:
    """Return the author if the whole answer is one, as `Name <mail@example.org>`."""
    found = _AUTHOR.fullmatch(answer.strip().strip("`'\"").strip())
    if found is None or not found[0].isprintable():
        return None
    return Author(name=found[1].strip(), mail=found[2])
