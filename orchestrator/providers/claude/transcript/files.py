"""Finds and reads transcript files on disk; they are in the agent's own folder, so their content is not trusted.

The program names a transcript's folder after its working directory (Claude Code 2.1.329, measured), so it does not
find the transcript from another directory.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path

from orchestrator import untrusted
from orchestrator.errors import ProviderError

CONFIG_FOLDER = "claude"
"""the agent's own configuration directory, below its folder"""
PROJECTS = f"{CONFIG_FOLDER}/projects"
MAX_KEY_CHARACTERS = 200
MAX_BYTES = 512 * 2**20
"""a larger transcript is not read: what an agent writes must not fill the daemon's memory"""
MAX_LINE_BYTES = 64 * 2**20
"""of one line: as much as one message of the program may have"""


@contextmanager
def folder_errors(folder: Path) -> Generator[None]:
    """Turn an OSError of the block into a ProviderError that names the agent's folder.

    Raises:
        ProviderError: the block raised an OSError.
    """
    try:
        yield
    except OSError as error:
        raise ProviderError(
            f"the agent's own folder {folder} cannot be used: {error.filename or ''}: {error.strerror or error}",
            hint="remove links and special files from it, then command the agent again",
        ) from error


def transcript_place(cwd: Path, session_id: str) -> str:
    """Where the program looks for this transcript if it is started in `cwd`, relative to the agent's folder."""
    return f"{PROJECTS}/{project_key(cwd)}/{session_id}.jsonl"


def project_key(cwd: Path) -> str:
    """The name of the folder of a directory's transcripts, as the SDK makes it (a test compares them)."""
    key = re.sub(r"[^a-zA-Z0-9]", "-", unicodedata.normalize("NFC", os.path.realpath(cwd)))
    if len(key) <= MAX_KEY_CHARACTERS:
        return key
    from claude_agent_sdk import project_key_for_directory  # adds a hash; importing it takes 0.4 s

    return project_key_for_directory(cwd)


def find_transcript(folder: Path, cwd: Path, session_id: str) -> str | None:
    """Where the transcript is, after moving it to where the program looks for it; None if it does not exist.

    Raises:
        OSError: it cannot be moved there.
    """
    target = transcript_place(cwd, session_id)
    current = target if untrusted.is_file(folder, target) else _search(folder, session_id)
    if current is None or _key(current) == _key(target) or _same_long_name(_key(current), _key(target)):
        return current
    untrusted.move(folder, current, target)
    with suppress(FileNotFoundError):  # the transcripts of its sub-agents
        untrusted.move(folder, current.removesuffix(".jsonl"), target.removesuffix(".jsonl"))
    return target


def lines(folder: Path, place: str) -> Generator[bytes]:
    """The lines of a transcript.

    Raises:
        OSError: it cannot be read, or is larger than 512 MiB.
    """
    return untrusted.lines(folder, place, MAX_BYTES, MAX_LINE_BYTES)


def _search(folder: Path, session_id: str) -> str | None:
    places = (f"{PROJECTS}/{key}/{session_id}.jsonl" for key in untrusted.names(folder, PROJECTS))
    return next((place for place in places if untrusted.is_file(folder, place)), None)


def _key(place: str) -> str:
    return place.split("/")[-2]


def _same_long_name(current: str, target: str) -> bool:
    """Whether both are shortened names of the same long path: program and SDK append different hashes to those."""
    return len(target) > MAX_KEY_CHARACTERS and current[:MAX_KEY_CHARACTERS] == target[:MAX_KEY_CHARACTERS]
