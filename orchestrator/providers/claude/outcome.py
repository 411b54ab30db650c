"""How a run ended, judged from everything at once: this program reports a refused key as a success.

Facts are of Claude Agent SDK 0.2.186 with Claude Code 2.1.329, measured: HTTP errors, refused connections, empty and
HTML replies and cut streams come as `subtype="success"` with `is_error`; a 401 is retried for minutes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import cast

from claude_agent_sdk import ProcessError, ResultError, ResultMessage

from orchestrator.domain.event import Outcome
from orchestrator.domain.tool import ToolCall
from orchestrator.providers.claude.messages import RunProgress

UNAUTHORIZED = (401, 403)
MAX_DETAIL_CHARACTERS = 2_000
STDERR_LINES = 20
KILLED = 128

HINTS = {
    "auth": "check the account's key (ANTHROPIC_API_KEY) or log in again with `claude`, then command the agent again",
    "quota": "wait until the limit resets, or use another account or model, then command the agent again",
    "credit": "pay for the account, or use another one, then command the agent again",
    "overloaded": "the model's API is overloaded: command the agent again later, or choose another model",
    "api": "look at the base URL, proxy and network, then command the agent again",
    "max_turns": "command the agent to go on, or give its persona more turns",
    "budget": "raise the budget, then command the agent to go on",
    "context": "the conversation no longer fits the model: create a new agent with a shorter task",
    "refusal": "the model refused: put the task differently",
    "process": "command the agent again: its conversation is kept and is resumed",
    "not_found": "choose a model that this account has",
    "silence": "command the agent again: its conversation is kept and is resumed",
    "interrupted": "command the agent to go on",
}
_BY_STATUS = {
    401: "auth",
    403: "auth",
    404: "not_found",
    402: "credit",
    413: "context",
    429: "quota",
    529: "overloaded",
} | dict.fromkeys((500, 502, 503, 504), "overloaded")
_BY_SUBTYPE = {"error_max_turns": "max_turns", "error_max_budget_usd": "budget"}
_BY_ERROR = {"authentication_failed": "auth", "billing_error": "credit", "rate_limit": "quota"}
_CONTEXT = re.compile(r"prompt is too long|exceeds? the (maximum|context)|context (window|length)", re.IGNORECASE)
_LIMIT = re.compile(r"usage limit", re.IGNORECASE)
_CREDIT = re.compile(r"credit balance", re.IGNORECASE)
_KILLED = re.compile(r"killed by SIG|exit code:? (-\d+|1[3-9]\d)\b|request timeout: initialize", re.IGNORECASE)
_LOGIN = re.compile(r"please run /login|invalid api key|not logged in", re.IGNORECASE)


@dataclass(frozen=True)
class Verdict:
    """The outcome of a run, and for a failure its code, the readable sentence and what to do."""

    outcome: Outcome
    reason: str = ""
    detail: str = ""

    @property
    def hint(self) -> str:
        """What to do about it; '' where there is nothing."""
        return HINTS.get(self.reason, "")


def failed(reason: str, detail: str) -> Verdict:
    """A failure, its detail cut to a readable length."""
    return Verdict(Outcome.FAILED, reason, detail.strip()[:MAX_DETAIL_CHARACTERS])


def interrupted() -> Verdict:
    """An end that was asked for."""
    return Verdict(Outcome.INTERRUPTED, "interrupted", "interrupted on request")


def judge_result(result: ResultMessage, error: str | None, told: str) -> Verdict:
    """Judge a run that the program itself ended.

    Args:
        result: Its last message.
        error: The kind of API error that the last answer carries, if any.
        told: What that answer says.
    """
    if result.deferred_tool_use is not None:
        return Verdict(Outcome.DEFERRED)
    if result.terminal_reason in ("aborted_tools", "aborted_streaming"):
        return interrupted()
    if result.subtype in _BY_SUBTYPE:
        return failed(_BY_SUBTYPE[result.subtype], _said(result, told))
    detail = _said(result, told)
    if result.stop_reason == "refusal":
        return failed("refusal", detail)
    if not result.is_error and error is None and result.subtype == "success":
        return Verdict(Outcome.COMPLETE)
    return failed(_code(result.api_error_status, error, detail), detail)


def _code(status: int | None, error: str | None, detail: str) -> str:
    if _CONTEXT.search(detail):
        return "context"
    if _CREDIT.search(detail):
        return "credit"
    if _LIMIT.search(detail):
        return "quota"
    if _LOGIN.search(detail):
        return "auth"
    if status in _BY_STATUS:
        return _BY_STATUS[status]
    return _BY_ERROR.get(error or "", "api")


def _said(result: ResultMessage, told: str) -> str:
    words = "; ".join(result.errors or []) or result.result or told or result.subtype
    return f"HTTP {result.api_error_status}: {words}" if result.api_error_status else words


def judge_death(error: Exception | None, stderr: Sequence[str]) -> Verdict:
    """Judge a run whose program is gone, in its own last words."""
    words = "\n".join(stderr[-STDERR_LINES:])
    how = "claude ended in the middle of the run"
    if isinstance(error, ResultError):
        how, words = "claude ended", "; ".join(error.errors) or error.result or words
    elif isinstance(error, ProcessError):
        how = f"claude ended with exit code {error.exit_code}"
    elif error is not None:
        how = f"claude cannot be talked to any more ({type(error).__name__}: {str(error)[:300]})"
    return failed("process", f"{how}: {words}" if words else how)


def was_killed(error: Exception, stderr: str) -> bool:
    """Whether a program that did not start was killed by a signal, or was too slow to say a word."""
    return _KILLED.search(stderr) is not None or _KILLED.search(str(error)) is not None


def detail_of(verdict: Verdict, turn: RunProgress) -> str:
    """The verdict's sentence, and for a quota when it ends as far as that is known."""
    if verdict.reason != "quota":
        return verdict.detail
    parts = [verdict.detail, turn.limit]
    if turn.retry is not None and turn.retry.delay_seconds is not None:
        parts.append(f"last told to retry after {turn.retry.delay_seconds:.0f} s")
    return "; ".join(part for part in parts if part)


def reset_of(verdict: Verdict, turn: RunProgress) -> float | None:
    """When an exhausted quota comes back, in seconds since the epoch; None if nothing told.

    The program tells it of a subscription's limit. A key's `retry-after` it keeps to itself: it waits for a short one,
    and gives up at once, without a word, at a long one (Claude Code 2.1.329, measured).
    """
    return turn.resets_at if verdict.reason == "quota" else None


def deferred_of(result: ResultMessage | None) -> ToolCall | None:
    """The tool call that waits, if one does."""
    deferred = None if result is None else result.deferred_tool_use
    return None if deferred is None else ToolCall(id=deferred.id, name=deferred.name, input=deferred.input)


def denied_of(result: ResultMessage | None, by_gate: AbstractSet[str]) -> tuple[str, ...]:
    """Calls that the program refused though the gate had not, by tool name."""
    denials = cast("list[Mapping[str, object]]", (result.permission_denials if result else None) or [])
    return tuple(str(denial.get("tool_name", "?")) for denial in denials if denial.get("tool_use_id") not in by_gate)
