"""A wait is a value

Until now the column `reason` held an English sentence of why an agent waits or what it does at work. The sentences are
taken apart here, once; what is left in `reason` is why a turn did not complete.
"""

import json
import re
from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

OPEN = sa.text(
    "SELECT id, status, reason, wake_at, pending FROM agent WHERE status IN ('queued', 'waiting', 'working')"
)
CARRY_OVER = sa.text(
    "UPDATE agent SET reason = '', wait_kind = :wait_kind, wait_on = :wait_on, wait_until = :wait_until, "
    "wait_detail = :wait_detail, wait_blocked = :wait_blocked, activity = :activity, "
    "activity_detail = :activity_detail, activity_seconds = :activity_seconds WHERE id = :id"
)

WAITS = (
    (re.compile(r"(?P<kind>slot|question|permission|children|agents|account)$"), {}),
    (re.compile(r"inputs: (?P<on>.*)$", re.DOTALL), {"kind": "inputs"}),
    (re.compile(r"its input (?P<on>\S+) (?P<detail>.*)$", re.DOTALL), {"kind": "inputs", "blocked": True}),
    (re.compile(r"(?P<on>\S+) writes in this checkout$"), {"kind": "checkout"}),
    (
        re.compile(r"(?P<on>\S+) writes in this checkout and waits for an answer$"),
        {"kind": "checkout", "blocked": True},
    ),
    (re.compile(r"budget: (?P<detail>.*)$", re.DOTALL), {"kind": "budget", "blocked": True}),
    (re.compile(r"budget of (?P<on>the fleet|\S+) (?P<detail>.*)$", re.DOTALL), {"kind": "budget"}),
    (re.compile(r"budget (?P<detail>.*)$", re.DOTALL), {"kind": "budget"}),
    (re.compile(r"parked until (?P<detail>.*)$", re.DOTALL), {"kind": "quota"}),
    (re.compile(r"refused; next try (?P<detail>.*)$", re.DOTALL), {"kind": "quota", "blocked": True}),
    (re.compile(r"retrying (?P<detail>.*)$", re.DOTALL), {"kind": "overload"}),
)
ACTIVITIES = (
    re.compile(r"(?P<kind>starting|recovering)$"),
    re.compile(r"(?P<kind>checking|looping): (?P<detail>.*)$", re.DOTALL),
    re.compile(r"(?P<kind>stalled) (?P<seconds>\d+) s$"),
    re.compile(r"(?P<kind>retrying) (?P<detail>\d+/\d+)(?: in (?P<seconds>\d+) s)?$"),
)


def upgrade() -> None:
    op.add_column("agent", sa.Column("wait_kind", sa.String(), nullable=True))
    op.add_column("agent", sa.Column("wait_on", sa.String(), nullable=False, server_default=""))
    op.add_column("agent", sa.Column("wait_until", sa.Float(), nullable=True))
    op.add_column("agent", sa.Column("wait_detail", sa.String(), nullable=False, server_default=""))
    op.add_column("agent", sa.Column("wait_blocked", sa.Boolean(), nullable=False, server_default="0"))
    op.add_column("agent", sa.Column("activity", sa.String(), nullable=False, server_default=""))
    op.add_column("agent", sa.Column("activity_detail", sa.String(), nullable=False, server_default=""))
    op.add_column("agent", sa.Column("activity_seconds", sa.Float(), nullable=True))
    connection = op.get_bind()
    for row in connection.execute(OPEN).mappings().all():
        connection.execute(CARRY_OVER, {"id": row["id"], **carried(row)})
    op.drop_column("agent", "wake_at")
    op.create_index("ix_agent_wait", "agent", ["wait_kind", "wait_until"], unique=False)


def carried(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return the new columns of a row that had status, reason, wake_at and pending (JSON)."""
    at_work = row["status"] == "working"
    wait = {} if at_work else wait_of(row["status"], row["reason"])
    activity = activity_of(row["reason"]) if at_work else {}
    until = row["wake_at"] if wait.get("kind") in {"quota", "overload"} else None
    if wait.get("kind") in {"question", "permission"}:
        until = (json.loads(row["pending"] or "null") or {}).get("deadline_at")
    return {
        "wait_kind": wait.get("kind"),
        "wait_on": wait.get("on", ""),
        "wait_until": until,
        "wait_detail": wait.get("detail", ""),
        "wait_blocked": wait.get("blocked", False),
        "activity": activity.get("kind", ""),
        "activity_detail": activity.get("detail") or "",
        "activity_seconds": float(activity["seconds"]) if activity.get("seconds") else None,
    }


def wait_of(status: str, reason: str) -> dict[str, Any]:
    """Return the parts of the wait in the sentence.

    A queued agent of any other sentence waits for a slot; admission finds out what else. A waiting one is taken to wait
    for its account: its next command resumes it, or admission suspends it with what it really waits for.
    """
    for pattern, fixed in WAITS:
        if (found := pattern.match(reason)) is not None:
            return {**found.groupdict(), **fixed}
    return {"kind": "slot" if status == "queued" else "account"}


def activity_of(reason: str) -> dict[str, Any]:
    """Return the parts of the activity in the sentence; none for plain work."""
    found = next((match for pattern in ACTIVITIES if (match := pattern.match(reason))), None)
    return {} if found is None else found.groupdict()


def downgrade() -> None:
    raise NotImplementedError("restore the backup that was made before the upgrade")
