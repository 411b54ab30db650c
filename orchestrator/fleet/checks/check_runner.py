"""Runs the acceptance checks of one turn once and returns a receipt for each."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from orchestrator import log
from orchestrator.domain.check import CHANGES, PASS, VERDICT_LINE, Check, CheckKind, CheckReceipt, verdict_of
from orchestrator.domain.duration import format_duration
from orchestrator.domain.text import clean
from orchestrator.fleet.sessions import processes
from orchestrator.providers.base import SessionSpec
from orchestrator.store.engine.database import Store
from orchestrator.store.turns.turns import Claim
from orchestrator.supervision.command import CommandEnd, CommandSpec, LaunchConfig, shell

TAIL_LINES = 20
TAIL_CHARACTERS = 1500
SCHEMA_SECONDS = 20.0
"""an ordinary schema needs a fraction of it; a regular expression may run forever"""
BY_SIGNAL = 128
RESULT_SCHEMA = Path(__file__).with_name("result_schema.py")
FITS = "the result fits"


@dataclass(frozen=True, kw_only=True)
class CheckSite:
    """Where a turn's checks run: the agent's directory, environment and tier; `stop` ends them."""

    store: Store
    launch: LaunchConfig
    claim: Claim
    spec: SessionSpec
    stop: asyncio.Event


async def receipts(
    site: CheckSite, checks: Sequence[Check], text: str, began: Callable[[Check], None]
) -> tuple[CheckReceipt, ...] | None:
    """A receipt for each check of the turn with this result; None if it was stopped.

    Raises:
        StoreError: a process could not be recorded before its start, so it was not started.
        StaleOwnerError: the claim is over.
    """
    found: list[CheckReceipt] = []
    for check in checks:
        if site.stop.is_set():
            return None
        began(check)
        found.append(await _receipt(site, check, text))
        if is_final(found[-1]):
            break
    return None if site.stop.is_set() else tuple(found)


async def _receipt(site: CheckSite, check: Check, text: str) -> CheckReceipt:
    match check.kind:
        case CheckKind.RUN:
            return await _run(site, check)
        case CheckKind.EXISTS:
            return _exists(site.spec.cwd, check)
        case CheckKind.SCHEMA:
            return await _conforms(site, check, text)
        case CheckKind.VERDICT:
            return verdict_receipt(check, text)


def verdict_receipt(check: Check, text: str) -> CheckReceipt:
    """Whether the result ends with the verdict that lets the agents start that have it as input."""
    given = verdict_of(text)
    said = given or f"none given: the last line must be {VERDICT_LINE}"
    return CheckReceipt(check=check.title, kind=check.kind, passed=given == PASS, said=said)


def is_final(receipt: CheckReceipt) -> bool:
    """Whether this failure is the agent's own verdict, which another try would not change."""
    return receipt.kind == CheckKind.VERDICT and receipt.said == CHANGES


def _exists(cwd: Path, check: Check) -> CheckReceipt:
    there = False
    with suppress(OSError):
        there = (cwd / check.what).exists()
    return CheckReceipt(check=check.title, kind=check.kind, passed=there, said="it does" if there else "it does not")


async def _run(site: CheckSite, check: Check) -> CheckReceipt:
    spec = site.spec
    order = shell(check.what, cwd=spec.cwd, folder=spec.folder, environment=spec.environment)
    try:
        done = await _done(site, order, check.timeout_seconds)
    except OSError as error:
        said = f"it could not be started: {error.strerror or error}"
        return CheckReceipt(check=check.title, kind=check.kind, passed=False, said=said)
    return CheckReceipt(
        check=check.title,
        kind=check.kind,
        passed=done.exit_code == 0,
        said=_ended(done, check.timeout_seconds),
        exit_code=done.exit_code,
        seconds=round(done.seconds, 3),
        tail=tail_of(done.output),
    )


async def _conforms(site: CheckSite, check: Check, text: str) -> CheckReceipt:
    line = json.dumps({"schema": check.schema, "text": text}).encode() + b"\n"
    order = CommandSpec(
        program=Path(sys.executable),
        arguments=("-I", str(RESULT_SCHEMA)),
        cwd=site.spec.cwd,
        folder=site.spec.folder,
        environment={"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"},
        line=line,
    )
    try:
        done = await _done(site, order, SCHEMA_SECONDS)
        said, tail = _judged(done)
    except OSError as error:
        said, tail = f"its validator could not be started: {error.strerror or error}", ""
    return CheckReceipt(check=check.title, kind=check.kind, passed=said == FITS, said=said, tail=tail)


def _judged(done: CommandEnd) -> tuple[str, str]:
    """The validator's finding, and its own sentence, which quotes the result."""
    if done.exit_code is None:
        return f"it could not be judged within {format_duration(SCHEMA_SECONDS)}", ""
    if done.exit_code == 0:
        return FITS, ""
    with suppress(ValueError, IndexError):
        if done.exit_code == 1:
            return "the result does not fit", tail_of(str(json.loads(done.output.splitlines()[-1])))
    return f"its validator broke (exit {done.exit_code})", tail_of(done.output)


async def _done(site: CheckSite, order: CommandSpec, seconds: float) -> CommandEnd:
    """Run the command; when this returns, its processes have ended and are recorded as ended."""
    running, trace = await processes.open_command(site.store, site.launch, order, site.claim)
    try:
        return await running.wait(seconds, site.stop)
    finally:
        tier = site.launch.tier.letter
        await asyncio.shield(processes.over(site.store, trace, tier=tier, failed=running.was_killed))


def _ended(done: CommandEnd, seconds: float) -> str:
    """How a command ended, in a short phrase by Fleet."""
    code = done.exit_code
    if code is None:
        return f"no end within {format_duration(seconds)}: it was ended with all that it had started"
    with suppress(ValueError):
        if code > BY_SIGNAL:
            return f"exit {code} ({signal.Signals(code - BY_SIGNAL).name})"
    return f"exit {code}"


def tail_of(output: str) -> str:
    """The last lines of an output, bounded, without keys and invisible characters."""
    lines = [line.rstrip() for line in clean(log.masked(output)).splitlines() if line.strip()]
    text = "\n".join(lines[-TAIL_LINES:])
    return text if len(text) <= TAIL_CHARACTERS else "…" + text[-TAIL_CHARACTERS:]
