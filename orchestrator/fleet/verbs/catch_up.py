"""Tells a new session which agents of other sessions wait for an answer or have unread outcomes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from orchestrator.domain.tool import CallContext
from orchestrator.fleet.context import FleetContext
from orchestrator.fleet.projections.agent_views import counted
from orchestrator.store.engine.connection import Connection
from orchestrator.store.queries import outcomes
from orchestrator.store.waits import questions

MAX_NAMES = 4


async def catch_up(context: FleetContext, call: CallContext) -> str:
    """Return one line, once per session and daemon; '' if there is nothing to tell, or if a person calls."""
    caller = call.caller
    session = (caller.project, caller.orchestrator)
    if call.person or session in context.told:
        return ""
    context.told.add(session)

    def left(connection: Connection) -> tuple[Sequence[str], Mapping[str, int]]:
        return (
            questions.left_by_others(connection, *session),
            outcomes.unread_of_others(connection, *session),
        )

    return catch_up_line(*await context.work.store.read(left))


def catch_up_line(waiting: Sequence[str], unread: Mapping[str, int]) -> str:
    """Return the line that names waiting agents, and agents with the number of their unread turns."""
    parts: list[str] = []
    if waiting:
        parts.append(f"{_wait(waiting)} for an answer: {_some(waiting)}")
    if unread:
        parts.append(f"unread outcomes: {_some(counted(unread))}")
    if not parts:
        return ""
    return f"left by other sessions: {'; '.join(parts)} -> get_agent_status; answer and read them by name"


def _wait(names: Sequence[str]) -> str:
    return "1 agent waits" if len(names) == 1 else f"{len(names)} agents wait"


def _some(names: Sequence[str]) -> str:
    more = len(names) - MAX_NAMES
    return ", ".join(names[:MAX_NAMES]) + (f" and {more} more" if more > 0 else "")
