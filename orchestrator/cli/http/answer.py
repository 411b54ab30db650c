"""An answer of the daemon: its JSON object, or its problem document as Fleet's own error."""

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
"""Hints name the tools of an orchestrator; a person at a terminal reads the commands that do the same."""


def checked(response: httpx.Response) -> dict[str, object]:
    """The object that the daemon answered with.

    Raises:
        FleetError: what the daemon says is wrong, or that it does not answer as a daemon does.
    """
    try:
        body: object = response.json()
    except ValueError as error:
        raise StoreError(
            f"the daemon answered {response.status_code} without JSON: {response.text[:200]!r}",
            hint="fleet doctor shows which daemon runs",
        ) from error
    if not isinstance(body, dict):
        raise StoreError(f"the daemon answered with {type(body).__name__} instead of an object", hint="fleet doctor")
    answer = as_object(body)  # pyright: ignore[reportUnknownArgumentType] - just checked
    if response.is_success:
        return answer
    raise as_error(response.status_code, answer)


def as_error(status: int, problem: dict[str, object]) -> FleetError:
    """The error that the problem's type names, else the one of its status."""
    named: object = getattr(errors, str(problem.get("type")).rpartition(":")[2], None)
    made = named if isinstance(named, type) and issubclass(named, FleetError) else _BY_STATUS.get(status, FleetError)
    hint = _TOOL.sub(lambda found: _COMMANDS[found[0]], str(problem.get("hint") or ""))
    return made(str(problem.get("detail") or f"the daemon answered {status}"), hint=hint)
