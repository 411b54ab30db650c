"""The command line's client: event streams as the standard defines them, and daemons that die young."""

from __future__ import annotations

import socket
import threading
from pathlib import Path

import pytest

from orchestrator import launch, paths, peer_proof
from orchestrator.cli.http import client as http_client
from orchestrator.cli.http.client import Client, Target
from orchestrator.errors import StoreError
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


@pytest.mark.requirement("daemon:peer:proven-before-hello", "guarantee:peer:proven-before-hello")
def test_nothing_is_sent_to_an_unproven_peer_even_if_the_http_library_reports_no_steps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unproven(connection: socket.socket, state: Path) -> bool:
        del connection, state
        raise peer_proof.UnprovenError("not the daemon")

    monkeypatch.setattr(peer_proof, "is_daemon", unproven)

    def silent(self: object, *_: object) -> object:
        return self

    def unheard(self: object, *_: object) -> None:
        del self

    monkeypatch.setattr("httpcore._trace.Trace.__enter__", silent)
    monkeypatch.setattr("httpcore._trace.Trace.__exit__", unheard)
    received: list[bytes] = []
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(paths.socket_path(tmp_path, launch.HTTP_SOCKET)))
        listener.listen()
        heard = threading.Thread(target=_hear, args=(listener, received))
        heard.start()
        with (
            Client(Target(state=tmp_path, hello={"account": "secret"}, environment={}), start=False) as client,
            pytest.raises(StoreError, match="not the daemon"),
        ):
            client.health()
        heard.join(30)
    assert received == [b""]


def _hear(listener: socket.socket, received: list[bytes]) -> None:
    connection, _ = listener.accept()
    with connection:
        received.append(connection.recv(65536))


# httpcore leaves the socket of a refused connection to the garbage collector
@pytest.mark.filterwarnings("ignore:Exception ignored in. <socket:pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize(("listens", "happened"), [(False, "no longer listens"), (True, "does not answer")])
def test_a_daemon_that_was_just_started_and_does_not_answer_is_reported_with_what_happened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, listens: bool, happened: str
) -> None:
    with socket.socket(socket.AF_UNIX) as listener:

        def start(_: Target) -> None:
            paths.log_path(tmp_path).write_text("first\nlast words\n")
            if listens:
                listener.bind(str(paths.socket_path(tmp_path, launch.HTTP_SOCKET)))
                listener.listen()
                threading.Thread(target=_answer, args=(listener, b""), daemon=True).start()

        monkeypatch.setattr(http_client, "start_daemon", start)
        with Client(Target(state=tmp_path, hello={}, environment={})) as client:
            with pytest.raises(StoreError, match=f'{happened}.*; its log ends with: "last words"') as caught:
                client.require_daemon()
            assert "exited" not in caught.value.message


def _answer(listener: socket.socket, answer: bytes) -> None:
    link, _ = listener.accept()
    with link:
        link.recv(65536)
        link.sendall(answer)
