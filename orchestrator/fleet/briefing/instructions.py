"""The instruction files that a session of the same person would see, as text: the user's, the project's, and imports.

Order and rules are those of Claude Code (2.1.329, measured; a test compares), plus AGENTS.md. An agent may have written
any of these files, so one is read only where it really lies in the agent's own tree (the project, or the worktree of
its repository that the agent works in) or in the user's own folder; what a link or an import leads to elsewhere is not
read, and a note says so.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from orchestrator import untrusted
from orchestrator.domain.text import named, quantity
from orchestrator.provisioning.checkouts import checkout_of
from orchestrator.provisioning.worktrees import are_of_one_repository, main_checkout_of

MAX_FILE_BYTES = 40 * 1024
MAX_TOTAL_BYTES = 160 * 1024
MAX_FILES = 100
MAX_PATH_CHARACTERS = 4096
MAX_NOTES = 10
"""that name a file which is not read; the others are counted"""
MAX_NOTE_PATH_CHARACTERS = 200
MAX_CHAIN = 5
"""files in a chain of imports, the first included"""
MAX_RULE_FOLDERS = 50
CUT = "\n(cut: the file is longer)"
FULL = f"(more instruction files were not read: together they have more than {MAX_TOTAL_BYTES // 1024} KiB)"
_FENCE = re.compile(r"\s{0,3}(```+|~~~+)")
_HTML = re.compile(
    r"\s{0,3}</?(?:center|details|div|h[1-6]|li|ol|p|picture|pre|section|summary|table|t[dhr]|ul)\b", re.IGNORECASE
)
_BACKTICKS = re.compile(r"(`+)")
_IMPORT = re.compile(r"(?:^|[\s*_\[>])@((?:[^\s\\\]*<]|\\ )+)")
_FRONT_MATTER = re.compile(r"---[ \t]*\n(.*?)\n---[ \t]*(?:\n|\Z)", re.DOTALL)
_PATHS = re.compile(r"^paths:[ \t]*(.*(?:\n[ \t]+.*|\n-.*)*)", re.MULTILINE)


@dataclass(frozen=True, kw_only=True)
class Workplace:
    """Where an agent works, and the paths that links to instruction files must not lead into.

    `user` is the folder of the user's own instructions (`~/.claude`), None if it is not known.
    """

    project: Path
    cwd: Path
    hidden: Sequence[Path] = ()
    user: Path | None = None


@dataclass(frozen=True, kw_only=True)
class _Tree:
    """A folder whose files may be read, and the heading of its files."""

    root: Path
    heading: str
    imports: bool = True
    """whether its files may import others of the tree"""
    own: bool = True
    """false for folders above the project: a file there counts only if it belongs to the user or to root"""


@dataclass
class _Reading:
    """One reading of all files, within its bounds."""

    site: Workplace
    parts: list[str] = field(default_factory=list[str])
    seen: set[Path] = field(default_factory=set[Path])
    left_bytes: int = MAX_TOTAL_BYTES
    elsewhere: set[Path] = field(default_factory=set[Path])
    """links that lead out of their tree, and what imports name outside of it"""

    def add(self, path: Path, tree: _Tree, chain: int = 1) -> None:
        """Add the file and what it imports, unless it was added before."""
        real = Path(os.path.realpath(path))
        if real in self.seen or not real.is_file():
            return
        self.seen.add(real)
        if not real.is_relative_to(os.path.realpath(tree.root)):
            self._note(path, f"{_in_note(path)} is a link that leads out of {_in_note(tree.root)}")
            return
        if (raw := self._content(real, tree)) is None:
            return
        if self.left_bytes <= 0 or len(self.seen) > MAX_FILES:
            self.parts.extend([] if self.parts and self.parts[-1] == FULL else [FULL])
            return
        self.left_bytes -= len(raw)
        text = raw[:MAX_FILE_BYTES].decode("utf-8-sig", errors="replace").replace("\r\n", "\n")
        body, scope = _body(text)
        if body.strip():
            cut = CUT if len(raw) > MAX_FILE_BYTES else ""
            self.parts.append(f"# {tree.heading}: {_shown(path)}\n{scope}{body.strip()}{cut}")
        if chain < MAX_CHAIN:
            self._add_imports(body, path, tree, chain + 1)

    def _content(self, real: Path, tree: _Tree) -> bytes | None:
        with suppress(OSError, ValueError):
            if not tree.own and real.stat().st_uid not in {0, os.geteuid()}:
                return None
            raw = untrusted.head(real, MAX_FILE_BYTES + 1, within=self.site.project, never=self.site.hidden)
            return None if b"\0" in raw else raw
        return None

    def _add_imports(self, body: str, source: Path, tree: _Tree, chain: int) -> None:
        for name in imports(body):
            path = _resolved(name, source.parent, self.site)
            if path is None or not path.is_file():
                continue
            if tree.imports and path.is_relative_to(tree.root):
                self.add(path, tree, chain)
            elif Path(os.path.realpath(path)) not in self.seen:
                self._note(path, f"@{_in_note(name)} in {_in_note(source)} leads out of {_in_note(tree.root)}")

    def _note(self, path: Path, what: str) -> None:
        """Say that this is not read, unless that was said before or enough was said."""
        if path not in self.elsewhere and len(self.elsewhere) < MAX_NOTES:
            self.parts.append(f"(not read: {what})")
        self.elsewhere.add(path)

    def rest(self) -> list[str]:
        """Return the note that counts what no note names."""
        more = len(self.elsewhere) - MAX_NOTES
        return [f"(not read: {quantity(more, 'more file')} that a link or an import leads to)"] if more > 0 else []


def instructions(site: Workplace) -> list[str]:
    """Return the instruction files as text, each once: the user's, then from the root of the file system to `cwd`."""
    checkout = checkout_of(site.cwd) or site.cwd
    main = main_checkout_of(checkout)
    if are_of_one_repository(site.project, checkout):
        site = replace(site, project=checkout)
    reading = _Reading(site=site)
    if site.user is not None:
        tree = _Tree(root=site.user, heading="The user's own instructions")
        reading.add(site.user / "CLAUDE.md", tree)
        _add_rules(reading, tree, "rules")
    for folder in (*reversed(site.cwd.parents), site.cwd):
        inside = folder.is_relative_to(site.project)
        root = site.project if inside else folder
        tree = _Tree(root=root, heading="Project instructions", imports=inside, own=inside)
        if not _is_around(checkout, main, folder):
            for name in ("CLAUDE.md", *(("AGENTS.md",) if inside else ()), ".claude/CLAUDE.md"):
                reading.add(folder / name, tree)
            _add_rules(reading, tree, str((folder / ".claude" / "rules").relative_to(root)))
        reading.add(folder / "CLAUDE.local.md", tree)
    return [*reading.parts, *reading.rest()]


def _is_around(worktree: Path, main: Path | None, folder: Path) -> bool:
    """Return whether the folder belongs to a main checkout around the worktree: its files are those of another branch.

    The person's own file there still counts, because it is on no branch.
    """
    return main is not None and main in worktree.parents and folder.is_relative_to(main) and folder in worktree.parents


def imports(body: str) -> Iterator[str]:
    """Yield the paths that a text imports with `@`, outside of code and of blocks of HTML."""
    in_html = False
    for line, in_code in _lines(body):
        in_html = not in_code and bool(line.strip()) and (in_html or _HTML.match(line) is not None)
        if in_code or in_html:
            continue
        for found in _IMPORT.finditer(_without_comments(_without_code(line).replace("<!--", "\n<!--"))):
            if name := found[1].partition("#")[0].replace("\\ ", " "):
                yield name


def _lines(text: str) -> Iterator[tuple[str, bool]]:
    """Yield each line, and whether it belongs to a fenced block of code."""
    fence = ""
    for line in text.split("\n"):
        mark = _FENCE.match(line)
        yield line, bool(fence or mark)
        if mark and fence:
            fence = "" if mark[1].startswith(fence) else fence
        elif mark:
            fence = mark[1]


def _without_code(line: str) -> str:
    """The line without code in backticks; linear, however many backticks it has."""
    pieces = _BACKTICKS.split(line)  # text and runs of backticks in turn
    last = {run: index for index, run in enumerate(pieces) if index % 2}
    kept: list[str] = []
    index = 0
    while index < len(pieces):
        if index % 2 and last[pieces[index]] > index:
            run = pieces[index]
            index = next(at for at in range(index + 2, len(pieces), 2) if pieces[at] == run)
        else:
            kept.append(pieces[index])
        index += 1
    return " ".join(kept)


def _without_comments(text: str) -> str:
    """The text without comments that begin a line; those in code stay."""
    kept: list[str] = []
    in_comment = False
    for whole, in_code in _lines(text):
        line = whole
        if not in_comment and not in_code and line.lstrip(" ").startswith("<!--"):
            in_comment = True
            line = line.lstrip(" ").removeprefix("<!--")
        if in_comment:
            _, end, line = line.partition("-->")
            in_comment = not end
            if not line.strip():
                continue
        kept.append(line)
    return "\n".join(kept)


def _body(text: str) -> tuple[str, str]:
    """The text without front matter and comments, and a line that says to which files it applies."""
    front = _FRONT_MATTER.match(text)
    body = _without_comments(text[front.end() :] if front else text)
    paths = _PATHS.search(front[1]) if front else None
    patterns = re.findall(r"[^\s,\[\]\"'-][^\s,\[\]\"']*", paths[1]) if paths else []
    return body, f"(for files that match {', '.join(patterns)})\n" if patterns else ""


def _add_rules(reading: _Reading, tree: _Tree, place: str) -> None:
    """Add the rules below the folder, sorted by path; folders that are links are not entered."""
    folders = [place]
    for folder in folders:
        if len(folders) > MAX_RULE_FOLDERS:
            return
        for name in sorted(untrusted.names(tree.root, folder)):
            path = tree.root / folder / name
            if path.is_dir() and not path.is_symlink():
                folders.append(f"{folder}/{name}")
            elif name.endswith(".md"):
                reading.add(path, tree)


def _resolved(name: str, folder: Path, site: Workplace) -> Path | None:
    if "\0" in name:
        return None
    if name.startswith("~/"):
        return None if site.user is None else Path(os.path.normpath(site.user.parent / name[2:]))
    return Path(os.path.normpath(folder / name))


def _shown(path: Path | str) -> str:
    return named(str(path), MAX_PATH_CHARACTERS)


def _in_note(path: Path | str) -> str:
    return named(str(path), MAX_NOTE_PATH_CHARACTERS)
