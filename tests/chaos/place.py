"""The environment of a chaos run: a repository, a rehearsed model, a state directory, and its programs in /proc."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Generator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from orchestrator import paths, rehearsal
from orchestrator.cli.demo.sandbox import rehearsal_environment

SCRIPT = Path(__file__).with_name("chaos.yaml")
PERSONAS = {"worker": "Bash, Read", "writer": "Bash, Read, Write"}
SETTINGS = {
    "AGENT_MAX_CONCURRENT": "4",
    "FLEET_REST_SECONDS": "1",
    "FLEET_MAX_RESUMES": "100",
    "FLEET_IDLE_EXIT_SECONDS": "0",
}


@dataclass(frozen=True)
class Program:
    """A living process of the place: what it is, and of which session."""

    pid: int
    kind: str
    """daemon, door, shim or claude"""
    session: str = ""
    parent: int = 0


@dataclass(frozen=True)
class Place:
    """The stage of one chaos."""

    root: Path
    project: Path
    state: Path
    environment: Mapping[str, str]
    model: rehearsal.Rehearsal

    def rows(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        """Rows of the store, read beside the daemon."""
        connection = sqlite3.connect(f"file:{paths.database_path(self.state)}?mode=ro", uri=True, timeout=30)
        try:
            return connection.execute(query, values).fetchall()
        finally:
            connection.close()

    def model_calls(self) -> int:
        """How often the model was called so far."""
        log = self.model.log_path
        return log.read_bytes().count(b"\n") if log is not None and log.exists() else 0

    def daemon_pid(self) -> int | None:
        """The daemon's process id as its lock file tells; None between two daemons."""
        try:
            return int(json.loads(paths.lock_path(self.state).read_text())["pid"])
        except (OSError, ValueError, KeyError):
            return None

    def programs(self) -> list[Program]:
        """All living processes of this place that can be named, from /proc."""
        found: list[Program] = []
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                words = process.cmdline()
                if (kind := self._kind(process, words)) and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(Program(process.pid, kind, _session(words), process.ppid()))
        return found

    def _kind(self, process: psutil.Process, words: list[str]) -> str:
        if not words or process.pid == os.getpid():
            return ""
        if "orchestrator" in words and words[-1] in ("daemon", "mcp"):
            return {"daemon": "daemon", "mcp": "door"}[words[-1]] if self._is_ours(process) else ""
        if not _session(words) or not self._is_ours(process):
            return ""
        return "shim" if any(word.endswith("shim.py") for word in words) else "claude"

    def _is_ours(self, process: psutil.Process) -> bool:
        try:
            return str(self.root) in process.cwd() or process.environ().get("FLEET_STATE") == str(self.state)
        except psutil.AccessDenied:  # a daemon or a shim, to anybody but root
            return any(str(self.root) in word for word in process.cmdline()) or process.pid == self._holder()

    def _holder(self) -> int:
        """The process that the lock file names; 0 if it names none."""
        with suppress(OSError, ValueError):
            return int(json.loads(paths.lock_path(self.state).read_text())["pid"])
        return 0

    def left(self) -> list[str]:
        """Every process that has anything of this place in its directory, words or environment, the model apart."""
        found: list[str] = []
        mark, own = str(self.root), {os.getpid(), self.model.pid}
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                if process.pid in own or process.status() == psutil.STATUS_ZOMBIE:
                    continue
                texts = process.cmdline()
                with suppress(psutil.AccessDenied):  # a daemon or a shim, to anybody but root
                    texts = [process.cwd(), *texts, *process.environ().values()]
                if any(mark in text for text in texts):
                    found.append(f"{process.pid} {' '.join(process.cmdline())[:120]}")
        return found


def _session(words: list[str]) -> str:
    for word in words:
        for option in ("--session-id=", "--resume="):
            if word.startswith(option):
                return word.removeprefix(option)
    return ""


@contextmanager
def placed() -> Generator[Place]:
    """A fresh place below the temporary directory."""
    with tempfile.TemporaryDirectory(prefix="fleet-chaos-", ignore_cleanup_errors=True) as folder:
        root = Path(folder).resolve()
        for name in ("home", "state", "project"):
            (root / name).mkdir(mode=0o700)
        _fill(root / "project")
        with rehearsal.start(SCRIPT, log=root / "model.jsonl") as model:
            environment = rehearsal_environment(
                os.environ, home=root / "home", state=root / "state", url=model.url, script="chaos"
            )
            environment |= {**SETTINGS, "PYTHONPATH": str(paths.PACKAGE.parent)}
            yield Place(root, root / "project", root / "state", environment, model)


def _fill(project: Path) -> None:
    personas = project / ".claude" / "agents"
    personas.mkdir(parents=True)
    for name, tools in PERSONAS.items():
        text = f"---\nname: {name}\ndescription: Works under fire.\ntools: {tools}\n---\nDo as you are told.\n"
        (personas / f"{name}.md").write_text(text)
    (project / "README.md").write_text("A project.\n")
    git = ("git", "-c", "user.name=chaos", "-c", "user.email=chaos@example.com", "-c", "init.defaultBranch=main")
    for arguments in (("init", "-q"), ("add", "."), ("commit", "-qm", "begin")):
        subprocess.run([*git, *arguments], cwd=project, env={**os.environ, "HOME": str(project)}, check=True)


DOOR = (sys.executable, "-m", "orchestrator", "mcp")
