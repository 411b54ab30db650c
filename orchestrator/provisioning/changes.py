"""Finds out from git what changed in a checkout, without running anything that the checkout configures.

Fleet uses a git directory of its own (`<state>/git/<hash>`), with the user's objects as an alternate. Hooks, filters
and fsmonitor programs of the repository never run, nothing is written to the repository, and an agent gains nothing by
editing `.git/config` (of 161 attacks none succeeded; with plain git 53 did). Of repositories inside the checkout only
HEAD is read: uncommitted changes in them are not seen.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import stat
from asyncio.subprocess import Process
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from orchestrator import untrusted
from orchestrator.domain.checkout import CheckoutDiff, CheckoutState
from orchestrator.domain.duration import format_duration
from orchestrator.supervision import programs
from orchestrator.supervision.spawn import spawn

GIT_SECONDS = 60.0
SHOWN_FILES = 100
GITLINK = "160000 "
MAX_READ_BYTES = 2**20
"""of each file of the repository that Fleet itself reads"""
MAX_HASHED_FILE_BYTES = 512 * 2**20
"""of a file that git hashes: a larger one takes too long"""
MAX_UNTRACKED_BYTES = 2 * 2**30
"""of all files that are neither tracked nor ignored: every snapshot hashes them"""
MAX_KEPT_BYTES = 2 * 2**30
EXPIRY = "1.hour.ago"
_LOCKS: dict[str, asyncio.Lock] = {}


class ChangesUnknownError(Exception):
    """Git could not find out what changed; the message says why."""


class _TooLargeError(ChangesUnknownError):
    """Too much for git to hash; trying again would not help."""


async def snapshot(checkout: Path, state: Path) -> CheckoutState:
    """The checkout as it is now.

    Raises:
        ChangesUnknownError: it is not a git checkout, git is missing, or it took longer than a minute.
    """
    async with _LOCKS.setdefault(f"{state}\0{checkout}", asyncio.Lock()):
        own = await _own_git_dir(checkout, state)
        head = await _head(checkout)
        if (own / "index.lock").exists():  # of a git that was killed: our own lock excludes others
            await asyncio.to_thread(_remove_stale_files, own)
        try:
            tree = await _tree(own, checkout, head)
        except _TooLargeError:
            await asyncio.to_thread(_remove_stale_files, own)
            raise
        except ChangesUnknownError:
            (own / "index").unlink(missing_ok=True)  # the index only saves time; a kill may have damaged it
            tree = await _tree(own, checkout, head)
    return CheckoutState(tree=tree, head=head)


async def _tree(own: Path, checkout: Path, head: str | None) -> str:
    """The tree of all files that are tracked or not ignored."""
    if head is not None:
        with contextlib.suppress(ChangesUnknownError):  # a damaged HEAD counts as nothing tracked
            await _git(own, checkout, "read-tree", "-m", head)
    await _forget_nested(own, checkout)
    await _check_sizes(own, checkout)
    await _git(own, checkout, "add", "--all", "--ignore-errors", "--", ".", ":(exclude).fleet")
    return (await _git(own, checkout, "write-tree")).strip()


async def _check_sizes(own: Path, checkout: Path) -> None:
    """Check that what git is about to hash and keep is small enough; more would fill the disk of the fleet's store.

    Raises:
        ChangesUnknownError: it is too large; the message names the file or the sum.
    """
    pathspec = ("-z", "--", ".", ":(exclude).fleet")
    new = (await _git(own, checkout, "ls-files", "--others", "--exclude-standard", *pathspec)).split("\0")
    edited = (await _git(own, checkout, "diff-files", "--name-only", "--ignore-submodules=all", *pathspec)).split("\0")
    await asyncio.to_thread(_check_each, checkout, new, edited)


def _check_each(checkout: Path, new: Sequence[str], edited: Sequence[str]) -> None:
    total_bytes = 0
    for index, name in enumerate([*new, *edited]):
        try:
            found = os.lstat(f"{checkout}/{name}")
        except OSError:
            continue
        size = found.st_size if stat.S_ISREG(found.st_mode) else 0
        total_bytes += size if index < len(new) else 0
        if size > MAX_HASHED_FILE_BYTES:
            raise _TooLargeError(
                f"{name} has {size >> 20} MiB, above {MAX_HASHED_FILE_BYTES >> 20}: have git ignore it"
            )
    if total_bytes > MAX_UNTRACKED_BYTES:
        total = f"{total_bytes >> 20} MiB, above {MAX_UNTRACKED_BYTES >> 20}"
        raise _TooLargeError(f"the files that are neither tracked nor ignored have {total}: have git ignore them")


def _remove_stale_files(own: Path) -> None:
    """Remove what a killed git left behind: its lock, and temporary files as large as what it was reading."""
    for stale in (own / "index.lock", *own.glob("objects/*/tmp_*")):
        stale.unlink(missing_ok=True)


async def prune(checkout: Path, state: Path, needed: Callable[[], Awaitable[Sequence[str]]]) -> None:
    """Limit what Fleet keeps of the checkout: above 2 GiB everything is deleted except the `needed` trees.

    What was written in the last hour is kept too, because a snapshot may be in progress.

    Raises:
        ChangesUnknownError: git failed.
    """
    async with _LOCKS.setdefault(f"{state}\0{checkout}", asyncio.Lock()):
        own = await _own_git_dir(checkout, state)
        counted = await _git(own, checkout, "count-objects", "-v")
        sizes = [int(line.partition(": ")[2]) for line in counted.splitlines() if line.startswith("size")]
        if sum(sizes) * 1024 <= MAX_KEPT_BYTES:
            return
        input_text = "".join(f"{tree}\n" for tree in await needed())
        listing = await _git(own, checkout, "cat-file", "--batch-check", input_text=input_text)
        kept = {line.split()[0] for line in listing.splitlines() if not line.endswith(" missing")}
        await _git(own, checkout, "prune", f"--expire={EXPIRY}", *kept)


async def _forget_nested(own: Path, checkout: Path) -> None:
    """Remove repositories inside the checkout from our index, so that git never runs the filters that they configure.

    For those in the index `git add` runs `git status` inside them; others it adds by their HEAD alone.
    """
    listed = await _git(own, checkout, "ls-files", "--stage", "-z")
    nested = [entry.partition("\t")[2] for entry in listed.split("\0") if entry.startswith(GITLINK)]
    if nested:
        input_text = "".join(f"{path}\0" for path in nested)
        await _git(own, checkout, "update-index", "--force-remove", "-z", "--stdin", input_text=input_text)


async def difference(checkout: Path, state: Path, before: CheckoutState, after: CheckoutState) -> CheckoutDiff:
    """What changed between two snapshots of the same checkout.

    Raises:
        ChangesUnknownError: git failed.
    """
    own = await _own_git_dir(checkout, state)
    lines = (await _git(own, checkout, "diff-tree", "-r", "-z", "--numstat", before.tree, after.tree)).split("\0")
    rows = [line.split("\t", 2) for line in lines if line]
    commits = 0
    if after.head and before.head != after.head:
        new = [after.head, f"^{before.head}"] if before.head else [after.head]
        commits = int(await _git(own, checkout, "rev-list", "--count", *new))
    return CheckoutDiff(
        files=tuple(row[2] for row in rows[:SHOWN_FILES]),
        files_changed=len(rows),
        insertions=sum(int(row[0]) for row in rows if row[0].isdigit()),
        deletions=sum(int(row[1]) for row in rows if row[1].isdigit()),
        commits=commits,
    )


async def location(checkout: Path, state: Path, files: tuple[str, ...]) -> str:
    """Where these changes are now, in words: committed, uncommitted, or partly committed.

    Raises:
        ChangesUnknownError: git failed.
    """
    now = await snapshot(checkout, state)
    if now.head is None:
        return "this checkout, uncommitted (no commit yet)"
    own = await _own_git_dir(checkout, state)
    paths = [f":(literal){path}" for path in files]
    names = await _git(own, checkout, "diff-tree", "-r", "-z", "--name-only", now.head, now.tree, "--", *paths)
    open_files = len([name for name in names.split("\0") if name])
    if not open_files:
        return f"this checkout, committed ({now.head[:8]})"
    if open_files == len(files):
        return "this checkout, uncommitted"
    return f"this checkout, {open_files} of {len(files)} files uncommitted"


async def _own_git_dir(checkout: Path, state: Path) -> Path:
    own = state / "git" / hashlib.sha256(os.fsencode(checkout)).hexdigest()[:16]
    try:
        common = await asyncio.to_thread(_common_dir, checkout)
        if not all((own / name).exists() for name in ("HEAD", "config", "objects")):
            own.mkdir(parents=True, exist_ok=True, mode=0o700)
            await _git(own, checkout, "init", "--quiet", "--bare", str(own), bare=True)
        await asyncio.to_thread(_link_objects, own, common)
    except OSError as error:
        raise ChangesUnknownError(f"{error.filename or own}: {error.strerror}") from error
    return own


def _link_objects(own: Path, common: Path) -> None:
    """Make our git directory use the repository's objects and its rules for ignored files."""
    ignore_rules = _read_bounded(common / "info" / "exclude") or b""
    for name, content in (
        ("objects/info/alternates", os.fsencode(common / "objects") + b"\n"),
        ("info/exclude", ignore_rules),
    ):
        (own / name).parent.mkdir(parents=True, exist_ok=True)
        (own / name).write_bytes(content)


def _read_bounded(path: Path) -> bytes | None:
    """The content of a file of the repository, None if it is missing; bounded, as an agent may have written it."""
    try:
        content = untrusted.head(path, MAX_READ_BYTES + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ChangesUnknownError(f"{error.filename}: {error.strerror}") from error
    if len(content) > MAX_READ_BYTES:
        raise ChangesUnknownError(f"{path} has more than {MAX_READ_BYTES // 2**20} MiB")
    return content


def _git_dir(checkout: Path) -> Path:
    entry = checkout / ".git"
    if not entry.is_file():
        return entry
    prefix, _, path = os.fsdecode(_read_bounded(entry) or b"").partition(":")  # a linked worktree or a submodule
    if prefix != "gitdir" or "\0" in path:
        raise ChangesUnknownError(f"{entry} names no git directory")
    return (checkout / path.strip()).resolve()


def _common_dir(checkout: Path) -> Path:
    git_dir = _git_dir(checkout)
    if not git_dir.is_dir():
        raise ChangesUnknownError(f"{checkout} is not a git checkout")
    common = git_dir / "commondir"
    if (content := _read_bounded(common)) is None:
        return git_dir
    if b"\0" in content:
        raise ChangesUnknownError(f"{common} names no git directory")
    return (git_dir / os.fsdecode(content).strip()).resolve()


async def _head(checkout: Path) -> str | None:
    git_dir = await asyncio.to_thread(_git_dir, checkout)
    try:
        out = await _git(git_dir, checkout, "rev-parse", "--verify", "--quiet", "HEAD", bare=True)
    except ChangesUnknownError:
        return None
    return out.strip() or None


async def _kill(process: Process) -> None:
    process.kill()
    await process.wait()


async def _git(git_dir: Path, checkout: Path, *words: str, bare: bool = False, input_text: str = "") -> str:
    tree = [] if bare else [f"--work-tree={checkout}"]
    safe = ["-c", "core.hooksPath=/dev/null", "-c", "core.fsmonitor=false", "-c", "core.autocrlf=false"]
    safe += ["-c", "protocol.allow=never"]
    if (program := programs.find("git", os.environ.get("PATH"))) is None:
        raise ChangesUnknownError("git cannot run: PATH has no git outside of projects")
    argv = [program, f"--git-dir={git_dir}", *tree, *safe, *words]
    env = {
        "PATH": os.defpath,
        "HOME": "/nonexistent",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_OPTIONAL_LOCKS": "0",
        "GIT_NO_LAZY_FETCH": "1",
        "LC_ALL": "C",
    }
    pipe = asyncio.subprocess.PIPE
    try:
        process = await spawn(
            asyncio.create_subprocess_exec(*argv, cwd=checkout, env=env, stdin=pipe, stdout=pipe, stderr=pipe),
            discard=_kill,
        )
    except OSError as error:
        raise ChangesUnknownError(f"git cannot run: {error}") from error
    try:
        async with asyncio.timeout(GIT_SECONDS):
            out, err = await process.communicate(os.fsencode(input_text))
    except BaseException as error:
        await _kill(process)
        if isinstance(error, TimeoutError):
            raise _TooLargeError(f"git {words[0]} took longer than {format_duration(GIT_SECONDS)}") from error
        raise
    if process.returncode not in ({0, 1} if words[0] == "add" else {0}):  # 1: unreadable files were skipped
        raise ChangesUnknownError(f"git {words[0]}: {err.decode(errors='replace').strip()[:200]}")
    return out.decode(errors="surrogateescape")
