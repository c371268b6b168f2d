"""What coverage and gaps tell of a source together: since when nothing was missed, and which streams go on."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from ingest.event import Cause, Origin
from storage.coverage import SqlCoverage
from storage.engine import Database
from storage.queries.sources import Covered, source_totals

FLEET = Origin("tracker", "fleet", "sse")
OTHER = Origin("tracker", "other", "sse")
PATIENCE_SECONDS = 30.0  # of a busy machine between two statements


async def covered(database: Database, source: str = "fleet") -> Covered:
    """What is known of a source."""
    (found,) = [row.covered for row in await database.read(source_totals) if row.source == source]
    assert found is not None
    return found


def is_ago(at: datetime, seconds: float) -> bool:
    """Whether that was so long ago, or a little longer."""
    ago = (datetime.now(UTC) - at).total_seconds()
    return seconds - 1 <= ago < seconds + PATIENCE_SECONDS


async def test_streams_that_listen_are_told_with_their_silence(database: Database) -> None:
    """Each interval that was not ended, by stream, with how long ago it was last proven."""
    coverage = SqlCoverage(database)
    for stream, ago in ((1, 300), (0, 400)):
        opened = await coverage.open(FLEET, stream, ago)
        await coverage.extend(opened.interval, 100 * stream)
    ended = await coverage.open(FLEET, 2, 200)
    await coverage.end(ended.interval, Cause.CLOSED, 150)

    found = await covered(database)

    fresh, silent = found.open
    assert (fresh.stream, silent.stream) == (0, 1)
    assert is_ago(fresh.since, 400)
    assert is_ago(silent.until, 100)
    assert 0 <= fresh.silent_seconds < PATIENCE_SECONDS
    assert 100 <= silent.silent_seconds < 100 + PATIENCE_SECONDS
    assert is_ago(found.since, 400)
    assert found.until == fresh.until


async def test_unbroken_is_what_no_gap_interrupts(database: Database) -> None:
    """From the end of the last gap on; a stream that takes over in time changes nothing, nor do others' gaps."""
    coverage = SqlCoverage(database)
    lost = await coverage.open(FLEET, 0, 500)
    first = await covered(database)
    await coverage.end(lost.interval, Cause.IDLE, 450)
    back = await coverage.open(FLEET, 0, 400)
    after_gap = await covered(database)
    await coverage.open(FLEET, 1, 300)
    await coverage.end(back.interval, Cause.CLOSED, 200)
    for ago in (100, 50):
        opened = await coverage.open(OTHER, 0, ago)
        await coverage.end(opened.interval, Cause.ERROR, ago - 10)

    found = await covered(database)

    assert first.unbroken_since == first.since
    assert is_ago(after_gap.unbroken_since, 400)
    assert found.unbroken_since == after_gap.unbroken_since
    assert found.unbroken_since - found.since >= timedelta(seconds=90)
    assert is_ago((await covered(database, "other")).unbroken_since, 50)
