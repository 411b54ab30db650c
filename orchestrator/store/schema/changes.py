"""Columns that operations set in an agent's row; `rows.py` reads them with the same types."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypedDict

from orchestrator.domain.activity import ActivityKind
from orchestrator.domain.agent import Status
from orchestrator.domain.wait import WaitKind
from orchestrator.store.schema.rows import PendingQuestion, StoredBrief, StoredCheck


class MoveColumns(TypedDict, total=False):
    """What may change together with the status."""

    owner: str | None
    epoch: int
    deleted_at: float
    pending: PendingQuestion | None
    running_since: float | None
    begun_turns: int
    open_tools: int
    same_calls: int
    progress_tokens: int
    tool_tokens: int


class AgentChange(MoveColumns, total=False):
    """All that operations change in an agent's row."""

    status: Status
    reason: str
    changed_at: float
    wait_kind: WaitKind | None
    wait_on: str
    wait_until: float | None
    wait_detail: str
    wait_blocked: bool
    activity: ActivityKind
    activity_detail: str
    activity_seconds: float | None
    children: int
    checks: Sequence[StoredCheck] | None
    check_retries: int | None
    briefs: Sequence[StoredBrief] | None
    orchestrator: str
    project: str
    cwd: str
    checkout: str
    account: str
    account_public: Mapping[str, str]
    environment: Mapping[str, str]
    model: str | None
    last_seq: int
    turns: int
    session_started: bool
    session_cost_usd: float | None
    progress: str
    last_tool: str
    last_event_at: float | None
    progress_at: float | None
    tool_at: float | None
    tool_calls: int
    context_tokens: int | None
    context_window_tokens: int | None
    tokens: int
    cost_usd: float
    cost_unknown: bool
    live_tokens: int
    live_cost_usd: float
    worked_seconds: float
