"""What all tables share: naming rules for them, their indexes and constraints, and columns of enumerated words."""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Any

from sqlalchemy import Dialect, MetaData, String
from sqlalchemy.orm import declared_attr
from sqlmodel import SQLModel

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


class EnumText(String):
    """A text column that holds members of the enumeration `words`, and returns them."""

    def __init__(self, words: type[StrEnum]) -> None:
        super().__init__()
        self.words = words

    def result_processor(self, dialect: Dialect, coltype: object) -> Any:
        """Return a look-up of members, which takes a tenth of the time of calling the class."""
        del dialect, coltype
        return {None: None, **{str(word): word for word in self.words}}.__getitem__
