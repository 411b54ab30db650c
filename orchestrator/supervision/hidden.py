"""Directories that an agent must not see: masked in tier A, kept in their place, and checked before each start."""

from __future__ import annotations

import asyncio
import os
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from errno import ENOTDIR
from pathlib import Path

from orchestrator import log

_PAUSE_SECONDS = 0.2
LOG = log.logger("fleet.hidden")


@dataclass(frozen=True, kw_only=True)
class HiddenPlace:
    """A directory to hide: its path as given, its real path, and the device and inode that it had at the time."""

    path: Path
    real: Path
    device: int
    inode: int

    @property
    def is_in_place(self) -> bool:
        """Whether the path still leads to the same directory, at the same real path."""
        try:
            found = self.path.stat()
        except OSError:
            return False
        return (found.st_dev, found.st_ino) == (self.device, self.inode) and os.path.realpath(self.path) == str(
            self.real
        )


def hidden_place(path: Path) -> HiddenPlace:
    """The directory that is at this path now.

    Raises:
        OSError: there is none.
    """
    found = path.stat()
    return HiddenPlace(path=path, real=Path(os.path.realpath(path)), device=found.st_dev, inode=found.st_ino)


async def wait_in_place(places: Sequence[HiddenPlace]) -> None:
    """Return when every place is where it was: otherwise the wrong directory would be hidden and written to.

    The daemon notices a state directory that was moved, ends, and leaves the turns that wait here to its successor.
    """
    is_told = False
    while displaced := [str(place.path) for place in places if not place.is_in_place]:
        if not is_told:
            LOG.warning("start_waits", displaced=displaced)
        is_told = True
        await asyncio.sleep(_PAUSE_SECONDS)  # mounts have no event


def mounts(places: Iterable[HiddenPlace], shown: Iterable[str]) -> str:
    """The arguments of bwrap, quoted for the shell, that hide the places but what these variables name.

    Each ancestor that an agent could rename is mounted on itself, because a mount point cannot be renamed: with the
    directory above a mask moved away, whatever is put in its place would pass for the state directory.
    """
    reals = [place.real for place in places]
    pins = {ancestor: None for real in reals for ancestor in reversed(real.parents) if _can_be_renamed(ancestor)}
    pinned = "".join(f" --dev-bind {where} {where}" for where in _quoted(sorted(pins)))
    masks = "".join(f" --tmpfs {where}" for where in _quoted(reals))
    binds = "".join(f' ${{{name}:+--bind "${name}" "${name}"}}' for name in shown)
    return f"{pinned}{masks}{binds}"


def seals(places: Iterable[HiddenPlace]) -> str:
    """The arguments of bwrap, quoted for the shell, after which nothing can be created in the hidden places."""
    return "".join(f" --remount-ro {where}" for where in _quoted(place.real for place in places))


def _quoted(places: Iterable[Path]) -> list[str]:
    return [shlex.quote(str(place)) for place in places]


def _can_be_renamed(place: Path) -> bool:
    """Whether this user can rename the directory, or could after changing the mode of the one that contains it."""
    if place == place.parent:
        return False
    try:
        is_own = place.parent.stat().st_uid == os.geteuid()
    except OSError:
        return True
    return is_own or os.access(place.parent, os.W_OK)


def visible_path(place: Path | None, places: Iterable[HiddenPlace]) -> str:
    """The real path of a place inside a hidden directory; '' if it is in none of them.

    It must still be the path that the agent was created with: a link that an agent put there since is refused.

    Raises:
        NotADirectoryError: a link is in its place.
    """
    for hidden in places:
        for base in (hidden.path, hidden.real):
            if place is not None and place != base and place.is_relative_to(base):
                shown = hidden.real / place.relative_to(base)
                if os.path.realpath(shown) != str(shown):
                    raise NotADirectoryError(ENOTDIR, "a link is in its place", str(place))
                return str(shown)
    return ""
