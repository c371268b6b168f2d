"""How large an answer with a page of rows can be: 8 MiB of JSON, whatever JSON makes of what is kept."""

from __future__ import annotations

from itertools import chain

import httpx
import pytest
from sqlalchemy import update

from storage.queries.page import MAX_PAGE_BYTES
from storage.tables import deliveries
from tests.support.api import World, an_event

ESCAPED = b"\x01" * 1_000_000  # six million bytes as JSON
AS_BASE64 = b"\xff" * 2_700_000
ENDS = 100  # bytes for what stands around the rows


async def pages(client: httpx.AsyncClient, path: str, name: str, key: str, **query: int | str) -> list[list[int]]:
    """The keys of each page, following `next` to the end; none is larger than the bound."""
    found: list[list[int]] = []
    onward = "before" if "order" in query else "after"
    while True:
        answer = await client.get(path, params=query)
        page = answer.json()
        assert len(answer.content) <= MAX_PAGE_BYTES + ENDS
        found.append([row[key] for row in page[name]])
        if page["next"] is None:
            return found
        assert page["next"] == page["last"] == found[-1][-1]
        query[onward] = page["next"]


@pytest.mark.parametrize("data", [ESCAPED, AS_BASE64], ids=["escaped", "base64"])
async def test_a_page_of_events_is_bounded_as_json(world: World, client: httpx.AsyncClient, data: bytes) -> None:
    """Of events that grow in JSON fewer are sent at once; `next` leads to the others, both ways."""
    await world.commit(*(an_event(number, data=data + b"%d" % number) for number in range(3)), an_event(3))

    forwards = await pages(client, "/api/v1/events", "events", "position")
    backwards = await pages(client, "/api/v1/events", "events", "position", order="desc")

    assert len(forwards) > 1
    assert [*chain(*forwards)] == [1, 2, 3, 4]
    assert [*chain(*backwards)] == [4, 3, 2, 1]


async def test_a_page_of_dead_letters_is_bounded_as_json(world: World, client: httpx.AsyncClient) -> None:
    """Their errors and their events count as they are sent."""
    await world.commit(an_event(0, data=ESCAPED), an_event(1))
    await world.give_up(1, 2)
    error = update(deliveries).values(error="\x01" * 300_000)
    await world.database.write(lambda connection: connection.execute(error) and None)

    assert await pages(client, "/api/v1/handlers/alerts/dead", "dead", "position") == [[1], [2]]
