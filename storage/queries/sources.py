"""Sources as the store alone knows them: what each brought, and whether it is listening; no process is asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from msgspec import Struct
from sqlalchemy import Connection, case, func, select

from ingest.coverage import Gap
from ingest.event import DUPLICATES, Cause
from ingest.times import Time, rfc3339
from storage.auth_failures import UNAUTHORIZED
from storage.clock import database_now
from storage.gaps import SourceKey, open_gaps
from storage.queries.gaps import OpenGap
from storage.queries.hook_echoes import echo_sums, no_echoes
from storage.queries.times import as_time, as_time_or_none
from storage.rows import to_micros
from storage.tables import coverage, gaps, tallies

_RUNNING, _DOWN = "running", "down"
_LATE_SECONDS = 20.0  # by which a record may lag: an endpoint's is renewed every two, and a busy store takes its time
_MICROSECONDS_PER_MINUTE = 60_000_000


@dataclass(frozen=True, slots=True)
class ConfiguredSource:
    """A configured source and mode. Its streams may be quiet for `quiet_seconds` before they count as dead."""

    product: str
    quiet_seconds: float = 0.0


class StoredStream(Struct, frozen=True, kw_only=True):
    """A stream that listens, as far as it is proven."""

    stream: int
    since: Time
    covered_until: Time


class StoredSource(Struct, frozen=True, kw_only=True):
    """One source and mode over all processes and restarts; `product` is null where it is not configured.

    `state` is running, stopped (in good order) or down, `reason` why it is down, `since` when; `streams` are those that
    were heard of lately. All that is null where no record is kept (Pub/Sub), and before the first start. `last_minute`
    is the last one with traffic; `auth_failures` are requests with bad or no credentials, which are no arrivals;
    `hook_echoes` is the vendor's own word on its webhooks, of the last month at most.
    """

    source: str
    mode: str
    product: str | None
    counts: Mapping[str, int]
    duplicate_kinds: Mapping[str, int]
    auth_failures: int
    hook_echoes: Mapping[str, int]
    last_minute: Time | None
    open_gap: OpenGap | None
    state: str | None
    reason: str | None
    since: Time | None
    covered_since: Time | None
    covered_until: Time | None
    streams: Sequence[StoredStream]


class _Covered(NamedTuple):
    """When a source and mode was listening, in microseconds; the last gap that is over ended at `unbroken_since`."""

    since: int
    until: int
    unbroken_since: int


def stored_sources(connection: Connection, configured: Mapping[SourceKey, ConfiguredSource]) -> list[StoredSource]:
    """Return the configured sources and modes, and behind them, sorted, the others that ever committed or listened."""
    counts, minutes = _tallied(connection)
    echoes = echo_sums(connection)
    covered, lasting, listening = _covered(connection), open_gaps(connection), _open_intervals(connection)
    now = database_now(connection)
    found = []
    for key in dict.fromkeys([*configured, *sorted(counts.keys() | covered.keys())]):
        known, gap, span = configured.get(key), lasting.get(key), covered.get(key)
        silent_before = now - round((_LATE_SECONDS + (known.quiet_seconds if known else 0.0)) * 1_000_000)
        alive = [row for row in listening.get(key, ()) if row.until >= silent_before]
        state, reason, since = _state(span, gap, listening=bool(alive))
        found.append(
            StoredSource(
                source=key.source,
                mode=key.mode,
                product=known.product if known else None,
                **_counted(counts.get(key, {})),
                auth_failures=counts.get(key, {}).get(UNAUTHORIZED, 0),
                hook_echoes=echoes.get(key) or no_echoes(),
                last_minute=as_time_or_none(minutes.get(key)),
                open_gap=None if gap is None else _open_gap(gap, now),
                state=state,
                reason=reason,
                since=since,
                covered_since=as_time(span.since) if span else None,
                covered_until=as_time(span.until) if span else None,
                streams=[_stream(row) for row in alive],
            )
        )
    return found


def _counted(counts: Mapping[str, int]) -> dict[str, Mapping[str, int]]:
    """Return the members `counts` and `duplicate_kinds`, whose sum is the duplicates."""
    kinds = {kind.value: counts.get(kind, 0) for kind in sorted(DUPLICATES)}
    others = {outcome: counts.get(outcome, 0) for outcome in ("rejected", "ignored", "expired")}
    shown = {"stored": counts.get("stored", 0), "duplicate": sum(kinds.values()), **others}
    return {"counts": shown, "duplicate_kinds": kinds}


def _state(covered: _Covered | None, gap: Gap | None, *, listening: bool) -> tuple[str | None, str | None, Time | None]:
    """Return the state, in the words of the API, the reason, and since when.

    Where no record goes on and no gap was written, the process was killed: `down`, as the gap to come will say.
    """
    if gap is not None:
        if gap.cause is Cause.STOPPED:
            return Cause.STOPPED.value, None, rfc3339(gap.since)
        return _DOWN, gap.cause.value, rfc3339(gap.since)
    if covered is None:
        return None, None, None
    if listening:
        return _RUNNING, None, as_time(covered.unbroken_since)
    return _DOWN, Cause.DOWN.value, as_time(covered.until)


def _stream(row: Any) -> StoredStream:
    return StoredStream(stream=row.stream, since=as_time(row.since), covered_until=as_time(row.until))


def _open_gap(gap: Gap, now: int) -> OpenGap:
    seconds = max(now - to_micros(gap.since), 0) / 1_000_000
    return OpenGap(since=rfc3339(gap.since), cause=gap.cause.value, seconds=seconds)


def _tallied(connection: Connection) -> tuple[dict[SourceKey, dict[str, int]], dict[SourceKey, int]]:
    """Return the counts by outcome, and `expired`; and the last minute with traffic, in microseconds."""
    counts: dict[SourceKey, dict[str, int]] = {}
    minutes: dict[SourceKey, int] = {}
    arrived = case((tallies.c.outcome.not_in(("expired", UNAUTHORIZED)), tallies.c.minute))
    by_outcome = select(
        tallies.c.source, tallies.c.mode, tallies.c.outcome, func.sum(tallies.c.count), func.max(arrived)
    ).group_by(tallies.c.source, tallies.c.mode, tallies.c.outcome)
    for source, mode, outcome, count, minute in connection.execute(by_outcome):
        key = SourceKey(source, mode)
        counts.setdefault(key, {})[outcome] = int(count)
        if minute is not None:
            minutes[key] = max(minute * _MICROSECONDS_PER_MINUTE, minutes.get(key, 0))
    return counts, minutes


def _covered(connection: Connection) -> dict[SourceKey, _Covered]:
    way = gaps.c.source, gaps.c.mode
    ended = select(*way, func.max(gaps.c.until)).where(gaps.c.until.is_not(None)).group_by(*way)
    gap_ends = {SourceKey(source, mode): until for source, mode, until in connection.execute(ended)}
    of = coverage.c.source, coverage.c.mode
    ends = select(*of, func.min(coverage.c.since), func.max(coverage.c.until)).group_by(*of)
    return {
        (key := SourceKey(source, mode)): _Covered(since, until, max(since, gap_ends.get(key, since)))
        for source, mode, since, until in connection.execute(ends)
    }


def _open_intervals(connection: Connection) -> dict[SourceKey, list[Any]]:
    """Return the streams that are not known to have ended."""
    query = select(coverage).where(~coverage.c.ended).order_by(coverage.c.stream, coverage.c.id)
    found: dict[SourceKey, list[Any]] = {}
    for row in connection.execute(query):
        found.setdefault(SourceKey(row.source, row.mode), []).append(row)
    return found
