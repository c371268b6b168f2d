"""What operators see of handlers and do with them: their state, pause and resume."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from sqlalchemy import update

from app.api import HandlersHere
from app.handlers.log import LogSettings
from ingest.settings.secret import Secret
from storage.tables import cursors
from tests.support.api import Rules, World, an_event, assert_problem


async def the_handler(client: httpx.AsyncClient) -> dict[str, Any]:
    """The one handler there is, as the API shows it."""
    (row,) = (await client.get("/api/v1/handlers")).json()["handlers"]
    return dict(row)


async def test_a_handler_is_paused_and_resumed(world: World, client: httpx.AsyncClient) -> None:
    """Pausing needs no body, may be repeated, and keeps since when; resuming takes it back, and may be repeated."""
    await world.give_up()
    seen = []
    for _ in range(2):
        answer = await client.post("/api/v1/handlers/alerts/pause")
        assert (answer.status_code, answer.json()) == (200, {"handler": "alerts", "paused": True})
        seen.append(await the_handler(client))
    assert (seen[0]["state"], seen[0]["paused_because"]) == ("paused", "asked for by the API")
    assert seen[0]["paused_at"] == seen[1]["paused_at"] is not None
    for _ in range(2):
        answer = await client.post("/api/v1/handlers/alerts/resume")
        assert (answer.status_code, answer.json()) == (200, {"handler": "alerts", "paused": False})
        row = await the_handler(client)
        assert (row["state"], row["paused_at"], row["paused_because"]) == ("running", None, None)


@pytest.mark.parametrize("act", ["pause", "resume"])
async def test_pausing_is_for_administrators_and_known_handlers(world: World, act: str) -> None:
    """Without a token it is 401, with a reader's 403, for an unknown handler 404, for an odd name 422."""
    world.rules = Rules(read_tokens=(Secret("reader"),), admin_tokens=(Secret("admin"),))
    await world.give_up()
    async with world.client() as nobody, world.client(authorization="Bearer reader") as reader:
        assert_problem(await nobody.post(f"/api/v1/handlers/alerts/{act}"), 401)
        assert_problem(await reader.post(f"/api/v1/handlers/alerts/{act}"), 403)
        assert (await the_handler(reader))["state"] == "running"
    async with world.client(authorization="Bearer admin") as admin:
        assert_problem(await admin.post(f"/api/v1/handlers/nobody/{act}"), 404)
        assert_problem(await admin.post(f"/api/v1/handlers/%00/{act}"), 422)


@pytest.mark.parametrize(
    ("holder", "configured", "state"),
    [("me", True, "running"), ("another", True, "standby"), ("another", False, "running")],
)
async def test_who_waits_for_the_lease_stands_by(
    world: World, client: httpx.AsyncClient, holder: str, configured: bool, state: str
) -> None:
    """A handler that this process would run, and another one has, is on standby here."""
    await world.give_up()
    world.handlers = HandlersHere("me", {"alerts": LogSettings()} if configured else {})
    await set_row(world, holder=holder)
    async with world.client() as here:
        assert (await the_handler(here))["state"] == state


async def test_an_open_circuit_is_a_handler_that_fails(world: World, client: httpx.AsyncClient) -> None:
    """State, circuit, since when and the last error say that nothing is delivered; so does its own code's fault."""
    await world.give_up()
    await set_row(world, circuit="open", circuit_since=1_000_000, last_error="answered 503")
    row = await the_handler(client)
    shown = (row["state"], row["circuit"], row["circuit_since"], row["last_error"])
    assert shown == ("failing", "open", "1970-01-01T00:00:01.000Z", "answered 503")
    await set_row(world, circuit="closed")
    assert (await the_handler(client))["state"] == "running"
    world.failing["alerts"] = "its code blocks"
    assert (await the_handler(client))["state"] == "failing"


async def test_an_event_tells_what_became_of_it_at_each_handler(world: World, client: httpx.AsyncClient) -> None:
    """By the filters of the configuration, and by what handlers left behind, with the attempts of what failed."""
    await world.commit(an_event(), an_event(1), an_event(2))
    await world.give_up(1)
    settings = {"exclude": ["temp"], "from": "beginning"}
    world.handlers = HandlersHere("me", {"alerts": LogSettings(), "rules": LogSettings.model_validate(settings)})
    async with world.client() as here:
        told = {}
        for number in range(3):
            answer = await here.get(f"/api/v1/events/{an_event(number).id}")
            told[number] = [(each["handler"], each["state"]) for each in answer.json()["deliveries"]]
    rules = ("rules", "unmatched")
    assert told == {
        0: [("alerts", "dead"), rules],
        1: [("alerts", "delivered"), rules],
        2: [("alerts", "waiting"), rules],
    }


async def set_row(world: World, **values: Any) -> None:
    """Write into the row of the handler."""
    await world.database.write(lambda connection: connection.execute(update(cursors).values(**values)) and None)
