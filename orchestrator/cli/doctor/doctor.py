"""The command `doctor`: checks this machine and installation, and says how to fix what fails."""

from __future__ import annotations

import os
import sys
from dataclasses import asdict

import typer

from orchestrator.cli.doctor.result import ProbeResult
from orchestrator.cli.options import AsJson
from orchestrator.cli.render import output
from orchestrator.domain.text import one_line

_COLOURS = {"ok": "\x1b[32m", "warn": "\x1b[33m", "fail": "\x1b[31m"}


def doctor(as_json: AsJson = False) -> None:
    """Check everything that Fleet needs.

    Exit code 1 if a check fails; warnings do not count as failures.
    """
    from orchestrator.cli.doctor.probes import FAIL, all_checks

    checks = list(all_checks(os.environ))
    failed = any(check.level == FAIL for check in checks)
    if as_json:
        output.document({"ok": not failed, "checks": [asdict(check) for check in checks]})
    else:
        colour = output.coloured(sys.stdout)
        for line in (line for check in checks for line in lines_of(check, colour=colour)):
            print(line)
    raise typer.Exit(output.EXIT_FAILED if failed else 0)


def lines_of(check: ProbeResult, *, colour: bool = False) -> list[str]:
    """Return the one line of a check, and one with what to do about it, if anything."""
    level = f"{check.level:<5}"
    shown = f"{_COLOURS[check.level]}{level}\x1b[0m" if colour else level
    lines = [f"{shown} {check.name:<12} {one_line(check.text, output.MAX_MESSAGE_CHARACTERS)}"]
    return (
        [*lines, f"{'':<6}{'':<12} -> {one_line(check.hint, output.MAX_MESSAGE_CHARACTERS)}"] if check.hint else lines
    )
