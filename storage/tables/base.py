"""What all tables share: the schema that they belong to, and the types of keys."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, Dialect, Integer, LargeBinary, MetaData, TypeDecorator, Uuid
from sqlalchemy.types import TypeEngine

metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    }
)

# SQLite makes only a column of the very type INTEGER the row's own key.
Position = BigInteger().with_variant(Integer, "sqlite")


class EventId(TypeDecorator[UUID]):
    """UUID on PostgreSQL; its 16 bytes on SQLite, which sort by time as the UUIDs do."""

    impl = Uuid
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """Return the column type of the dialect."""
        return dialect.type_descriptor(LargeBinary(16) if dialect.name == "sqlite" else Uuid())

    def process_bind_param(self, value: UUID | None, dialect: Dialect) -> Any:
        """Return the value for the database."""
        return value.bytes if value is not None and dialect.name == "sqlite" else value

    def process_result_value(self, value: Any, dialect: Dialect) -> UUID | None:
        """Return the value of the database."""
        return UUID(bytes=value) if isinstance(value, bytes) else value
