"""Acceptance checks at the command line: what an agent must show, and what was found."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from orchestrator.domain.text import clean, one_line
from orchestrator.errors import InvalidError

if TYPE_CHECKING:
    from orchestrator.fleet.views import AttemptView, CheckView

Checks = Annotated[
    list[str] | None,
    typer.Option("--check", help="Shell command that must exit with 0 after each turn; may be repeated."),
]
CheckTimeout = Annotated[float | None, typer.Option(help="Seconds that each --check may take (default: 600).")]
MustExist = Annotated[
    list[str] | None, typer.Option("--must-exist", help="Path that must then exist; may be repeated.")
]
ResultSchema = Annotated[str | None, typer.Option(help="File with a JSON schema that its result must fit.")]
CheckRetries = Annotated[int | None, typer.Option(help="How often a failed check goes back to it (default: 2).")]
NoChecks = Annotated[bool, typer.Option("--no-checks", help="Drop the checks that it has had.")]
MAX_TAIL_LINES = 20


def asked_checks(
    commands: Sequence[str] | None,
    timeout: float | None,
    paths: Sequence[str] | None,
    schema: str | None,
    retries: int | None,
) -> dict[str, object]:
    """`checks` and `check_retries` as the API takes them; None where nothing is given.

    Raises:
        InvalidError: the file of the schema cannot be read.
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
        raise InvalidError(f"--result-schema {file}: {error}", hint="name a file that holds a JSON schema") from error


def checked_lines(attempts: Sequence[AttemptView]) -> list[str]:
    """Every attempt with the receipt of each check; of failed ones the last lines of their output."""
    lines: list[str] = []
    for attempt in attempts:
        lines.append(f"  checks, attempt {attempt.attempt}: {'passed' if attempt.passed else 'failed'}")
        lines += [text for check in attempt.checks for text in _lines(check)]
    return lines


def _lines(check: CheckView) -> list[str]:
    took = f", {check.seconds:.1f} s" if check.kind == "run" else ""
    head = one_line(f"{'ok' if check.passed else 'FAILED':<6} {check.check}: {check.said}{took}", 400)
    tail = [] if check.passed else clean(check.tail).splitlines()[-MAX_TAIL_LINES:]
    return [f"    {head}", *(f"           | {text}" for text in tail)]
