"""What PostgreSQL takes in no text, in a message's attributes: it is kept all the same, and never tried for ever."""

from __future__ import annotations

import pytest

from ingest.event import Event, Origin, Outcome
from ingest.formats.generic import Fields, GenericFormat
from ingest.formats.message import Message
from ingest.formats.particle import ParticleFormat
from ingest.protocols import MessageFormat
from storage.engine import Database
from storage.feed import SqlFeed
from storage.queries.page import PageSpan
from storage.queries.rejects import rejects_page
from storage.store import SqlStore
from tests.support.records import NOW

ORIGIN = Origin("tracker", "fleet", "pubsub")
WHOLE = {"event": "temperature", "device_id": "dev1", "published_at": "2026-07-28T16:53:05.616Z", "fw": "91"}
PARTICLE = ParticleFormat(ORIGIN, ())
GENERIC = GenericFormat(
    ORIGIN, (), Fields(id="header:fw", device="header:device_id", name="header:event", time="header:published_at")
)


@pytest.mark.parametrize("format_", [PARTICLE, GENERIC], ids=["particle", "generic"])
@pytest.mark.parametrize("spoiled", [*WHOLE, "an\x00other"])
async def test_nul_in_any_attribute_is_kept(spoiled: str, format_: MessageFormat, database: Database) -> None:
    """A message with a NUL in an attribute or in its name is an event or a reject, with its bytes and attributes."""
    attributes = WHOLE | {spoiled: "\x00" + WHOLE.get(spoiled, "")}
    (record,) = format_.decode_message(Message(b'{"t":21.5}', attributes, NOW), NOW)

    (outcome,) = (await SqlStore(database, lambda: NOW).commit([record])).outcomes

    if isinstance(record, Event):
        assert outcome is Outcome.STORED
        (event,) = await SqlFeed(database).read(0, 10)
        assert (event.data, event.attributes) == (record.data, record.attributes)
    else:
        assert outcome is Outcome.REJECTED
        (row,) = (await database.read(rejects_page, PageSpan())).rows
        assert (row.body, row.attributes) == (b'{"t":21.5}', attributes)


async def test_a_page_of_rejects_is_bounded_by_what_stands_beside_them_too(database: Database) -> None:
    """Rejects with little but attributes make no answer that is larger than others."""
    large = {"note": "x" * 1_000_000}
    records = [record for _ in range(20) for record in PARTICLE.decode_message(Message(b"", large, NOW), NOW)]
    await SqlStore(database, lambda: NOW).commit(records)

    page = await database.read(rejects_page, PageSpan())

    assert 0 < len(page.rows) < 10
    assert page.next == page.rows[-1].id
