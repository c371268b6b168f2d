"""The states of devices' counters, and the ranges of numbers that are missing, lost or recovered.

They are written in the transaction that moves the Auditor's cursor (storage/cursors.py), so that a crash between two
steps changes nothing. All that is written can be written again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from operator import itemgetter
from typing import NamedTuple

from sqlalchemy import Connection, delete, func, select

from ingest.sequences import LossRange, LossState
from storage import bulk
from storage.tables import cursors, losses, sequences

AUDITOR = "(auditor)"  # its cursor; no handler can be called so
OF_HANDLERS = cursors.c.handler.not_like("(%")

_STATE_COLUMNS = ("product", "device", "state", "number", "at")
_RANGE_COLUMNS = ("id", "source", "product", "device", "first", "last", "state", "noticed_at", "due_at")
_REPLACE_STATE = (
    "ON CONFLICT (product, device) DO UPDATE SET state = excluded.state, number = excluded.number,"
    " at = CASE WHEN excluded.at > sequences.at THEN excluded.at ELSE sequences.at END"
)
_REPLACE_RANGE = "ON CONFLICT (id) DO UPDATE SET first = excluded.first, last = excluded.last, state = excluded.state"
_MANY = 500  # in one statement
_INCOMPLETE = ("", "")

DeviceKey = tuple[str, str]  # product and device


class SequenceRow(NamedTuple):
    """The state of one device, encoded; the last number that it reached, and when it was heard last."""

    product: str
    device: str
    state: bytes
    number: int
    at: int


class Followed(NamedTuple):
    """What the Auditor found: states of devices, ranges as they are now, and the ids at which none begins any more.

    `forget`: first of all forget what is known of every device, and what is missing: events were gone unread.
    """

    states: Sequence[SequenceRow] = ()
    ranges: Sequence[LossRange] = ()
    gone: Sequence[int] = ()
    forget: bool = False


class Known(NamedTuple):
    """What the store knows when an Auditor begins: how much is missing by source, and the id for the next number.

    `complete`: no event was gone before it was read.
    """

    missing: Mapping[str, int]
    next_id: int
    complete: bool


def write(connection: Connection, followed: Followed) -> None:
    """Write what was found."""
    if followed.forget:
        connection.execute(delete(sequences))
        connection.execute(delete(losses).where(losses.c.state == LossState.MISSING.value))
        bulk.insert(connection, sequences, _STATE_COLUMNS, [(*_INCOMPLETE, b"", 0, 0)])
    bulk.insert(connection, sequences, _STATE_COLUMNS, followed.states, _REPLACE_STATE)
    for start in range(0, len(followed.gone), _MANY):
        connection.execute(delete(losses).where(losses.c.id.in_(followed.gone[start : start + _MANY])))
    bulk.insert(connection, losses, _RANGE_COLUMNS, followed.ranges, _REPLACE_RANGE)


def known(connection: Connection) -> Known:
    """Return what an Auditor needs to go on."""
    is_missing = losses.c.state == LossState.MISSING.value
    count = func.sum(losses.c.last - losses.c.first + 1)
    missing = select(losses.c.source, count).where(is_missing).group_by(losses.c.source)
    newest = select(losses.c.id + losses.c.last - losses.c.first).order_by(losses.c.id.desc()).limit(1)
    incomplete = select(sequences.c.device).where(sequences.c.product == "", sequences.c.device == "")
    return Known(
        {source: int(count) for source, count in connection.execute(missing)},
        (connection.execute(newest).scalar() or 0) + 1,
        connection.execute(incomplete).first() is None,
    )


def states_of(connection: Connection, keys: Sequence[DeviceKey]) -> dict[DeviceKey, bytes]:
    """Return the encoded states of devices that have one."""
    found: dict[DeviceKey, bytes] = {}
    for product, of_product in groupby(sorted(keys), key=itemgetter(0)):
        devices = [device for _, device in of_product]
        for start in range(0, len(devices), _MANY):
            rows = _states(connection, product, devices[start : start + _MANY])
            found.update({(product, device): bytes(state) for device, state in rows})
    return found


def _states(connection: Connection, product: str, devices: Sequence[str]) -> Sequence[tuple[str, bytes]]:
    if connection.dialect.name != "sqlite":
        statement = "SELECT device, state FROM sequences WHERE product = $1 AND device = ANY($2::text[])"
        return bulk.run(connection, statement, (product, list(devices)))
    marks = ", ".join("?" * len(devices))
    statement = f"SELECT device, state FROM sequences WHERE product = ? AND device IN ({marks})"  # noqa: S608 - marks
    return bulk.run(connection, statement, (product, *devices))


def due(connection: Connection, now: int, limit: int) -> list[DeviceKey]:
    """Return devices that have missing numbers which are lost by `now`, in microseconds; the longest due first."""
    rows = (
        select(losses.c.product, losses.c.device)
        .where(losses.c.state == LossState.MISSING.value, losses.c.due_at <= now)
        .order_by(losses.c.due_at)
        .limit(limit)
    )
    return list(dict.fromkeys((product, device) for product, device in connection.execute(rows)))


def forget_losses(connection: Connection, before: int, limit: int) -> int:
    """Forget ranges noticed `before` that are missing no more; never the newest, whose id the next one follows."""
    newest = select(func.max(losses.c.id)).scalar_subquery()
    old = (
        select(losses.c.id)
        .where(losses.c.noticed_at < before, losses.c.state != LossState.MISSING.value, losses.c.id != newest)
        .order_by(losses.c.id)
        .limit(limit)
    )
    ids = connection.execute(old).scalars().all()
    if ids:
        connection.execute(delete(losses).where(losses.c.id.in_(ids)))
    return len(ids)
