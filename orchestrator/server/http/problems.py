"""The one shape of every error over HTTP."""

from __future__ import annotations

import json
from collections.abc import Mapping

from starlette.responses import Response

from orchestrator.domain.text import one_line
from orchestrator.errors import FleetError

MAX_MESSAGE_CHARACTERS = 2000


def problem(status: int, kind: str, message: str, hint: str, headers: Mapping[str, str] | None = None) -> Response:
    """`{"error": {"kind", "message", "hint"}}` with this status; whatever input a message repeats, it is one line."""
    body = {"error": {"kind": kind, "message": one_line(message, MAX_MESSAGE_CHARACTERS), "hint": hint}}
    return Response(json.dumps(body), status_code=status, media_type="application/json", headers=headers)


def error_reply(error: FleetError) -> Response:
    """An error of the fleet."""
    return problem(error.status, type(error).__name__, error.message, error.hint)
