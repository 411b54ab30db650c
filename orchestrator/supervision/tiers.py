"""Finds the best supervision tier that works on this machine, and writes the launcher that starts a program in it."""

from __future__ import annotations

import hashlib
import os
import shlex
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from errno import ENOTDIR
from pathlib import Path

from orchestrator import pass_env, paths, untrusted
from orchestrator.errors import InvalidError
from orchestrator.supervision import cgroups, programs, shim
from orchestrator.supervision.foreign_sockets import masks, with_private_tmux
from orchestrator.supervision.hidden import HiddenPlace, mounts, seals, visible_path

MARKER = "FLEET_PROCESS"
"""variable in the environment of an agent's processes: a random word per session, by which the reaper finds them"""
FOLDER, WORK, UNIT = "FLEET_SHIM_FOLDER", "FLEET_SHIM_WORK", "FLEET_SHIM_UNIT"
"""variables that the launcher reads: what stays visible below a hidden directory, and the session's cgroup"""
PROBE_SECONDS = 10.0
GET_BUBBLEWRAP = "install bubblewrap (Debian, Ubuntu: apt install bubblewrap; Fedora: dnf install bubblewrap)"
GET_NAMESPACES = "allow user namespaces to bwrap (sysctl user.max_user_namespaces; on Ubuntu an AppArmor profile)"
_DROPPED_CAPABILITIES = (
    "SYS_ADMIN",
    "SYS_PTRACE",
    "SYS_RAWIO",
    "SYS_MODULE",
    "DAC_READ_SEARCH",
    "MKNOD",
    "BPF",
    "PERFMON",
)
"""capabilities with which a root user's agent could see what is hidden; ordinary users have none of them"""


@dataclass(frozen=True, kw_only=True)
class Tier:
    """One supervision tier: its letter, its guarantee in words, and why no better tier works on this machine.

    `limitation` and `advice` are empty in tier A. `prefix` is the command prefix that starts a program in the tier.
    """

    letter: str
    guarantee: str
    limitation: str = ""
    advice: str = ""
    prefix: tuple[str, ...] = ()

    def __str__(self) -> str:
        """Letter and guarantee in one line."""
        return f"{self.letter}: {self.guarantee}"

    @property
    def hides(self) -> bool:
        """Whether files can be hidden from an agent; a sandbox that the agent starts is nested then."""
        return self.letter == "A"


SHIM_TIER = Tier(
    letter="C",
    guarantee="shim (subreaper, lifeline on stdin): every descendant ends with its session or its daemon; "
    "if the shim itself is killed, a process that cleared its environment can survive and command the fleet",
)
_NAMESPACE_TIER = Tier(
    letter="A",
    guarantee="pid namespace (bubblewrap) + shim: the kernel ends every process with its session or its daemon, "
    "and Fleet's state is hidden from agents",
)
_CGROUP_TIER = Tier(
    letter="B",
    guarantee="cgroup + shim: every process ends with its session or its daemon; if both the daemon and the shim are "
    "killed, when the next daemon starts",
)
_BARE_TIER = Tier(
    letter="D",
    guarantee="shim without a subreaper: a process that detaches itself can outlive its session",
    limitation="this system has neither pid namespaces nor cgroups",
    advice="look for left-over processes after a crash",
)


def choose_tier(wanted: str, path: str | None, *, system: str = sys.platform) -> Tier:
    """The best tier that works on this machine, or the requested one; programs are looked up on `path` and tried out.

    Takes about 30 ms. Call it on the main thread only, because it starts programs.

    Raises:
        InvalidError: the requested tier does not work here; the message says why.
    """
    if not system.startswith("linux"):
        if wanted:
            raise InvalidError(
                f"FLEET_SUPERVISION={wanted}: {_BARE_TIER.limitation}", hint="unset it: this system has tier D only"
            )
        return _BARE_TIER
    limitation, advice = "", ""
    for letter, attempt in _PROBES.items():
        if wanted and letter != wanted:
            continue
        found = attempt(path)
        if found.prefix or letter == "C":
            return replace(found, limitation=limitation, advice=advice)
        if wanted:
            raise InvalidError(f"FLEET_SUPERVISION={wanted}: {found.limitation}", hint=found.advice)
        limitation, advice = limitation or found.limitation, advice or found.advice
    raise AssertionError("tier C always works")


def _probe_namespace(path: str | None) -> Tier:
    program = programs.find("bwrap", path)
    if program is None:
        return replace(_NAMESPACE_TIER, limitation="bubblewrap is not installed", advice=GET_BUBBLEWRAP)
    # The shim itself is the first process of the namespace: no process inside can kill it, and bwrap exits after the
    # last of them. With bwrap's own reaper it would exit a moment before them.
    view = (program, "--dev-bind", "/", "/", "--unshare-pid", "--as-pid-1", "--proc", "/proc", "--die-with-parent")
    restricted = (*view, *(word for name in _DROPPED_CAPABILITIES for word in ("--cap-drop", f"CAP_{name}")))
    first_error = ""
    for prefix in (restricted, (*restricted, "--unshare-user")) if os.geteuid() == 0 else (view,):
        failure = _probe_error([*prefix, "--tmpfs", "/tmp", "--remount-ro", "/tmp", "--", "/bin/sh", "-c", "exit 0"])  # noqa: S108 - the probe's own /tmp, gone with it
        if failure is None:
            return replace(_NAMESPACE_TIER, prefix=prefix)
        first_error = first_error or failure
    return replace(_NAMESPACE_TIER, limitation=f"bubblewrap does not work here: {first_error}", advice=GET_NAMESPACES)


def _probe_cgroup(path: str | None) -> Tier:
    place = cgroups.delegated_cgroup()
    if place is not None:
        return replace(_CGROUP_TIER, prefix=("/bin/sh", "-c", cgroups.JOIN_SCRIPT, str(place)))
    program = programs.find("systemd-run", path)
    scope = (program or "", "--user", "--scope", "--quiet", "--collect")
    runtime = f"XDG_RUNTIME_DIR=/run/user/{os.geteuid()}"
    if program and _probe_error(["/usr/bin/env", runtime, *scope, "--", "/bin/sh", "-c", "exit 0"]) is None:
        return replace(_CGROUP_TIER, prefix=("/usr/bin/env", runtime, *scope))
    return replace(
        _CGROUP_TIER, limitation="no cgroup is delegated to this user", advice="run under a systemd user session"
    )


def _probe_shim(path: str | None) -> Tier:
    del path
    return SHIM_TIER


_PROBES: dict[str, Callable[[str | None], Tier]] = {"A": _probe_namespace, "B": _probe_cgroup, "C": _probe_shim}


def _probe_error(command: list[str]) -> str | None:
    """The last line of the command's standard error; None if the command succeeds."""
    try:
        probe = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=PROBE_SECONDS, check=False, env={}
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    if probe.returncode == 0:
        return None
    lines = probe.stderr.decode(errors="replace").strip().splitlines()
    return lines[-1][:200] if lines else f"exit code {probe.returncode}"


def write_launcher(
    folder: Path,
    program: Path,
    tier: Tier = SHIM_TIER,
    hidden: Sequence[HiddenPlace] = (),
    private: Sequence[str] = (),
) -> Path:
    """Write the executable that runs `program` under the shim in this tier, and return its path.

    `private` names directories of sockets that the program gets empty and for itself, if the tier can hide files.

    `hidden` are directories that the program must not see, if the tier can hide them; `launcher_environment` names the
    parts that stay visible. The same program always yields the same file, which is reused only if it is unchanged.

    Raises:
        OSError: `folder` is not writable.
    """
    start = shlex.join([sys.executable, "-IS", str(Path(shim.__file__).resolve()), str(program)])
    ignore_signals = "trap '' INT HUP"  # a terminal's Ctrl-C is for the daemon; ignored signals stay ignored after exec
    script = f'#!/bin/sh\n{ignore_signals}\nexec {_command_prefix(tier, hidden, private)}{start} "$@"\n'
    path = folder / f"{program.name}-{hashlib.sha256(script.encode()).hexdigest()[:8]}"
    with suppress(OSError):
        if untrusted.read(folder, path.name, len(script.encode())) == script.encode():
            return path
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    untrusted.write(folder, path.name, script.encode(), mode=0o700)
    return path


def _command_prefix(tier: Tier, hidden: Sequence[HiddenPlace], private: Sequence[str]) -> str:
    """The part of the command line before the shim's, quoted for the shell."""
    if not tier.prefix:
        return ""
    prefix = shlex.join(tier.prefix)
    if tier.letter == "B":
        unit = f'"${UNIT}"' if cgroups.JOIN_SCRIPT in tier.prefix else f'--unit="${UNIT}"'
        return f"{prefix} {unit} {'' if cgroups.JOIN_SCRIPT in tier.prefix else '-- '}"
    view = f"{mounts(hidden, (FOLDER, WORK))}{masks(os.environ, private)}{seals(hidden)}"
    return f"{prefix}{view} -- {with_private_tmux(os.environ)}"


def launcher_environment(
    environment: Mapping[str, str],
    *,
    marker: str = "",
    hidden: Sequence[HiddenPlace] = (),
    folder: Path | None = None,
    working_tree: Path | None = None,
) -> dict[str, str]:
    """The variables to start a launcher with: its program sees exactly `environment`.

    Every variable of this process is blanked in the shim, whose environment other processes could read. Inside the
    `hidden` directories the program sees only its own `folder` and its working tree, if they are there. `marker` is
    the session's random word, which identifies its processes.

    Raises:
        NotADirectoryError: the path of one of the two contains a link, or the working tree contains Fleet's own files.
    """
    own = {**environment, MARKER: marker} if marker else dict(environment)
    if mask := os.environ.get(pass_env.UMASK):
        own.setdefault(pass_env.UMASK, mask)  # the daemon's own creates files that nobody else can read
    variables = {
        **dict.fromkeys(os.environ, ""),
        shim.ENVIRONMENT: shim.encode_environment(own),
        UNIT: cgroups.unit_name(marker),
    }
    variables[FOLDER], variables[WORK] = visible_path(folder, hidden), visible_path(working_tree, hidden)
    if any(Path(variables[WORK]).is_relative_to(place.real / name) for place in hidden for name in paths.OWN_FOLDERS):
        raise NotADirectoryError(ENOTDIR, "it contains Fleet's own files, where no agent may work", str(working_tree))
    return variables


def working_tree_of(cwd: Path) -> Path:
    """The git working tree that contains an agent's directory, as a real path.

    Raises:
        NotADirectoryError: a link has replaced the directory; an agent may have put it there.
    """
    working_tree = Path(paths.project_of(cwd))
    if os.path.realpath(cwd) != str(cwd) or not cwd.is_relative_to(working_tree):
        raise NotADirectoryError(ENOTDIR, "a link is in its place", str(cwd))
    return working_tree
