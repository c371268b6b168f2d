"""Sources as the store alone knows them: what each brought, and whether it is listening; no process is asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from msgspec import Struct

from app.settings import Settings
from ingest.event import DUPLICATES, Cause, Mode
from ingest.times import Time, rfc3339
from storage.queries.gaps import OpenGap
from storage.queries.sources import Covered, OpenInterval, SourceTotals

_LISTENING = "listening"
_LATE_SECONDS = 20.0  # by which a record may lag: an endpoint's is renewed every two, and a busy store takes its time


class StoredStream(Struct, frozen=True, kw_only=True):
    """A stream that listens, as far as it is proven."""

    stream: int
    since: Time
    covered_until: Time


class StoredSource(Struct, frozen=True, kw_only=True):
    """One source and mode over all processes and restarts; `product` is null where it is not configured.

    `state` is listening, or why nobody is; `since` when; `streams` those that were heard of lately. All that is null
    where no record is kept (Pub/Sub), and before the first start.
    """

    source: str
    mode: str
    product: str | None
    counts: Mapping[str, int]
    duplicate_kinds: Mapping[str, int]
    last_minute: Time | None
    open_gap: OpenGap | None
    state: str | None
    since: Time | None
    covered_since: Time | None
    covered_until: Time | None
    streams: list[StoredStream]


def stored_sources(settings: Settings, totals: Sequence[SourceTotals]) -> list[StoredSource]:
    """Return the configured sources and modes, and behind them those that only the store knows."""
    known = {(row.source, row.mode): row for row in totals}
    configured = [(label, mode) for label, source in settings.sources.items() for mode in source.modes]
    return [
        _stored_source(source, mode, known.get((source, mode)), settings)
        for source, mode in dict.fromkeys([*configured, *sorted(known)])
    ]


def _stored_source(source: str, mode: Mode, totals: SourceTotals | None, settings: Settings) -> StoredSource:
    counts = totals.counts if totals else {}
    covered, gap = (totals.covered, totals.open_gap) if totals else (None, None)
    kinds = {kind.value: counts.get(kind, 0) for kind in sorted(DUPLICATES)}
    patience = _patience_seconds(settings, source, mode)
    alive = [interval for interval in covered.open if interval.silent_seconds <= patience] if covered else []
    state, since = _state(covered, gap, alive)
    return StoredSource(
        source=source,
        mode=mode,
        product=settings.sources[source].product if source in settings.sources else None,
        counts={
            "stored": counts.get("stored", 0),
            "duplicate": sum(kinds.values()),
            "rejected": counts.get("rejected", 0),
            "ignored": counts.get("ignored", 0),
            "expired": counts.get("expired", 0),
        },
        duplicate_kinds=kinds,
        last_minute=rfc3339(totals.last_minute) if totals and totals.last_minute else None,
        open_gap=gap,
        state=state,
        since=since,
        covered_since=rfc3339(covered.since) if covered else None,
        covered_until=rfc3339(covered.until) if covered else None,
        streams=[
            StoredStream(stream=one.stream, since=rfc3339(one.since), covered_until=rfc3339(one.until)) for one in alive
        ],
    )


def _state(
    covered: Covered | None, gap: OpenGap | None, alive: Sequence[OpenInterval]
) -> tuple[str | None, Time | None]:
    """Return the state and since when.

    Where no record goes on and no gap was written, the process was killed: `down`, as the gap to come will say.
    """
    if gap is not None:
        return gap.cause, gap.since
    if covered is None:
        return None, None
    return (_LISTENING, rfc3339(covered.unbroken_since)) if alive else (Cause.DOWN.value, rfc3339(covered.until))


def _patience_seconds(settings: Settings, source: str, mode: Mode) -> float:
    """Return how long a stream that listens may go without proof: a quiet one has it by the next byte only."""
    configured = settings.sources.get(source)
    quiet = configured.sse.idle_timeout.total_seconds() if configured and mode == "sse" else 0.0
    return quiet + _LATE_SECONDS
