"""Every error that Fleet raises on purpose, grouped by what the caller can do about it.

FleetError(message, *, hint)
├── NotFoundError    the id or name is wrong           -> fix the argument
├── InvalidError     the input is malformed            -> fix the input
├── ConflictError    the state does not allow it       -> read the status, wait
├── RefusedError     a rule forbids it                 -> ask a person
├── TimeoutReachedError  the caller's own time ran out -> ask again, or look
├── ProviderError    the vendor's side                 -> as the hint says
│   └── SessionDiedError  its program was killed while it started
└── StoreError       the database file
    └── SchemaError  it was written by another version

Doors translate them once: MCP to an error result, HTTP to a status, the command line to an exit code.
"""

from __future__ import annotations


class FleetError(Exception):
    """What failed, in one sentence, and in `hint` what to do next."""

    title = "Fleet itself failed"
    status = 500
    exit_code = 1

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        """The message and, after an arrow, the hint."""
        return f"{self.message} -> {self.hint}" if self.hint else self.message


class NotFoundError(FleetError):
    """No such agent, persona, turn or file."""

    title = "Not found"
    status = 404
    exit_code = 3


class InvalidError(FleetError):
    """The input is invalid."""

    title = "Invalid input"
    status = 422
    exit_code = 2


class ConflictError(FleetError):
    """Valid, but not in the current state."""

    title = "Not possible in the current state"
    status = 409


class RefusedError(FleetError):
    """A rule forbids it."""

    title = "Refused by a rule"
    status = 403


class TimeoutReachedError(FleetError):
    """The caller's own time-out passed; nothing was harmed."""

    title = "The caller's time limit was reached"
    status = 408
    exit_code = 4


class ProviderError(FleetError):
    """The vendor's program or service failed."""

    title = "The vendor's side failed"
    status = 502


class SessionDiedError(ProviderError):
    """A session's program was killed, or did not answer, while it started: another try may succeed."""

    title = "A session's program died while it started"


class StoreError(FleetError):
    """The database cannot be used."""

    title = "The database cannot be used"
    status = 503


class SchemaError(StoreError):
    """The database belongs to another version of Fleet."""

    title = "The database belongs to another version"
