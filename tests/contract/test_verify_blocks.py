"""What `verify` says of a block of which nothing has expired, on both databases."""

from __future__ import annotations

from storage.books.posting import Posting
from storage.engine import Database
from storage.store import SqlStore
from tests.support.balanced import differences
from tests.support.records import NOW, numbered
from tests.support.stored import run


async def test_what_is_missing_of_a_whole_block_is_named(database: Database) -> None:
    """Where nothing of it has expired, what is not there is what is missing."""
    await SqlStore(database, lambda: NOW).commit(numbered(4200))
    await Posting(database).post_all()
    await run(database, "DELETE FROM events WHERE position IN (4100, 4101, 4103)")
    (found,) = [finding for finding in await differences(database) if finding.check == "blocks"]
    assert (found.block, found.first, found.last) == (1, 4096, 8191)
    assert (found.expected, found.found, found.difference) == (105, 102, -3)
    assert found.look_at == "not there: positions 4100, 4101, 4103"
