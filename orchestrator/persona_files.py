"""Finds the files that may define personas and cuts each into front matter and prompt, as Claude Code does.

The files are a repository's, so everything is bounded: files and entries of a folder, bytes of a file and of its front
matter, and the processor time of a folder. Nothing is run. It reads for seconds at worst: call it in a thread.
"""

from __future__ import annotations

import hashlib
import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import cast

from orchestrator import bounded_yaml, untrusted
from orchestrator.domain.text import named_path

SUFFIX = ".md"
MAX_BYTES = 1024 * 1024
"""Claude Code 2.1.329 ignores larger files (measured)"""
MAX_FILES = 1000
MAX_ENTRIES = 10_000
MAX_FOLDERS = 1000
MAX_PROCESSOR_SECONDS = 1.5
"""371 files of two public collections take 0.6 s (measured)"""
MAX_REMEMBERED_CHARACTERS = 4096
HEAD_BYTES = 4 * bounded_yaml.MAX_CHARACTERS
_MARK = "---"
_NAME_LINE = re.compile(r"^[ \t]*[\"']?name[\"']?[ \t]*:[ \t]*(.{0,256})", re.MULTILINE)
_SIMPLE_LINE = re.compile(r"([a-zA-Z_-]+):\s+(\S[^\n\r\u2028\u2029]*)")
_SPECIAL = re.compile(r"[{}\[\]*&#!|>%@`]|: ")


@dataclass(frozen=True, kw_only=True)
class Folder:
    """A folder with personas; `is_fleets` if only Fleet reads it, so that its files were written for Fleet.

    `shown` is its place in short, empty for Fleet's own personas.
    """

    path: Path
    shown: str
    is_fleets: bool = False


@dataclass(frozen=True, kw_only=True)
class PersonaFile:
    """A file with front matter; `problem` says why that cannot be read, and `name` then is what it seems to say."""

    path: Path
    folder: Folder
    name: object
    front: Mapping[str, object]
    body: str
    digest: str = ""
    """SHA-256 of what was read of it"""
    problem: str = ""


@dataclass(frozen=True, kw_only=True)
class PersonaReader:
    """What files of a project may be read: `hidden` are folders that no link of the project may lead into."""

    project: Path
    hidden: Sequence[Path] = ()

    def files(self, folder: Folder) -> Iterator[PersonaFile | str]:
        """Yield the folder's files with front matter, ordered by path, and a sentence for each bound that is hit."""
        paths, bound = _paths(folder.path)
        if bound:
            yield f"{named_path(folder.path)}: {bound}; the rest is ignored"
        until = time.thread_time() + MAX_PROCESSOR_SECONDS
        for number, path in enumerate(paths):
            if time.thread_time() > until:
                read = f"only {number} of its {len(paths)} files were read"
                yield f"{named_path(folder.path)}: reading takes too long; {read}"
                return
            found = self.read(path, folder, HEAD_BYTES)
            if found is not None:
                yield found

    def read(self, path: Path, folder: Folder, size: int = MAX_BYTES) -> PersonaFile | None:
        """The file as far as its first `size` bytes tell; None if it has no front matter."""
        try:
            raw = untrusted.head(path, size + 1, within=self.project, never=self.hidden)
            too_long = max(len(raw), path.stat().st_size) > MAX_BYTES
        except (OSError, ValueError) as error:
            return _unread(path, folder, f"cannot be read: {getattr(error, 'strerror', None) or error}")
        if too_long:
            return _unread(path, folder, f"has more than {MAX_BYTES} bytes, so Claude Code ignores it, too")
        text = raw.decode("utf-8", errors="replace").removeprefix("\ufeff")
        parts = split(text)
        if parts is None and len(raw) > size:
            parts = split(f"{text}\n{_MARK}")  # as it may end further on, what is wrong is its length
        if parts is None:
            return None
        front, problem = parsed(parts[0])
        name = front.get("name") if not problem else _named(parts[0])
        digest = hashlib.sha256(raw).hexdigest()
        return PersonaFile(
            path=path, folder=folder, name=name, front=front, body=parts[1], digest=digest, problem=problem
        )


def _unread(path: Path, folder: Folder, problem: str) -> PersonaFile:
    return PersonaFile(path=path, folder=folder, name=path.stem, front={}, body="", problem=problem)


def split(text: str) -> tuple[str, str] | None:
    """The front matter and the prompt; None if the text has no front matter.

    As in Claude Code, it ends at the next `---`, wherever in a line that is.
    """
    rest = text.removeprefix(_MARK)
    start = len(rest) - len(rest.lstrip())
    if rest == text or "\n" not in rest[:start]:
        return None
    end = rest.find(_MARK, start)
    return None if end < 0 else (rest[rest.rindex("\n", 0, start) + 1 : end], rest[end + len(_MARK) :].strip())


def parsed(text: str) -> tuple[Mapping[str, object], str]:
    """The keys and values of front matter, and why it cannot be read ('' if it can)."""
    return _remembered(text) if len(text) <= MAX_REMEMBERED_CHARACTERS else _parsed(text)


@lru_cache(maxsize=512)
def _remembered(text: str) -> tuple[Mapping[str, object], str]:
    return _parsed(text)


def _parsed(text: str) -> tuple[Mapping[str, object], str]:
    """The same. Claude Code accepts `description: Use this: always`, no YAML: it puts such values in quotes."""
    try:
        try:
            value = bounded_yaml.read(text)
        except bounded_yaml.YamlError:
            value = bounded_yaml.read(_quoted(text))
    except bounded_yaml.YamlError:
        return {}, "its front matter is not YAML, so Claude Code ignores it, too: write plain `key: value` lines"
    except bounded_yaml.YamlRefusedError as error:
        return {}, f"its front matter {error}"
    return (cast("Mapping[str, object]", value) if isinstance(value, dict) else {}), ""


def _quoted(text: str) -> str:
    lines = (_quoted_line(line) for line in text.split("\n"))
    return "\n".join("  " * (len(line) - len(line.lstrip("\t"))) + line.lstrip("\t") for line in lines)


def _quoted_line(line: str) -> str:
    found = _SIMPLE_LINE.fullmatch(line)
    if found is None:
        return line
    key, value = found.groups()
    if value[0] == value[-1] in "\"'" or not _SPECIAL.search(value) or _is_list(value):
        return line
    return key + ': "' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _is_list(value: str) -> bool:
    if value.startswith("[") and value.endswith("]"):
        with suppress(ValueError):
            return isinstance(bounded_yaml.read(value), list)
    return False


def _named(front: str) -> str:
    """The name that unreadable front matter seems to have, so that a request for it can say what is wrong."""
    found = _NAME_LINE.search(front[: bounded_yaml.MAX_CHARACTERS])
    return found[1].strip().strip("\"'") if found else ""


def _paths(folder: Path) -> tuple[list[Path], str]:
    """The folder's files in all folders below it, sorted, and which bound was hit; links are followed as by Claude."""
    found, waiting, seen = list[Path](), [folder], set[tuple[int, int]]()
    entries = 0
    while waiting:
        place = waiting.pop()
        with suppress(OSError):
            status = place.stat()
            if (status.st_dev, status.st_ino) in seen:
                continue
            seen.add((status.st_dev, status.st_ino))
            if len(seen) > MAX_FOLDERS:
                return sorted(found), f"has more than {MAX_FOLDERS} folders"
            with os.scandir(place) as listing:
                for entry in listing:
                    entries += 1
                    if entries > MAX_ENTRIES:
                        return sorted(found), f"has more than {MAX_ENTRIES} entries"
                    if entry.is_dir():
                        waiting.append(Path(entry.path))
                    elif entry.name.endswith(SUFFIX) and entry.is_file():
                        found.append(Path(entry.path))
    over = len(found) > MAX_FILES
    return sorted(found)[:MAX_FILES], f"has more than {MAX_FILES} {SUFFIX} files" if over else ""
