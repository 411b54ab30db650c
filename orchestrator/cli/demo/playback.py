"""Runs the demo's orchestrator as a subprocess, `claude -p` or `fleet run`, and shows its progress on stderr."""

from __future__ import annotations

import contextlib
import json
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, TYPE_CHECKING, cast

from orchestrator import paths
from orchestrator.cli.demo.transcript import SessionSummary, transcript_path
from orchestrator.cli.http.json_shape import as_object
from orchestrator.cli.render import output
from orchestrator.cli.render.events import live_lines
from orchestrator.cli.verbs.logs import live_events
from orchestrator.domain.duration import format_duration, format_elapsed
from orchestrator.domain.text import one_line
from orchestrator.errors import FleetError, TimeoutReachedError

if TYPE_CHECKING:
    from orchestrator.cli.demo.sandbox import Stage
    from orchestrator.cli.http.client import Target

RUN_NAME = "orchestrator"
_END_SECONDS = 10.0
_LAST_EVENTS_SECONDS = 0.3


@dataclass(frozen=True, kw_only=True)
class Performed:
    """How the orchestrator's program ended; `stderr` is the end of its output there, `file` its transcript."""

    transcript: SessionSummary
    exit_code: int
    seconds: float
    stderr: str
    file: Path | None = None
    director: str = ""
    """id of the orchestrator, if Fleet runs it"""


@dataclass(frozen=True, kw_only=True)
class _Line:
    who: str
    text: str


def perform(stage: Stage, program: Path, plugin: Path, prompt: str, *, to: Target, seconds: float) -> Performed:
    """Run `claude -p prompt` in the sandbox's repository until it exits; show on stderr what happens.

    Raises:
        TimeoutReachedError: it did not finish in time and was stopped.
        FleetError: the program could not be started.
    """
    began = time.monotonic()
    transcript = SessionSummary()
    lines: queue.Queue[_Line | None] = queue.Queue()
    over = threading.Event()
    words = stage.root / "claude.stderr"
    command = [str(program), "-p", prompt, "--plugin-dir", str(plugin), "--output-format", "stream-json", "--verbose"]
    with words.open("wb") as stderr, _started(stage, command, stderr) as process:
        threading.Thread(target=_read, args=(process, transcript, lines), daemon=True).start()
        threading.Thread(target=_watch, args=(to, lines, over), daemon=True).start()
        try:
            _show(lines, began, seconds)
            code = process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            code = process.wait()
        finally:
            over.set()
    said = words.read_text(errors="replace").strip()[-2000:]
    file = transcript_path(stage.environment, transcript.session_id)
    return Performed(transcript=transcript, exit_code=code, seconds=time.monotonic() - began, stderr=said, file=file)


def perform_run(stage: Stage, task: str, *, seconds: float) -> Performed:
    """Run `fleet run task` in the sandbox's repository until it exits; it shows on stderr what happens.

    Raises:
        FleetError: it did not report, e.g. because it did not finish in time.
    """
    began = time.monotonic()
    command = [
        sys.executable,
        "-P",
        "-m",
        "orchestrator",
        "run",
        task,
        "--name",
        RUN_NAME,
        "--json",
        "--timeout",
        f"{seconds}",
    ]
    # it must not import what the repository contains
    itself = replace(stage, environment=paths.with_package_path(stage.environment))
    with _started(itself, command, None) as process:
        raw, _ = process.communicate()
    told = as_object(json.loads(raw)) if raw else {"error": {"message": f"exit code {process.returncode}"}}
    if "error" in told:
        error = as_object(told["error"])
        raise FleetError(f"fleet run failed: {error.get('message')}", hint=str(error.get("hint", "")))
    director = as_object(told.get("orchestrator"))
    folder = stage.state / "agents" / str(director.get("id")) / "claude"
    file = next(iter(sorted(folder.glob("projects/*/*.jsonl"))), None)
    transcript = SessionSummary()
    for line in file.read_bytes().splitlines() if file is not None else ():
        transcript.take(line)
    transcript.end(told)
    return Performed(
        transcript=transcript,
        exit_code=process.returncode,
        seconds=time.monotonic() - began,
        stderr="",
        file=file,
        director=str(director.get("id", "")),
    )


@contextlib.contextmanager
def _started(stage: Stage, command: Sequence[str], stderr: IO[bytes] | None) -> Generator[subprocess.Popen[bytes]]:
    try:
        process = subprocess.Popen(
            command,
            cwd=stage.repository,
            env=dict(stage.environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=stderr,
            start_new_session=True,  # Ctrl-C is passed on by this process, once
        )
    except OSError as error:
        raise FleetError(f"{command[0]} could not be started: {error}", hint="check CLAUDE_CODE_PATH") from error
    try:
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_END_SECONDS)
        if process.poll() is None:
            process.kill()
            process.wait()


def _read(process: subprocess.Popen[bytes], transcript: SessionSummary, lines: queue.Queue[_Line | None]) -> None:
    for raw in cast("IO[bytes]", process.stdout):
        for text in transcript.take(raw):
            lines.put(_Line(who="orchestrator", text=text))
    lines.put(None)


def _watch(to: Target, lines: queue.Queue[_Line | None], over: threading.Event) -> None:
    from orchestrator.cli.http.client import Client

    with contextlib.suppress(FleetError), Client(to, start=False) as client:
        for event in live_events(client, since="0", agent=None, stop=over):
            for text in live_lines(event):
                lines.put(_Line(who=event.name, text=text))


def _show(lines: queue.Queue[_Line | None], began: float, seconds: float) -> None:
    ended = False
    while True:
        left = max(0.0, seconds - (time.monotonic() - began))
        try:
            line = lines.get(timeout=_LAST_EVENTS_SECONDS if ended else left)
        except queue.Empty:
            if ended:
                return
            raise TimeoutReachedError(
                f"the orchestrator did not finish within {format_duration(seconds)}",
                hint="allow more time with --timeout, or inspect its agents with --keep",
            ) from None
        if line is None:
            ended = True
            continue
        output.say(
            f"{format_elapsed(time.monotonic() - began):>8}  {one_line(line.who, 18):<18} {one_line(line.text, 120)}"
        )
