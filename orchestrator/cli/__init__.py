"""The command line: one module per group of commands; talks to the daemon over HTTP on its unix socket."""

from __future__ import annotations

from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one `fleet` command and return its exit code; `arguments` excludes the program's name."""
    from orchestrator.cli.commands import run

    return run(arguments)
