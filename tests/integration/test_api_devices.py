"""GET /api/v1/products, /devices, /devices/{id} and /silences."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import httpx
import pytest

from storage.books.posting import Posting
from tests.support.api import World, an_event, assert_problem
from tests.support.heard_devices import a_counter, a_device, keep


async def asked(client: httpx.AsyncClient, path: str) -> Any:
    """The document that a path is answered with."""
    answer = await client.get(f"/api/v1/{path}")
    assert answer.status_code == 200, answer.text
    return answer.json()


@pytest.fixture
async def filled(world: World) -> World:
    """Devices of two products, two of which are silent."""
    rows = [a_device("a"), a_device("b", 3), a_device("b", 4, product="boron"), a_device("c/ü", 1)]
    await keep(world.database, rows, counters=[a_counter("b", 41)])
    return world


@pytest.mark.usefixtures("filled")
async def test_devices_page_by_page(client: httpx.AsyncClient) -> None:
    """`next` handed back as `after` goes on, in each order; null ends it."""
    for order, keys in (("device", ["b", "a", "b", "c/ü"]), ("-heard", ["a", "c/ü", "b", "b"])):
        found, after = [], ""
        for _ in range(4):
            page = await asked(client, f"devices?order={order}&limit=1{after}")
            found += [row["device"] for row in page["devices"]]
            after = f"&after={page['next']}"
        assert (found, page["next"]) == (keys, None)
    silent = await asked(client, "devices?silent=true&product=tracker")
    assert [(row["device"], row["silent"]) for row in silent["devices"]] == [("b", "2026-07-28T13:53:05.616Z")]
    assert silent["devices"][0]["unconfirmed"] == {"number": 41, "since": "2026-07-28T16:53:05.616Z"}
    assert (await asked(client, "devices?missing=true"))["devices"] == []


@pytest.mark.usefixtures("filled")
async def test_one_device(client: httpx.AsyncClient) -> None:
    """By its id, whatever it is made of, and of a product where several have it; 404 where there is none."""
    assert (await asked(client, "devices/b"))["product"] == "tracker"
    assert (await asked(client, "devices/b?product=boron"))["product"] == "boron"
    assert (await asked(client, f"devices/{quote('c/ü', safe='')}"))["device"] == "c/ü"
    assert_problem(await client.get("/api/v1/devices/d"), 404)
    assert_problem(await client.get("/api/v1/devices/a?product=boron"), 404)


@pytest.mark.usefixtures("filled")
async def test_products_and_silences(client: httpx.AsyncClient) -> None:
    """Each product with its devices; what is silent, the longest first."""
    products = (await asked(client, "products"))["products"]
    assert [(row["product"], row["devices"], row["silent"]) for row in products] == [("boron", 1, 1), ("tracker", 3, 1)]
    page = await asked(client, "silences?limit=1")
    assert [(row["source"], row["product"], row["device"]) for row in page["silences"]] == [("fleet", "boron", "b")]
    assert page["silences"][0].keys() == {"source", "product", "device", "since", "usual"}
    rest = await asked(client, f"silences?after={page['next']}")
    assert ([row["product"] for row in rest["silences"]], rest["next"]) == (["tracker"], None)


async def test_what_was_committed_is_there_when_it_was_posted(world: World, client: httpx.AsyncClient) -> None:
    """From the event to the answer."""
    await world.commit(an_event(), an_event(1))
    await Posting(world.database).post_all()
    (row,) = (await asked(client, "devices"))["devices"]
    assert (row["device"], row["events_today"], row["firmware"]) == ("e00fce682e79a004f1e69a2b", 2, "91")
    assert (row["position"], row["events_usually"], row["silent"]) == (2, None, None)


@pytest.mark.parametrize(
    "query",
    ["order=name", "limit=0", "silent=perhaps", "after=!", "since=1h"],
)
async def test_what_cannot_be_asked_is_named(client: httpx.AsyncClient, query: str) -> None:
    """422 with the parameter's name."""
    problem = assert_problem(await client.get(f"/api/v1/devices?{query}"), 422)
    assert problem["errors"][0]["name"] == query.split("=", maxsplit=1)[0]


@pytest.mark.parametrize(
    "query", ["after=W10", "after=abc", "order=heard&after=WyJ0IiwiYSJd", "after=WyJ0IiwiXHUwMDAwIl0"]
)
async def test_a_page_that_never_ended_cannot_be_gone_on_from(client: httpx.AsyncClient, query: str) -> None:
    """404, also for the `next` of another order."""
    assert_problem(await client.get(f"/api/v1/devices?{query}"), 404)
