"""What is compared is of one moment, whatever is committed meanwhile."""

from __future__ import annotations

from sqlalchemy import Connection

from storage import bulk
from storage.database import P, T, Work


def of_one_moment(connection: Connection, work: Work[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run `work` as the only thing of its transaction, which sees nothing that is committed from now on.

    SQLite does so anyway. On PostgreSQL the table is locked before the moment is taken: what `events` consists of is
    not of that moment, and a partition that goes in between would be missing. Only who takes out partitions waits.
    """
    if connection.dialect.name == "postgresql":
        bulk.run(connection, "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        bulk.run(connection, "LOCK TABLE events IN ACCESS SHARE MODE")
    return work(connection, *args, **kwargs)
