"""The supervision tier that this machine offers, found by trying, and the executable that starts a program in it."""

from __future__ import annotations

import hashlib
import os
import shlex
import stat
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from errno import ENOTDIR
from pathlib import Path

from orchestrator import paths, untrusted
from orchestrator.errors import InvalidError
from orchestrator.supervision import cgroups, programs, shim

LETTERS = ("A", "B", "C")
"""the valid values of FLEET_SUPERVISION"""
MARKER = "FLEET_PROCESS"
"""variable of an agent's processes with a random word per session, by which the reaper finds them"""
FOLDER, WORK, UNIT = "FLEET_SHIM_FOLDER", "FLEET_SHIM_WORK", "FLEET_SHIM_UNIT"
"""variables of the launcher: what stays visible below a hidden directory, and the name of the session's cgroup"""
PROBE_SECONDS = 10.0
GET_BUBBLEWRAP = "install bubblewrap (Debian, Ubuntu: apt install bubblewrap; Fedora: dnf install bubblewrap)"
GET_NAMESPACES = "allow user namespaces to bwrap (sysctl user.max_user_namespaces; on Ubuntu an AppArmor profile)"
_DROPPED = ("SYS_ADMIN", "SYS_PTRACE", "SYS_RAWIO", "SYS_MODULE", "DAC_READ_SEARCH", "MKNOD", "BPF", "PERFMON")
"""capabilities with which an agent of root could see what is hidden; ordinary users have none"""


@dataclass(frozen=True, kw_only=True)
class Tier:
    """One supervision tier: its letter, its promise in words, and why the machine offers no better one.

    `lack` and `advice` are empty in tier A. `words` start a program in it.
    """

    letter: str
    promise: str
    lack: str = ""
    advice: str = ""
    words: tuple[str, ...] = ()

    def __str__(self) -> str:
        """Letter and promise in one line."""
        return f"{self.letter}: {self.promise}"

    @property
    def hides(self) -> bool:
        """Whether files can be hidden from an agent; a sandbox inside it is then nested."""
        return self.letter == "A"


SHIM = Tier(
    letter="C",
    promise="shim (subreaper, lifeline on stdin): every descendant ends with its session or its daemon; "
    "if the shim itself is killed, what has cleared its environment can stay, and can command the fleet",
)
_NAMESPACE = Tier(
    letter="A",
    promise="pid namespace (bubblewrap) + shim: the kernel ends every process with its session or its daemon, "
    "and Fleet's state is hidden from agents",
)
_CGROUP = Tier(
    letter="B",
    promise="cgroup + shim: every process ends with its session or its daemon; after the daemon's own death and the "
    "shim's, with the next daemon",
)
_BARE = Tier(
    letter="D",
    promise="shim without a subreaper: a process that detaches itself can outlive its session",
    lack="this system has neither pid namespaces nor cgroups",
    advice="look for left-over processes after a crash",
)


def choose(wanted: str, path: str | None, *, system: str = sys.platform) -> Tier:
    """The best tier that works here, or the requested one; programs are searched on `path` and tried.

    Takes about 30 ms. Call it on the main thread only: it starts programs.

    Raises:
        InvalidError: the requested tier does not work here; the message says why.
    """
    if not system.startswith("linux"):
        if wanted:
            raise InvalidError(f"FLEET_SUPERVISION={wanted}: {_BARE.lack}", hint="leave it out: this system has tier D")
        return _BARE
    lack, advice = "", ""
    for letter, attempt in _ATTEMPTS.items():
        if wanted and letter != wanted:
            continue
        found = attempt(path)
        if found.words or letter == "C":
            return replace(found, lack=lack, advice=advice)
        if wanted:
            raise InvalidError(f"FLEET_SUPERVISION={wanted}: {found.lack}", hint=found.advice)
        lack, advice = lack or found.lack, advice or found.advice
    raise AssertionError("tier C always works")


def _namespace(path: str | None) -> Tier:
    program = programs.find("bwrap", path)
    if program is None:
        return replace(_NAMESPACE, lack="bubblewrap is not installed", advice=GET_BUBBLEWRAP)
    # The shim itself is the first process of the namespace: no process in there can kill it, and bwrap ends when all
    # have ended. With bwrap's own reaper it would end a moment before them.
    view = (program, "--dev-bind", "/", "/", "--unshare-pid", "--as-pid-1", "--proc", "/proc", "--die-with-parent")
    own = (*view, *(word for name in _DROPPED for word in ("--cap-drop", f"CAP_{name}")))
    said = ""
    for words in (own, (*own, "--unshare-user")) if os.geteuid() == 0 else (view,):
        failure = _failure([*words, "--tmpfs", "/tmp", "--remount-ro", "/tmp", "--", "/bin/sh", "-c", "exit 0"])  # noqa: S108 - the probe's own /tmp, gone with it
        if failure is None:
            return replace(_NAMESPACE, words=words)
        said = said or failure
    return replace(_NAMESPACE, lack=f"bubblewrap does not work here: {said}", advice=GET_NAMESPACES)


def _cgroup(path: str | None) -> Tier:
    place = cgroups.delegated()
    if place is not None:
        return replace(_CGROUP, words=("/bin/sh", "-c", cgroups.JOIN, str(place)))
    program = programs.find("systemd-run", path)
    scope = (program or "", "--user", "--scope", "--quiet", "--collect")
    runtime = f"XDG_RUNTIME_DIR=/run/user/{os.geteuid()}"
    if program and _failure(["/usr/bin/env", runtime, *scope, "--", "/bin/sh", "-c", "exit 0"]) is None:
        return replace(_CGROUP, words=("/usr/bin/env", runtime, *scope))
    return replace(_CGROUP, lack="no cgroup is delegated to this user", advice="run under a systemd user session")


def _shim(path: str | None) -> Tier:
    del path
    return SHIM


_ATTEMPTS: dict[str, Callable[[str | None], Tier]] = {"A": _namespace, "B": _cgroup, "C": _shim}


def _failure(command: list[str]) -> str | None:
    """The last line of the command's error; None if it works."""
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=PROBE_SECONDS, check=False, env={}
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    if done.returncode == 0:
        return None
    lines = done.stderr.decode(errors="replace").strip().splitlines()
    return lines[-1][:200] if lines else f"it ends with {done.returncode}"


def launcher(folder: Path, program: Path, tier: Tier = SHIM, hidden: Iterable[Path] = ()) -> Path:
    """Write the executable that runs `program` under the shim in this tier, and return its path.

    `hidden` are directories that the program must not see, if the tier can hide; `sealed` names the parts it may see.
    The same program always yields the same file, which is reused only if it is unchanged. Raises OSError if `folder`
    cannot be written.
    """
    start = shlex.join([sys.executable, "-IS", str(Path(shim.__file__).resolve()), str(program)])
    deaf = "trap '' INT HUP"  # a terminal's Ctrl-C is the daemon's; ignored signals stay ignored through exec
    text = f'#!/bin/sh\n{deaf}\nexec {_prefix(tier, hidden)}{start} "$@"\n'
    path = folder / f"{program.name}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"
    with suppress(OSError):
        if untrusted.read(folder, path.name, len(text.encode())) == text.encode():
            return path
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    untrusted.write(folder, path.name, text.encode(), mode=0o700)
    return path


def _prefix(tier: Tier, hidden: Iterable[Path]) -> str:
    """The words before the program's, as the shell reads them."""
    if not tier.words:
        return ""
    words = shlex.join(tier.words)
    if tier.letter == "B":
        unit = f'"${UNIT}"' if cgroups.JOIN in tier.words else f'--unit="${UNIT}"'
        return f"{words} {unit} {'' if cgroups.JOIN in tier.words else '-- '}"
    places = [shlex.quote(os.path.realpath(place)) for place in hidden]
    covers = "".join(f" --tmpfs {place}" for place in places)
    for place in _starters(os.environ):
        cover = "--tmpfs" if place.is_dir() else "--ro-bind /dev/null"
        covers += f" {cover} {shlex.quote(str(place))}"
    shown = "".join(f' ${{{name}:+--bind "${name}" "${name}"}}' for name in (FOLDER, WORK))
    return f"{words}{covers}{shown}{''.join(f' --remount-ro {place}' for place in places)} -- "


def _starters(environment: Mapping[str, str]) -> list[Path]:
    """The existing sockets of services that would start a program for this user outside of every session.

    Systemd and the bus that activates services, the user's and for root also the system's; tmux and screen.
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
    """Whether it exists and is this user's: another user's link in a shared directory could make us cover anything."""
    try:
        found = place.lstat()
    except OSError:
        return False
    return found.st_uid == uid and not stat.S_ISLNK(found.st_mode)


def sealed(
    environment: Mapping[str, str],
    *,
    marker: str = "",
    hidden: Iterable[Path] = (),
    folder: Path | None = None,
    work: Path | None = None,
) -> dict[str, str]:
    """Variables for a child under the launcher: it sees exactly `environment`, although its starter adds its own.

    Every variable of this process is blanked in the shim itself, whose environment other processes could read. Inside
    the `hidden` directories the child sees its own `folder` and its working directory, if they are there, and nothing
    else. `marker` is the session's random word, which identifies its processes.

    Raises:
        NotADirectoryError: a link leads to one of the two, or Fleet's own files are in the working directory.
    """
    own = {**environment, MARKER: marker} if marker else environment
    variables = {**dict.fromkeys(os.environ, ""), shim.ENVIRONMENT: shim.packed(own), UNIT: cgroups.unit(marker)}
    covers = [(place, Path(os.path.realpath(place))) for place in hidden]
    variables[FOLDER], variables[WORK] = _shown(folder, covers), _shown(work, covers)
    if any(Path(variables[WORK]).is_relative_to(cover / name) for _, cover in covers for name in paths.OWN):
        raise NotADirectoryError(ENOTDIR, "Fleet's own files lie there: no agent works among them", str(work))
    return variables


def _shown(place: Path | None, covers: Iterable[tuple[Path, Path]]) -> str:
    """The real path of a place inside a hidden directory; '' if it is in none.

    The path as it was when the agent was created counts: a link that an agent put there since leads nowhere.
    """
    for named, real in covers:
        for base in (named, real):
            if place is not None and place != base and place.is_relative_to(base):
                shown = real / place.relative_to(base)
                if os.path.realpath(shown) != str(shown):
                    raise NotADirectoryError(ENOTDIR, "a link is in its place", str(place))
                return str(shown)
    return ""


def work_of(cwd: Path) -> Path:
    """The working tree around the directory that an agent was given, as a real path.

    Raises:
        NotADirectoryError: a link is in its place now, which the agent may have put there.
    """
    work = Path(paths.project_of(cwd))
    if os.path.realpath(cwd) != str(cwd) or not cwd.is_relative_to(work):
        raise NotADirectoryError(ENOTDIR, "a link is in its place", str(cwd))
    return work
