"""The connection that operations get: it executes statements in a transaction that the engine begins and ends."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, TypeVarTuple, overload

from sqlalchemy import CursorResult, Executable
from sqlalchemy.sql.selectable import TypedReturnsRows

Columns = TypeVarTuple("Columns")
Parameters = Mapping[str, object] | Sequence[Mapping[str, object]]


class Connection(Protocol):
    """A transaction as operations see it: they execute statements, and cannot end it or talk to the driver.

    `fleet` hands it on to operations and queries; only the store builds statements for it.
    """

    @property
    def info(self) -> dict[Any, Any]:
        """Notes of the operations that share this connection."""
        ...

    @overload
    def execute(
        self, statement: TypedReturnsRows[*Columns], parameters: Parameters | None = None, /
    ) -> CursorResult[*Columns]: ...

    @overload
    def execute(
        self, statement: Executable, parameters: Parameters | None = None, /
    ) -> CursorResult[*tuple[Any, ...]]: ...
