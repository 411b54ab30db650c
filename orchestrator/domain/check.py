"""Acceptance checks: what must hold before a turn counts as complete, and the receipts of their results."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, cast

from orchestrator.domain.text import clean, is_plain, named, one_line, quoted
from orchestrator.domain.tool import Json
from orchestrator.errors import InvalidError

MAX_CHECKS = 20
MAX_COMMAND_CHARACTERS = 4000
MAX_PATH_CHARACTERS = 1000
MAX_TIMEOUT_SECONDS = 86_400.0
DEFAULT_TIMEOUT_SECONDS = 600.0
DEFAULT_RETRIES = 2
MAX_RETRIES = 10
MAX_TITLE_CHARACTERS = 120
MAX_SHOWN_CHARACTERS = 80
VALID = 'give a shell command, {"run": command, "timeout_seconds": n}, {"exists": path} or {"schema": JSON schema}'
PASS, CHANGES = "pass", "changes"
FAILED_CHECKS, FAILED_VERDICT = "checks", "verdict"
FAILED_CHECK_REASONS = frozenset({FAILED_CHECKS, FAILED_VERDICT})
"""reasons of turns that failed although their session ended without an error"""
VERDICT_LINE = "`VERDICT: pass` or `VERDICT: changes`"
_JSON_OBJECT = re.compile(r'\s*\{\s*(?:"(?:[^"\\]|\\.)*"\s*:|\})')
_VERDICT = re.compile(rf"[\W_]*verdict[\W_]+({PASS}|{CHANGES})[\W_]*", re.IGNORECASE)


class CheckKind(StrEnum):
    """What a check inspects."""

    RUN = "run"
    EXISTS = "exists"
    SCHEMA = "schema"
    VERDICT = "verdict"
    """for personas whose result must end with a verdict"""


@dataclass(frozen=True, kw_only=True)
class Check:
    """One acceptance check: `what` is its command or path, `schema` that of the result."""

    kind: CheckKind
    what: str = ""
    timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS
    schema: Json | None = None

    @property
    def title(self) -> str:
        """The check as one line."""
        match self.kind:
            case CheckKind.RUN:
                return one_line(self.what, MAX_TITLE_CHARACTERS)
            case CheckKind.EXISTS:
                return f"{one_line(self.what, MAX_TITLE_CHARACTERS)} exists"
            case CheckKind.SCHEMA:
                return "result schema"
            case CheckKind.VERDICT:
                return "verdict"


VERDICT = Check(kind=CheckKind.VERDICT)


@dataclass(frozen=True, kw_only=True)
class NewChecks:
    """What a new agent or a command says about checks, after they were checked; None leaves what is there."""

    checks: tuple[Check, ...] | None = None
    retries: int | None = None


UNCHANGED = NewChecks()


@dataclass(frozen=True, kw_only=True)
class CheckReceipt:
    """The result of one check: `said` is a sentence by Fleet, `tail` the end of its command's or validator's output.

    `exit_code` is None if no command ran, or if it was killed.
    """

    check: str
    kind: str
    passed: bool
    said: str
    exit_code: int | None = None
    seconds: float = 0.0
    tail: str = ""


@dataclass(frozen=True, kw_only=True)
class CheckRound:
    """One run of all checks; `prompt` is the id of the prompt that reported the failures to the agent."""

    number: int
    at: float
    passed: bool
    receipts: tuple[CheckReceipt, ...] = field(default=())
    prompt: str | None = None

    @property
    def failed(self) -> tuple[CheckReceipt, ...]:
        """The receipts of failed checks."""
        return tuple(receipt for receipt in self.receipts if not receipt.passed)

    @property
    def said(self) -> str:
        """Return one line that says what failed."""
        return "; ".join(f"{receipt.check}: {receipt.said}" for receipt in self.failed)


def round_of(row: Mapping[str, Any]) -> CheckRound:
    """Rebuild a round from its row."""
    values = {name: value for name, value in row.items() if name != "receipts"}
    return CheckRound(**values, receipts=tuple(CheckReceipt(**one) for one in row["receipts"]))


def check_of(value: object) -> Check:
    """Parse a requested check: a shell command, or an object with `run`, `exists` or `schema`, which may be JSON text.

    Raises:
        InvalidError: it is not a valid check; the hint says what is valid.
    """
    given = _object(value)
    if isinstance(value, str) and not given:
        return Check(kind=CheckKind.RUN, what=_command(value))
    what = next((given[kind] for kind in CheckKind if kind in given), None)
    if set(given) - {"timeout_seconds"} == {CheckKind.RUN} and isinstance(what, str):
        seconds = _timeout(given.get("timeout_seconds", DEFAULT_TIMEOUT_SECONDS))
        return Check(kind=CheckKind.RUN, what=_command(what), timeout_seconds=seconds)
    if set(given) == {CheckKind.EXISTS} and isinstance(what, str):
        return Check(kind=CheckKind.EXISTS, what=_path(what))
    if set(given) == {CheckKind.SCHEMA} and isinstance(what, dict):
        return Check(kind=CheckKind.SCHEMA, schema=cast("Json", what))
    raise InvalidError(f"{quoted(str(value), MAX_SHOWN_CHARACTERS)} is not a valid check", hint=VALID)


def _object(value: object) -> dict[str, object]:
    """Return the object, or the one whose JSON text this is: no shell command begins like one."""
    if isinstance(value, str) and _JSON_OBJECT.match(value):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError) as error:
            raise InvalidError(
                f"{quoted(str(value), MAX_SHOWN_CHARACTERS)} is not a valid check: it is not JSON", hint=VALID
            ) from error
    return cast("dict[str, object]", value) if isinstance(value, dict) else {}


def checks_of(values: Sequence[object]) -> tuple[Check, ...]:
    """Parse the requested checks, in order and without duplicates.

    Raises:
        InvalidError: a check is not valid, or there are too many.
    """
    if len(values) > MAX_CHECKS:
        raise InvalidError(
            f"{len(values)} checks; at most {MAX_CHECKS} are allowed", hint="put several into one script"
        )
    found: list[Check] = []
    for value in values:
        check = check_of(value)
        if check not in found:
            found.append(check)
    if sum(check.kind is CheckKind.SCHEMA for check in found) > 1:
        raise InvalidError("there are two schemas of the result", hint="give one schema: combine them with allOf")
    return tuple(found)


def checked_retries(asked: int | None) -> int | None:
    """Return the number if it is a valid number of retries after failed checks.

    Raises:
        InvalidError: it is not.
    """
    if asked is not None and not 0 <= asked <= MAX_RETRIES:
        raise InvalidError(f"check_retries is {asked}", hint=f"give 0 to {MAX_RETRIES}, or omit it")
    return asked


def _command(text: str) -> str:
    if not text.strip():
        raise InvalidError("a check's command is empty", hint=VALID)
    if not is_plain(text) or len(text) > MAX_COMMAND_CHARACTERS:
        raise InvalidError(
            f"a check's command of {len(text)} characters cannot be run: {quoted(text, MAX_SHOWN_CHARACTERS)}",
            hint=f"give plain text of at most {MAX_COMMAND_CHARACTERS} characters; put longer ones into a script",
        )
    return text


def _path(text: str) -> str:
    steps = text.split("/")
    if not text.strip() or not is_plain(text) or len(text) > MAX_PATH_CHARACTERS:
        raise InvalidError(
            f"{quoted(text, MAX_SHOWN_CHARACTERS)} is not a valid path",
            hint="name a file or directory below the agent's cwd",
        )
    if text.startswith("/") or ".." in steps:
        raise InvalidError(f"{named(text)} is outside the agent's cwd", hint="name a file or directory below it")
    return text


def _timeout(seconds: object) -> float:
    is_number = isinstance(seconds, int | float) and not isinstance(seconds, bool)
    if is_number and 0 < (value := float(cast("float", seconds))) <= MAX_TIMEOUT_SECONDS:
        return value
    raise InvalidError(
        f"a check's timeout_seconds is {quoted(str(seconds), MAX_SHOWN_CHARACTERS)}",
        hint=f"give more than 0 and at most {MAX_TIMEOUT_SECONDS:.0f} seconds",
    )


def verdict_of(text: str) -> str | None:
    """Return the verdict in the last line of the text, or None; a verdict further up may be a quotation."""
    lines = [line for line in clean(text).splitlines() if line.strip()]
    found = _VERDICT.fullmatch(lines[-1].strip()) if lines else None
    return found.group(1).lower() if found else None
