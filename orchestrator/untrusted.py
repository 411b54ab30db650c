"""Safe access to files in a folder that an agent owns: follows no links, blocks on no pipes, reads a bounded amount.

The root of each call is trusted; `place` is the path below it, with `/` between its parts. Each part is opened through
the descriptor of the previous one and never through a link, so an agent gains nothing by swapping a directory for a
link in the meantime. Only regular files are read, because a pipe would block, and never more than requested.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Generator, Sequence
from contextlib import contextmanager, suppress
from errno import EFBIG, EINVAL, ENOTDIR
from itertools import islice
from pathlib import Path
from typing import BinaryIO

from orchestrator.domain.text import named_path

MAX_NAMES = 10_000
"""how many entries of a folder are listed at most"""
_PATH = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_WRITE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


@contextmanager
def opened(root: Path, place: str) -> Generator[BinaryIO]:
    """Open a regular file for reading; it is closed at the end of the context.

    Raises:
        OSError: it is missing or not a regular file, or a link leads to it.
        ValueError: `place` leads out of the root.
    """
    with _inside(root, place) as (folder, name):
        _check_regular(os.stat(name, dir_fd=folder, follow_symlinks=False), root / place)  # a device is never opened
        file = os.fdopen(os.open(name, _READ, dir_fd=folder), "rb")
    with file:
        _check_regular(os.fstat(file.fileno()), root / place)
        yield file


def read(root: Path, place: str, limit: int) -> bytes:
    """The whole content of a file of at most `limit` bytes.

    Raises:
        OSError: as in `opened`, or it is larger.
        ValueError: `place` leads out of the root.
    """
    with opened(root, place) as file:
        content = file.read(limit + 1)
    if len(content) > limit:
        raise OSError(EFBIG, f"has more than {limit} bytes", str(root / place))
    return content


def lines(root: Path, place: str, limit: int, longest: int) -> Generator[bytes]:
    """The lines of a file of at most `limit` bytes; a line longer than `longest` comes in pieces.

    Raises:
        OSError: as in `opened`, or it is larger.
        ValueError: `place` leads out of the root.
    """
    left = limit
    with opened(root, place) as file:
        while line := file.readline(min(longest, left + 1)):
            left -= len(line)
            if left < 0 or os.fstat(file.fileno()).st_size > limit:
                raise OSError(EFBIG, f"has more than {limit} bytes", str(root / place))
            yield line


def head(path: Path, size: int, *, within: Path | None = None, never: Sequence[Path] = ()) -> bytes:
    """The first `size` bytes of a regular file; links may lead to it, but not into the folders in `never`.

    Files in `within` may be read even if that folder itself is inside one of them.

    Raises:
        OSError: the file is missing, not regular, or in a folder that must not be shown.
    """
    real = Path(os.path.realpath(path))
    own = real if within is None else Path(os.path.realpath(within))
    for folder in (Path(os.path.realpath(each)) for each in never):
        if real.is_relative_to(folder) and not (own.is_relative_to(folder) and real.is_relative_to(own)):
            raise PermissionError(EINVAL, "leads into what agents must not see", str(path))
    with opened(Path(real.anchor), str(real.relative_to(real.anchor))) as file:
        return file.read(size)


def is_file(root: Path, place: str) -> bool:
    """Whether a regular file exists at this place, without a link in its path."""
    try:
        with _inside(root, place) as (folder, name):
            return stat.S_ISREG(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode)
    except (OSError, ValueError):
        return False


def names(root: Path, place: str) -> list[str]:
    """The names in the folder, at most 10,000; empty if it is not a folder or a link leads to it."""
    with suppress(OSError), _inside(root, f"{place}/.") as (folder, _):
        listing = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=folder)
        try:
            with os.scandir(listing) as entries:
                return [entry.name for entry in islice(entries, MAX_NAMES)]
        finally:
            os.close(listing)
    return []


def make_folder(root: Path, place: str, mode: int = 0o700) -> None:
    """Create the folder and its parents unless they exist.

    Raises:
        OSError: it cannot be created, or a link is in the way.
        ValueError: `place` leads out of the root.
    """
    with _inside(root, f"{place}/.", make=mode):
        pass


def write(root: Path, place: str, content: bytes, *, mode: int = 0o600, folder_mode: int = 0o700) -> None:
    """Write the file atomically: it holds all of the new content or stays as it was. Missing folders are created.

    Anything else with its name is replaced, even a link.

    Raises:
        OSError: it cannot be written, or a link is in the way.
        ValueError: `place` leads out of the root.
    """
    with replacing(root, place, mode=mode, folder_mode=folder_mode) as file:
        file.write(content)


@contextmanager
def replacing(root: Path, place: str, *, mode: int = 0o600, folder_mode: int = 0o700) -> Generator[BinaryIO]:
    """A new file for content of any length; it gets its name when the block ends, and is deleted if the block raises.

    Otherwise as `write`.
    """
    with _inside(root, place, make=folder_mode) as (folder, name):
        fresh = f".{name}.new"
        with suppress(FileNotFoundError):
            os.unlink(fresh, dir_fd=folder)
        try:
            with os.fdopen(os.open(fresh, _WRITE, mode, dir_fd=folder), "wb") as file:
                yield file
            os.rename(fresh, name, src_dir_fd=folder, dst_dir_fd=folder)
        except BaseException:
            with suppress(OSError):
                os.unlink(fresh, dir_fd=folder)
            raise


def remove(root: Path, place: str) -> None:
    """Remove the file if it exists.

    Raises:
        OSError: it cannot be removed, or a link leads to it.
        ValueError: `place` leads out of the root.
    """
    with suppress(FileNotFoundError), _inside(root, place) as (folder, name):
        os.unlink(name, dir_fd=folder)


def move(root: Path, source: str, target: str) -> None:
    """Rename a file or folder; missing parent folders of the new path are created.

    Raises:
        OSError: it is missing or cannot be moved, or a link is in the way.
        ValueError: a place leads out of the root.
    """
    with _inside(root, source) as (here, old), _inside(root, target, make=0o700) as (there, new):
        os.rename(old, new, src_dir_fd=here, dst_dir_fd=there)


@contextmanager
def _inside(root: Path, place: str, make: int | None = None) -> Generator[tuple[int, str]]:
    """A descriptor of the folder that contains `place`, and the last part of the path."""
    *steps, last = place.split("/")
    if not all(steps) or not last or {".", ".."} & set(steps) or last == ".." or "\0" in place:
        raise ValueError(f"{named_path(place)} is not a path in {named_path(root)}")
    folder = os.open(root, _PATH)
    try:
        path = root
        for step in steps:
            path /= step
            if make is not None:
                with suppress(FileExistsError):
                    os.mkdir(step, make, dir_fd=folder)
            deeper = _step(folder, step, path)
            os.close(folder)
            folder = deeper
        yield folder, last
    finally:
        os.close(folder)


def _step(folder: int, name: str, path: Path) -> int:
    try:
        return os.open(name, _PATH | os.O_NOFOLLOW, dir_fd=folder)
    except NotADirectoryError as error:
        raise NotADirectoryError(ENOTDIR, f"{named_path(path)} is a link or not a directory", str(path)) from error
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error


def _check_regular(found: os.stat_result, path: Path) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise OSError(EINVAL, f"{named_path(path)} is not a regular file", str(path))
