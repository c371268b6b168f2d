"""The events of the API as a client sees them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import httpx
import pytest

from tests.support.api import EVENT, World, an_event, assert_problem, id_at


async def test_an_event_is_written_exactly_as_documented(world: World, client: httpx.AsyncClient) -> None:
    """Keys, their order, three decimals and Z: byte for byte the example of the documentation."""
    await world.commit(*(an_event(number) for number in range(1, 1042)), an_event())

    answer = await client.get("/api/v1/events", params={"after": 1041})

    event = (
        '{"id":"019fa9a4-ebd0-8b52-9f0e-3c5a7d1e2f40","position":1042,"product":"tracker",'
        '"device":"e00fce682e79a004f1e69a2b","name":"temperature","data":"{\\"t\\":21.5}",'
        '"content_type":"application/json","published_at":"2026-07-28T16:53:05.616Z",'
        '"received_at":"2026-07-28T16:53:05.702Z","source":"fleet","mode":"webhook",'
        '"attributes":{"fw_version":"91","public":"false"}}'
    )
    assert answer.text == f'{{"events":[{event}],"next":null,"last":1042}}'
    assert answer.headers["content-type"] == "application/json"
    assert "access-control-allow-origin" not in answer.headers


@pytest.mark.parametrize(
    ("data", "shown"),
    [
        (None, {"data": None}),
        (b"", {"data": ""}),
        (b"null", {"data": "null"}),
        ("21,5 °C \x00".encode(), {"data": "21,5 °C \x00"}),
        (b'{"a": 1.10 }', {"data": '{"a": 1.10 }'}),
        (b"\xff\x00\xfe", {"data_base64": "/wD+"}),
        (b"\xed\xa0\x80", {"data_base64": "7aCA"}),
        (b"data:application/octet-stream;base64,pyKYHEAbm4A=", {"data_base64": "pyKYHEAbm4A="}),
        (b"data:application/octet-stream;base64,pyKY HEAb", {"data_base64": "pyKYHEAb"}),
        (b"data:not base64", {"data": "data:not base64"}),
    ],
)
async def test_data_is_shown_as_sent(
    world: World, client: httpx.AsyncClient, data: bytes | None, shown: dict[str, Any]
) -> None:
    """Text comes back exactly as sent; bytes and base64 data URLs come as data_base64 instead; nothing is null."""
    await world.commit(an_event(data=data, device=None, published_at=None, content_type=None))

    (event,) = (await client.get("/api/v1/events")).json()["events"]

    assert {key: event[key] for key in event if key.startswith("data")} == shown
    assert (event["device"], event["published_at"], event["content_type"]) == (None, None, None)


async def test_times_may_be_relative(world: World, client: httpx.AsyncClient) -> None:
    """`since=2h` and `until=30m` are so long ago, as on the command line."""
    for number, ago in enumerate((timedelta(hours=3), timedelta(hours=1), timedelta(minutes=5))):
        await world.commit(an_event(number, published_at=datetime.now(UTC) - ago, id=id_at(datetime.now(UTC) - ago)))

    async def positions(query: str) -> list[int]:
        return [event["position"] for event in (await client.get(f"/api/v1/events?{query}")).json()["events"]]

    assert await positions("since=2h") == [2, 3]
    assert await positions("until=2h") == [1]
    assert await positions("since=2h&until=30m") == [2]
    assert await positions("since=3d") == [1, 2, 3]


async def test_filters_and_pages_are_taken_from_the_query(world: World, client: httpx.AsyncClient) -> None:
    """Every documented filter narrows, `next` leads through all pages, and `before` goes back from the newest."""
    await world.commit(*(an_event(number, name=f"n/{number % 2}", device=f"d{number % 3}") for number in range(12)))

    async def positions(**query: Any) -> list[int]:
        answer = await client.get("/api/v1/events", params=query)
        assert answer.status_code == 200, answer.text
        return [event["position"] for event in answer.json()["events"]]

    assert await positions(device="d1") == [2, 5, 8, 11]
    assert await positions(device="d1", name="n/1") == [2, 8]
    assert await positions(product="other") == []
    assert await positions(source="fleet", limit=2) == [1, 2]
    assert await positions(since="2026-07-28T16:53:15.616Z") == [11, 12]
    assert await positions(since="2026-07-28T18:53:15.616+02:00") == [11, 12]
    assert await positions(until="2026-07-28T16:53:07.616Z") == [1, 2]
    assert await positions(order="desc", limit=2) == [12, 11]
    assert await positions(order="desc", limit=2, before=11) == [10, 9]
    unescaped = await client.get("/api/v1/events?since=2026-07-28T18:53:15.616+02:00")
    assert [event["position"] for event in unescaped.json()["events"]] == [11, 12]

    seen, query = [], {"limit": 5}
    while query.get("after", 0) is not None:
        page = (await client.get("/api/v1/events", params=query)).json()
        seen += [event["position"] for event in page["events"]]
        query["after"] = page["next"]
    assert seen == list(range(1, 13))


async def test_one_event_comes_with_its_sightings(world: World, client: httpx.AsyncClient) -> None:
    """The event of an id, and each further arrival of it; an id nobody has is a 404 problem."""
    await world.commit(an_event())
    await world.commit(an_event(source="other"))

    found = (await client.get(f"/api/v1/events/{EVENT.id}")).json()

    assert (found["id"], found["position"], found["name"]) == (str(EVENT.id), 1, "temperature")
    assert found["sightings"] == [{"source": "other", "mode": "webhook", "received_at": "2026-07-28T16:53:05.702Z"}]
    assert_problem(await client.get(f"/api/v1/events/{UUID(int=7)}"), 404)


HOSTILE = [
    ("limit", "0"),
    ("limit", "1001"),
    ("limit", "ten"),
    ("limit", "9" * 400),
    ("after", "-1"),
    ("after", str(1 << 63)),
    ("after", "1e3"),
    ("before", str(1 << 64)),
    ("order", "sideways"),
    ("since", "yesterday"),
    ("since", "0000-01-01T00:00:00Z"),
    ("since", "0001-01-01T00:00:00+14:00"),
    ("until", "9999-12-31T23:59:59-14:00"),
    ("until", "2026-02-30T00:00:00Z"),
    ("since", ""),
    ("device", "a\x00b"),
    ("name", "\x00"),
    ("product", "p" * 257),
    ("source", "\x00"),
    ("divece", "e00fce68"),
]


@pytest.mark.parametrize(("name", "value"), HOSTILE)
async def test_unusable_parameters_are_named(client: httpx.AsyncClient, name: str, value: str) -> None:
    """Bad input is 422 and names the parameter, a misspelt one too; it is never a 500."""
    problem = assert_problem(await client.get("/api/v1/events", params={name: value}), 422)

    assert [(error["in"], error["name"]) for error in problem["errors"]] == [("query", name)]
    assert name in problem["detail"]


@pytest.mark.parametrize(
    "path",
    [
        "/api/v1/events?device=%ff%fe",
        "/api/v1/events?device=%ED%A0%80",
        "/api/v1/events?name=%25_%5C'%22;--",
        f"/api/v1/events?after={(1 << 63) - 1}",
        f"/api/v1/events?before={(1 << 63) - 1}&order=desc",
        "/api/v1/events?before=0&order=desc",
        "/api/v1/events?since=0001-01-01T00:00:00Z&until=9999-12-31T23:59:59.999Z",
        f"/api/v1/rejects?after={(1 << 63) - 1}",
    ],
)
async def test_odd_but_valid_questions_are_answered(world: World, client: httpx.AsyncClient, path: str) -> None:
    """Bytes that are no UTF-8, wildcards, quotes and the largest numbers are ordinary values."""
    await world.commit(an_event())

    assert (await client.get(path)).status_code == 200
