"""Refuses agents at the daemon's sockets: an agent must not command the fleet that runs it.

The rule: refuse every process that descends from this daemon. Everything that an agent starts does, in every tier: in
tier A nothing leaves the pid namespace, whose first process is the daemon's child; in the other tiers the shim is the
subreaper of everything that detaches. Nothing else descends from the daemon: doors and commands start the daemon
detached, and the daemon never starts them. A process in a user's container is not a descendant and may connect,
although its pid namespace differs. A process without an id in our pid namespace (id 0) is outside of it, where nothing
of ours runs.
"""

from __future__ import annotations

import os
import select
import socket
import struct
import sys
from collections.abc import Callable
from contextlib import suppress

from orchestrator.supervision import reaper

AGENT = "this call comes from an agent of this very fleet: an agent cannot command the fleet that runs it"
AGENT_HINT = "report with report_progress, ask with ask_orchestrator, or end the turn with what should be done"
GONE = "the connecting process has exited, so Fleet cannot tell whether it was an agent of this very fleet"
GONE_HINT = "connect from a process that stays alive until it gets its answer"
_PEERPIDFD = 77
"""SO_PEERPIDFD of Linux 6.5; Python 3.11 has no name for it"""
_CREDENTIALS = struct.Struct("3i")


def refusal(link: socket.socket) -> tuple[str, str]:
    """Why this connection must be refused, and what to do instead; two empty texts if it may be served.

    TCP connections and systems other than Linux do not identify the peer, so nothing is refused there.
    """
    if sys.platform != "linux" or link.family != socket.AF_UNIX:
        return "", ""
    pid, _, _ = _CREDENTIALS.unpack(link.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
    if pid in (0, os.getpid()):
        return "", ""
    with suppress(OSError):
        handle = link.getsockopt(socket.SOL_SOCKET, _PEERPIDFD)
        try:
            ended = select.poll()  # `select.select` fails for descriptors from 1,024 on
            ended.register(handle, select.POLLIN)
            return _verdict(pid, has_ended=lambda: bool(ended.poll(0)))
        finally:
            os.close(handle)
    return _verdict(pid, has_ended=lambda: False)


def _verdict(pid: int, *, has_ended: Callable[[], bool]) -> tuple[str, str]:
    is_agent = reaper.is_descendant(pid, os.getpid())
    if is_agent is None or has_ended():  # checked after the walk, so the id was not reused before
        return GONE, GONE_HINT
    return (AGENT, AGENT_HINT) if is_agent else ("", "")
