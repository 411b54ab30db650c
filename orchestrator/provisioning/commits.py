"""Finds the commits that were made in a checkout, apart from those that were pulled, merged or checked out.

Git's log of HEAD says how each commit got there. Without that log (`core.logAllRefUpdates` is off, or it was emptied),
commits count that HEAD gained and that were made since the first look, unless they were fetched.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from orchestrator import untrusted
from orchestrator.domain.checkout import CheckoutState, Committed
from orchestrator.provisioning.files import ChangesUnknownError, read_bounded
from orchestrator.provisioning.own_git import OwnGit, run
from orchestrator.provisioning.repository import Refs, Repository

MAX_LOG_BYTES = 2**20
"""of the end of the log of HEAD that is read"""
MAX_ENTRY_BYTES = 2**13
MIN_ENTRY_BYTES = 80
"""two object ids and a blank are longer; an agent that writes other lines makes no work"""
SHOWN_FILES = 100
GITLINK = "160000"
_ENTRY = re.compile(rb"(?m)^[0-9a-f]{40,64} ([0-9a-f]{40,64}) ([^\t\n]*)\t?([^\n]*)")
_TIME = re.compile(rb"> (\d{1,12}) [-+]\d{4}$")
LOG_UNIT_SECONDS = 1.0
"""git's log records times in whole seconds"""
_MADE = re.compile(
    rb"commit(?: \([a-z-]+\))?:|cherry-pick:(?! fast-forward$)|revert:|am:"
    rb"|(?:rebase|pull)[^:]*\((?:pick|continue|reword|squash|fixup|edit)\)"
    rb"|(?:merge|pull)\b.*: Merge made by"
)
_OBJECT_ID = re.compile(r"[0-9a-f]{40,64}")


@dataclass(frozen=True, kw_only=True)
class LogEnd:
    """Where the log of HEAD ends: its length, and a mark of its last entry; 0 and '' without a log."""

    size: int = 0
    mark: str = ""


def log_end(repository: Repository) -> LogEnd:
    """Where the log of HEAD ends now."""
    try:
        with untrusted.opened(repository.git_dir, "logs/HEAD") as file:
            size = os.fstat(file.fileno()).st_size
            file.seek(max(0, size - MAX_ENTRY_BYTES))
            return LogEnd(size=size, mark=_mark(file.read(min(size, MAX_ENTRY_BYTES))))
    except OSError:
        return LogEnd()


def _mark(content: bytes) -> str:
    """A mark of the last line, or '' if there is none."""
    line = content.removesuffix(b"\n").rpartition(b"\n")[2][-MAX_ENTRY_BYTES // 2 :]
    return hashlib.sha256(line).hexdigest()[:16] if line else ""


async def commits_made(
    own: OwnGit, before: CheckoutState, now: CheckoutState, refs: Refs
) -> Mapping[str, float | None]:
    """The commits made between the two looks that are still in HEAD or a branch, oldest first, each with its time.

    The time is the second in git's log; None if that is missing or not between the two looks, because the committer can
    set any time.

    Raises:
        ChangesUnknownError: git failed.
    """
    added = await asyncio.to_thread(_added, own.repository, before)
    if added is None:
        return {} if now.head in {None, before.head} else await _gained(own, before, now.head or "", refs)
    made: dict[str, float | None] = {}
    for entry in _ENTRY.finditer(added):
        if _MADE.match(entry[3]):
            made.setdefault(entry[1].decode(), _made_at(entry[2], before, now))
    if not made:
        return made
    ends = sorted({*refs.branches.values(), *filter(None, [now.head])})
    words = "\n".join([*made, *(f"^{end}" for end in ends)])
    lost = set((await run(own, "rev-list", "--ignore-missing", "--stdin", input_text=f"{words}\n")).split())
    return {commit: at for commit, at in made.items() if commit not in lost}


def _made_at(who: bytes, before: CheckoutState, now: CheckoutState) -> float | None:
    found = _TIME.search(who)
    at = float(found[1]) if found else 0.0
    return at if before.at - LOG_UNIT_SECONDS <= at <= now.at + LOG_UNIT_SECONDS else None


def _added(repository: Repository, before: CheckoutState) -> bytes | None:
    """What was added to the log of HEAD since it ended as it did before; None if it is gone or was cut there."""
    try:
        with untrusted.opened(repository.git_dir, "logs/HEAD") as file:
            start = max(0, os.fstat(file.fileno()).st_size - MAX_LOG_BYTES)
            file.seek(start)
            content = file.read(MAX_LOG_BYTES)
    except OSError:
        return None
    known = before.log_bytes - start
    if known < 0 or not before.log_bytes:  # more was added than is read, or all of it
        return content if content or before.log_bytes else None
    if known <= len(content) and before.log_end in {"", _mark_at(content, known)}:
        return content[known:]
    return next((content[end:] for end in _line_ends(content) if _mark_at(content, end) == before.log_end), None)


def _mark_at(content: bytes, end: int) -> str:
    return _mark(content[max(0, end - MAX_ENTRY_BYTES) : end])


def _line_ends(content: bytes) -> Iterator[int]:
    """Where lines end that may be entries, the last one first."""
    end = content.rfind(b"\n")
    while end >= 0:
        begin = content.rfind(b"\n", 0, end)
        if end - begin > MIN_ENTRY_BYTES:
            yield end + 1
        end = begin


async def _gained(own: OwnGit, before: CheckoutState, head: str, refs: Refs) -> Mapping[str, float | None]:
    fetched = await asyncio.to_thread(read_bounded, own.repository.common / "FETCH_HEAD") or b""
    lines = fetched.decode(errors="replace").splitlines()
    known = [before.head or "", *(line.partition("\t")[0] for line in lines), *refs.remote]
    words = [head, *(f"^{commit}" for commit in known if _OBJECT_ID.fullmatch(commit))]
    options = ("--reverse", "--ignore-missing", f"--since={int(before.at)}", "--stdin")
    return dict.fromkeys((await run(own, "rev-list", *options, input_text="\n".join([*words, ""]))).split())


async def committed(own: OwnGit, made: Sequence[str], now: CheckoutState, refs: Refs) -> Committed | None:
    """What is in these commits together; None without any.

    Commits that follow each other count as one, so that what one of them takes back is not in them; a first commit
    of all counts alone. Of a merge, the files count that are not as git itself merges them: those resolved by hand.

    Raises:
        ChangesUnknownError: git failed.
    """
    if not made:
        return None
    listed = await run(own, "rev-list", "--parents", "--no-walk=unsorted", "--stdin", input_text=_lines(made))
    parents = {words[0]: words[1:] for words in map(str.split, listed.splitlines())}
    merges = [commit for commit in made if len(parents.get(commit, ())) > 1]
    common = ("diff-tree", "--stdin", "--root", "-r", "-z", "--no-commit-id")
    runs = _lines(_runs([commit for commit in made if commit not in merges], parents))
    rows = _rows(await run(own, *common, "--raw", "--numstat", input_text=runs)) if runs else {}
    if merges:
        rows = dict.fromkeys(await _resolved(own, merges), (0, 0)) | rows
    return Committed(
        commit=made[-1],
        branch=_branch_of(made[-1], now, refs),
        files=tuple(rows),
        files_changed=len(rows),
        insertions=sum(added for added, _ in rows.values()),
        deletions=sum(removed for _, removed in rows.values()),
    )


async def _resolved(own: OwnGit, merges: Sequence[str]) -> Sequence[str]:
    """The files whose content in these merges differs from what git itself would merge."""
    words = ("log", "--no-walk=unsorted", "--stdin", "--remerge-diff", "--name-only", "--format=", "-z")
    try:
        listed = await run(own, *words, input_text=_lines(merges))
    except ChangesUnknownError:  # git older than 2.35: the files that are as in no parent, also those merged by git
        words = ("diff-tree", "--stdin", "--root", "-r", "-z", "--no-commit-id", "-c", "--name-only")
        listed = await run(own, *words, input_text=_lines(merges))
    return [name for name in (part.lstrip("\n") for part in listed.split("\0")) if name]


def _runs(made: Sequence[str], parents: Mapping[str, Sequence[str]]) -> Sequence[str]:
    """For each line of commits that follow each other its end, and the commit before it, as git reads them."""
    runs: list[tuple[str, str]] = []
    for commit in made:
        (base,) = parents.get(commit) or ("",)
        if runs and base == runs[-1][0] and runs[-1][1]:
            runs[-1] = (commit, runs[-1][1])
        else:
            runs.append((commit, base))
    return [f"{end} {base}".strip() for end, base in runs]


def _rows(listed: str) -> dict[str, tuple[int, int]]:
    """The lines added to and removed from each file; a submodule has none, although git counts its commit as one."""
    rows: dict[str, tuple[int, int]] = {}
    links: set[str] = set()
    parts = iter(listed.split("\0"))
    for part in (part.lstrip("\n") for part in parts):
        if part.startswith(":"):
            name = next(parts, "")
            if GITLINK in part.split()[:2]:
                links.add(name)
        elif part:
            added, removed, name = part.split("\t", 2)
            old = rows.get(name, (0, 0))
            is_text = added.isdigit() and removed.isdigit() and name not in links
            rows[name] = (old[0] + int(added), old[1] + int(removed)) if is_text else old
    return rows


def _lines(commits: Sequence[str]) -> str:
    return "".join(f"{commit}\n" for commit in commits)


def _branch_of(commit: str, now: CheckoutState, refs: Refs) -> str:
    """A branch that ends in this commit: the current one if it does; '' if none does."""
    if now.head == commit and now.branch:
        return now.branch
    return next((name for name, value in sorted(refs.branches.items()) if value == commit), "")
