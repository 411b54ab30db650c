"""Determines how a run ended from everything it reported, because the program reports even a refused key as success.

Measured with Claude Agent SDK 0.2.186 and Claude Code 2.1.329: HTTP errors, refused connections, empty and HTML
replies and cut streams arrive as `subtype="success"` with `is_error`; a 401 is retried for minutes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import cast

from claude_agent_sdk import ProcessError, ResultError, ResultMessage

from orchestrator.domain.duration import format_age
from orchestrator.domain.event import SessionOutcome
from orchestrator.domain.tool import ToolCall
from orchestrator.providers.claude.messages import RunProgress

UNAUTHORIZED = (401, 403)
MAX_DETAIL_CHARACTERS = 2_000
STDERR_LINES = 20

HINTS = {
    "auth": "check the account's key (ANTHROPIC_API_KEY) or log in again with `claude`, then command the agent again",
    "quota": "wait until the limit resets, or use another account or model, then command the agent again",
    "credit": "pay for the account, or use another one, then command the agent again",
    "overloaded": "the model's API is overloaded: command the agent again later, or choose another model",
    "api": "check the base URL, proxy and network, then command the agent again",
    "max_turns": "command the agent to continue, or give its persona more turns",
    "budget": "raise the budget, then command the agent to continue",
    "context": "the conversation no longer fits the model: create a new agent with a shorter task",
    "refusal": "the model refused: rephrase the task",
    "process": "command the agent again: its conversation is kept and is resumed",
    "not_found": "choose a model that this account may use",
    "silence": "command the agent again: its conversation is kept and is resumed",
    "interrupted": "command the agent to continue",
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
class RunOutcome:
    """How a run ended; for a failure also its code (`reason`), a readable sentence (`detail`) and what to do."""

    kind: SessionOutcome
    reason: str = ""
    detail: str = ""

    @property
    def hint(self) -> str:
        """What to do about the failure; '' if there is nothing to do."""
        return HINTS.get(self.reason, "")


def failed(reason: str, detail: str) -> RunOutcome:
    """A failure, with its detail cut to a readable length."""
    return RunOutcome(SessionOutcome.FAILED, reason, detail.strip()[:MAX_DETAIL_CHARACTERS])


def interrupted() -> RunOutcome:
    """An end on request."""
    return RunOutcome(SessionOutcome.INTERRUPTED, "interrupted", "interrupted on request")


def judge_result(result: ResultMessage, error: str | None, error_text: str) -> RunOutcome:
    """Judge a run that the program itself ended.

    Args:
        result: Its last message.
        error: The kind of API error in the last answer, if any.
        error_text: The text of that answer.
    """
    if result.deferred_tool_use is not None:
        return RunOutcome(SessionOutcome.DEFERRED)
    if result.terminal_reason in ("aborted_tools", "aborted_streaming"):
        return interrupted()
    if result.subtype in _BY_SUBTYPE:
        return failed(_BY_SUBTYPE[result.subtype], _error_text(result, error_text))
    detail = _error_text(result, error_text)
    if result.stop_reason == "refusal":
        return failed("refusal", detail)
    if not result.is_error and error is None and result.subtype == "success":
        return RunOutcome(SessionOutcome.COMPLETE)
    return failed(_reason_of(result.api_error_status, error, detail), detail)


def _reason_of(status: int | None, error: str | None, detail: str) -> str:
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


def _error_text(result: ResultMessage, error_text: str) -> str:
    text = "; ".join(result.errors or []) or result.result or error_text or result.subtype
    return f"HTTP {result.api_error_status}: {text}" if result.api_error_status else text


def judge_exit(error: Exception | None, stderr: Sequence[str]) -> RunOutcome:
    """Judge a run whose program has exited; the detail quotes the program's last error output."""
    text = "\n".join(stderr[-STDERR_LINES:])
    message = "claude ended in the middle of the run"
    if isinstance(error, ResultError):
        message, text = "claude ended", "; ".join(error.errors) or error.result or text
    elif isinstance(error, ProcessError):
        message = f"claude ended with exit code {error.exit_code}"
    elif error is not None:
        message = f"the connection to claude broke ({type(error).__name__}: {str(error)[:300]})"
    return failed("process", f"{message}: {text}" if text else message)


def was_killed(error: Exception, stderr: str) -> bool:
    """Whether a program that did not start was killed by a signal or did not answer in time."""
    return _KILLED.search(stderr) is not None or _KILLED.search(str(error)) is not None


def detail_of(outcome: RunOutcome, progress: RunProgress) -> str:
    """The readable sentence about the end; for an exhausted quota also when it resets, as far as known."""
    if outcome.reason != "quota":
        return outcome.detail
    parts = [outcome.detail, progress.limit_text]
    if progress.retry is not None and progress.retry.delay_seconds is not None:
        parts.append(f"last retry-after was {format_age(progress.retry.delay_seconds)}")
    return "; ".join(part for part in parts if part)


def reset_of(outcome: RunOutcome, progress: RunProgress) -> float | None:
    """When an exhausted quota resets, in seconds since the epoch; None if unknown.

    The program reports it for a subscription's limit, but not the `retry-after` of an API key: it waits for a short one
    and gives up on a long one at once, without saying so (Claude Code 2.1.329, measured).
    """
    return progress.resets_at if outcome.reason == "quota" else None


def deferred_of(result: ResultMessage | None) -> ToolCall | None:
    """The deferred tool call of a result, if it has one."""
    deferred = None if result is None else result.deferred_tool_use
    return None if deferred is None else ToolCall(id=deferred.id, name=deferred.name, input=deferred.input)


def denied_of(result: ResultMessage | None, by_gate: AbstractSet[str]) -> tuple[str, ...]:
    """The tool names of calls that the program itself refused, although the gate had not."""
    denials = cast("list[Mapping[str, object]]", (result.permission_denials if result else None) or [])
    return tuple(str(denial.get("tool_name", "?")) for denial in denials if denial.get("tool_use_id") not in by_gate)
