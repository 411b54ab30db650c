"""Where a fleet's files are, and what a client says about itself (the hello); doors, CLI and daemon share these rules.

Standard library only and cheap to import, because every `fleet mcp` imports it.
"""

import json
import os
import stat
import sys
import zlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from orchestrator import VERSION, pass_env

PACKAGE = Path(__file__).resolve().parent

# sun_path holds 108 bytes on Linux and 104 on macOS, including the final NUL.
_LONGEST_SOCKET_BYTES = 100
# Not TMPDIR: it may differ between two processes of one user, and both must find the same socket.
_SOCKET_ROOT = Path("/tmp")  # noqa: S108 - the directory made below it is checked for owner and mode

_UPPER = frozenset({"ALL_PROXY", "HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY"})
PROXIES = _UPPER | {name.lower() for name in _UPPER}
SECRETS = frozenset(
    {
        "ANTHROPIC_API_KEY",
        "ANTHROPIC_AUTH_TOKEN",
        "ANTHROPIC_CUSTOM_HEADERS",
        "ANTHROPIC_FOUNDRY_API_KEY",
        "ANTHROPIC_FOUNDRY_AUTH_TOKEN",
        "AWS_ACCESS_KEY_ID",
        "AWS_BEARER_TOKEN_BEDROCK",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_SESSION_TOKEN",
        "CLAUDE_CODE_OAUTH_TOKEN",
    }
)
"""Variables whose values are never stored; `is_secret` also recognizes passwords inside addresses."""

ACCOUNT = SECRETS | {
    "ANTHROPIC_BASE_URL",
    "ANTHROPIC_BEDROCK_BASE_URL",
    "ANTHROPIC_DEFAULT_HAIKU_MODEL",
    "ANTHROPIC_DEFAULT_OPUS_MODEL",
    "ANTHROPIC_DEFAULT_SONNET_MODEL",
    "ANTHROPIC_FOUNDRY_BASE_URL",
    "ANTHROPIC_FOUNDRY_RESOURCE",
    "ANTHROPIC_MODEL",
    "ANTHROPIC_VERTEX_BASE_URL",
    "ANTHROPIC_VERTEX_PROJECT_ID",
    "AWS_DEFAULT_REGION",
    "AWS_PROFILE",
    "AWS_REGION",
    "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC",
    "CLAUDE_CODE_SKIP_FOUNDRY_AUTH",
    "CLAUDE_CODE_USE_BEDROCK",
    "CLAUDE_CODE_USE_FOUNDRY",
    "CLAUDE_CODE_USE_VERTEX",
    "CLAUDE_CONFIG_DIR",
    "CLOUD_ML_REGION",
    "GOOGLE_APPLICATION_CREDENTIALS",
}
"""Variables that decide whose key or login pays for an agent."""

SSH_AGENT = "SSH_AUTH_SOCK"
"""the socket of the caller's ssh-agent, with which commits are signed and pushed; only agents with a shell get it"""

ENVIRONMENT = PROXIES | {
    "CONDA_PREFIX",
    "CURL_CA_BUNDLE",
    "HOME",
    "LANG",
    "LOGNAME",
    "NODE_EXTRA_CA_CERTS",
    "PATH",
    "REQUESTS_CA_BUNDLE",
    "SHELL",
    SSH_AGENT,
    "SSL_CERT_DIR",
    "SSL_CERT_FILE",
    "TMPDIR",
    "TZ",
    "USER",
    "VIRTUAL_ENV",
    "XDG_CACHE_HOME",
    "XDG_CONFIG_HOME",
    "XDG_DATA_HOME",
}
"""Variables that an agent gets from its creator, together with `LC_*`."""

_DAEMON = {"CLAUDE_CODE_PATH", "HOME", "LANG", "LOGNAME", "PATH", "SHELL", "TMPDIR", "TMUX_TMPDIR", "TZ", "USER"}
_DAEMON_PREFIXES = ("AGENT_", "FLEET_", "LC_", "XDG_")
PYTHON_PATH = "PYTHONPATH"
"""never inherited, because it may name modules that a repository or an agent wrote; set only to Fleet's own package"""

MAX_ORCHESTRATOR_CHARACTERS = 200
PROJECT_VARIABLE = "CLAUDE_PROJECT_DIR"
"""how Claude Code tells its MCP servers where its session was started"""


class StateError(Exception):
    """The state directory is not usable; the text says why and what to do."""


class PlaceError(Exception):
    """Fleet cannot work in the directory of the session; the text says why and what to do."""


def is_for_daemon(name: str) -> bool:
    """Return whether the daemon keeps the variable of this name: settings and paths, never a key."""
    return name in _DAEMON or name.startswith(_DAEMON_PREFIXES)


def session_dir(env: Mapping[str, str]) -> str:
    """Return the directory in which the session was started: CLAUDE_PROJECT_DIR, else this process's.

    Raises:
        PlaceError: The path does not exist, is not a directory, or is not UTF-8.
    """
    if named := env.get(PROJECT_VARIABLE):
        if not (Path(named).is_absolute() and Path(named).is_dir()):
            raise PlaceError(
                f"{PROJECT_VARIABLE} is {named!a}, which is not the absolute path of a directory. "
                "Start the session in a directory that exists, or correct the variable."
            )
        return check_place(named)
    try:
        return check_place(str(Path.cwd()))
    except FileNotFoundError as error:
        raise PlaceError("The current directory no longer exists. Start the session in another one.") from error


def check_place(directory: str) -> str:
    """Return the directory if Fleet can work in it.

    Raises:
        PlaceError: Its path is not UTF-8: no message and no record could name it.
    """
    for path in (directory, os.path.realpath(directory)):
        try:
            path.encode()
        except UnicodeEncodeError as error:
            raise PlaceError(
                f"The path {path!a} is not UTF-8, and Fleet cannot work in such a directory. Rename it, or start the "
                "session in another one."
            ) from error
    return directory


def state_dir(env: Mapping[str, str]) -> Path:
    """Return the absolute path of the state directory, which exists, belongs to us, and is writable by nobody else.

    `FLEET_STATE`, else `AGENT_STATE_ROOT`, else `XDG_STATE_HOME/fleet`, else the platform's default below the home
    directory. An empty variable counts as not set.

    Raises:
        StateError: It cannot be created, is not a directory, belongs to somebody else, or others can write to it.
    """
    path = Path(os.path.abspath(_state_place(env)))  # noqa: PTH100 - links are kept: the user sees the path that they gave
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise StateError(
            f"Fleet's state directory {path} cannot be created: {error.strerror}. "
            "Create it yourself, or set FLEET_STATE to a directory of your own."
        ) from error
    _check_private(path, forbidden=0o022)
    return path


def _state_place(env: Mapping[str, str]) -> str:
    home = env.get("HOME") or os.path.expanduser("~")  # noqa: PTH111 - HOME of `env`, not of this process, comes first
    if chosen := env.get("FLEET_STATE") or env.get("AGENT_STATE_ROOT"):
        return f"{home}{chosen[1:]}" if chosen == "~" or chosen.startswith("~/") else chosen
    if base := env.get("XDG_STATE_HOME"):
        return f"{base}/fleet"
    return f"{home}/Library/Application Support/fleet" if sys.platform == "darwin" else f"{home}/.local/state/fleet"


def _check_private(path: Path, *, forbidden: int, follow: bool = True) -> None:
    found = path.stat() if follow else path.lstat()
    if found.st_uid != os.geteuid():
        raise StateError(
            f"{path} belongs to user {found.st_uid}, Fleet runs as user {os.geteuid()}. "
            "Set FLEET_STATE to a directory of your own."
        )
    if not stat.S_ISDIR(found.st_mode):
        raise StateError(f"{path} is not a directory. Move it away, or set FLEET_STATE to another directory.")
    if found.st_mode & forbidden:
        raise StateError(
            f"Others have access to {path} (mode {found.st_mode & 0o7777:04o}), so they could act as you. "
            f"Run: chmod go-rwx '{path}', or set FLEET_STATE to another directory."
        )


def socket_path(state: Path, name: str) -> Path:
    """Return where the daemon of `state` listens, in at most 100 bytes; `name` is `mcp.sock` or `http.sock`.

    If the path below the state directory is longer, the socket is in a private directory below /tmp, the same for every
    process of the user.

    Raises:
        StateError: That directory belongs to somebody else.
    """
    path = state / name
    if len(os.fsencode(path)) <= _LONGEST_SOCKET_BYTES:
        return path
    import hashlib  # here, as it loads OpenSSL and few users need it

    key = hashlib.sha256(os.fsencode(state.resolve())).hexdigest()[:16]
    socket_dir = _SOCKET_ROOT / f"fleet-{os.geteuid()}-{key}"
    socket_dir.mkdir(mode=0o700, exist_ok=True)
    _check_private(socket_dir, forbidden=0o077, follow=False)
    return socket_dir / name


OWN_FOLDERS = ("agents", "git", "run")
"""Folders of the state directory that are Fleet's own; no project may be inside them."""


def hidden(state: Path) -> tuple[Path, ...]:
    """Return the directories that agents must not see: the state directory, and its sockets' if that is another."""
    return tuple(dict.fromkeys([state, socket_path(state, "mcp.sock").parent]))


def moved_note_path(state: Path) -> Path:
    """Return the file in which a daemon says that `state` took the place of its own state directory."""
    return state / "moved.json"


def leave_moved_note(state: Path, place: Path, pid: int) -> None:
    """Write into `state` that it is in the place of the directory that is now at `place`; keep an earlier note.

    Raises:
        OSError: It cannot be written, or a note is there.
        StateError: `state` is not a private directory of this user.
    """
    _check_private(state, forbidden=0o022)
    note = os.open(moved_note_path(state), os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
    with os.fdopen(note, "w") as file:
        json.dump({"pid": pid, "moved_to": str(place)}, file)


def moved_note(state: Path) -> tuple[int, str] | None:
    """Return the pid of the daemon whose state directory `state` replaced, and where that is; None if none said so."""
    try:
        note = os.open(moved_note_path(state), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(note, "rb") as file:
            found = json.loads(file.read(10_000) or b"")
        return int(found["pid"]), str(found["moved_to"])
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return None


def lock_path(state: Path) -> Path:
    """Return the file that the daemon of `state` keeps locked while it lives."""
    return state / "daemon.lock"


def start_lock_path(state: Path) -> Path:
    """Return the file that is locked from the start of a daemon until it listens."""
    return state / "start.lock"


def log_path(state: Path) -> Path:
    """Return the file to which the daemon's log and standard error are appended."""
    return state / "daemon.log"


def token_path(state: Path) -> Path:
    """Return the file with the token that clients of the HTTP port must send."""
    return state / "http.token"


def database_path(state: Path) -> Path:
    """Return the fleet's SQLite file."""
    return state / "fleet.db"


def project_of(directory: str | os.PathLike[str]) -> str:
    """Return the real path of the git working tree that contains `directory`, else of the directory itself."""
    start = Path(os.path.realpath(directory))
    for place in (start, *start.parents):
        mark = place / ".git"
        if mark.is_file() or (mark / "HEAD").exists():  # it is a file in linked worktrees and submodules
            return str(place)
    return str(start)


def asset(name: str) -> Path:
    """Return the path of a shipped file or folder by its name in the repository, such as `agents`; it may not exist."""
    packed = PACKAGE / "_assets" / name
    return packed if packed.exists() else PACKAGE.parent / name


def with_package_path(env: Mapping[str, str]) -> dict[str, str]:
    """Return `env` changed so that another interpreter, started with -P, imports this very package and no other."""
    home, others = PACKAGE.parent, {name: value for name, value in env.items() if name != PYTHON_PATH}
    return others if home.name in {"site-packages", "dist-packages"} else {**others, PYTHON_PATH: str(home)}


def build() -> str:
    """Return the version with a digest of the package's files as they are on disk now, such as `0.1.0+1f0c22ab`.

    Two processes with the same build run the same code; any edit changes the build. Takes about 1 ms.
    """
    digest = 0
    for entry, found in sorted(_sources(str(PACKAGE), "")):
        digest = zlib.crc32(f"{entry} {found.st_size} {found.st_mtime_ns}\n".encode(), digest)
    return f"{VERSION}+{digest:08x}"


def _sources(directory: str, below: str) -> Iterator[tuple[str, os.stat_result]]:
    with os.scandir(directory) as entries:
        for entry in entries:
            if entry.name in {"__pycache__", "_assets"}:
                continue
            if entry.is_dir(follow_symlinks=False):
                yield from _sources(entry.path, f"{below}{entry.name}/")
            elif entry.name.endswith(".py"):
                yield below + entry.name, entry.stat()


def is_secret(name: str, value: str) -> bool:
    """Return whether this variable must never reach the store: a key or token, or an address with a password."""
    head, scheme, tail = value.partition("://")
    if not scheme and name not in PROXIES:
        return name in SECRETS
    return name in SECRETS or "@" in (tail if scheme else head).split("/", 1)[0]


def hello(env: Mapping[str, str], cwd: str) -> dict[str, object]:
    """Return the hello, which tells the daemon the client's build and project, and its agents' account and environment.

    Keys: `build`, `project`, `cwd`, `orchestrator` and `wait_seconds` (text or None), `account` and `environment` (name
    to value, only the variables of `ACCOUNT` and `ENVIRONMENT`, and the umask), `pass_env` and `passed` (the value of
    FLEET_PASS_ENV, and the variables that it names). It contains secrets: keep it in memory only.
    """
    return {
        "build": build(),
        "project": project_of(cwd),
        "cwd": cwd,
        "orchestrator": orchestrator_of(env),
        "wait_seconds": env.get("FLEET_WAIT_SECONDS") or None,
        "account": _chosen(env, ACCOUNT),
        "environment": {
            **_chosen(env, ENVIRONMENT),
            **{name: value for name, value in env.items() if name.startswith("LC_")},
            pass_env.UMASK: pass_env.umask(),
        },
        "pass_env": env.get(pass_env.VARIABLE) or None,
        "passed": pass_env.passed(env),
    }


def orchestrator_of(env: Mapping[str, str]) -> str | None:
    """Return whose agents a client of this environment commands: the session that it names, else Claude Code's."""
    named = env.get("FLEET_SESSION") or env.get("CLAUDE_CODE_SESSION_ID") or ""
    return "".join(filter(str.isprintable, named))[:MAX_ORCHESTRATOR_CHARACTERS] or None


def _chosen(env: Mapping[str, str], names: Iterable[str]) -> dict[str, str]:
    return {name: env[name] for name in sorted(names) if name in env}
