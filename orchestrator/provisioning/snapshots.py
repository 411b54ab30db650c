"""Looks at a checkout: the tree of its files and what HEAD names, in a bounded time.

Files that git would take long to read are compared by size, time and inode. Repositories inside the checkout are
looked at in the same way, each with a git directory of Fleet's own.
"""

from __future__ import annotations

import asyncio
import os
import stat
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from orchestrator.domain.checkout import CheckoutState
from orchestrator.domain.duration import format_duration
from orchestrator.provisioning import commits, own_git
from orchestrator.provisioning.files import ChangesUnknownError, special_files
from orchestrator.provisioning.own_git import OwnGit, TookTooLongError, open_own, run, time_limit
from orchestrator.provisioning.repository import head_of

LOOK_SECONDS = 2.0
"""what a look may hold up a turn"""
AFTER_SECONDS = 10.0
"""what a look may take after a turn, when nothing waits to start"""
GITLINK = "160000 "
LARGE_BYTES = 4 * 2**20
"""of a changed or untracked file that is compared without reading it"""
MAX_READ_BYTES = 64 * 2**20
"""of all changed and untracked files of one look; beyond it the largest are compared without reading them"""
MAX_LARGE_FILES = 1_000
MAX_NESTED = 50
MAX_DEPTH = 3
"""of repositories inside repositories"""
MAX_SEARCHED = 200_000
"""how many entries of the tree are searched for the file that made a look take too long"""
SEARCH_SECONDS = 1.0
"""how long before the end of a look's time that search begins"""
MAX_KEPT_BYTES = 2 * 2**30
EXPIRY = "1.hour.ago"
WITHOUT_OURS = ("--", ".", ":(exclude).fleet")
AGAIN_SECONDS = 600.0
"""after this time a checkout is looked at again whose look took too long"""
_LOCKS: dict[str, asyncio.Lock] = {}


@dataclass(frozen=True, kw_only=True)
class _Slow:
    """A checkout whose look took too long."""

    until: float
    reason: str


_SLOW: dict[str, _Slow] = {}


def _lock(checkout: Path, state: Path) -> asyncio.Lock:
    return _LOCKS.setdefault(f"{state}\0{checkout}", asyncio.Lock())


async def snapshot(checkout: Path, state: Path, *, seconds: float = AFTER_SECONDS) -> CheckoutState:
    """The checkout as it is now.

    Raises:
        ChangesUnknownError: it is not a git checkout, git is missing, or the time is up.
    """
    is_waiting = True
    search = asyncio.create_task(_culprit(checkout, seconds - SEARCH_SECONDS))
    try:
        async with time_limit(seconds, checkout), _lock(checkout, state):
            is_waiting = False
            return await _snapshot(checkout, state, MAX_DEPTH)
    except TookTooLongError as error:
        if is_waiting:
            raise ChangesUnknownError(f"another look at it took longer than {format_duration(seconds)}") from error
        if (culprit := search.result() if search.done() else None) is None:
            raise
        raise TookTooLongError(f"{culprit} is not a regular file, and git waited for it") from error
    finally:
        search.cancel()


async def _culprit(checkout: Path, delay: float) -> Path | None:
    """The file that git is probably waiting for; the search runs beside the look, and nothing waits for it."""
    await asyncio.sleep(delay)
    with suppress(OSError):
        return await asyncio.to_thread(lambda: next(special_files(checkout, MAX_SEARCHED), None))
    return None


async def snapshot_before_turn(checkout: Path, state: Path) -> CheckoutState:
    """The checkout as it is now, within the time that a turn may be held up; what took longer is not tried again soon.

    Raises:
        ChangesUnknownError: as in `snapshot`.
    """
    key = f"{state}\0{checkout}"
    known = _SLOW.get(key)
    if known is not None and time.monotonic() < known.until:
        raise TookTooLongError(known.reason)
    try:
        return await snapshot(checkout, state, seconds=LOOK_SECONDS)
    except TookTooLongError as error:
        reason = f"{error}; tried again after {format_duration(AGAIN_SECONDS)}"
        _SLOW[key] = _Slow(until=time.monotonic() + AGAIN_SECONDS, reason=reason)
        raise TookTooLongError(reason) from error


async def _snapshot(checkout: Path, state: Path, depth: int) -> CheckoutState:
    own = await open_own(checkout, state)
    await own_git.prepare(own)
    if (own.folder / "index.lock").exists():  # of a git that was killed: our own lock excludes others
        await asyncio.to_thread(own_git.remove_stale, own)
        own_git.forget(own)
    try:
        found = await _look(own)
    except (TookTooLongError, asyncio.CancelledError):
        own_git.remove_stale(own)
        raise
    except ChangesUnknownError:
        own_git.forget(own, index=True)  # the index only saves time; a kill may have damaged it
        found = await _look(own)
    nested = found.repositories if depth > 0 else ()
    if len(nested) > MAX_NESTED:
        raise ChangesUnknownError(f"{len(nested)} repositories are inside it, above {MAX_NESTED}")
    inner: dict[str, CheckoutState] = {}
    for path in nested:
        async with _lock(checkout / path, state):
            inner[path] = await _snapshot(checkout / path, state, depth - 1)
    return replace(found.state, nested=inner)


@dataclass(frozen=True, kw_only=True)
class _Look:
    """What was found in one checkout, and the repositories inside it."""

    state: CheckoutState
    repositories: Sequence[str]


async def _look(own: OwnGit) -> _Look:
    at = time.time()
    head = await asyncio.to_thread(head_of, own.repository)
    log = await asyncio.to_thread(commits.log_end, own.repository)
    name = head.commit or "none"
    note = own_git.read_note(own)
    if note.head != name or not own.index.exists():
        note = own_git.forget(own)
        await _read_head(own, head.commit)
    changed = await _changed(own, note)
    if changed.is_rule:
        note = own_git.forget(own)
        await _read_head(own, head.commit)  # what is ignored now leaves the index
        changed = await _changed(own, note)
    if changed.read or changed.gone:
        note = own_git.forget(own)
        await _take_in(own, changed)
    tree = note.tree or (await run(own, "write-tree")).strip()
    found = own_git.Note(head=name, tree=tree, large=changed.large)
    if found != note:
        own_git.write_note(own, found)
    state = CheckoutState(
        tree=tree,
        head=head.commit,
        branch=head.branch,
        log_bytes=log.size,
        log_end=log.mark,
        at=at,
        large=changed.large,
    )
    return _Look(state=state, repositories=changed.repositories)


async def _read_head(own: OwnGit, head: str | None) -> None:
    """Let the index hold what HEAD holds, without the repositories inside, which are looked at by themselves."""
    if head is not None:
        try:
            await run(own, "read-tree", "--reset", head)
        except TookTooLongError:
            raise
        except ChangesUnknownError:
            own_git.forget(own, index=True)  # a damaged HEAD counts as nothing tracked
    links = [entry.partition("\t")[2] for entry in await own_git.unmark(own) if entry.startswith(GITLINK)]
    if links:
        await run(own, "update-index", "--force-remove", "-z", "--stdin", input_text=_lines(links))


@dataclass(frozen=True, kw_only=True)
class _Changed:
    """What differs from the index: paths to read, gone ones, files to compare unread, and repositories inside."""

    read: Sequence[str]
    gone: Sequence[str]
    large: Mapping[str, str]
    repositories: Sequence[str]

    @property
    def is_rule(self) -> bool:
        """Whether one of them says which files are ignored."""
        return any(name.rpartition("/")[2] == ".gitignore" for name in (*self.read, *self.gone))


async def _changed(own: OwnGit, note: own_git.Note) -> _Changed:
    listed = await run(own, "ls-files", "-z", "-t", "--others", "--modified", "--exclude-standard", *WITHOUT_OURS)
    names = dict.fromkeys(entry[2:] for entry in listed.split("\0") if entry)
    return await asyncio.to_thread(_sorted, own.repository.checkout, names, note.large)


def _sorted(checkout: Path, names: Mapping[str, None], known: Mapping[str, str]) -> _Changed:
    """Sort the names by how they are compared; what git would refuse to read does not reach it.

    A file that was not read stays unread until it changes: `known` are the marks of those.
    """
    links: dict[str, bool] = {}
    gone: list[str] = []
    large: dict[str, str] = {}
    sized: list[tuple[int, str, str]] = []
    for name in (name for name in names if not name.endswith("/")):
        found = _found(checkout, name, links)
        if found is None:
            gone.append(name)
            continue
        mark = f"{found.st_size}-{found.st_mtime_ns}-{found.st_ino}"
        if known.get(name) != mark and _is_readable(checkout, name, found):
            sized.append((found.st_size, name, mark))
        else:
            large[name] = mark
    read: list[str] = []
    total = 0
    for size, name, mark in sorted(sized):
        total += size
        if total <= MAX_READ_BYTES:
            read.append(name)
        else:
            large[name] = mark
    if len(large) > MAX_LARGE_FILES:
        raise ChangesUnknownError(
            f"{len(large)} changed or untracked files are too large to read, above {MAX_LARGE_FILES}: "
            f"have git ignore {min(large)} and its like"
        )
    repositories = [name[:-1] for name in names if name.endswith("/")]
    return _Changed(read=read, gone=gone, large=large, repositories=repositories)


def _found(checkout: Path, name: str, links: dict[str, bool]) -> os.stat_result | None:
    """What is at this path; None if nothing, or a directory, or if a link leads there, which to git is the same."""
    for parent in list(Path(name).parents)[:-1]:
        if links.setdefault(str(parent), (checkout / parent).is_symlink()):
            return None
    try:
        found = os.lstat(f"{checkout}/{name}")
    except (FileNotFoundError, NotADirectoryError):
        return None
    return None if stat.S_ISDIR(found.st_mode) else found


def _is_readable(checkout: Path, name: str, found: os.stat_result) -> bool:
    if stat.S_ISLNK(found.st_mode):
        return True
    is_small = stat.S_ISREG(found.st_mode) and found.st_size <= LARGE_BYTES
    return is_small and os.access(f"{checkout}/{name}", os.R_OK)


async def _take_in(own: OwnGit, changed: _Changed) -> None:
    """Bring the index up to date: first what is gone, so that a folder may take the place of a file."""
    if changed.gone:
        await run(own, "update-index", "--force-remove", "-z", "--stdin", input_text=_lines(changed.gone))
    if changed.read:
        words = ("update-index", "--add", "--remove", "--replace", "-z", "--stdin")
        await run(own, *words, input_text=_lines(changed.read))


def _lines(paths: Sequence[str]) -> str:
    return "".join(f"{path}\0" for path in paths)


async def prune(checkout: Path, state: Path, needed: Callable[[], Awaitable[Sequence[str]]]) -> None:
    """Limit what Fleet keeps of the checkout: above 2 GiB everything is deleted except the `needed` trees.

    What was written in the last hour is kept too, because a snapshot may be in progress.

    Raises:
        ChangesUnknownError: git failed.
    """
    with own_git.unknown_if_refused(checkout):
        async with _lock(checkout, state):
            await _prune(checkout, state, needed)


async def _prune(checkout: Path, state: Path, needed: Callable[[], Awaitable[Sequence[str]]]) -> None:
    own = await open_own(checkout, state)
    counted = await run(own, "count-objects", "-v")
    sizes = [int(line.partition(": ")[2]) for line in counted.splitlines() if line.startswith("size")]
    if sum(sizes) * 1024 <= MAX_KEPT_BYTES:
        return
    input_text = "".join(f"{tree}\n" for tree in await needed())
    listing = await run(own, "cat-file", "--batch-check", input_text=input_text)
    kept = {line.split()[0] for line in listing.splitlines() if not line.endswith(" missing")}
    await run(own, "prune", f"--expire={EXPIRY}", *kept)
    own_git.forget(own)  # the tree that it names may be gone
