"""The devices' own numbers of messages that are there: by them the store knows what a device sent again."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from itertools import chain

from sqlalchemy import Connection

from storage import bulk
from storage.sorting import MessageKey
from storage.tables import messages

_COLUMNS = ("product", "device", "message", "position")
# A number that is there already was of an event that is gone.
_REPLACE = "ON CONFLICT (product, device, message) DO UPDATE SET position = excluded.position"
# By its key for each: of a join the planner might read the whole index, for it never saw how large it is.
_SELECT = """
SELECT sent.product, sent.device, sent.message, first.position
FROM unnest($1::TEXT[], $2::TEXT[], $3::TEXT[]) AS sent (product, device, message) CROSS JOIN LATERAL (
  SELECT position FROM messages
  WHERE product = sent.product AND device = sent.device AND message = sent.message LIMIT 1
) AS first
"""
_ROWS = 256  # in one SQLite statement


def known_messages(connection: Connection, sent: Sequence[MessageKey]) -> dict[MessageKey, int]:
    """Return the positions of those messages that are in the store already."""
    if connection.dialect.name != "sqlite":
        return _known_by_position(connection, sent)
    known: dict[MessageKey, int] = {}
    for start in range(0, len(sent), _ROWS):
        some = sent[start : start + _ROWS]
        rows = bulk.run(connection, _select_known(len(some)), tuple(chain.from_iterable(some)))
        known.update({tuple(key): position for *key, position in rows})
    return known


def insert(rows: Sequence[tuple[str, str, str, int]]) -> bulk.Insert:
    """Return how new messages are noted with their positions."""
    return bulk.Insert(messages, _COLUMNS, rows, _REPLACE)


def _known_by_position(connection: Connection, sent: Sequence[MessageKey]) -> dict[MessageKey, int]:
    """Look the messages up. One whose event retention has just taken out is not known any more."""
    columns = tuple(list(column) for column in zip(*sent, strict=True))
    known = {tuple(key): position for *key, position in bulk.run(connection, _SELECT, columns)}
    there = bulk.known_positions(connection, list(known.values()))
    return {key: position for key, position in known.items() if position in there}


@cache
def _select_known(count: int) -> str:
    marks = ", ".join(["(?, ?, ?)"] * count)
    return (
        f"WITH sent (whose, who, what) AS (VALUES {marks})"  # noqa: S608 - marks
        " SELECT product, device, message, position FROM sent CROSS JOIN messages"  # in this order, by the key
        " WHERE product = whose AND device = who AND message = what"
    )
