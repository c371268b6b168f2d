"""POST …/redrive: what it gives back, what it refuses, and how it goes on with a rate."""

from __future__ import annotations

import asyncio
import json
from uuid import UUID

import httpx
import pytest
from sqlalchemy import case, update

from storage.tables import deliveries
from tests.support.api import EVENT, World, an_event, assert_problem


async def differ(world: World) -> None:
    """Let each dead letter have failed in a second of its own, and the second one by another cause."""
    position = deliveries.c.position
    values = {"first_failed_at": position * 1_000_000, "cause": case((position == 2, "timeout"))}
    statement = update(deliveries).values(values)
    await world.database.write(lambda connection: connection.execute(statement) and None)


@pytest.mark.parametrize(
    ("body", "redriven", "left"),
    [
        (b'{"all": true}', 3, []),
        (json.dumps({"ids": [str(EVENT.id)]}).encode(), 1, [2, 3]),
        (json.dumps({"ids": [str(UUID(int=5))]}).encode(), 0, [1, 2, 3]),
        (b'{"ids": []}', 0, [1, 2, 3]),
        (b'{"cause": "timeout"}', 1, [1, 3]),
        (b'{"cause": "tls"}', 0, [1, 2, 3]),
        (b'{"until": "1970-01-01T00:00:02Z"}', 1, [2, 3]),
        (b'{"since": "1970-01-01T00:00:02Z", "until": "1970-01-01T02:00:03+02:00"}', 1, [1, 3]),
        (b'{"since": "1970-01-01T00:00:02Z", "cause": "timeout"}', 1, [1, 3]),
        (b'{"until": "2h"}', 3, []),
        (b'{"since": "2h"}', 0, [1, 2, 3]),
    ],
)
async def test_redrive_gives_dead_letters_another_try(
    world: World, client: httpx.AsyncClient, body: bytes, redriven: int, left: list[int]
) -> None:
    """All dead letters, or those that meet every condition, are due again; the answer says how many."""
    await world.commit(*(an_event(number) for number in range(3)))
    await world.give_up(1, 2, 3)
    await differ(world)

    answer = await client.post("/api/v1/handlers/alerts/redrive", content=body)

    assert (answer.status_code, answer.json()) == (200, {"redriven": redriven})
    assert await world.dead() == left


@pytest.mark.parametrize(
    "body",
    [
        *(b"{", b"[]", b'{"ids": ["x"]}', b'{"id": []}', b"\xff", b'{"ids": [], "all": true}', b'"\\ud800"'),
        *(b'{"cause": "mood"}', b'{"since": "yesterday"}', b'{"until": 5}', b'{"all": true, "cause": "gone"}'),
        *(b'{"all": true, "rate": "fast"}', b'{"all": true, "rate": "0/s"}', b'{"all": true, "rate": 5}'),
    ],
)
async def test_redrive_refuses_what_it_does_not_understand(
    world: World, client: httpx.AsyncClient, body: bytes
) -> None:
    """A body that is not understood is a 422 problem and moves nothing, rather than everything."""
    await world.commit(an_event())
    await world.give_up(1)

    assert_problem(await client.post("/api/v1/handlers/alerts/redrive", content=body), 422)
    assert await world.dead() == [1]


@pytest.mark.parametrize("body", [b"", b" \n", b"{}", b'{"all": false}', b'{"ids": null}', b'{"rate": "5/s"}'])
async def test_redrive_of_nothing_named_is_refused(world: World, client: httpx.AsyncClient, body: bytes) -> None:
    """A body that names neither ids nor all is a 400 problem and moves nothing: everything has to be asked for."""
    await world.commit(an_event())
    await world.give_up(1)

    problem = assert_problem(await client.post("/api/v1/handlers/alerts/redrive", content=body), 400)

    assert '"all": true' in problem["detail"]
    assert await world.dead() == [1]


async def test_redrive_is_for_known_handlers_and_bounded_bodies(world: World, client: httpx.AsyncClient) -> None:
    """An unknown handler is 404, an odd name 422, a body beyond a mebibyte 413."""
    await world.give_up(1)

    assert_problem(await client.post("/api/v1/handlers/nobody/redrive", json={"all": True}), 404)
    assert_problem(await client.post("/api/v1/handlers/%00/redrive", json={"all": True}), 422)
    assert_problem(await client.post("/api/v1/handlers/alerts/redrive", content=b" " * (1 << 21)), 413)


async def ended(world: World, left: int) -> None:
    """Wait until so many dead letters are left."""
    async with asyncio.timeout(20):
        while len(await world.dead()) > left:  # noqa: ASYNC110 - what is waited for has no event of its own
            await asyncio.sleep(0.01)


async def test_a_redrive_with_a_rate_goes_on_by_itself(world: World) -> None:
    """The answer is 202 and says what will be done; until it is there is no second one for the handler."""
    await world.give_up(*range(1, 11))
    async with world.client(authorization="Bearer made") as client:
        begun = await client.post("/api/v1/handlers/alerts/redrive", json={"all": True, "rate": "20/s"})
        assert (begun.status_code, begun.json()) == (202, {"to_redrive": 10, "seconds": 0.5})
        another = await client.post("/api/v1/handlers/alerts/redrive", json={"all": True, "rate": "20/s"})
        assert "going on" in assert_problem(another, 409)["detail"]
        await ended(world, 0)
        await world.redrives.close()
        again = await client.post("/api/v1/handlers/alerts/redrive", json={"all": True, "rate": "20/s"})
        assert (again.status_code, again.json()) == (202, {"to_redrive": 0, "seconds": 0})
    await world.redrives.close()


async def test_a_stop_leaves_the_rest_dead(world: World) -> None:
    """A server that stops ends a redrive between two steps; another one goes on with what is left."""
    await world.give_up(*range(1, 101))
    async with world.client(authorization="Bearer made") as client:
        await client.post("/api/v1/handlers/alerts/redrive", json={"all": True, "rate": "50/s"})
        await ended(world, 90)
        await world.redrives.close()
        left = await world.dead()
        assert 0 < len(left) <= 90
        assert left == list(range(101 - len(left), 101))
        again = await client.post("/api/v1/handlers/alerts/redrive", json={"all": True})
        assert again.json() == {"redriven": len(left)}
