"""The command `doctor`: checks this machine and installation, and says how to fix what fails."""

from __future__ import annotations

import os
import sys
from dataclasses import asdict

import typer

from orchestrator.cli.options import AsJson
from orchestrator.cli.render import output
from orchestrator.domain.text import clean

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
        for check in checks:
            level = f"{check.level:<5}"
            print(
                f"{_COLOURS[check.level]}{level}\x1b[0m" if colour else level,
                f"{check.name:<12}",
                clean(check.text),
            )
            if check.hint:
                print(f"{'':<6}{'':<12} -> {clean(check.hint)}")
    raise typer.Exit(output.EXIT_FAILED if failed else 0)
