"""Every error that Fleet raises on purpose, grouped by what the caller can do about it.

FleetError(message, *, hint)
├── NotFoundError    the id or name is wrong           -> correct the argument
├── InvalidError     the input is malformed            -> correct the input
├── ConflictError    the state does not allow it       -> read the status, wait
├── RefusedError     a rule forbids it                 -> ask a person
├── TimeoutReachedError  the caller's time limit passed -> ask again, or read the status
├── BusyError        too many ask at the same time -> ask again later
├── ProviderError    the vendor's program or service failed -> follow the hint
│   └── SessionDiedError  a session's program died while it started
└── StoreError       the database cannot be used
    └── SchemaError  another version of Fleet wrote it

Each door translates them in one place: MCP to an error result, HTTP to a status, the command line to an exit code.
"""

from __future__ import annotations


class FleetError(Exception):
    """A failure: `message` says in one sentence what failed, `hint` what to do next."""

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
    """The agent, persona, turn or file does not exist."""

    title = "Not found"
    status = 404
    exit_code = 3


class InvalidError(FleetError):
    """The input is invalid."""

    title = "Invalid input"
    status = 422
    exit_code = 2


class ConflictError(FleetError):
    """The request is valid, but the current state does not allow it."""

    title = "Not possible in the current state"
    status = 409


class RefusedError(FleetError):
    """A rule forbids the request."""

    title = "Refused by a rule"
    status = 403


class TimeoutReachedError(FleetError):
    """The caller's own time limit passed; the fleet is not affected."""

    title = "The caller's time limit was reached"
    status = 408
    exit_code = 4


class BusyError(FleetError):
    """Too many clients ask for the same thing at the same time."""

    title = "Too many at the same time"
    status = 429


class ProviderError(FleetError):
    """The vendor's program or service failed."""

    title = "The vendor's side failed"
    status = 502


class SessionDiedError(ProviderError):
    """A session's program was killed or did not answer while it started; another attempt may succeed."""

    title = "A session's program died while it started"


class StoreError(FleetError):
    """The database cannot be used."""

    title = "The database cannot be used"
    status = 503


class SchemaError(StoreError):
    """The database was written by another version of Fleet."""

    title = "The database belongs to another version"
