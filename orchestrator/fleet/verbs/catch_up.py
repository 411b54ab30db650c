"""What a new session of a project is told first: who of an earlier one waits for an answer, or was never read."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from orchestrator.domain.tool import Call
from orchestrator.fleet.context import FleetContext
from orchestrator.store.waits import questions

MAX_NAMES = 4


async def news(context: FleetContext, call: Call) -> str:
    """One line, once per session and daemon; '' if there is nothing, or a person asks."""
    caller = call.caller
    session = (caller.project, caller.orchestrator)
    if call.person or session in context.told:
        return ""
    context.told.add(session)
    left = partial(questions.left_by_others, project=caller.project, orchestrator=caller.orchestrator)
    waiting, unread = await context.work.store.read(left)
    return news_line(waiting, unread)


def news_line(waiting: Sequence[str], unread: Sequence[str]) -> str:
    """The line over these names of agents."""
    parts: list[str] = []
    if waiting:
        parts.append(f"{_wait(waiting)} for an answer: {_some(waiting)}")
    if unread:
        parts.append(f"unread outcomes: {_some(unread)}")
    if not parts:
        return ""
    return f"left by other sessions: {'; '.join(parts)} -> get_agent_status; answer and read them by name"


def _wait(names: Sequence[str]) -> str:
    return "1 agent waits" if len(names) == 1 else f"{len(names)} agents wait"


def _some(names: Sequence[str]) -> str:
    more = len(names) - MAX_NAMES
    return ", ".join(names[:MAX_NAMES]) + (f" and {more} more" if more > 0 else "")
