"""The first client of the HTTP API: JSON over the daemon's unix socket, with problems raised as Fleet's errors.

It contains no rules of the fleet. A call that lost its connection is repeated under the same idempotency key, so it
survives a restart of the daemon. A daemon of another build is refused: its answers could mean something else.
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
from orchestrator.domain.text import quoted
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
    """Which daemon to call, and as whom: state directory, hello, and the environment to start a missing daemon with."""

    state: Path
    hello: Mapping[str, object] = field(repr=False)
    environment: Mapping[str, str] = field(repr=False)


def start_daemon(to: Target) -> None:
    """Return once the daemon of `to` listens; start it if none does.

    Raises:
        StoreError: the daemon failed to start; if it exited, the message has the end of its log.
    """
    try:
        launch.start_daemon(to.state, to.environment)
    except (launch.StartError, paths.StateError) as error:
        raise StoreError(str(error), hint="fleet doctor shows what is wrong") from error
    except OSError as error:
        raise StoreError(
            f"cannot start a daemon in {to.state}: {error}", hint="fleet doctor shows what is wrong"
        ) from error


def check_build(build: str, pid: int) -> None:
    """Check that the daemon runs the same build as this command.

    Raises:
        ConflictError: it does not; the hint says how to replace it.
    """
    if build != paths.build():
        raise ConflictError(
            f"the running daemon (pid {pid}) is build {build}, this command is build {paths.build()}",
            hint="fleet down && fleet up   (replaces it; agents and results stay)",
        )


def target(environment: Mapping[str, str], cwd: str) -> Target:
    """Return the daemon that this environment selects.

    Raises:
        StoreError: the state directory is not usable.
    """
    try:
        state = paths.state_dir(environment)
    except paths.StateError as error:
        raise StoreError(str(error), hint="fleet doctor shows what is wrong") from error
    return Target(state=state, hello=paths.hello(environment, cwd), environment=environment)


class Client:
    """A connection to one daemon; call `close` through `with`."""

    def __init__(self, to: Target, *, start: bool = True) -> None:
        import httpx

        from orchestrator.cli.http.proven import ProvenTransport

        self.target = to
        self._start = start
        header = {"x-fleet-hello": json.dumps(to.hello, ensure_ascii=True)}
        self._http = httpx.Client(
            transport=ProvenTransport(to.state),
            base_url="http://fleet",
            headers=header,
            timeout=httpx.Timeout(None, connect=_CONNECT_SECONDS),
            trust_env=False,
        )

    def __enter__(self) -> Self:
        """Return this client."""
        return self

    def __exit__(self, *exc: object) -> None:
        """Close the connection."""
        self._http.close()

    def health(self) -> Health | None:
        """Return the running daemon's health, or None if none runs; never starts one.

        Raises:
            StoreError: something listens but does not answer as a daemon.
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
        """Return once a daemon of this build runs; start one if necessary.

        Raises:
            ConflictError: a daemon of another build runs; the hint says how to replace it.
            StoreError: the daemon failed to start; the message has the end of its log.
        """
        found = self.health()
        if found is None:
            start_daemon(self.target)
            found = self._newborn()
        check_build(found.build, found.pid)

    def revive(self) -> None:
        """Return once a daemon runs again, starting one if necessary; retries while the old one stops or is replaced.

        Raises:
            ConflictError: a daemon of another build runs.
            StoreError: no daemon answered after several attempts.
        """
        for attempt in _attempts(StoreError, times=_REVIVE_TRIES, pause_seconds=_REVIVE_PAUSE_SECONDS):
            with attempt:
                self.require_daemon()

    def _newborn(self) -> Health:
        """Return the health of the daemon that was just started, which may exit right after it began to listen."""
        happened = "no longer listens"
        try:
            found = self.health()
        except StoreError as error:
            found, happened = None, f"is not usable: {error.message}"
        if found is None:
            log = paths.log_path(self.target.state)
            last = log.read_text(errors="replace").strip().rpartition("\n")[2] if log.exists() else ""
            raise StoreError(
                f"the daemon was started but {happened}; its log ends with: {quoted(last[-500:], 500)}",
                hint=f"read {log}; fleet doctor shows what is wrong",
            )
        return found

    def get(self, view: type[View], path: str, **query: object) -> View:
        """GET a view; parameters that are None are omitted."""
        return view.model_validate(self.send("GET", path, query=query))

    def post(self, view: type[View], path: str, **body: object) -> View:
        """POST and return the answer as a view; fields that are None are omitted."""
        return view.model_validate(self.send("POST", path, body=lambda: body))

    def send(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, object] | None = None,
        body: Callable[[], Mapping[str, object]] | None = None,
    ) -> dict[str, object]:
        """Send a request and return its answer; after a lost connection, reconnect and send it again, at most twice.

        `body` is built anew for every attempt, because a time-out in it keeps running.

        Raises:
            FleetError: the daemon reported an error, or the connection was lost three times.
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
                f"lost the connection to the daemon {_TRIES} times during this call ({type(error).__name__})",
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
        """Build the request.

        Raises:
            InvalidError: its content cannot be sent as JSON.
        """
        content = None if body is None else _present(body())
        try:
            return self._http.build_request(method, path, params=query, json=content, headers=headers)
        except ValueError as error:
            raise InvalidError(
                f"the request cannot be sent: {error}", hint="use UTF-8 text and finite numbers"
            ) from error

    def events(self, *, since: str, agent: str | None) -> Iterator[EventView]:
        """Yield all recorded events after the cursor `since`, oldest first, each once even if the connection is lost.

        Raises:
            StoreError: the connection was lost several times in a row.
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
            f"lost the connection to the daemon {_TRIES} times while reading events",
            hint=f"read {paths.log_path(self.target.state)}",
        )

    @contextmanager
    def stream(self, *, since: str | None, agent: str | None, history: bool = False) -> Generator[Iterator[EventView]]:
        """Open one connection to the event stream after a cursor; with `history` it ends after the recorded events.

        Raises:
            httpx.TransportError: the connection failed or was lost.
            FleetError: the daemon reported an error, e.g. an unknown agent.
        """
        from httpx_sse import connect_sse

        query = _parameters({"since": since, "agent": agent, "history": history})
        with connect_sse(self._http, "GET", "/v1/stream", params=query) as source:
            if source.response.is_error:
                source.response.read()
                checked(source.response)
            yield _views(source, is_endless=not history)

    def lines(self, method: str, path: str, body: Mapping[str, object]) -> Iterator[dict[str, object]]:
        """Send a request once, without retries, and yield its answer line by line as JSON objects.

        Raises:
            FleetError: the daemon reported an error, at once or in a line.
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
                f"lost the connection to the daemon during this call ({type(error).__name__})",
                hint=f"read {paths.log_path(self.target.state)}, then try again",
            ) from error


def _views(source: EventSource, *, is_endless: bool) -> Iterator[EventView]:
    """Yield the events of a stream.

    Raises:
        httpx.TransportError: a stream that should have ended was cut off.
    """
    import httpx

    from orchestrator.fleet.views import EventView

    for event in source.iter_sse():
        if event.event == "end":
            return
        if event.data:  # httpx-sse makes an empty event of a heartbeat; the standard does not
            yield EventView.model_validate_json(event.data)
    if not is_endless:
        raise httpx.RemoteProtocolError("the stream was cut off")


def _attempts(on: type[Exception], *, times: int, pause_seconds: float) -> Iterable[stamina.Attempt]:
    """Retry on this error, at most `times` attempts with a fixed pause between them."""
    import stamina

    stamina.instrumentation.set_on_retry_hooks(())  # its default hook writes to stdout, which is reserved for data
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
    """Return the seconds left until the deadline, at least 0; None without a deadline."""
    return None if deadline is None else max(0.0, deadline - time.monotonic())
