"""Sockets of the user's other programs, through which an agent could act outside of its session; hidden in tier A."""

from __future__ import annotations

import os
import shlex
import stat
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path


def masks(environment: Mapping[str, str], private: Sequence[str]) -> str:
    """The arguments of bwrap, quoted for the shell, that hide those sockets, and what others have in `private`.

    `private` are names of directories below those for temporary files; `{uid}` and `{user}` in them are this user's. A
    missing one is created, so that what another program would put there later is hidden, too.
    """
    words = ""
    for place in _activation_sockets(environment):
        mask = "--tmpfs" if place.is_dir() else "--ro-bind /dev/null"
        words += f" {mask} {shlex.quote(str(place))}"
    for place in private_places(environment, private):
        with suppress(OSError):
            place.mkdir(mode=0o700)
        if _is_owned(place, os.geteuid()):
            words += f" --tmpfs {shlex.quote(str(place))}"
    return words


def private_places(environment: Mapping[str, str], names: Sequence[str]) -> list[Path]:
    """Where the directories with these names are or would be."""
    uid, user = os.geteuid(), environment.get("USER") or environment.get("LOGNAME") or "-"
    parents = ["/tmp", f"/run/user/{uid}", environment.get("TMPDIR"), environment.get("XDG_RUNTIME_DIR")]  # noqa: S108 - where the programs look
    folders = [name.format(uid=uid, user=user) for name in names]
    return list(dict.fromkeys(Path(parent, folder) for parent in parents if parent for folder in folders))


def _activation_sockets(environment: Mapping[str, str]) -> list[Path]:
    """The existing sockets of services that would start a program for this user outside of every session.

    These are systemd and D-Bus (the user's and, for root, also the system's), tmux and screen.
    """
    uid = os.geteuid()
    places = [Path("/run/systemd/private"), Path("/run/dbus/system_bus_socket")] if uid == 0 else []
    for runtime in (f"/run/user/{uid}", environment.get("XDG_RUNTIME_DIR")):
        places += [Path(runtime, name) for name in ("bus", "systemd")] if runtime else []
    for parent in ("/tmp", environment.get("TMUX_TMPDIR")):  # noqa: S108 - where tmux has its sockets
        places += [Path(parent, f"tmux-{uid}")] if parent else []
    places += Path("/run/screen").glob("S-*")
    return [place for place in dict.fromkeys(places) if _is_owned(place, uid)]


def _is_owned(place: Path, uid: int) -> bool:
    """Whether it exists, belongs to this user and is not a link: another user's link could make us mask any path."""
    try:
        found = place.lstat()
    except OSError:
        return False
    return found.st_uid == uid and not stat.S_ISLNK(found.st_mode)
