"""Tells a new session what sessions that have ended left in its project: agents at work, questions, unread outcomes."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager

from orchestrator.domain.tool import COMMAND_LINE, CallContext
from orchestrator.fleet.context import FleetContext
from orchestrator.fleet.projections.agent_views import counted
from orchestrator.store.engine.connection import Connection
from orchestrator.store.queries import left
from orchestrator.store.queries.left import LeftAgent

MAX_NAMES = 4

Left = tuple[Sequence[LeftAgent], Sequence[LeftAgent], Sequence[LeftAgent]]


async def catch_up(context: FleetContext, call: CallContext) -> str:
    """Return one line about what each ended session left, once per session and daemon; '' for a person who calls.

    Of sessions that are still connected it is told in the first result after they have ended.
    """
    async with catching_up(context, call) as news:
        return news


@asynccontextmanager
async def catching_up(context: FleetContext, call: CallContext) -> AsyncGenerator[str]:
    """Yield the same line; if the block fails, nothing was told, and the next result tells it."""
    caller = call.caller
    session = (caller.project, caller.orchestrator)
    connected = context.still_connected.get(session)
    if call.person or (connected is not None and not context.connections.gone(connected)):
        yield ""
        return
    context.still_connected[session] = frozenset()  # concurrent calls tell nothing

    def all_left(connection: Connection) -> Left:
        asking, working = left.asking(connection, *session), left.at_work(connection, *session)
        return asking, working, left.unread(connection, *session)

    try:
        found = await context.work.store.read(all_left)
        others = {one.orchestrator for some in found for one in some}
        if connected is not None:
            others &= connected
        gone = context.connections.gone(others)
        context.still_connected[session] = frozenset(others - gone - {COMMAND_LINE})
        asking, working, unread = [[one for one in some if one.orchestrator in gone] for some in found]
        yield catch_up_line([one.name for one in asking], [one.name for one in working], unread)
    except BaseException:
        if connected is None:
            del context.still_connected[session]
        else:
            context.still_connected[session] = connected
        raise


def catch_up_line(waiting: Sequence[str], working: Sequence[str], unread: Sequence[LeftAgent]) -> str:
    """Return the line that names waiting and working agents, and agents with the number of their unread turns."""
    parts: list[str] = []
    if waiting:
        parts.append(f"{_some(waiting)} {_verb(waiting, 'wait')} for an answer")
    if working:
        parts.append(f"{_some(working)} {_verb(working, 'work')}")
    if unread:
        turns = Counter[str]()
        for one in unread:
            turns[one.name] += one.turns
        parts.append(f"unread outcomes: {_some(counted(turns))}")
    if not parts:
        return ""
    told = "; ".join(parts)
    return f"left by ended sessions: {told} -> name them in wait_for_agents or command_agent: then they are yours"


def _verb(names: Sequence[str], verb: str) -> str:
    return f"{verb}s" if len(names) == 1 else verb


def _some(names: Sequence[str]) -> str:
    more = len(names) - MAX_NAMES
    return ", ".join(names[:MAX_NAMES]) + (f" and {more} more" if more > 0 else "")
