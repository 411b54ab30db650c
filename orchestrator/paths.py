"""Where everything of one fleet lies, and what a client says of itself: the one rule for doors, CLI and daemon.

Standard library only and cheap to import, because every `fleet mcp` pays for it. It does not know what the files hold.
"""

import os
import stat
import sys
import zlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from orchestrator import VERSION

PACKAGE = Path(__file__).resolve().parent

# sun_path holds 108 bytes on Linux and 104 on macOS, with the final NUL.
_LONGEST_SOCKET_BYTES = 100
# Not TMPDIR: two processes of one user may have two of them, and both must find the same socket.
_SHORT_ROOT = Path("/tmp")  # noqa: S108 - the directory made below it is checked for owner and mode

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
"""Variables whose values are never stored; `is_secret` also knows passwords inside addresses."""

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
"""Variables that say whose key or login pays for an agent."""

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
"""Variables an agent gets from its creator; `LC_*` belong to them too."""


class StateError(Exception):
    """The state directory cannot be used; the text says why and what to do."""


def state_dir(env: Mapping[str, str]) -> Path:
    """Return the absolute state directory, which exists, is ours and which nobody else can write.

    `FLEET_STATE`, else `AGENT_STATE_ROOT`, else `XDG_STATE_HOME/fleet`, else the platform's place below the home.
    An empty variable counts as not set.

    Raises:
        StateError: It cannot be made, is not a directory, belongs to somebody else, or others can write to it.
    """
    path = Path(os.path.abspath(_state_place(env)))  # noqa: PTH100 - links stay: the user's own name for it is shown
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise StateError(
            f"Fleet's state directory {path} cannot be made: {error.strerror}. "
            "Make it yourself, or set FLEET_STATE to a directory of your own."
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
    """Return where the daemon of `state` listens, at most 100 bytes long; `name` is `mcp.sock` or `http.sock`.

    A state directory with a longer path gets a private directory below /tmp, the same for every process of the user.

    Raises:
        StateError: Somebody else holds the name of that short directory.
    """
    path = state / name
    if len(os.fsencode(path)) <= _LONGEST_SOCKET_BYTES:
        return path
    import hashlib  # here, as it loads OpenSSL and few users need it

    key = hashlib.sha256(os.fsencode(state.resolve())).hexdigest()[:16]
    short = _SHORT_ROOT / f"fleet-{os.geteuid()}-{key}"
    short.mkdir(mode=0o700, exist_ok=True)
    _check_private(short, forbidden=0o077, follow=False)
    return short / name


OWN = ("agents", "git", "run")
"""Folders of the state directory that are Fleet's own: no project lies in there."""


def hidden(state: Path) -> tuple[Path, ...]:
    """Return the directories that agents must not see: the state directory, and where its sockets are if not there."""
    return tuple(dict.fromkeys([state, socket_path(state, "mcp.sock").parent]))


def lock_path(state: Path) -> Path:
    """Return the file that the one daemon of `state` holds locked for life."""
    return state / "daemon.lock"


def start_lock_path(state: Path) -> Path:
    """Return the file that whoever starts a daemon holds locked until it listens."""
    return state / "start.lock"


def log_path(state: Path) -> Path:
    """Return the file that the daemon's log and its standard error are appended to."""
    return state / "daemon.log"


def token_path(state: Path) -> Path:
    """Return the file with the token that a client on the HTTP port must send."""
    return state / "http.token"


def database_path(state: Path) -> Path:
    """Return the SQLite file of the fleet."""
    return state / "fleet.db"


def project_of(directory: str | os.PathLike[str]) -> str:
    """Return the real path of the git working tree that holds `directory`, else of the directory itself."""
    start = Path(os.path.realpath(directory))
    for place in (start, *start.parents):
        mark = place / ".git"
        if mark.is_file() or (mark / "HEAD").exists():  # a file in linked worktrees and submodules
            return str(place)
    return str(start)


def asset(name: str) -> Path:
    """Return a shipped file or folder by its name in the repository, such as `agents`; it may be missing."""
    packed = PACKAGE / "_assets" / name
    return packed if packed.exists() else PACKAGE.parent / name


def importable(env: Mapping[str, str]) -> dict[str, str]:
    """Return `env` so that another interpreter under it, started with -P, runs this very package and no other."""
    home = PACKAGE.parent
    return dict(env) if home.name in {"site-packages", "dist-packages"} else {**env, "PYTHONPATH": str(home)}


def build() -> str:
    """Return the version with a digest of the package's files as they are on disk now, such as `0.1.0+1f0c22ab`.

    Two processes with the same build run the same code; any edit changes it. About 1 ms.
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
    """Tell whether this variable must never reach the store: a key or token, or an address with a password in it."""
    head, scheme, tail = value.partition("://")
    if not scheme and name not in PROXIES:
        return name in SECRETS
    return name in SECRETS or "@" in (tail if scheme else head).split("/", 1)[0]


def hello(env: Mapping[str, str], cwd: str) -> dict[str, object]:
    """Return what a client tells the daemon of itself: build, project and whose account and environment its agents get.

    Keys: `build`, `project`, `cwd`, `host_session` and `wait_seconds` (text or None), `account` and `environment` (name
    to value, only the variables of `ACCOUNT` and `ENVIRONMENT`). It holds secrets: keep it in memory.
    """
    return {
        "build": build(),
        "project": project_of(cwd),
        "cwd": cwd,
        "host_session": env.get("CLAUDE_CODE_SESSION_ID") or None,
        "wait_seconds": env.get("FLEET_WAIT_SECONDS") or None,
        "account": _chosen(env, ACCOUNT),
        "environment": _chosen(env, ENVIRONMENT) | {k: v for k, v in env.items() if k.startswith("LC_")},
    }


def _chosen(env: Mapping[str, str], names: Iterable[str]) -> dict[str, str]:
    return {name: env[name] for name in sorted(names) if name in env}
