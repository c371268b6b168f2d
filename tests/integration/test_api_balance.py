"""GET /api/v1/balance and /comparison."""

from __future__ import annotations

import httpx
import pytest

from storage.queries import balance, comparison
from tests.support.api import World, an_event, assert_problem
from tests.support.compared import GRACE, SSE, WEBHOOK, Arrived, Scene


async def test_the_balance_is_one_document(world: World, client: httpx.AsyncClient) -> None:
    """Sources, losses and handlers, with this process's ambiguous numbers, which the store does not know."""
    await world.commit(an_event(), an_event(), an_event(1))
    await world.give_up(1)
    world.metrics.ambiguous.labels("fleet").inc(3)

    found = (await client.get("/api/v1/balance")).json()

    (source,), (losses,), (handler,) = found["sources"], found["losses"], found["handlers"]
    assert (source["received"], source["duplicate"], source["stored"], source["here"]) == (3, 1, 2, 2)
    assert (losses["source"], losses["ambiguous"], losses["lost"]) == ("fleet", 3, 0)
    assert (handler["handler"], handler["passed"], handler["dead"], handler["waiting"]) == ("alerts", 2, 1, 0)
    assert source.keys() == {*balance.EXAMPLE.sources[0].__struct_fields__}


async def test_the_comparison_comes_in_pages(world: World, client: httpx.AsyncClient) -> None:
    """With filters, by the grace of the configuration: 60 s here, so what takes 90 s is late."""
    scene = Scene(world.database)
    await scene.compare(0)
    await scene.commit(Arrived(1, WEBHOOK, 1), Arrived(2, WEBHOOK, 2), Arrived(2, SSE, 90))
    await scene.commit(Arrived(3, SSE, 3601))
    await scene.compare(9000 + GRACE)

    first = (await client.get("/api/v1/comparison?limit=1")).json()
    (alone, both) = first["comparison"]
    assert alone.keys() == {*comparison.EXAMPLE.__struct_fields__}
    assert (alone["hour"], alone["modes"], alone["events"]) == ("2026-07-28T10:00:00.000Z", "webhook", 1)
    assert (alone["missed"], both["missed"]) == ({"sse": "late"}, {})
    assert alone["transit"]["sse"]["p99"] == pytest.approx(90, rel=0.1)
    second = (await client.get(f"/api/v1/comparison?after={first['next']}")).json()
    assert [(row["modes"], row["missed"]) for row in second["comparison"]] == [
        ("sse", {"webhook": "lost"}),
        ("webhook+sse", {}),
    ]
    assert second["next"] is None
    asked = "source=fleet&since=2026-07-28T11:00:00Z&until=2026-07-28T12:00:00Z"
    assert (await client.get(f"/api/v1/comparison?{asked}")).json()["comparison"] == second["comparison"]
    assert (await client.get("/api/v1/comparison?source=other")).json()["comparison"] == []
    assert_problem(await client.get("/api/v1/comparison?mode=sse"), 422)
