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

    `private` are names of directories below those for temporary files; `{uid}` and `{user}` in them are this user's.
    Missing ones, and those of tmux, are created, so that what other programs put there later is hidden, too.
    """
    words = ""
    for place in _activation_sockets(environment):
        mask = "--tmpfs" if place.is_dir() else "--ro-bind /dev/null"
        words += f" {mask} {shlex.quote(str(place))}"
    for place in (*private_places(environment, private), *_tmux_places(environment)):
        with suppress(OSError):
            place.mkdir(mode=0o700)
        if _is_owned(place, os.geteuid()):
            words += f" --tmpfs {shlex.quote(str(place))}"
    return words


def with_private_tmux(environment: Mapping[str, str]) -> str:
    """The prefix of a session's command, quoted for the shell, with which the agent's own tmux works in the session.

    tmux refuses a directory that others could read, and bubblewrap before 0.5 has no option for the mode of a tmpfs.
    """
    places = [str(place) for place in _tmux_places(environment) if _is_owned(place, os.geteuid())]
    script = f'command -p chmod 0700 {shlex.join(places)} 2>/dev/null; exec "$@"'
    return f"/bin/sh -c {shlex.quote(script)} sh " if places else ""


def private_places(environment: Mapping[str, str], names: Sequence[str]) -> list[Path]:
    """Where the directories with these names are or would be."""
    uid, user = os.geteuid(), environment.get("USER") or environment.get("LOGNAME") or "-"
    parents = ["/tmp", f"/run/user/{uid}", environment.get("TMPDIR"), environment.get("XDG_RUNTIME_DIR")]  # noqa: S108 - where the programs look
    folders = [name.format(uid=uid, user=user) for name in names]
    return [Path(parent, folder) for parent in _real(parents) for folder in folders]


def _tmux_places(environment: Mapping[str, str]) -> list[Path]:
    """Where tmux keeps this user's sockets; a server that starts later would also run programs for an agent."""
    parents = _real(["/tmp", environment.get("TMUX_TMPDIR")])  # noqa: S108 - its default
    return [Path(parent, f"tmux-{os.geteuid()}") for parent in parents]


def _real(parents: Sequence[str | None]) -> list[str]:
    """The absolute paths, with links resolved, each once: bwrap cannot mount below a link."""
    return list(dict.fromkeys(os.path.realpath(each) for each in parents if each and Path(each).is_absolute()))


def _activation_sockets(environment: Mapping[str, str]) -> list[Path]:
    """The existing sockets of services that would start a program for this user outside of every session.

    These are systemd and D-Bus (the user's and, for root, also the system's) and screen.
    """
    uid = os.geteuid()
    places = [Path("/run/systemd/private"), Path("/run/dbus/system_bus_socket")] if uid == 0 else []
    for runtime in _real([f"/run/user/{uid}", environment.get("XDG_RUNTIME_DIR")]):
        places += [Path(runtime, name) for name in ("bus", "systemd")]
    places += Path("/run/screen").glob("S-*")
    return [place for place in dict.fromkeys(places) if _is_owned(place, uid)]


def _is_owned(place: Path, uid: int) -> bool:
    """Whether it exists, belongs to this user and is not a link: another user's link could make us mask any path."""
    try:
        found = place.lstat()
    except OSError:
        return False
    return found.st_uid == uid and not stat.S_ISLNK(found.st_mode)
