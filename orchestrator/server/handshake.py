"""Validates the hello that a client sends about itself and turns it into a `Caller`."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Mapping
from pathlib import PurePath
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from orchestrator import log, pass_env, paths
from orchestrator.domain.text import is_plain
from orchestrator.domain.tool import Caller
from orchestrator.errors import InvalidError

HELLO = "x-fleet-hello"
"""the header that carries a hello over HTTP"""
CALLER = "fleet.caller"
"""the key of an HTTP request's scope that holds its `Caller`; missing if the request brings no hello"""
MAX_PATH_BYTES = 4095
MAX_SHOWN_CHARACTERS = 80
LINE_BYTES = 16 << 20
"""longest line that is read from a door; a longer one is answered with an error and skipped"""


WAIT_VARIABLE = "FLEET_WAIT_SECONDS"


class Hello(BaseModel):
    """The object that `paths.hello` builds; unknown fields, from newer builds, are ignored."""

    model_config = ConfigDict(extra="ignore", frozen=True, strict=True)

    project: str
    cwd: str = ""
    build: str = ""
    host_session: str | None = None
    orchestrator: str | None = None
    door: str = Field(default="", max_length=64, pattern=r"^[!-~]*$")
    """random name of the stdio door, the same on all of its connections"""
    wait_seconds: float | str | None = None
    """the value of FLEET_WAIT_SECONDS: the longest time the host lets a call wait"""
    account: dict[str, str] = Field(default_factory=dict, repr=False)
    environment: dict[str, str] = Field(default_factory=dict, repr=False)
    pass_env: str | None = None
    """the value of FLEET_PASS_ENV; `passed` are the variables that it names"""
    passed: dict[str, str] = Field(default_factory=dict, repr=False)


def parse_hello(raw: bytes | str) -> Hello:
    """Parse and validate a hello. Its secrets are masked in the log from then on.

    Raises:
        InvalidError: the hello is not valid; the message names the field.
    """
    try:
        hello = Hello.model_validate(json.loads(raw))
    except (ValueError, RecursionError) as error:
        raise InvalidError(
            f"this is not a valid hello: {_why(error)}", hint="send one JSON object as `fleet mcp` does"
        ) from None
    _check_path("project", hello.project)
    _check_path("cwd", hello.cwd or hello.project)
    log.hide([*_secrets({**hello.account, **hello.environment}), *hello.passed.values()])
    return hello


def _check_path(field: str, path: str) -> None:
    if not is_plain(path) or len(path.encode()) > MAX_PATH_BYTES:
        raise InvalidError(
            f"the hello's {field} is not a usable path: {path[:MAX_SHOWN_CHARACTERS]!a}",
            hint=f"send UTF-8 of at most {MAX_PATH_BYTES} bytes without NUL",
        )
    if not PurePath(path).is_absolute():
        raise InvalidError(
            f"the hello's {field} is not an absolute path: {path[:MAX_SHOWN_CHARACTERS]!a}", hint="send its real path"
        )


def caller_of(hello: Hello, *, door: str) -> Caller:
    """Return the caller; `door` is used as the orchestrator's name if the client gives none.

    Variables that are not on the allow-lists in `paths` are dropped.
    """
    seconds, problem = _wait_limit(hello.wait_seconds)
    orchestrator = hello.orchestrator or hello.host_session or door
    return Caller(
        project=hello.project,
        orchestrator="".join(c for c in orchestrator if c.isprintable())[: paths.MAX_ORCHESTRATOR_CHARACTERS] or door,
        cwd=hello.cwd or hello.project,
        door=hello.door,
        wait_seconds=seconds,
        wait_problem=problem,
        account=_only(hello.account, paths.ACCOUNT),
        environment=_only(hello.environment, paths.ENVIRONMENT | {pass_env.UMASK}),
        passed=_passed(hello),
        pass_problem=pass_env.problem(hello.pass_env),
    )


def _wait_limit(given: float | str | None) -> tuple[float | None, str]:
    """The limit of FLEET_WAIT_SECONDS, None if there is none, and what is wrong with the variable."""
    if given is None:
        return None, ""
    try:
        seconds = float(given)
    except ValueError:
        seconds = math.nan
    if math.isfinite(seconds) and seconds > 0:
        return seconds, ""
    return None, f"{WAIT_VARIABLE} is {str(given)[:MAX_SHOWN_CHARACTERS]!a}, which is not a number of seconds above 0"


def _only(variables: Mapping[str, str], names: Iterable[str]) -> dict[str, str]:
    allowed = frozenset(names)
    return {
        name: value
        for name, value in variables.items()
        if (name in allowed or name.startswith("LC_")) and _may_be_passed(name, value)
    }


def _may_be_passed(name: str, value: str) -> bool:
    """Whether a program can be started with this variable; bytes that are not UTF-8 can be passed on."""
    try:
        return b"\0" not in os.fsencode(name + value)
    except UnicodeEncodeError:
        return False


def _passed(hello: Hello) -> dict[str, str]:
    names = [name for name in pass_env.names(hello.pass_env) if not pass_env.refusal(name)]
    return {name: hello.passed[name] for name in names if _may_be_passed(name, hello.passed.get(name, "\0"))}


def _secrets(variables: Mapping[str, str]) -> Iterable[str]:
    for name, value in variables.items():
        if paths.is_secret(name, value):
            yield value
            yield from _password(value)


def _password(address: str) -> Iterable[str]:
    try:
        found = urlsplit(address if "://" in address else f"//{address}").password
    except ValueError:
        return
    if found:
        yield found


def _why(error: Exception) -> str:
    if isinstance(error, ValidationError):
        first = error.errors(include_input=False, include_url=False)[0]
        return f"{'.'.join(map(str, first['loc'])) or 'it'}: {first['msg']}"
    return "it is not JSON"
