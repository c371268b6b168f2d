"""`verify` finds each deliberate corruption of a store, on both databases, and names the rows to look at."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest

from storage.engine import Database
from storage.verify.finding import Finding
from tests.support.balanced import differences, filled_store, verified
from tests.support.records import numbered
from tests.support.stored import run

_COPY = """
INSERT INTO events (position, id, product, device, name, data, received_at, source, mode, attributes)
SELECT {at}, {id}, product, device, name, data, received_at, source, mode, attributes FROM events WHERE position = 20
"""
_END = f"{numbered(1, 19)[0].id.int:032x}"[-12:]  # of the id of the event at position 20
_DELIVERY = "INSERT INTO deliveries (handler, position, attempts, error) VALUES ('alerts', {at}, 1, 'boom')"
_MESSAGE = "INSERT INTO messages (product, device, message, position) VALUES ('tracker', 'dev1', '7', 1)"


class Expected(NamedTuple):
    """A difference: of which check, by how much, and a part of what it says to look at."""

    check: str
    difference: int
    look_at: str


CORRUPTIONS: dict[str, tuple[str, list[Expected]]] = {
    "a row is gone": (
        "DELETE FROM events WHERE position = 20",
        [Expected("blocks", -1, f"one is not there whose id ends in {_END}")],
    ),
    "a row behind the books is gone": (
        "DELETE FROM events WHERE position = 270",
        [Expected("rows", -1, "position > 240"), Expected("positions", -1, "not there: position 270")],
    ),
    "a row is where one had expired": (
        _COPY.format(at=1, id="{id}"),
        [Expected("blocks", 1, "events WHERE position = 1")],
    ),
    "a row is beyond the head": (_COPY.format(at=301, id="{id}"), [Expected("positions", 1, "position > 300")]),
    "a row is before the first": (
        _COPY.format(at=-5, id="{id}"),
        [Expected("positions", 1, "position < 1")],
    ),
    "an id is another": (
        "UPDATE events SET id = {id} WHERE position = 20",
        [Expected("blocks", 1, "as many as expected, with other ids")],
    ),
    "an id is no id": (
        "UPDATE events SET id = {none} WHERE position = 20",
        [Expected("blocks", 1, "as many as expected, with other ids")],
    ),
    "a row is another source's": (
        "UPDATE events SET source = 'lab' WHERE position = 20",
        [
            Expected("blocks", -1, "events WHERE position = 20: it came another way"),
            Expected("blocks", 1, "events WHERE position = 20"),
        ],
    ),
    "a row behind the books is another mode's": (
        "UPDATE events SET mode = 'sse' WHERE position = 270",
        [Expected("rows", -1, "mode = 'webhook'"), Expected("rows", 1, "mode = 'sse'")],
    ),
    "a tally is another": (
        "UPDATE tallies SET count = count + 3 WHERE outcome = 'stored' AND source = 'fleet'",
        [Expected("rows", -3, "tallies WHERE source = 'fleet'"), Expected("positions", -3, "head")],
    ),
    "what expired is not tallied": (
        "DELETE FROM tallies WHERE outcome = 'expired'",
        [Expected("rows", -2, "tallies WHERE source = 'fleet'")],
    ),
    "the head is ahead": ("UPDATE head SET position = position + 10", [Expected("positions", 10, "head")]),
    "the head is behind": (
        "UPDATE head SET position = position - 10",
        [
            Expected("positions", -10, "head"),
            Expected("positions", 10, "events WHERE position > 290"),
            Expected("rows", -10, "position > 240"),
        ],
    ),
    "a cursor is beyond the head": (
        "UPDATE cursors SET position = 1000 WHERE handler = 'alerts'",
        [Expected("handlers", 700, "cursors WHERE handler = 'alerts' AND position > 300")],
    ),
    "a cursor is ahead": (
        "UPDATE cursors SET position = position + 4 WHERE handler = 'alerts'",
        [Expected("handlers", -4, "cursors WHERE handler = 'alerts'")],
    ),
    "a place is beyond the head": (
        "UPDATE cursors SET position = 310 WHERE handler = '(books)'",
        [
            Expected("handlers", 10, "cursors WHERE handler = '(books)' AND position > 300"),
            Expected("rows", -60, "source = 'fleet'"),
            Expected("blocks", 60, "BETWEEN 1 AND 310"),
        ],
    ),
    "more was delivered": (
        "UPDATE cursors SET delivered = delivered + 1 WHERE handler = 'alerts'",
        [Expected("handlers", 1, "deliveries WHERE handler = 'alerts', which are 2")],
    ),
    "a delivery is gone": (
        "DELETE FROM deliveries WHERE position = 7",
        [Expected("handlers", -1, "deliveries WHERE handler = 'alerts', which are 1")],
    ),
    "a delivery has no event": (
        _DELIVERY.format(at=1),
        [Expected("handlers", 1, "which are 3"), Expected("references", 1, "deliveries WHERE position = 1:")],
    ),
    "a delivery is beyond the head": (
        _DELIVERY.format(at=400),
        [
            Expected("handlers", 100, "deliveries WHERE handler = 'alerts' AND position > 300"),
            Expected("references", 1, "deliveries WHERE position = 400:"),
        ],
    ),
    "a cursor is gone": (
        "DELETE FROM cursors WHERE handler = 'alerts'",
        [Expected("handlers", 2, "deliveries WHERE handler = 'alerts': it has no cursor")],
    ),
    "gaps overlap": (
        "UPDATE gaps SET until = (SELECT until FROM gaps WHERE id = 2) WHERE id = 1",
        [Expected("gaps", 1, "gaps WHERE id = 2: it begins before the one before it is over")],
    ),
    "a gap ends before it begins": (
        "UPDATE gaps SET until = since - 1 WHERE id = 2",
        [Expected("gaps", 1, "gaps WHERE id = 2: it ends before it begins")],
    ),
    "two gaps are open": (
        "UPDATE gaps SET until = NULL WHERE id = 2",
        [Expected("gaps", 1, "gaps WHERE id = 3: it begins after one that is open")],
    ),
    "an interval ends before it begins": (
        "UPDATE coverage SET until = since - 1",
        [Expected("gaps", 1, "coverage WHERE id = 1: it ends before it begins")],
    ),
    "a block has another number": (
        "UPDATE blocks SET events = events + 1 WHERE source = 'lab'",
        [Expected("rows", 1, "blocks WHERE source = 'lab'"), Expected("blocks", -1, "blocks WHERE block = 0")],
    ),
    "a block has another sum": (
        "UPDATE blocks SET checksum = checksum + 1 WHERE source = 'lab'",
        [Expected("blocks", 1, "events WHERE position BETWEEN 1 AND 240: as many as expected, with other ids")],
    ),
    "a block is gone": (
        "DELETE FROM blocks WHERE source = 'lab'",
        [Expected("rows", -100, "blocks WHERE source = 'lab'"), Expected("blocks", 100, "BETWEEN 1 AND 240")],
    ),
    "a copy was seen of nothing": (
        "UPDATE sightings SET position = 2 WHERE id = 1",
        [Expected("references", 1, "sightings WHERE position = 2: there is no such event")],
    ),
    "a device's number is of nothing": (_MESSAGE, [Expected("references", 1, "messages WHERE position = 1:")]),
    "ranges of numbers overlap": (
        "UPDATE losses SET last = last + 1 WHERE id = 1",
        [Expected("losses", 1, "losses WHERE id = 6: its ids are those of the range before it too")],
    ),
    "a range of numbers ends before it begins": (
        "UPDATE losses SET last = first - 1 WHERE id = 6",
        [Expected("losses", 1, "losses WHERE id = 6: it ends before it begins")],
    ),
}
OF_POSTGRES: dict[str, tuple[str, list[Expected]]] = {
    "an id is gone": (
        "DELETE FROM ids WHERE position = 20",
        [Expected("ids", 1, "events WHERE position = 20: its id is not in ids")],
    ),
    "an id is of another position": (
        "UPDATE ids SET position = 21 WHERE position = 20",
        [Expected("ids", 1, "events WHERE position = 20"), Expected("ids", 1, "ids WHERE position = 21")],
    ),
    "an id is of nothing": (
        "INSERT INTO ids (id, position) VALUES ({id}, 2)",
        [Expected("ids", 1, "ids WHERE position = 2: there is no such event")],
    ),
}
_ID = "0199f3a27c118b529f0e3c5a7d1e2f40"


@pytest.fixture
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A store with something of everything."""
    return filled_store(request.param, tmp_path)


async def test_a_store_with_something_of_everything_balances(database: Database) -> None:
    """Nothing is found in it, and each kind of thing was looked at."""
    found = await verified(database)
    assert found.balances
    assert found.differences == []
    assert all(check.counted for check in found.checks if check.of != "events with messages"), found.checks
    assert [(source.source, source.found) for source in found.sources] == [("fleet", 198), ("lab", 100)]


@pytest.mark.parametrize("corruption", CORRUPTIONS)
async def test_a_corruption_is_found_and_named(database: Database, corruption: str) -> None:
    """Each difference that follows from it is listed, with the rows to look at, and no other check finds any."""
    statement, expected = CORRUPTIONS[corruption]
    await _corrupt(database, statement)
    found = await differences(database)
    _compare(found, expected, beside=["ids"] if " events" in statement else [])


@pytest.mark.parametrize("corruption", OF_POSTGRES)
async def test_a_corruption_of_ids_is_found_and_named(database: Database, corruption: str) -> None:
    """On PostgreSQL, where they stand beside the events."""
    if database.dialect == "sqlite":
        return
    statement, expected = OF_POSTGRES[corruption]
    await _corrupt(database, statement)
    _compare(await differences(database), expected)


async def _corrupt(database: Database, statement: str) -> None:
    id_ = f"x'{_ID}'" if database.dialect == "sqlite" else f"'{_ID}'::uuid"
    none = "'?'" if database.dialect == "sqlite" else "'00000000-0000-0000-0000-000000000000'"
    await run(database, statement.format(id=id_, none=none))


def _compare(found: Sequence[Finding], expected: Sequence[Expected], beside: Collection[str] = ()) -> None:
    for check, difference, look_at in expected:
        assert any(
            (finding.check, finding.difference) == (check, difference) and look_at in finding.look_at
            for finding in found
        ), found
    assert {finding.check for finding in found} <= {of.check for of in expected} | {*beside}, found
