"""What became of one event at each handler, from the handler's cursor, the rows it parked, and its filters."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

from msgspec import Struct
from sqlalchemy import Connection, select

from ingest.event import Event
from storage.queries import attempts
from storage.queries.attempts import AttemptRow, attempts_of
from storage.runs import read_runs
from storage.sequences import OF_HANDLERS
from storage.tables import cursors, deliveries, skipped

State = Literal["delivered", "waiting", "parked", "dead", "unmatched", "skipped"]


class ConfiguredHandler(NamedTuple):
    """A handler of the configuration: whether it wants an event, and whether a new one begins before the first."""

    label: str
    wants: Callable[[Event], bool]
    from_beginning: bool


class EventDelivery(Struct, frozen=True, kw_only=True):
    """What became of an event at a handler.

    `waiting`: the handler has not come to it yet. `parked`: it failed and is tried again, or waits behind one of its
    device that did. `unmatched`: a filter of today leaves it out, or it came before the handler began. `attempts` are
    the first and the last twenty that failed; `attempt_count` counts those since it was last redriven. Of what was
    delivered none are kept.
    """

    handler: str
    state: State
    attempts: list[AttemptRow]
    attempt_count: int


EXAMPLE = EventDelivery(handler="alerts", state="parked", attempts=[attempts.EXAMPLE], attempt_count=1)


def deliveries_of(connection: Connection, event: Event, configured: Sequence[ConfiguredHandler]) -> list[EventDelivery]:
    """Return what became of a stored event at each handler that is configured or ever ran, by name."""
    position = event.position or 0
    rows = {row.handler: row for row in connection.execute(select(cursors).where(OF_HANDLERS))}
    known = {handler.label: handler for handler in configured}
    kept = select(deliveries).where(deliveries.c.position == position)
    parked = {row.handler: row for row in connection.execute(kept)}
    within = (skipped.c.first_position <= position, skipped.c.last_position >= position)
    whole = skipped.c.events == skipped.c.last_position - skipped.c.first_position + 1  # else it may be one that stayed
    taken = set(connection.execute(select(skipped.c.handler).where(*within, whole)).scalars())
    return [
        _failed(parked[name])
        if name in parked
        else _delivery(name, _state(event, position, rows.get(name), known.get(name), taken=name in taken))
        for name in sorted(rows.keys() | known.keys())
    ]


def _failed(row: Any) -> EventDelivery:
    return EventDelivery(
        handler=row.handler,
        state="dead" if row.due_at is None else "parked",
        attempts=attempts_of(row.history),
        attempt_count=row.attempts,
    )


def _delivery(handler: str, state: State) -> EventDelivery:
    return EventDelivery(handler=handler, state=state, attempts=[], attempt_count=0)


def _state(event: Event, position: int, row: Any, handler: ConfiguredHandler | None, *, taken: bool) -> State:
    """Return what became of an event of which a handler kept no row."""
    if handler is not None and not handler.wants(event):
        return "unmatched"
    if row is None:  # it never ran
        return "waiting" if handler is not None and handler.from_beginning else "unmatched"
    if position <= row.first_position:
        return "unmatched"
    if taken:
        return "skipped"
    ahead = any(first <= position <= last for first, last in read_runs(row.position, row.ahead))
    return "delivered" if position <= row.position or ahead else "waiting"
