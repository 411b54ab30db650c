"""Turns the daemon's answers into JSON objects, and its problem documents into Fleet's errors."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from orchestrator import errors
from orchestrator.cli.http.json_shape import as_object
from orchestrator.errors import FleetError, StoreError

if TYPE_CHECKING:
    import httpx

_BY_STATUS = {
    404: errors.NotFoundError,
    400: errors.InvalidError,
    422: errors.InvalidError,
    409: errors.ConflictError,
    403: errors.RefusedError,
    408: errors.TimeoutReachedError,
    429: errors.BusyError,
    502: errors.ProviderError,
    503: errors.StoreError,
}
_COMMANDS = {
    "create_agent": "fleet create",
    "command_agent": "fleet command",
    "wait_for_agents": "fleet wait",
    "get_agent_status": "fleet ps",
    "get_agent_output": "fleet output",
    "list_agents": "fleet ps",
    "delete_agent": "fleet rm",
    "delete_all_agents": "fleet rm --all",
}
_TOOL = re.compile(rf"\b(?:{'|'.join(_COMMANDS)})\b")
"""hints name an orchestrator's tools; these are the commands that do the same for a person at a terminal"""


def checked(response: httpx.Response) -> dict[str, object]:
    """Return the JSON object of a successful answer.

    Raises:
        FleetError: the daemon reported an error, or its answer is not one of a daemon.
    """
    try:
        body: object = response.json()
    except ValueError as error:
        raise StoreError(
            f"the daemon answered {response.status_code} without JSON: {response.text[:200]!r}",
            hint="fleet doctor shows which daemon runs",
        ) from error
    if not isinstance(body, dict):
        raise StoreError(
            f"the daemon answered with {type(body).__name__} instead of an object",
            hint="fleet doctor shows which daemon runs",
        )
    answer = as_object(body)  # pyright: ignore[reportUnknownArgumentType] - just checked
    if response.is_success:
        return answer
    raise as_error(response.status_code, answer)


def as_error(status: int, problem: dict[str, object]) -> FleetError:
    """Return the error that the problem's type names, or else the one for its status."""
    named: object = getattr(errors, str(problem.get("type")).rpartition(":")[2], None)
    made = named if isinstance(named, type) and issubclass(named, FleetError) else _BY_STATUS.get(status, FleetError)
    hint = _TOOL.sub(lambda found: _COMMANDS[found[0]], str(problem.get("hint") or ""))
    return made(str(problem.get("detail") or f"the daemon answered {status}"), hint=hint)
