"""Options for acceptance checks, and lines that show their results."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from orchestrator.domain.duration import format_elapsed
from orchestrator.domain.text import margin, named
from orchestrator.errors import InvalidError

if TYPE_CHECKING:
    from orchestrator.fleet.views import AttemptView, CheckView

Checks = Annotated[
    list[str] | None,
    typer.Option("--check", help="Shell command that must exit with 0 after each turn (repeatable)."),
]
CheckTimeout = Annotated[float | None, typer.Option(help="Time limit of each --check in seconds (default: 600).")]
MustExist = Annotated[
    list[str] | None, typer.Option("--must-exist", help="Path that must exist after each turn (repeatable).")
]
ResultSchema = Annotated[str | None, typer.Option(help="File with a JSON schema that the result must match.")]
CheckRetries = Annotated[
    int | None, typer.Option(help="How often the agent may retry after a failed check (default: 2).")
]
NoChecks = Annotated[bool, typer.Option("--no-checks", help="Remove the agent's checks.")]
MAX_TAIL_LINES = 20


def asked_checks(
    commands: Sequence[str] | None,
    timeout: float | None,
    paths: Sequence[str] | None,
    schema: str | None,
    retries: int | None,
) -> dict[str, object]:
    """Return `checks` and `check_retries` for the API; None for options that were not given.

    Raises:
        InvalidError: the schema file cannot be read, or a time limit has no check.
    """
    if timeout is not None and not commands:
        raise InvalidError("--check-timeout needs a --check", hint="add --check COMMAND")
    limit: dict[str, object] = {} if timeout is None else {"timeout_seconds": timeout}
    found: list[dict[str, object]] = [dict(limit, run=command) for command in commands or ()]
    found.extend({"exists": path} for path in paths or ())
    if schema is not None:
        found.append({"schema": _schema(schema)})
    return {"checks": found or None, "check_retries": retries}


def _schema(file: str) -> Any:
    try:
        return json.loads(Path(file).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InvalidError(
            f"--result-schema {file}: {error}", hint="name a readable file with a JSON schema"
        ) from error


def checked_lines(attempts: Sequence[AttemptView]) -> list[str]:
    """Return every attempt with the receipts of its checks, and the end of a failed check's output."""
    lines: list[str] = []
    for attempt in attempts:
        lines.append(f"  checks, attempt {attempt.attempt}: {'passed' if attempt.passed else 'failed'}")
        lines += [text for check in attempt.checks for text in _lines(check)]
    return lines


def _lines(check: CheckView) -> list[str]:
    took = f", {format_elapsed(check.seconds)}" if check.kind == "run" else ""
    head = f"{'ok' if check.passed else 'FAILED':<6} {named(check.check, 200)}: {check.said}{took}"
    tail = [] if check.passed else margin(check.tail)[-MAX_TAIL_LINES:]
    return [f"    {head}", *(f"           {text}" for text in tail)]
