"""The command line's client reads event streams as the standard defines them."""

from __future__ import annotations

import socket
import threading
from pathlib import Path

import pytest

from orchestrator import launch, paths
from orchestrator.cli.http.client import Client, Target
from orchestrator.fleet.views import EventView

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n"
EVENT = EventView(
    cursor="7", agent="ag_1", name="a", seq=1, turn=1, kind="turn.started", at="2026-01-01T00:00:00Z", body={}
)


@pytest.mark.requirement("cli:logs:follows")
def test_a_heartbeat_between_two_events_is_not_an_event(tmp_path: Path) -> None:
    event = f"id: 7\r\nevent: turn.started\r\ndata: {EVENT.model_dump_json()}\r\n\r\n"
    stream = f"{event}: ping\r\n\r\n{event}event: end\r\ndata: {{}}\r\n\r\n"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(paths.socket_path(tmp_path, launch.HTTP_SOCKET)))
        listener.listen()
        threading.Thread(target=_answer, args=(listener, HEAD + stream.encode()), daemon=True).start()
        with (
            Client(Target(state=tmp_path, hello={}, environment={}), start=False) as client,
            client.stream(since=None, agent=None, history=True) as events,
        ):
            assert list(events) == [EVENT, EVENT]


def _answer(listener: socket.socket, answer: bytes) -> None:
    link, _ = listener.accept()
    with link:
        link.recv(65536)
        link.sendall(answer)
