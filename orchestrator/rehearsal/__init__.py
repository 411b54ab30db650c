"""The scripted model endpoint: a separate process that replaces the model, and only the model.

It speaks the Anthropic Messages wire format on loopback and plays a YAML script, so that everything else in a test, a
demo or a dry run is real. `start` runs it for the length of a block; `python -m orchestrator.rehearsal` runs it
standalone.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import sys
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

from orchestrator import paths

START_SECONDS = 60.0
"""How long a rehearsal may take to start listening."""
END_SECONDS = 10.0

__all__ = ["Rehearsal", "RehearsalError", "start"]


class RehearsalError(Exception):
    """The rehearsal did not start; the text is its output, with file and line if the script is invalid."""


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """A rehearsal that listens: its base URL, its process and its log."""

    url: str
    pid: int
    log_path: Path | None

    def log(self) -> list[dict[str, object]]:
        """Every record in the log file so far; empty without a log file."""
        if self.log_path is None or not self.log_path.exists():
            return []
        whole, _, _ = self.log_path.read_text(encoding="utf-8").rpartition("\n")  # the last line may be half written
        return [cast("dict[str, object]", json.loads(line)) for line in whole.splitlines()]


@contextlib.contextmanager
def start(script: Path, *, log: Path | None = None, key: str | None = None) -> Generator[Rehearsal]:
    """Play `script` in a separate process for the duration of the `with` block.

    The process ends with the block, even if the caller dies inside it. Raises
    RehearsalError if it does not start.
    """
    command = [sys.executable, "-P", "-m", "orchestrator.rehearsal", str(script), "--with-stdin"]
    command += [] if log is None else ["--log", str(log)]
    command += [] if key is None else ["--key", key]
    pipe = subprocess.PIPE
    environment = paths.with_package_path(
        os.environ
    )  # -P: import this package, whatever the current directory contains
    with subprocess.Popen(command, env=environment, stdin=pipe, stdout=pipe, stderr=pipe) as process:
        try:
            port, pid = _announced(process)
            yield Rehearsal(f"http://127.0.0.1:{port}", pid, log)
        finally:
            _end(process)


def _announced(process: subprocess.Popen[bytes]) -> tuple[int, int]:
    """Port and process id from the first line of the process."""
    out = cast("IO[bytes]", process.stdout)
    ready, _, _ = select.select([out], [], [], START_SECONDS)
    line = out.readline() if ready else b""
    if not line:
        process.kill()
        said = cast("IO[bytes]", process.stderr).read().decode(errors="replace").strip()
        raise RehearsalError(said or f"the rehearsal did not listen within {START_SECONDS:g} s")
    try:
        said_so = cast("dict[str, int]", json.loads(line))
    except ValueError as error:
        process.kill()
        raise RehearsalError(f"the rehearsal printed an invalid first line: {line[:200]!r}") from error
    return said_so["port"], said_so["pid"]


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the process by closing its input, or by force if that fails."""
    cast("IO[bytes]", process.stdin).close()
    try:
        process.wait(END_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
