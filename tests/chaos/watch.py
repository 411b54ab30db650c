"""Two independent watchers: how many programs a conversation has, and whether each status is true."""

from __future__ import annotations

import threading
import time
from collections import Counter
from typing import Any

import httpx

from orchestrator import launch, paths
from tests.chaos.place import Place

LIE_SECONDS = 6.0
"""a daemon may take so long to notice that a program has died"""
EVERY_SECONDS = 0.15


class Watch(threading.Thread):
    """Looks at /proc and at what the fleet says, again and again."""

    def __init__(self, place: Place) -> None:
        super().__init__(name="watch", daemon=True)
        self.place = place
        self.over = threading.Event()
        self.doubles: set[str] = set()
        self.lies: set[str] = set()
        self.looks = 0
        self._suspects: dict[str, tuple[int | None, float]] = {}

    def run(self) -> None:
        """Look until told to end."""
        while not self.over.wait(EVERY_SECONDS):
            self.looks += 1
            before = self._sessions()
            said = self._said()
            self._judge(said, before | self._sessions())

    def _sessions(self) -> set[str]:
        """Sessions with a living program; one with two of them is a double session."""
        programs = [program for program in self.place.programs() if program.kind == "claude"]
        pids = {program.pid for program in programs}
        first = [program for program in programs if program.parent not in pids]  # not a fork before its exec
        for session, number in Counter(program.session for program in first).items():
            if number > 1:
                self.doubles.add(session)
        return {program.session for program in first}

    def _said(self) -> dict[str, dict[str, Any]]:
        """The working agents by session as the fleet tells of them; nothing between two daemons."""
        link = launch.connect(self.place.state, launch.HTTP_SOCKET)
        if link is None:
            return {}
        link.close()
        transport = httpx.HTTPTransport(uds=str(paths.socket_path(self.place.state, "http.sock")))
        try:
            with httpx.Client(transport=transport, base_url="http://fleet", timeout=10) as client:
                agents = client.get("/v1/agents?everyone=true").json()["agents"]
            sessions = dict(self.place.rows("SELECT id, session_id FROM agent"))
        except (httpx.HTTPError, KeyError, ValueError, OSError):
            return {}
        return {sessions[agent["id"]]: agent for agent in agents if agent["id"] in sessions}

    def _judge(self, said: dict[str, dict[str, Any]], alive: set[str]) -> None:
        """`working` without a reason says that a session is at it: without any program for long, that is a lie."""
        now, daemon = time.monotonic(), self.place.daemon_pid()
        suspects = {
            session: self._suspects.get(session, (daemon, now))
            for session, agent in said.items()
            if agent["status"] == "working" and not agent["reason"] and session not in alive
        }
        self._suspects = {session: seen for session, seen in suspects.items() if seen[0] == daemon}
        for session, (_, since) in self._suspects.items():
            if now - since > LIE_SECONDS:
                self.lies.add(f"{said[session]['name']} is said to work, and nothing does")
