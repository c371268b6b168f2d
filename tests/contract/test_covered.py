"""What coverage and gaps tell of a source together: since when nothing was missed, and which streams go on."""

from __future__ import annotations

from datetime import UTC, datetime

from ingest.event import Cause, Origin
from ingest.times import parse_rfc3339
from storage.coverage import SqlCoverage
from storage.engine import Database
from storage.gaps import SourceKey
from storage.queries.sources import ConfiguredSource, StoredSource, stored_sources

FLEET = Origin("tracker", "fleet", "sse")
OTHER = Origin("tracker", "other", "sse")
PATIENCE_SECONDS = 30.0  # of a busy machine between two statements


async def stored(database: Database, source: str = "fleet", *, quiet_seconds: float = 10_000) -> StoredSource:
    """What is known of a source whose streams may be quiet for so long."""
    configured = {SourceKey(source, "sse"): ConfiguredSource("tracker", quiet_seconds)}
    return (await database.read(stored_sources, configured))[0]


def is_ago(at: str | None, seconds: float) -> bool:
    """Whether that was so long ago, or a little longer."""
    assert at is not None
    ago = (datetime.now(UTC) - parse_rfc3339(at).at).total_seconds()
    return seconds - 1 <= ago < seconds + PATIENCE_SECONDS


async def test_streams_that_listen_are_told_by_their_silence(database: Database) -> None:
    """Each interval that was not ended, by stream, as long as its silence is none that matters for the source."""
    coverage = SqlCoverage(database)
    for stream, ago in ((1, 300), (0, 400)):
        opened = await coverage.open(FLEET, stream, ago)
        await coverage.extend(opened.interval, 100 * stream)
    ended = await coverage.open(FLEET, 2, 200)
    await coverage.end(ended.interval, Cause.CLOSED, 150)

    found = await stored(database)
    strict = await stored(database, quiet_seconds=40)

    fresh, silent = found.streams
    assert (fresh.stream, silent.stream) == (0, 1)
    assert is_ago(fresh.since, 400)
    assert is_ago(fresh.covered_until, 0)
    assert is_ago(silent.covered_until, 100)
    assert is_ago(found.covered_since, 400)
    assert found.covered_until == fresh.covered_until
    assert list(strict.streams) == [fresh]


async def test_unbroken_is_what_no_gap_interrupts(database: Database) -> None:
    """From the end of the last gap on; a stream that takes over in time changes nothing, nor do others' gaps."""
    coverage = SqlCoverage(database)
    lost = await coverage.open(FLEET, 0, 500)
    first = await stored(database)
    await coverage.end(lost.interval, Cause.IDLE, 450)
    broken = await stored(database)
    back = await coverage.open(FLEET, 0, 400)
    after_gap = await stored(database)
    await coverage.open(FLEET, 1, 300)
    await coverage.end(back.interval, Cause.CLOSED, 200)
    for ago in (100, 50):
        opened = await coverage.open(OTHER, 0, ago)
        await coverage.end(opened.interval, Cause.ERROR, ago - 10)
    await coverage.open(OTHER, 0, 30)

    found = await stored(database)

    assert (first.state, first.since) == ("running", first.covered_since)
    assert (broken.state, broken.reason) == ("down", "idle")
    assert is_ago(broken.since, 450)
    assert is_ago(after_gap.since, 400)
    assert (found.state, found.since) == ("running", after_gap.since)
    assert is_ago(found.covered_since, 500)
    assert is_ago((await stored(database, "other")).since, 30)
