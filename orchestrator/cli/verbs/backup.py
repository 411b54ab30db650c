"""The command `backup`: copies the database, through the daemon if one of this build runs, otherwise directly."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli.options import AsJson, here, own_target
from orchestrator.cli.render import output
from orchestrator.domain.text import named_path

if TYPE_CHECKING:
    from orchestrator.cli.http.client import Client

_QUIET_SECONDS = 1.0


def backup(
    file: Annotated[Path, typer.Argument(help="File to write the copy to.", show_default=False)],
    force: Annotated[bool, typer.Option("--force", help="Overwrite FILE if it exists.")] = False,
    as_json: AsJson = False,
) -> None:
    """Copy the database to FILE, consistently, even while agents work."""
    from orchestrator.cli.http.client import Client
    from orchestrator.paths import build

    copy, progress = here() / file.expanduser(), _ProgressLine()
    with Client(own_target(), start=False) as client:
        health = client.health()
        if health is not None and health.build == build():
            size = _by_daemon(client, copy, force, progress)
        else:  # no daemon, or one of another build whose API may differ
            size = _directly(client.target.state, copy, force, progress)
    progress.end()
    if as_json:
        output.document({"file": str(copy), "bytes": size})
    else:
        print(f"backed up to {named_path(copy)} ({size / 1e6:,.1f} MB)")


def _by_daemon(client: Client, copy: Path, force: bool, progress: _ProgressLine) -> int:
    size = 0
    for line in client.lines("POST", "/v1/backup", {"file": str(copy), "overwrite": force}):
        if "bytes" in line:
            size = int(str(line["bytes"]))
        else:
            progress.show(int(str(line["pages_done"])), int(str(line["pages"])))
    return size


def _directly(state: Path, copy: Path, force: bool, progress: _ProgressLine) -> int:
    import asyncio

    from orchestrator.fleet.verbs.backup import back_up

    return asyncio.run(
        back_up(state, copy, overwrite=force, report=lambda report: progress.show(report.done, report.total))
    )


class _ProgressLine:
    """A progress line on stderr, shown once a backup has taken more than a second."""

    def __init__(self) -> None:
        self._started = time.monotonic()
        self._is_shown = False

    def show(self, done: int, total: int) -> None:
        """Update the progress line."""
        if sys.stderr.isatty() and time.monotonic() - self._started > _QUIET_SECONDS:
            self._is_shown = True
            print(f"\rbacking up: {done:,} of {total:,} pages", end="", file=sys.stderr, flush=True)

    def end(self) -> None:
        """End the progress line."""
        if self._is_shown:
            output.say("")
