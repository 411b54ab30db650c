"""Runs an agent's read-only git calls in a view of the repository that holds none of its configuration.

The view is a fresh git directory for each call: copies of HEAD, packed refs, index, ignore and attribute rules, the
repository's refs and objects, and nothing that git would run. It lies where agents cannot write.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import shutil
import tempfile
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from orchestrator import untrusted
from orchestrator.domain.duration import format_duration
from orchestrator.domain.text import quoted
from orchestrator.errors import ConflictError, InvalidError
from orchestrator.provisioning import files, own_git
from orchestrator.provisioning.checkouts import checkout_of
from orchestrator.provisioning.own_git import VIEW, OwnGit
from orchestrator.supervision.spawn import spawn

SECONDS = 10.0
"""for making the view, and again for git"""
READS_INDEX = frozenset({"diff", "status"})
"""the calls that look at the working tree; the others need no index"""
MAX_OUTPUT_BYTES = 4 * 2**20
"""of which a page is shown; git is ended after that"""
MAX_ERROR_BYTES = 4096
MAX_ERROR_CHARACTERS = 300
MAX_PACKED_REFS_BYTES = 64 * 2**20
_HEAD = re.compile(rb"(?:ref: refs/[^\0\n]{1,1000}|[0-9a-f]{40,64})\n?")
_TOLD = re.compile(
    r"fatal: (?:ambiguous argument|bad revision|invalid object name|your current branch|no such path|path '|file |"
    r"bad object|unrecognized argument|-L |There is no path|Not a valid|no such ref|needed a single revision).*"
)
"""errors about the call itself; any other error may quote files that git mistook for its own"""


@dataclass(frozen=True, kw_only=True)
class GitOutput:
    """What git printed, from the beginning; `is_cut` if it had more to say."""

    text: str
    is_cut: bool


async def read_git(cwd: Path, state: Path, words: Sequence[str]) -> GitOutput:
    """Run this checked call in the agent's directory.

    Raises:
        InvalidError: git does not understand the call.
        ConflictError: Fleet can read no repository here, or git took too long.
    """
    checkout = checkout_of(cwd)
    if checkout is None:
        raise ConflictError("this directory is not in a git checkout", hint="go on without its history")
    async with _view(checkout, state, reads_index=words[0] in READS_INDEX) as view:
        return await _output(view, cwd, words)


@contextlib.asynccontextmanager
async def _view(checkout: Path, state: Path, *, reads_index: bool) -> AsyncGenerator[OwnGit]:
    """A view of the repository, removed when the block ends."""
    folder: Path | None = None
    try:
        try:
            async with own_git.time_limit(SECONDS, checkout):
                own = await own_git.open_own(checkout, state)
                folder = await asyncio.to_thread(_written, own)
                view = replace(own, folder=folder)
                if reads_index and view.index.exists():
                    await own_git.unmark(view)
        except (files.ChangesUnknownError, OSError, ValueError) as error:
            why, hint = quoted(str(error), MAX_ERROR_CHARACTERS), "go on without its history"
            raise ConflictError(f"Fleet cannot read this repository: {why}", hint=hint) from error
        yield view
    finally:
        if folder is not None:
            await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)


def remove_views(state: Path) -> None:
    """Remove the views that a killed daemon left behind; no other daemon may be at work."""
    for left in (state / "git").glob(f"{VIEW}*"):
        shutil.rmtree(left, ignore_errors=True)


def _written(own: OwnGit) -> Path:
    """Write a view, and return its folder."""
    repository = own.repository
    files.check_objects(repository.common / "objects")
    head = files.read_bounded(repository.git_dir / "HEAD") or b""
    if not _HEAD.fullmatch(head):
        raise ValueError("its HEAD names nothing that Fleet knows")
    packed = b""
    with contextlib.suppress(FileNotFoundError):
        packed = untrusted.read(repository.common, "packed-refs", MAX_PACKED_REFS_BYTES)
    sha256 = repository.object_format == "sha256"
    form = "1\n[extensions]\n\tobjectFormat = sha256\n" if sha256 else "0\n"
    view = Path(tempfile.mkdtemp(prefix=VIEW, dir=own.folder.parent))
    try:
        for name, content in {
            "HEAD": head,
            "packed-refs": packed,
            "config": f"[core]\n\tbare = false\n\trepositoryFormatVersion = {form}".encode(),
            **own_git.taken_over(own),
        }.items():
            own_git.put(view / name, content)
        (view / "refs").symlink_to(repository.common / "refs")
        own_git.copy_index(own, view / "index")
    except BaseException:
        shutil.rmtree(view, ignore_errors=True)
        raise
    return view


async def _output(own: OwnGit, cwd: Path, words: Sequence[str]) -> GitOutput:
    starting = asyncio.create_subprocess_exec(
        *own_git.command(own, ("--no-pager", *words)),
        cwd=cwd,
        env=own_git.environment(),
        stdin=DEVNULL,
        stdout=PIPE,
        stderr=PIPE,
        start_new_session=True,
    )
    try:
        process = await spawn(starting, discard=own_git.kill)
    except OSError as error:
        raise ConflictError(f"git cannot run: {error}", hint="go on without its history") from error
    told = asyncio.create_task(_read(process.stderr, MAX_ERROR_BYTES))
    try:
        async with asyncio.timeout(SECONDS):
            out = await _read(process.stdout, MAX_OUTPUT_BYTES)
            if len(out) >= MAX_OUTPUT_BYTES:
                return GitOutput(text=out.decode(errors="replace"), is_cut=True)
            error = (await told).decode(errors="replace").strip()
            code = await process.wait()
    except TimeoutError as error:
        hint = "ask for less: fewer commits, or one path"
        raise ConflictError(f"git {words[0]} took longer than {format_duration(SECONDS)}", hint=hint) from error
    finally:
        told.cancel()
        if process.returncode is None:
            await own_git.kill(process)
    if code != 0:
        first = error.partition("\n")[0]
        quote = quoted(first.removeprefix("fatal: "), MAX_ERROR_CHARACTERS)
        said = quote if _TOLD.fullmatch(first) else f"it failed with exit code {code}"
        raise InvalidError(f"git {words[0]}: {said}", hint="correct the revision, path or option")
    return GitOutput(text=out.decode(errors="replace"), is_cut=False)


async def _read(stream: asyncio.StreamReader | None, limit: int) -> bytes:
    content = bytearray()
    while stream is not None and len(content) < limit and (chunk := await stream.read(limit - len(content))):
        content += chunk
    return bytes(content)
