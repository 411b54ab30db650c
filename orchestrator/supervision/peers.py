"""Refuses agents at the daemon's sockets: an agent must not command the fleet that runs it.

The rule: refuse every process that descends from this daemon. Everything an agent starts does so, in every tier: in
tier A nothing leaves the pid namespace, whose first process is the daemon's child; in the others the shim is the
subreaper of everything that detaches. Nothing else descends from the daemon: doors and commands start it detached,
never the other way round. A process in a user's container is not a descendant and may connect, although its pid
namespace differs; a process that the kernel cannot name in our pid namespace (id 0) is outside of it, where nothing
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
GONE = "who connects has ended, so that nobody can tell whether it was an agent of this very fleet"
GONE_HINT = "connect from a process that lives until it is answered"
_PEERPIDFD = 77
"""SO_PEERPIDFD of Linux 6.5; Python 3.11 has no name for it"""
_CREDENTIALS = struct.Struct("3i")


def refusal(link: socket.socket) -> tuple[str, str]:
    """Why this connection must not be served, and what to do instead; two empty texts if it may be.

    Systems other than Linux, and TCP connections, do not identify the peer: they are not refused.
    """
    if sys.platform != "linux" or link.family != socket.AF_UNIX:
        return "", ""
    pid, _, _ = _CREDENTIALS.unpack(link.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
    if pid in (0, os.getpid()):
        return "", ""
    with suppress(OSError):
        handle = link.getsockopt(socket.SOL_SOCKET, _PEERPIDFD)
        try:
            ended = select.poll()  # `select.select` takes no descriptor from 1,024 on
            ended.register(handle, select.POLLIN)
            return _judged(pid, has_ended=lambda: bool(ended.poll(0)))
        finally:
            os.close(handle)
    return _judged(pid, has_ended=lambda: False)


def _judged(pid: int, *, has_ended: Callable[[], bool]) -> tuple[str, str]:
    is_agent = reaper.is_below(pid, os.getpid())
    if is_agent is None or has_ended():  # checked after the walk: until then the id was not reused
        return GONE, GONE_HINT
    return (AGENT, AGENT_HINT) if is_agent else ("", "")
