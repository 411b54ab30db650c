"""Where the program keeps an agent's conversation: below the agent's own folder, so nothing there is trusted.

The program names a conversation's folder after its directory (Claude Code 2.1.329, measured), so that it does not find
it from another one.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path

from claude_agent_sdk import project_key_for_directory

from orchestrator import untrusted
from orchestrator.errors import ProviderError

CONFIG = "claude"
"""the agent's own configuration directory, below its folder"""
PROJECTS = f"{CONFIG}/projects"
MAX_KEY = 200
MAX_BYTES = 512 * 2**20
"""a transcript that has more is not read: what an agent writes must not fill the daemon's memory"""
LONGEST_BYTES = 64 * 2**20
"""of a line; as much as one message of the program may have"""


@contextmanager
def agents_own(folder: Path) -> Generator[None]:
    """Tell in a sentence why the agent's own folder cannot be used.

    Raises:
        ProviderError: what the block does there failed.
    """
    try:
        yield
    except OSError as error:
        raise ProviderError(
            f"the agent's own folder {folder} cannot be used: {error.filename or ''}: {error.strerror or error}",
            hint="look at what is there, remove what is not a plain file or folder, and command the agent again",
        ) from error


def place_of(cwd: Path, session_id: str) -> str:
    """Where below the agent's folder the program looks for this conversation when it is started in `cwd`."""
    return f"{PROJECTS}/{project_key_for_directory(cwd)}/{session_id}.jsonl"


def found_place(folder: Path, cwd: Path, session_id: str) -> str | None:
    """Where the conversation lies, moved to where the program looks for it; None if the agent's folder has none.

    Raises:
        OSError: it cannot be moved there.
    """
    target = place_of(cwd, session_id)
    found = target if untrusted.is_file(folder, target) else _elsewhere(folder, session_id)
    if found is None or _key(found) == _key(target) or _same_long_name(_key(found), _key(target)):
        return found
    untrusted.move(folder, found, target)
    with suppress(FileNotFoundError):  # what its sub-agents wrote
        untrusted.move(folder, found.removesuffix(".jsonl"), target.removesuffix(".jsonl"))
    return target


def lines(folder: Path, place: str) -> Generator[bytes]:
    """The lines of a transcript.

    Raises:
        OSError: it cannot be read, or is larger than 512 MiB.
    """
    return untrusted.lines(folder, place, MAX_BYTES, LONGEST_BYTES)


def _elsewhere(folder: Path, session_id: str) -> str | None:
    places = (f"{PROJECTS}/{key}/{session_id}.jsonl" for key in untrusted.names(folder, PROJECTS))
    return next((place for place in places if untrusted.is_file(folder, place)), None)


def _key(place: str) -> str:
    return place.split("/")[-2]


def _same_long_name(found: str, wanted: str) -> bool:
    """Whether both are shortened names of one long path: program and SDK end those with different hashes."""
    return len(wanted) > MAX_KEY and found[:MAX_KEY] == wanted[:MAX_KEY]
