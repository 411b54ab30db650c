"""The command line: one module per group of commands; talks to the daemon over HTTP on its unix socket."""

from __future__ import annotations

from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command of `fleet` and return its exit code; `arguments` are those after the program's name."""
    from orchestrator.cli.commands import run

    return run(arguments)
