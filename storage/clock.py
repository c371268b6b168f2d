"""The database's clock: what replicas agree on for leases and coverage."""

from __future__ import annotations

from sqlalchemy import Connection

_NOW = {
    # Whole milliseconds: SQLite's clock has no finer ones.
    "sqlite": "SELECT CAST(ROUND((julianday('now') - 2440587.5) * 86400000) AS INTEGER) * 1000",
    "postgresql": "SELECT (EXTRACT(EPOCH FROM clock_timestamp()) * 1000000)::bigint",
}


def database_now(connection: Connection) -> int:
    """Return the microseconds since 1970."""
    return int(connection.exec_driver_sql(_NOW[connection.dialect.name]).scalar_one())
