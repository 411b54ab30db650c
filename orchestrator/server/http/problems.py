"""Turns every error into a problem document of RFC 9457 (`application/problem+json`)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from pydantic import BaseModel, ConfigDict
from starlette.responses import Response

from orchestrator.domain.text import named, one_line
from orchestrator.errors import FleetError, InvalidError, NotFoundError

MEDIA_TYPE = "application/problem+json"
TYPE_PREFIX = "urn:fleet:problem:"
"""followed by the name of the error's class, such as `NotFoundError`"""
MAX_DETAIL_CHARACTERS = 2000
MAX_PLACE_CHARACTERS = 200
MAX_MISTAKES = 100


class Mistake(BaseModel):
    """One mistake in a request, and where it is."""

    model_config = ConfigDict(frozen=True)

    detail: str
    pointer: str | None = None
    """place in the body: a JSON pointer in a URI fragment"""
    parameter: str | None = None
    """name of the query parameter"""


class Problem(BaseModel):
    """A problem document of RFC 9457; `hint` (what to do next) and `errors` are extensions."""

    model_config = ConfigDict(frozen=True)

    type: str
    title: str
    status: int
    detail: str
    hint: str = ""
    errors: tuple[Mistake, ...] = ()
    """every mistake in a body or query that does not match its schema"""


class RequestError(InvalidError):
    """A body or query does not match its schema; `mistakes` lists every mistake."""

    def __init__(self, message: str, *, hint: str, mistakes: Sequence[Mistake]) -> None:
        super().__init__(message, hint=hint)
        self.mistakes = tuple(mistakes)


def problem(error: FleetError, *, status: int | None = None, headers: Mapping[str, str] | None = None) -> Response:
    """Return the error as a response; its detail is one line even if the message quotes input.

    `status` overrides the status of the error's class where HTTP has a more specific one.
    """
    found = document(error, status=status)
    body = json.dumps(found.model_dump(exclude_defaults=True))
    return Response(body, status_code=found.status, media_type=MEDIA_TYPE, headers=headers)


def document(error: FleetError, *, status: int | None = None) -> Problem:
    """Return the error as a problem document."""
    mistakes = error.mistakes if isinstance(error, RequestError) else ()
    kind = InvalidError if isinstance(error, RequestError) else type(error)
    return Problem(
        type=TYPE_PREFIX + kind.__name__,
        title=kind.title,
        status=status or kind.status,
        detail=one_line(error.message, MAX_DETAIL_CHARACTERS),
        hint=one_line(error.hint, MAX_DETAIL_CHARACTERS),
        errors=mistakes[:MAX_MISTAKES],
    )


def status_problem(status: int, path: str, method: str, detail: str, allowed: str = "") -> Response:
    """Return the problem for a request that Starlette refused with this status."""
    match status:
        case 404:
            error: FleetError = NotFoundError(
                f"{named(path)} does not exist", hint="/v1/openapi.json lists all endpoints"
            )
        case 405:
            error = InvalidError(
                f"{named(path)} does not take {method}", hint=f"{named(path)} takes {allowed or 'another method'}"
            )
        case _:
            error = InvalidError(detail)
    return problem(error, status=status, headers={"allow": allowed} if allowed else None)
