"""The balance: what was received, step by step to what was delivered, with what left at each; and what did not come."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from msgspec import Struct
from sqlalchemy import Connection, func, select

from ingest.deliveries import HandlerLag
from ingest.event import DUPLICATES
from ingest.sequences import LossState
from storage.clock import database_now
from storage.deliveries import lag
from storage.gaps import SourceKey
from storage.queries.handlers import handler_names
from storage.tables import comparisons, gaps, losses, tallies


class SourceBalance(Struct, frozen=True, kw_only=True):
    """The arrivals of a source and mode, as they were committed by all processes.

    `received` = `rejected` + `ignored` + `duplicate` + `stored`, and `stored` = `expired` + `here`.
    """

    source: str
    mode: str
    received: int
    rejected: int
    ignored: int
    duplicate: int
    duplicate_kinds: Mapping[str, int]
    stored: int
    expired: int
    here: int


class SourceLosses(Struct, frozen=True, kw_only=True):
    """The evidence of what a source did not bring, as far as the store reaches back.

    `missing`, `lost` and `recovered` are devices' numbers (a `sequence`). `ambiguous` are those that fit no run, since
    the start of the process that is asked; null where none is. `suspected` is what `gaps` may have cost. `seen_by` are
    events by the ways that brought them, where they come several ways.
    """

    source: str
    missing: int
    lost: int
    recovered: int
    ambiguous: int | None
    gaps: int
    gap_seconds: float
    suspected: float
    seen_by: Mapping[str, int]


class HandlerBalance(Struct, frozen=True, kw_only=True):
    """The positions that a handler `passed`, and what became of them; behind these, others are `waiting` for it.

    `passed` = `unmatched` + `delivered` + `dead` + `parked` + `skipped` + `deleted`. `parked`: failed, and tried again,
    or behind such a one of its device. `deleted`: dead letters that somebody deleted.
    """

    handler: str
    passed: int
    unmatched: int
    delivered: int
    dead: int
    parked: int
    skipped: int
    deleted: int
    waiting: int


class Balance(Struct, frozen=True, kw_only=True):
    """From received to delivered, and what did not come."""

    sources: Sequence[SourceBalance]
    losses: Sequence[SourceLosses]
    handlers: Sequence[HandlerBalance]


EXAMPLE = Balance(
    sources=[
        SourceBalance(
            source="fleet",
            mode="webhook",
            received=1050,
            rejected=2,
            ignored=1,
            duplicate=5,
            duplicate_kinds={kind.value: 5 * (kind.value == "redelivery") for kind in sorted(DUPLICATES)},
            stored=1042,
            expired=42,
            here=1000,
        )
    ],
    losses=[
        SourceLosses(
            source="fleet",
            missing=2,
            lost=1,
            recovered=4,
            ambiguous=0,
            gaps=3,
            gap_seconds=98.896,
            suspected=11.5,
            seen_by={"webhook": 7, "webhook+sse": 990},
        )
    ],
    handlers=[
        HandlerBalance(
            handler="alerts",
            passed=1040,
            unmatched=30,
            delivered=1007,
            dead=1,
            parked=2,
            skipped=0,
            deleted=0,
            waiting=2,
        )
    ],
)


def balance(connection: Connection, ambiguous: Mapping[str, int] | None = None) -> Balance:
    """Return the balance of the store. `ambiguous`: what the process that asks counted, by source."""
    arrived = _sources(connection)
    return Balance(
        sources=arrived,
        losses=_losses(connection, {row.source for row in arrived}, ambiguous),
        handlers=[
            _handler(name, found) for name in handler_names(connection) if (found := lag(connection, name)) is not None
        ],
    )


def _sources(connection: Connection) -> list[SourceBalance]:
    by_outcome = select(tallies.c.source, tallies.c.mode, tallies.c.outcome, func.sum(tallies.c.count))
    counts: dict[SourceKey, dict[str, int]] = {}
    for source, mode, outcome, count in connection.execute(
        by_outcome.group_by(tallies.c.source, tallies.c.mode, tallies.c.outcome)
    ):
        counts.setdefault(SourceKey(source, mode), {})[outcome] = int(count)
    return [_source(key, counts[key]) for key in sorted(counts)]


def _source(key: SourceKey, counts: Mapping[str, int]) -> SourceBalance:
    kinds = {kind.value: counts.get(kind, 0) for kind in sorted(DUPLICATES)}
    stored, rejected, ignored, expired = (counts.get(name, 0) for name in ("stored", "rejected", "ignored", "expired"))
    return SourceBalance(
        source=key.source,
        mode=key.mode,
        received=stored + rejected + ignored + sum(kinds.values()),
        rejected=rejected,
        ignored=ignored,
        duplicate=sum(kinds.values()),
        duplicate_kinds=kinds,
        stored=stored,
        expired=expired,
        here=stored - expired,
    )


def _losses(connection: Connection, sources: set[str], ambiguous: Mapping[str, int] | None) -> list[SourceLosses]:
    numbers, silent, seen = _numbers(connection), _silent(connection), _seen(connection)
    found = []
    for source in sorted(sources | numbers.keys() | silent.keys() | seen.keys()):
        of_source = numbers.get(source, {})
        many, micros, suspected = silent.get(source, (0, 0, 0.0))
        found.append(
            SourceLosses(
                source=source,
                **{state.value: of_source.get(state.value, 0) for state in LossState},
                ambiguous=None if ambiguous is None else ambiguous.get(source, 0),
                gaps=many,
                gap_seconds=micros / 1_000_000,
                suspected=round(suspected, 3),
                seen_by=seen.get(source, {}),
            )
        )
    return found


def _numbers(connection: Connection) -> dict[str, dict[str, int]]:
    """Return how many numbers of devices are in which state, by source."""
    count = func.sum(losses.c.last - losses.c.first + 1)
    query = select(losses.c.source, losses.c.state, count).group_by(losses.c.source, losses.c.state)
    found: dict[str, dict[str, int]] = {}
    for source, state, numbers in connection.execute(query):
        found.setdefault(source, {})[state] = int(numbers)
    return found


def _silent(connection: Connection) -> dict[str, tuple[int, int, float]]:
    """Return how many gaps each source had, how long they were together, up to now, and what they may have cost."""
    length = func.coalesce(gaps.c.until, database_now(connection)) - gaps.c.since
    query = select(gaps.c.source, func.count(), func.sum(length), func.sum(gaps.c.suspected)).group_by(gaps.c.source)
    return {source: (many, max(int(micros), 0), cost) for source, many, micros, cost in connection.execute(query)}


def _seen(connection: Connection) -> dict[str, dict[str, int]]:
    """Return how many events of each source were brought by which ways."""
    which = (comparisons.c.source, comparisons.c.modes)
    query = select(*which, func.sum(comparisons.c.events)).group_by(*which).order_by(*which)
    found: dict[str, dict[str, int]] = {}
    for source, modes, events in connection.execute(query):
        found.setdefault(source, {})[modes] = int(events)
    return found


def _handler(name: str, found: HandlerLag) -> HandlerBalance:
    passed = found.passed
    return HandlerBalance(
        handler=name,
        passed=found.position - passed.first,
        unmatched=passed.unmatched,
        delivered=passed.delivered,
        dead=found.dead,
        parked=found.waiting,
        skipped=passed.skipped,
        deleted=passed.deleted,
        waiting=max(found.head - found.position, 0),
    )
