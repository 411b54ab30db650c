"""How a provider's program is started here, and what that promises about its end."""

from __future__ import annotations

import hashlib
import os
import shlex
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from orchestrator.supervision import shim


@dataclass(frozen=True)
class Tier:
    """One way of supervision: its letter, and the promise in words."""

    letter: str
    promise: str

    def __str__(self) -> str:
        """Letter and promise in one line."""
        return f"{self.letter}: {self.promise}"


def tier() -> Tier:
    """The tier that sessions run in on this machine."""
    if sys.platform == "linux":
        return Tier("C", "shim (subreaper, lifeline on stdin): every descendant ends with its session or its daemon")
    return Tier("D", "shim without a subreaper: a process that detaches itself can outlive its session")


def launcher(folder: Path, program: Path) -> Path:
    """Write the executable that runs `program` under the shim, and return its path.

    The same program always gives the same file, so that callers may race. Raises OSError if `folder` cannot be written.
    """
    words = [sys.executable, "-IS", str(Path(shim.__file__).resolve()), str(program)]
    text = f'#!/bin/sh\nexec {shlex.join(words)} "$@"\n'
    path = folder / f"{program.name}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"
    if path.exists():
        return path
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    fresh.write_text(text, encoding="utf-8")
    fresh.chmod(0o700)
    fresh.replace(path)
    return path


def sealed(environment: Mapping[str, str]) -> dict[str, str]:
    """Variables for a child under the launcher: it sees exactly `environment`, though its starter merges in its own.

    Every variable of this process is blanked in the shim itself, whose environment other processes could read.
    """
    return {**dict.fromkeys(os.environ, ""), shim.ENVIRONMENT: shim.packed(environment)}
