"""How waits and activities are stored in an agent's row."""

from __future__ import annotations

from datetime import UTC, datetime

from orchestrator.domain.activity import Activity
from orchestrator.domain.check import Check, CheckKind
from orchestrator.domain.wait import Wait, WaitKind, wait_words
from orchestrator.store.schema.changes import AgentChange
from orchestrator.store.schema.rows import AgentRow, StoredCheck
from orchestrator.store.schema.tables import AGENT

WAIT_COLUMNS = (AGENT.c.wait_kind, AGENT.c.wait_on, AGENT.c.wait_until, AGENT.c.wait_detail, AGENT.c.wait_blocked)
"""the columns that `read_wait` takes, in order"""


def wait_values(wait: Wait | None) -> AgentChange:
    """Return the columns of this wait."""
    if wait is None:
        return {"wait_kind": None, "wait_on": "", "wait_until": None, "wait_detail": "", "wait_blocked": False}
    return {
        "wait_kind": wait.kind,
        "wait_on": wait.on,
        "wait_until": wait.until,
        "wait_detail": wait.detail,
        "wait_blocked": wait.blocked,
    }


def activity_values(activity: Activity | None) -> AgentChange:
    """Return the columns of this activity."""
    found = activity or Activity()
    return {"activity": found.kind, "activity_detail": found.detail, "activity_seconds": found.seconds}


def read_wait(kind: WaitKind | None, on: str, until: float | None, detail: str, blocked: bool) -> Wait | None:
    """Return the wait in these columns, or None."""
    if kind is None:
        return None
    return Wait(kind=kind, on=on, until=until, detail=detail, blocked=blocked)


def wait_of(agent: AgentRow) -> Wait | None:
    """Return the wait in an agent's row; None if the agent works or has ended."""
    return read_wait(agent.wait_kind, agent.wait_on, agent.wait_until, agent.wait_detail, blocked=agent.wait_blocked)


def activity_of(agent: AgentRow) -> Activity:
    """Return what the agent does, as its session last reported."""
    return Activity(kind=agent.activity, detail=agent.activity_detail, seconds=agent.activity_seconds)


def stored_check(check: Check) -> StoredCheck:
    """Return the check as rows hold it; `check_of` reads it."""
    if check.kind is CheckKind.SCHEMA:
        return {"schema": check.schema or {}}
    if check.kind is CheckKind.EXISTS:
        return {"exists": check.what}
    return {"run": check.what, "timeout_seconds": check.timeout_seconds}


def wait_body(wait: Wait) -> dict[str, object]:
    """Return the wait for an event: its words, then its parts."""
    body: dict[str, object] = {"reason": wait_words(wait), "kind": str(wait.kind)}
    if wait.on:
        body["on"] = wait.on
    if wait.until is not None:
        body["until"] = datetime.fromtimestamp(wait.until, UTC).isoformat(timespec="seconds")
    if wait.blocked:
        body["blocked"] = True
    return body
