"""Fleet's own git directory of a checkout, and the only place that runs git.

It has the repository's objects as an alternate, and copies of its rules for ignored files and attributes. Hooks,
filters and fsmonitor programs never run, nothing is written to the repository, and an agent gains nothing by editing
`.git/config` (of 161 attacks none succeeded; with plain git 53 did).
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import signal
from asyncio.subprocess import Process
from collections.abc import AsyncGenerator, Generator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from orchestrator.domain.duration import DAY, format_duration
from orchestrator.provisioning import configuration, files
from orchestrator.provisioning.files import ChangesUnknownError, read_bounded
from orchestrator.provisioning.repository import Repository, read_repository, shallow_commits
from orchestrator.supervision import programs
from orchestrator.supervision.spawn import spawn

GIT_SECONDS = 60.0
"""what one command may take where no shorter limit applies"""
KILL_SECONDS = 1.0
"""a killed git that does not end within this time hangs in the kernel; Fleet stops waiting for it"""
MAX_WALKED = 4_000
"""entries of the working tree among which special files are looked for; the time limit covers the rest"""
MAX_INDEX_BYTES = 2**28
MAX_SHARED_INDEXES = 4
"""parts of a split index that are copied; git itself keeps those of the last two weeks"""
VIEW = "view-"
"""how the names of folders begin that serve one call; the next daemon removes those that are left"""
_NOTE = "look.json"


@dataclass(frozen=True, kw_only=True)
class OwnGit:
    """Fleet's git directory for one checkout."""

    folder: Path
    repository: Repository
    settings: configuration.GitSettings
    """the user's settings, overridden by the repository's"""
    disk: Sequence[str] = ()
    """options of git that follow from the disk, not from settings"""

    @property
    def index(self) -> Path:
        """The index with which the checkout is compared; it only saves time."""
        return self.folder / "index"


async def open_own(checkout: Path, state: Path) -> OwnGit:
    """Fleet's git directory of this checkout, created if it is missing.

    Raises:
        ChangesUnknownError: the checkout is not one, or cannot be read.
    """
    with unknown_if_refused(checkout):
        repository = await asyncio.to_thread(read_repository, checkout)
        name = hashlib.sha256(os.fsencode(checkout)).hexdigest()[:16]
        suffix = "" if repository.object_format == "sha1" else f"-{repository.object_format}"
        folder = state / "git" / f"{name}{suffix}"
        settings, disk = await asyncio.to_thread(_settings, repository)
        own = OwnGit(folder=folder, repository=repository, settings=settings, disk=disk)
        if not all((folder / part).exists() for part in ("HEAD", "config", "objects")):
            await _create(own)
        return own


async def prepare(own: OwnGit) -> None:
    """Take over objects, rules and index of the repository, after checking that git will find regular files only.

    Raises:
        ChangesUnknownError: git would wait for one of its files, or one cannot be read.
    """
    with unknown_if_refused(own.folder):
        await asyncio.to_thread(_prepare, own)


@contextlib.contextmanager
def unknown_if_refused(place: Path) -> Generator[None]:
    """Let errors of the system say that changes are unknown: a folder that may not be read, a full disk.

    Raises:
        ChangesUnknownError: the block raised an OSError.
    """
    try:
        yield
    except OSError as error:
        raise ChangesUnknownError(f"{error.filename or place}: {error.strerror}") from error


def _settings(repository: Repository) -> tuple[configuration.GitSettings, Sequence[str]]:
    settings = {**configuration.user_settings(_environment()), **repository.settings}
    return settings, configuration.disk_options(settings, repository.git_dir)


def _environment() -> Mapping[str, str]:
    """Return the variables that say where the user's settings are; the daemon belongs to that user."""
    return {name: os.environ[name] for name in ("HOME", "XDG_CONFIG_HOME", "GIT_CONFIG_NOSYSTEM") if name in os.environ}


async def _create(own: OwnGit) -> None:
    own.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    form = repository_format(own.repository)
    await run(own, "init", "--quiet", "--bare", *form, str(own.folder))


def repository_format(repository: Repository) -> list[str]:
    """Return the option of `git init` for the hash of the repository; none for sha1, which every git knows."""
    return [] if repository.object_format == "sha1" else [f"--object-format={repository.object_format}"]


def _prepare(own: OwnGit) -> None:
    files.check_objects(own.repository.common / "objects")
    for path in files.special_files(own.repository.checkout, MAX_WALKED):
        files.check_regular(path)
    written = [put(own.folder / name, content) for name, content in taken_over(own).items()]
    if any(written):
        forget(own)
    if not own.index.exists():
        copy_index(own, own.index)


def taken_over(own: OwnGit) -> Mapping[str, bytes]:
    """What a git directory of Fleet's takes from the user and the repository: objects, rules, where history is cut off.

    Raises:
        ChangesUnknownError: one of the files cannot be read.
    """
    repository, environment = own.repository, _environment()
    ignored = configuration.named_file(own.settings, "core.excludesfile", "ignore", repository.checkout, environment)
    attributes = configuration.named_file(
        own.settings, "core.attributesfile", "attributes", repository.checkout, environment
    )
    return {
        "objects/info/alternates": os.fsencode(repository.common / "objects") + b"\n",
        "info/exclude": read_bounded(repository.common / "info" / "exclude") or b"",
        "info/attributes": read_bounded(repository.common / "info" / "attributes") or b"",
        "ignore": read_bounded(ignored) or b"",
        "attributes": read_bounded(attributes) or b"",
        "shallow": shallow_commits(repository),
    }


def put(path: Path, content: bytes) -> bool:
    """Let the file have this content; returns whether it had another. A missing file is as an empty one."""
    if (path.read_bytes() if path.exists() else b"") == content:
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return True


def copy_index(own: OwnGit, target: Path) -> None:
    """Copy the user's index, if there is one: what git knows to be unchanged needs no reading."""
    source = own.repository.git_dir / "index"
    with contextlib.suppress(OSError):
        found = source.stat()  # before it is read, so that it is never newer than its content
        if (content := read_bounded(source, MAX_INDEX_BYTES)) is None:
            return
        for shared in sorted(own.repository.git_dir.glob("sharedindex.*"))[:MAX_SHARED_INDEXES]:
            put(target.parent / shared.name, read_bounded(shared, MAX_INDEX_BYTES) or b"")
        target.write_bytes(content)
        os.utime(target, ns=(found.st_atime_ns, found.st_mtime_ns))


def believe(index: Path) -> None:
    """Let git trust this index also about files that are as new as it, which it would otherwise read."""
    found = index.stat()
    os.utime(index, ns=(found.st_atime_ns, found.st_mtime_ns + DAY * 10**9))


async def unmark(own: OwnGit, index: Path | None = None) -> Sequence[str]:
    """Take from the index the marks by which git overlooks edits; returns its entries as `ls-files --stage` does.

    Raises:
        ChangesUnknownError: git failed.
    """
    listed = await run(own, "ls-files", "-v", "--stage", "-z", index=index)
    entries, marked = await asyncio.to_thread(_marks, own.repository.checkout, listed)
    for option, names in marked.items():
        if names:
            await run(own, "update-index", option, "-z", "--stdin", input_text=names, index=index)
    return entries


def _marks(checkout: Path, listed: str) -> tuple[Sequence[str], Mapping[str, str]]:
    """Return the entries without their tags, and the names by the option that takes their mark away.

    A file that is there is looked at although the index says to skip it; git itself does so only since 2.36.
    """
    lines = listed.split("\0")
    assumed = [line.partition("\t")[2] for line in lines if line[:1].islower()]
    skipped = [line.partition("\t")[2] for line in lines if line[:1] in {"S", "s"}]
    there = [name for name in skipped if os.path.lexists(checkout / name)]
    marked = {"--no-assume-unchanged": assumed, "--no-skip-worktree": there}
    given = {option: "".join(f"{name}\0" for name in names) for option, names in marked.items()}
    return [line[2:] for line in lines], given


@contextlib.asynccontextmanager
async def time_limit(seconds: float, checkout: Path) -> AsyncGenerator[None]:
    """Bound what the block takes, which looks at this checkout.

    Raises:
        TookTooLongError: the time is up.
        ChangesUnknownError: the block raised an OSError.
    """
    try:
        async with asyncio.timeout(seconds):
            with unknown_if_refused(checkout):
                yield
    except TimeoutError as error:
        raise TookTooLongError(f"looking took longer than {format_duration(seconds)}") from error


class TookTooLongError(ChangesUnknownError):
    """The time was up; trying again at once would not help."""


@dataclass(frozen=True, kw_only=True)
class Note:
    """What the last look found; head and tree are empty if it did not finish."""

    head: str = ""
    tree: str = ""
    large: Mapping[str, str] = field(default_factory=dict[str, str])


def read_note(own: OwnGit) -> Note:
    """Return what the last look found."""
    with contextlib.suppress(OSError, ValueError, TypeError):
        return Note(**json.loads((own.folder / _NOTE).read_text()))
    return Note()


def write_note(own: OwnGit, note: Note) -> None:
    """Note what this look found."""
    (own.folder / _NOTE).write_text(json.dumps(asdict(note)))


def forget(own: OwnGit, *, index: bool = False) -> Note:
    """Forget head and tree, and the index if it may be damaged; returns what is left."""
    if index:
        own.index.unlink(missing_ok=True)
    left = Note(large=read_note(own).large)
    write_note(own, left)
    return left


def remove_stale(own: OwnGit) -> None:
    """Remove what a killed git left behind: its lock, and temporary files as large as what it was reading."""
    for stale in (own.folder / "index.lock", *own.folder.glob("objects/*/tmp_*")):
        stale.unlink(missing_ok=True)


def environment() -> dict[str, str]:
    """Return the variables with which git reads no configuration, asks nobody, and fetches and locks nothing."""
    return {
        "PATH": os.defpath,
        "HOME": "/nonexistent",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_OPTIONAL_LOCKS": "0",
        "GIT_NO_LAZY_FETCH": "1",
        "LC_ALL": "C",
    }


async def run(own: OwnGit, *words: str, input_text: str = "", index: Path | None = None) -> str:
    """Run git on the checkout and return its output.

    Raises:
        ChangesUnknownError: git is missing, failed, or took longer than a minute.
    """
    env = environment() | ({} if index is None else {"GIT_INDEX_FILE": str(index)})
    pipe = asyncio.subprocess.PIPE
    try:
        process = await spawn(
            asyncio.create_subprocess_exec(
                *command(own, words),
                cwd=own.repository.checkout,
                env=env,
                stdin=pipe,
                stdout=pipe,
                stderr=pipe,
                start_new_session=True,
            ),
            discard=kill,
        )
    except OSError as error:
        raise ChangesUnknownError(f"git cannot run: {error}") from error
    try:
        async with asyncio.timeout(GIT_SECONDS):
            out, err = await process.communicate(os.fsencode(input_text))
    except BaseException as error:
        await kill(process)
        if isinstance(error, TimeoutError):
            raise TookTooLongError(f"git {words[0]} took longer than {format_duration(GIT_SECONDS)}") from error
        raise
    if process.returncode != 0:
        raise ChangesUnknownError(f"git {words[0]}: {err.decode(errors='replace').strip()[:200]}")
    return out.decode(errors="surrogateescape")


def command(own: OwnGit, words: tuple[str, ...]) -> list[str]:
    """Return the command that runs git with this git directory, without anything that the repository configures."""
    if (program := programs.find("git", os.environ.get("PATH"))) is None:
        raise ChangesUnknownError("git cannot run: PATH has no git outside of projects")
    tree = [] if words[0] == "init" else [f"--work-tree={own.repository.checkout}"]
    fixed = (
        *("core.hooksPath=/dev/null", "core.fsmonitor=false", "core.untrackedCache=false", "core.safecrlf=false"),
        "core.sparseCheckout=true",  # a file that is there counts, also where the index says to skip it
    )
    rules = (f"core.excludesFile={own.folder / 'ignore'}", f"core.attributesFile={own.folder / 'attributes'}")
    safe = [word for setting in (*fixed, *rules, "protocol.allow=never") for word in ("-c", setting)]
    return [program, f"--git-dir={own.folder}", *tree, *safe, *configuration.options(own.settings), *own.disk, *words]


async def kill(process: Process) -> None:
    """End git with whatever it started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(KILL_SECONDS):
            await process.wait()
