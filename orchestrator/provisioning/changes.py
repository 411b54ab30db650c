"""Compares two looks at a checkout: what changed, which commits were made, and where the changes are now."""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from orchestrator.domain.attribution import Origin, WriteEvidence
from orchestrator.domain.checkout import CheckoutDiff, CheckoutState, Committed
from orchestrator.provisioning import configuration, filters
from orchestrator.provisioning.commits import GITLINK, LOG_UNIT_SECONDS, SHOWN_FILES, commits_made, committed
from orchestrator.provisioning.own_git import OwnGit, open_own, run, time_limit
from orchestrator.provisioning.repository import refs_of
from orchestrator.provisioning.snapshots import AFTER_SECONDS, snapshot

LOCATE_SECONDS = 5.0
SHORT_ID = 8
FILE_MODES = frozenset({"100644", "100755"})


@dataclass(frozen=True, kw_only=True)
class _Row:
    """One changed file, and its lines; None where lines say nothing: binary, large or filtered."""

    path: str
    insertions: int | None = None
    deletions: int | None = None


async def difference(
    checkout: Path, state: Path, before: CheckoutState, after: CheckoutState, evidence: WriteEvidence | None = None
) -> CheckoutDiff:
    """What changed between two snapshots of the same checkout, and in the repositories inside it.

    With evidence, only what the turn may have written itself counts.

    Raises:
        ChangesUnknownError: git failed, or the time is up.
    """
    async with time_limit(AFTER_SECONDS, checkout):
        known = evidence and await asyncio.to_thread(_without_links, evidence)
        return await _difference(checkout, state, before, after, known)


def _without_links(evidence: WriteEvidence) -> WriteEvidence:
    """The evidence with the real paths of the files added: tools may name a file through links or `..`."""
    return replace(
        evidence,
        own=frozenset(real for path in evidence.own for real in _places(path)),
        others={real: name for path, name in evidence.others.items() for real in _places(path)},
    )


def _places(path: str) -> tuple[str, ...]:
    """The path as given, with the links in its folder resolved, and with all links resolved."""
    folder, name = os.path.split(path)
    try:
        return path, str(Path(os.path.realpath(folder)) / name), os.path.realpath(path)
    except ValueError:  # it cannot be a path
        return (path,)


async def _difference(
    checkout: Path, state: Path, before: CheckoutState, after: CheckoutState, evidence: WriteEvidence | None
) -> CheckoutDiff:
    found = await _own_difference(checkout, state, before, after, evidence)
    for path in sorted({*before.nested, *after.nested}):
        old, new = before.nested.get(path), after.nested.get(path)
        if old is None or new is None:
            found = _with_inner_repository(found, checkout, path, before, _inside(evidence, checkout / path))
        elif old != new:
            inner = await _difference(checkout / path, state, old, new, _inside(evidence, checkout / path))
            found = _joined(found, path, inner)
    return found


async def _own_difference(
    checkout: Path, state: Path, before: CheckoutState, after: CheckoutState, evidence: WriteEvidence | None
) -> CheckoutDiff:
    own = await open_own(checkout, state)
    rows = {row.path: row for row in await _rows(own, before.tree, after.tree)}
    marks = {*before.large.items()} ^ {*after.large.items()}
    rows |= {path: _Row(path=path) for path, _ in sorted(marks)}
    if (before.head, before.log_bytes) == (after.head, after.log_bytes):
        return _diff(checkout, before, rows.values(), evidence)
    may_commit = evidence is None or bool(evidence.spans)
    refs = await asyncio.to_thread(refs_of, own.repository)
    times = await commits_made(own, before, after, refs) if may_commit else dict[str, float | None]()
    made = [*times]
    done = await committed(own, made, after, refs)
    if before.head == after.head:
        return _with_commits(_diff(checkout, before, rows.values(), evidence), done, times, evidence)
    unsaved = await _names(own, after.head, after.tree)
    rest = set(done.files if done else ()) | unsaved | {path for path, _ in marks}
    kept = [row for row in rows.values() if row.path in rest]
    is_led_there = bool(made) and after.head == made[-1] and len(kept) == len(rows)
    undone = unsaved & set(done.files) - rows.keys() if done and after.head in made else set[str]()
    taken_back, _ = await filters.judged(own, after, undone)
    found = _diff(checkout, before, [*kept, *(_Row(path=path) for path in taken_back)], evidence)
    return replace(
        _with_commits(found, done, times, evidence),
        moved="" if is_led_there else f"{_place(before)} -> {_place(after)}",
        files_moved=len(rows) - len(kept),
    )


async def _rows(own: OwnGit, old: str, new: str) -> Sequence[_Row]:
    if old == new:
        return []
    lines = (await run(own, *_diff_tree("--numstat", old, new))).split("\0")
    rows = [line.split("\t", 2) for line in lines if line]
    unread = await filters.filtered(own, [row[2] for row in rows])
    return [
        _Row(path=row[2])
        if row[2] in unread or not row[0].isdigit()
        else _Row(path=row[2], insertions=int(row[0]), deletions=int(row[1]))
        for row in rows
    ]


async def _names(own: OwnGit, old: str | None, new: str, files: Sequence[str] = ()) -> set[str]:
    """The paths, of all or of these, that differ between a commit and a tree; without a commit, all of the tree.

    A mode alone is a difference only where the user's git compares modes.
    """
    which = ("ls-tree", "-r", "-z", "--name-only", new) if old is None else _diff_tree("--raw", old, new)
    paths = [f":(literal){path}" for path in files]
    listed = (await run(own, *which, "--", *paths)).split("\0")
    if old is None:
        return {*filter(None, listed)}
    rows = zip(listed[::2], listed[1::2], strict=False)
    return {name for row, name in rows if _counts(row, with_mode=configuration.compares_modes(own.settings))}


def _counts(row: str, *, with_mode: bool) -> bool:
    """Whether this row of git's raw format is a difference of a file; a submodule is looked at by itself."""
    old, new, before, after, _status = row.removeprefix(":").split()
    is_of_mode = before == after and {old, new} <= FILE_MODES
    return GITLINK not in {old, new} and (with_mode or not is_of_mode)


def _diff_tree(*words: str) -> tuple[str, ...]:
    return ("diff-tree", "-r", "-z", *words)


def _diff(
    checkout: Path, before: CheckoutState, rows: Collection[_Row], evidence: WriteEvidence | None
) -> CheckoutDiff:
    origins = {row.path: _origin(checkout / row.path, before, evidence) for row in rows}
    found = sorted((row for row in rows if origins[row.path] is not Origin.OTHERS), key=lambda row: row.path)
    shared = [row.path for row in found if origins[row.path] is Origin.SHARED]
    with_agents = {evidence.others.get(str(checkout / path), "") for path in shared} if evidence else set[str]()
    return CheckoutDiff(
        shared=tuple(shared[:SHOWN_FILES]),
        files_shared=len(shared),
        shared_with=tuple(sorted({*filter(None, with_agents), *(evidence.writers if evidence and shared else ())})),
        files_of_others=len(origins) - len(found),
        files=tuple(row.path for row in found[:SHOWN_FILES]),
        files_changed=len(found),
        insertions=sum(row.insertions or 0 for row in found),
        deletions=sum(row.deletions or 0 for row in found),
        commits=0,
    )


def _origin(path: Path, before: CheckoutState, evidence: WriteEvidence | None) -> Origin:
    return evidence.origin(str(path), _changed_at(path, before)) if evidence else Origin.OWN


def _changed_at(path: Path, before: CheckoutState) -> float | None:
    """When the file changed after the first look; None if that is unknown: it is gone, or its directory was moved."""
    try:
        at = path.lstat().st_ctime
    except OSError:
        return None
    return at if at >= before.at else None


def _repository_made_at(repository: Path, before: CheckoutState) -> float | None:
    """When a linked worktree or submodule was made, according to its `.git` file, which is not changed later.

    None for other repositories, and if that was before the first look, because then a directory was moved.
    """
    try:
        mark = (repository / ".git").lstat()
    except OSError:
        return None
    return mark.st_ctime if stat.S_ISREG(mark.st_mode) and mark.st_ctime >= before.at else None


def _with_inner_repository(
    diff: CheckoutDiff, checkout: Path, path: str, before: CheckoutState, evidence: WriteEvidence | None
) -> CheckoutDiff:
    """The difference with a repository inside that was made or removed; it counts as one file."""
    origin = evidence.origin_by_time(_repository_made_at(checkout / path, before)) if evidence else Origin.OWN
    if origin is Origin.OTHERS:
        return replace(diff, files_of_others=diff.files_of_others + 1)
    shared = (f"{path}/",) if origin is Origin.SHARED else ()
    others = evidence.writers if evidence and shared else ()
    return replace(
        diff,
        files=(*diff.files, f"{path}/")[:SHOWN_FILES],
        files_changed=diff.files_changed + 1,
        shared=(*diff.shared, *shared)[:SHOWN_FILES],
        files_shared=diff.files_shared + len(shared),
        shared_with=tuple(sorted({*diff.shared_with, *others})),
    )


def _with_commits(
    diff: CheckoutDiff, done: Committed | None, times: Mapping[str, float | None], evidence: WriteEvidence | None
) -> CheckoutDiff:
    shared = (
        sum(evidence.origin_by_time(at, unit_seconds=LOG_UNIT_SECONDS) is Origin.SHARED for at in times.values())
        if evidence
        else 0
    )
    others = evidence.writers if evidence and shared else ()
    return replace(
        diff,
        commits=len(times),
        commits_shared=shared,
        committed=done and replace(done, files=done.files[:SHOWN_FILES]),
        shared_with=tuple(sorted({*diff.shared_with, *others})),
    )


def _inside(evidence: WriteEvidence | None, repository: Path) -> WriteEvidence | None:
    return evidence and evidence.inside(str(repository))


def _place(state: CheckoutState) -> str:
    commit = state.head[:SHORT_ID] if state.head else "no commit"
    return f"{state.branch} {commit}" if state.branch else commit


def _joined(outer: CheckoutDiff, path: str, inner: CheckoutDiff) -> CheckoutDiff:
    """The sum of both; files of the inner repository are named below its path."""
    names = [f"{path}/{name}" for name in inner.files]
    return CheckoutDiff(
        files=(*outer.files, *names)[:SHOWN_FILES],
        files_changed=outer.files_changed + inner.files_changed,
        insertions=outer.insertions + inner.insertions,
        deletions=outer.deletions + inner.deletions,
        commits=outer.commits + inner.commits,
        commits_shared=outer.commits_shared + inner.commits_shared,
        committed=_joined_commits(outer.committed, path, inner.committed),
        moved=outer.moved or (inner.moved and f"{path}: {inner.moved}"),
        files_moved=outer.files_moved + inner.files_moved,
        shared=(*outer.shared, *(f"{path}/{name}" for name in inner.shared))[:SHOWN_FILES],
        files_shared=outer.files_shared + inner.files_shared,
        shared_with=tuple(sorted({*outer.shared_with, *inner.shared_with})),
        files_of_others=outer.files_of_others + inner.files_of_others,
    )


def _joined_commits(outer: Committed | None, path: str, inner: Committed | None) -> Committed | None:
    """What both contain; the inner repository's own files say more than its commit in the outer one."""
    if inner is None:
        return outer
    files = tuple(f"{path}/{name}" for name in inner.files)
    if outer is None:
        return replace(inner, files=files, inside=f"{path}/{inner.inside}".rstrip("/"))
    return replace(
        outer,
        files=(*(name for name in outer.files if name != path), *files)[:SHOWN_FILES],
        files_changed=outer.files_changed - (path in outer.files) + inner.files_changed,
        insertions=outer.insertions + inner.insertions,
        deletions=outer.deletions + inner.deletions,
    )


async def location(checkout: Path, state: Path, files: Sequence[str]) -> str:
    """Where these changes are now, in words: committed, uncommitted, or partly committed.

    Raises:
        ChangesUnknownError: git failed, or the time is up.
    """
    async with time_limit(LOCATE_SECONDS, checkout):
        now = await snapshot(checkout, state, seconds=LOCATE_SECONDS)
        if now.head is None:
            return "this checkout, uncommitted (no commit yet)"
        open_files, unread = await _open_files(checkout, state, now, files)
    if unread:
        return f"this checkout, {_of(len(unread), files)} unknown: {', '.join(sorted(set(unread.values())))}"
    if not open_files:
        return f"this checkout, committed ({now.head[:SHORT_ID]})"
    if len(open_files) == len(files):
        return "this checkout, uncommitted"
    return f"this checkout, {_of(len(open_files), files)} uncommitted"


def _of(count: int, files: Sequence[str]) -> str:
    return f"{count} of {len(files)} files"


async def _open_files(
    checkout: Path, state: Path, now: CheckoutState, files: Sequence[str]
) -> tuple[set[str], Mapping[str, str]]:
    """The uncommitted files, and with the reason those that may or may not be committed."""
    own = await open_own(checkout, state)
    inner = {name: path for name in files for path in now.nested if name.startswith(f"{path}/") and name != f"{path}/"}
    outer = [name for name in files if name not in inner and not name.endswith("/")]
    differ = (await _names(own, now.head, now.tree, outer) | set(now.large)) & set(outer)
    open_files, unread = await filters.judged(own, now, differ)
    for path in sorted({*inner.values()}):
        below = [name.removeprefix(f"{path}/") for name, place in inner.items() if place == path]
        found, unclear = await _open_files(checkout / path, state, now.nested[path], below)
        open_files |= {f"{path}/{name}" for name in found}
        unread |= {f"{path}/{name}": by for name, by in unclear.items()}
    return open_files, unread
