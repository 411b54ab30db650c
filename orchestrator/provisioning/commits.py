"""Finds the commits that were made in a checkout, apart from those that were pulled, merged or checked out.

Git's log of HEAD says how each commit got there. Without that log (`core.logAllRefUpdates` is off), commits count
that HEAD gained, unless they were fetched.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from orchestrator import untrusted
from orchestrator.domain.checkout import CheckoutState, Committed
from orchestrator.provisioning.files import ChangesUnknownError, read_bounded
from orchestrator.provisioning.own_git import OwnGit, run
from orchestrator.provisioning.repository import Repository, branches_of, head_of

MAX_LOG_BYTES = 2**20
"""of what one turn appends to the log of HEAD"""
SHOWN_FILES = 100
MAX_REMOTE_BRANCHES = 10_000
_ENTRY = re.compile(rb"(?m)^[0-9a-f]{40,64} ([0-9a-f]{40,64}) [^\t\n]*\t?([^\n]*)")
_MADE = re.compile(
    rb"commit(?: \([a-z-]+\))?:|cherry-pick:|revert:|am:"
    rb"|(?:rebase|pull)[^:]*\((?:pick|continue|reword|squash|fixup|edit)\)"
    rb"|(?:merge|pull)\b.*: Merge made by"
)
_OBJECT_ID = re.compile(r"[0-9a-f]{40,64}")


def log_bytes(repository: Repository) -> int:
    """The length of the log of HEAD; 0 if there is none."""
    try:
        return (repository.git_dir / "logs" / "HEAD").stat().st_size
    except OSError:
        return 0


async def commits_made(own: OwnGit, before: CheckoutState, now: CheckoutState) -> Sequence[str]:
    """The commits that were made between the two looks and are still in HEAD or a branch, oldest first.

    Raises:
        ChangesUnknownError: git failed.
    """
    made = list(dict.fromkeys(_logged(own.repository, before.log_bytes)))
    if not made and now.log_bytes == 0 and now.head is not None and now.head != before.head:
        return await _gained(own, before, now.head)
    if not made:
        return ()
    ends = sorted({*branches_of(own.repository).values(), *filter(None, [now.head])})
    words = "\n".join([*made, *(f"^{end}" for end in ends)])
    lost = set((await run(own, "rev-list", "--ignore-missing", "--stdin", input_text=f"{words}\n")).split())
    return [commit for commit in made if commit not in lost]


def _logged(repository: Repository, start: int) -> Iterable[str]:
    """The commits that the log of HEAD says were made here since it had `start` bytes."""
    try:
        with untrusted.opened(repository.git_dir, "logs/HEAD") as file:
            if os.fstat(file.fileno()).st_size < start:  # it was shortened: what was added is not known
                return []
            file.seek(start)
            content = file.read(MAX_LOG_BYTES)
    except OSError:
        return []
    return [entry[1].decode() for entry in _ENTRY.finditer(content) if _MADE.match(entry[2])]


async def _gained(own: OwnGit, before: CheckoutState, head: str) -> Sequence[str]:
    fetched = (read_bounded(own.repository.common / "FETCH_HEAD") or b"").decode(errors="replace").splitlines()
    known = [before.head or "", *(line.partition("\t")[0] for line in fetched), *_remote(own.repository)]
    without = [f"^{commit}" for commit in known if _OBJECT_ID.fullmatch(commit)]
    words = "\n".join([head, *without])
    return (await run(own, "rev-list", "--reverse", "--ignore-missing", "--stdin", input_text=f"{words}\n")).split()


def _remote(repository: Repository) -> Sequence[str]:
    """The commits of the branches of remotes."""
    root = repository.common / "refs" / "remotes"
    paths = [Path(folder, file) for folder, _, files in os.walk(root) for file in files]
    return [os.fsdecode(read_bounded(path) or b"").strip() for path in paths[:MAX_REMOTE_BRANCHES]]


async def committed(own: OwnGit, made: Sequence[str]) -> Committed | None:
    """What is in these commits; None without any.

    Raises:
        ChangesUnknownError: git failed.
    """
    if not made:
        return None
    words = ("diff-tree", "--stdin", "--root", "-r", "-z", "--numstat", "--no-commit-id")
    listed = (await run(own, *words, input_text="".join(f"{commit}\n" for commit in made))).split("\0")
    rows = [row.lstrip("\n").split("\t", 2) for row in listed if "\t" in row]
    files = list(dict.fromkeys(row[2] for row in rows))
    return Committed(
        commit=made[-1],
        branch=_branch_of(own.repository, made[-1]),
        files=tuple(files),
        files_changed=len(files),
        insertions=sum(int(row[0]) for row in rows if row[0].isdigit()),
        deletions=sum(int(row[1]) for row in rows if row[1].isdigit()),
    )


def _branch_of(repository: Repository, commit: str) -> str:
    """A branch that ends in this commit: the current one if it does; '' if none does."""
    try:
        head = head_of(repository)
        if head.commit == commit and head.branch:
            return head.branch
        return next((name for name, value in sorted(branches_of(repository).items()) if value == commit), "")
    except ChangesUnknownError:
        return ""
