"""What all tables share: naming rules for them, their indexes and constraints, and columns of enumerated words."""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import StrEnum
from typing import Any, NoReturn

from sqlalchemy import Dialect, MetaData, String
from sqlalchemy.orm import declared_attr
from sqlmodel import SQLModel

from orchestrator.errors import StoreError

NAMING = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s",
    "pk": "pk_%(table_name)s",
}
metadata: MetaData = SQLModel.metadata
metadata.naming_convention = NAMING


class Table(SQLModel):
    """The base of all tables; `DurableWaitTable` describes `durable_wait`."""

    @declared_attr.directive
    def __tablename__(cls) -> str:  # noqa: N805 - SQLAlchemy calls it with the class  # pyright: ignore[reportIncompatibleVariableOverride] - SQLModel declares one of its own
        """The table's name."""
        return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", cls.__name__.removesuffix("Table")).lower()


class _Members(dict[str | None, StrEnum | None]):
    """The members of one enumeration by their text; an unknown text is an error that a person can read."""

    def __init__(self, name: str, members: Mapping[str | None, StrEnum | None]) -> None:
        super().__init__(members)
        self._name = name

    def __missing__(self, text: str | None) -> NoReturn:
        raise StoreError(
            f"the database holds {text!r}, a {self._name} that this version does not know",
            hint="another version of Fleet or another program wrote it: fleet down, then put a backup in its place",
        )


class EnumText(String):
    """A text column that holds members of the enumeration `words`, and returns them."""

    def __init__(self, words: type[StrEnum]) -> None:
        super().__init__()
        self.words = words

    def result_processor(self, dialect: Dialect, coltype: object) -> Any:
        """Return a look-up of members, which takes a tenth of the time of calling the class."""
        del dialect, coltype
        members: dict[str | None, StrEnum | None] = {str(word): word for word in self.words}
        return _Members(self.words.__name__, members | {None: None}).__getitem__
