"""The first client of the HTTP API: JSON over the daemon's unix socket, errors as Fleet's own.

It holds no rule of the fleet. A verb may be sent twice (the same idempotency key), so a daemon's restart in mid-call is
survived; what a daemon of another build would answer is not guessed at.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Self, TypeVar

from orchestrator import launch, paths
from orchestrator.cli.http.answer import as_error, checked
from orchestrator.cli.http.json_shape import as_object
from orchestrator.errors import ConflictError, InvalidError, StoreError

if TYPE_CHECKING:
    import httpx
    import stamina
    from httpx_sse import EventSource
    from pydantic import BaseModel

    from orchestrator.fleet.views import EventView, Health

View = TypeVar("View", bound="BaseModel")

_CONNECT_SECONDS = 30.0
_TRIES = 3
_PAUSE_SECONDS = 0.05
_REVIVE_TRIES = 10
_REVIVE_PAUSE_SECONDS = 0.3


@dataclass(frozen=True, kw_only=True)
class Target:
    """Which daemon, and as whom: the state directory, the hello, and the environment a daemon would be started with."""

    state: Path
    hello: Mapping[str, object] = field(repr=False)
    environment: Mapping[str, str] = field(repr=False)


def start_daemon(to: Target) -> None:
    """Return when a daemon of `to` listens; started if none did.

    Raises:
        StoreError: none came up; with its own last words.
    """
    try:
        launch.start_daemon(to.state, to.environment)
    except launch.StartError as error:
        raise StoreError(str(error), hint="fleet doctor shows what is wrong") from error
    except OSError as error:
        raise StoreError(f"no daemon can be started in {to.state}: {error}", hint="fleet doctor") from error


def check_build(build: str, pid: int) -> None:
    """Return if the daemon runs this very code.

    Raises:
        ConflictError: it does not; with the command that replaces it.
    """
    if build != paths.build():
        raise ConflictError(
            f"the running daemon (pid {pid}) is build {build}, this command is build {paths.build()}",
            hint="fleet down && fleet up   (replaces it; agents and results stay)",
        )


def target(environment: Mapping[str, str], cwd: str) -> Target:
    """The daemon that this environment names.

    Raises:
        StoreError: the state directory cannot be used.
    """
    try:
        state = paths.state_dir(environment)
    except paths.StateError as error:
        raise StoreError(str(error), hint="fleet doctor shows what is wrong") from error
    return Target(state=state, hello=paths.hello(environment, cwd), environment=environment)


class Client:
    """An open connection to one daemon; close it, or use it with `with`."""

    def __init__(self, to: Target, *, start: bool = True) -> None:
        import httpx

        self.target = to
        self._start = start
        header = {"x-fleet-hello": json.dumps(to.hello, ensure_ascii=True)}
        socket = str(paths.socket_path(to.state, launch.HTTP_SOCKET))
        self._http = httpx.Client(
            transport=httpx.HTTPTransport(uds=socket),
            base_url="http://fleet",
            headers=header,
            timeout=httpx.Timeout(None, connect=_CONNECT_SECONDS),
            trust_env=False,
        )

    def __enter__(self) -> Self:
        """The client itself."""
        return self

    def __exit__(self, *exc: object) -> None:
        """Close the connection."""
        self._http.close()

    def health(self) -> Health | None:
        """What the running daemon says of itself, or None if none runs; never starts one.

        Raises:
            StoreError: something listens and does not answer as a daemon does.
        """
        import httpx

        from orchestrator.fleet.views import Health

        try:
            response = self._http.get("/v1/health", timeout=_CONNECT_SECONDS)
        except httpx.ConnectError:
            return None
        except httpx.TransportError as error:
            raise StoreError(
                f"the daemon of {self.target.state} does not answer ({type(error).__name__})",
                hint=f"read {paths.log_path(self.target.state)}, then: fleet down --interrupt",
            ) from error
        return Health.model_validate(checked(response))

    def require_daemon(self) -> None:
        """Return once a daemon of this build runs, started if need be.

        Raises:
            ConflictError: a daemon of another build runs; with the command that replaces it.
            StoreError: none could be started; with what its log says.
        """
        found = self.health()
        if found is None:
            start_daemon(self.target)
            found = self._newborn()
        check_build(found.build, found.pid)

    def revive(self) -> None:
        """Return once a daemon runs again, started if need be; one that is ending or being replaced is waited for.

        Raises:
            ConflictError: a daemon of another build runs.
            StoreError: none could be had, after several attempts.
        """
        for attempt in _attempts(StoreError, times=_REVIVE_TRIES, pause_seconds=_REVIVE_PAUSE_SECONDS):
            with attempt:
                self.require_daemon()

    def _newborn(self) -> Health:
        """The health of the daemon that was just started; listening alone does not mean that it lives on."""
        reason = "it ended"
        try:
            found = self.health()
        except StoreError as error:
            found, reason = None, error.message
        if found is None:
            log = paths.log_path(self.target.state)
            last = log.read_text(errors="replace").strip().rpartition("\n")[2] if log.exists() else ""
            raise StoreError(
                f"the daemon was started and does not live: {reason}; its log ends with: {last[-500:]}",
                hint=f"read {log}; fleet doctor shows what is wrong",
            )
        return found

    def get(self, view: type[View], path: str, **query: object) -> View:
        """The answer to a GET as that view; parameters that are None are left out."""
        return view.model_validate(self.send("GET", path, query=query))

    def post(self, view: type[View], path: str, **body: object) -> View:
        """The answer to a POST as that view; fields that are None are left out."""
        return view.model_validate(self.send("POST", path, body=lambda: body))

    def send(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, object] | None = None,
        body: Callable[[], Mapping[str, object]] | None = None,
    ) -> dict[str, object]:
        """The answer as a JSON object; a lost connection is made again and the same call sent again, twice at most.

        `body` is asked anew for every attempt, because a time-out in it goes on meanwhile.

        Raises:
            FleetError: what the daemon says is wrong, or that it is gone.
        """
        import httpx

        headers = {"idempotency-key": f"cli-{uuid.uuid4().hex}"}
        try:
            for attempt in _attempts(httpx.TransportError, times=_TRIES, pause_seconds=_PAUSE_SECONDS):
                with attempt:
                    if attempt.num > 1 and self._start:
                        self.require_daemon()
                    request = self._request(method, path, _parameters(query or {}), body, headers)
                    return checked(self._http.send(request))
        except httpx.TransportError as error:
            raise StoreError(
                f"the daemon went away {_TRIES} times during this call ({type(error).__name__})",
                hint=f"read {paths.log_path(self.target.state)}",
            ) from error
        raise AssertionError  # the loop returns or raises

    def _request(
        self,
        method: str,
        path: str,
        query: Mapping[str, str],
        body: Callable[[], Mapping[str, object]] | None,
        headers: Mapping[str, str],
    ) -> httpx.Request:
        """The request.

        Raises:
            InvalidError: something in it cannot be sent as JSON.
        """
        content = None if body is None else _present(body())
        try:
            return self._http.build_request(method, path, params=query, json=content, headers=headers)
        except ValueError as error:
            raise InvalidError(f"this cannot be sent: {error}", hint="give UTF-8 text and finite numbers") from error

    def events(self, *, since: str, agent: str | None) -> Iterator[EventView]:
        """All recorded events after the cursor `since`, oldest first; a lost connection resumes behind the last one.

        Raises:
            StoreError: the daemon went away several times in a row.
        """
        import httpx

        lost = 0
        while lost < _TRIES:
            if lost:
                self.require_daemon()
            try:
                with self.stream(since=since, agent=agent, history=True) as events:
                    for event in events:
                        since, lost = event.cursor, 0
                        yield event
            except httpx.TransportError:
                lost += 1
            else:
                return
        raise StoreError(
            f"the daemon went away {_TRIES} times while it sent the events",
            hint=f"read {paths.log_path(self.target.state)}",
        )

    @contextmanager
    def stream(self, *, since: str | None, agent: str | None, history: bool = False) -> Generator[Iterator[EventView]]:
        """One connection to the event stream, from the cursor on; with `history` it ends with what is recorded.

        Raises:
            httpx.TransportError: the connection cannot be made or is lost.
            FleetError: the daemon refuses, e.g. no such agent.
        """
        from httpx_sse import connect_sse

        query = _parameters({"since": since, "agent": agent, "history": history})
        with connect_sse(self._http, "GET", "/v1/stream", params=query) as source:
            if source.response.is_error:
                source.response.read()
                checked(source.response)
            yield _views(source, is_endless=not history)

    def lines(self, method: str, path: str, body: Mapping[str, object]) -> Iterator[dict[str, object]]:
        """The answer line by line, each a JSON object; sent once, never again.

        Raises:
            FleetError: what the daemon says is wrong, at once or in a line.
            StoreError: the connection was lost before the answer was complete.
        """
        import httpx

        try:
            with self._http.stream(method, path, json=body) as response:
                if response.is_error:
                    response.read()
                    checked(response)
                for line in response.iter_lines():
                    answer = as_object(json.loads(line))
                    if "error" in answer:
                        raise as_error(response.status_code, as_object(answer["error"]))
                    yield answer
        except httpx.TransportError as error:
            raise StoreError(
                f"the daemon went away during this call ({type(error).__name__})",
                hint=f"read {paths.log_path(self.target.state)}, then try again",
            ) from error


def _views(source: EventSource, *, is_endless: bool) -> Iterator[EventView]:
    """The events of a stream.

    Raises:
        httpx.TransportError: it was to end by itself and was cut off.
    """
    import httpx

    from orchestrator.fleet.views import EventView

    for event in source.iter_sse():
        if event.event == "end":
            return
        yield EventView.model_validate_json(event.data)
    if not is_endless:
        raise httpx.RemoteProtocolError("the stream was cut off")


def _attempts(on: type[Exception], *, times: int, pause_seconds: float) -> Iterable[stamina.Attempt]:
    """Attempts that are repeated on this error, so often, with this pause between them."""
    import stamina

    stamina.instrumentation.set_on_retry_hooks(())  # its default hook writes to stdout, which is for data
    return stamina.retry_context(
        on=on,
        attempts=times,
        timeout=None,
        wait_initial=pause_seconds,
        wait_max=pause_seconds,
        wait_jitter=0,
    )


def _present(fields: Mapping[str, object]) -> dict[str, object]:
    return {name: value for name, value in fields.items() if value is not None}


def _parameters(query: Mapping[str, object]) -> dict[str, str]:
    return {name: "1" if value is True else str(value) for name, value in _present(query).items() if value is not False}


def remaining(deadline: float | None) -> float | None:
    """Seconds until the deadline, at least 0; None if there is none."""
    return None if deadline is None else max(0.0, deadline - time.monotonic())
