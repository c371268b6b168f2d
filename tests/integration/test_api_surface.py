"""What holds for every path: errors as problems, who may ask, pages, and the OpenAPI document."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from ingest.event import Cause, Origin
from ingest.settings.secret import Secret
from ingest.sources.webhook.request_log import RecentRequests
from storage.books.posting import Posting
from storage.coverage import SqlCoverage
from tests.support.api import EVENT, Rules, World, a_status, an_event, assert_problem


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nothing", 404),
        ("GET", "/api/v1/nothing", 404),
        ("GET", "/assets/nothing.js", 404),
        ("GET", "/assets/headrace.css/", 404),
        ("GET", "/assets/../index.html", 404),
        ("GET", "/assets/..%2f..%2f__init__.py", 404),
        ("POST", "/ingest/unknown", 404),
        ("DELETE", "/api/v1/events", 405),
        ("POST", "/", 405),
        ("POST", "/assets/headrace.css", 405),
        ("GET", "/api/v1/events/not-an-id", 422),
        ("GET", "/api/v1/handlers/alerts/redrive", 405),
    ],
)
async def test_every_error_is_a_problem(client: httpx.AsyncClient, method: str, path: str, status: int) -> None:
    """Unknown routes, wrong methods and odd paths are answered in one shape."""
    answer = await client.request(method, path)

    assert_problem(answer, status)
    assert (status == 405) == ("allow" in answer.headers)


async def test_a_fault_of_ours_is_a_problem_without_its_details(world: World, client: httpx.AsyncClient) -> None:
    """What we did not foresee is a 500 problem that gives nothing away."""
    world.fault = RuntimeError("secret")

    problem = assert_problem(await client.get("/api/v1/sources"), 500)

    assert "secret" not in json.dumps(problem)


async def test_tokens_guard_data_and_not_pages(world: World) -> None:
    """With tokens data is 401 without one and asks for Bearer; acting takes an admin token; pages hold no data."""
    world.rules = Rules(read_tokens=(Secret("reader"),), admin_tokens=(Secret("admin"),))
    await world.give_up(1)
    redrive = "/api/v1/handlers/alerts/redrive"
    async with world.client() as nobody, world.client(authorization="Bearer reader") as reader:
        for path in ("/api/v1/events", "/api/v1/sources", "/metrics", "/openapi.json"):
            refused = await nobody.get(path)
            assert_problem(refused, 401)
            assert refused.headers["www-authenticate"] == "Bearer"
            assert (await reader.get(path)).status_code == 200
        for path in ("/", "/balance", "/docs", "/assets/headrace.css", "/livez", "/readyz"):
            assert (await nobody.get(path)).status_code == 200
        assert_problem(await nobody.post(redrive), 401)
        assert_problem(await reader.post(redrive), 403)
    async with world.client(authorization="Bearer admin") as admin:
        assert (await admin.post(redrive, json={"all": True})).json() == {"redriven": 1}


async def test_without_tokens_everybody_here_reads_and_nobody_acts(world: World) -> None:
    """On open loopback reading takes no token; acting takes the one that was made, and the answer says where it is."""
    await world.give_up(1)
    redrive = "/api/v1/handlers/alerts/redrive"
    async with world.client() as nobody, world.client(authorization="Bearer made") as starter:
        assert (await nobody.get("/api/v1/events")).status_code == 200
        refused = await nobody.post(redrive)
        assert "headrace.token" in assert_problem(refused, 401)["detail"]
        assert await world.dead() == [1]
        assert (await starter.post(redrive, json={"all": True})).json() == {"redriven": 1}


@pytest.mark.parametrize(
    "headers", [{"host": "rebound.example"}, {"x-forwarded-for": "1.2.3.4"}, {"origin": "https://example.org"}]
)
async def test_open_loopback_serves_this_machine_only(world: World, headers: dict[str, str]) -> None:
    """Without tokens a proxy, a rebound name or a web page gets a 403 problem from pages and API, not from probes."""
    await world.give_up(1)
    async with world.client(**headers) as client:
        for path in ("/", "/balance", "/api/v1/events", "/metrics", "/docs", "/openapi.json", "/assets/dashboard.js"):
            assert_problem(await client.get(path), 403)
        assert_problem(await client.post("/api/v1/handlers/alerts/redrive"), 403)
        assert (await client.get("/readyz")).status_code == 200
    assert await world.dead() == [1]


@pytest.mark.parametrize("host", ["localhost", "evil.example"])
async def test_a_slash_too_many_is_404_and_leads_nowhere(world: World, host: str) -> None:
    """No path redirects: it would lead to the host that a request names, which may be anybody's."""
    world.rules = Rules(read_tokens=(Secret("reader"),))
    described = [path.format(id=EVENT.id, handler="h", label="fleet") for path in world.api().openapi()["paths"]]
    routes = [*described, "/docs", "/balance", "/openapi.json", "/assets", "/nothing"]
    async with world.client(host=host, authorization="Bearer reader") as client:
        for path in routes:
            for method in ("GET", "HEAD"):
                answer = await client.request(method, f"{path}/")
                assert (answer.status_code, answer.headers.get("location")) == (404, None), path
        assert (await client.get("/assets")).status_code == 404


@pytest.mark.parametrize("path", ["/", "/balance", "/docs"])
async def test_pages_run_nothing_but_our_scripts(client: httpx.AsyncClient, path: str) -> None:
    """No inline script or style, which the server's policy forbids, and everything a page loads is there."""
    page = await client.get(path)

    assert not re.search(r"<style|\sstyle=|\son\w+=|<script(?![^>]*\ssrc=)|https?://", page.text)
    loaded = re.findall(r'(?:src|href)="(/assets/[^"]+)"', page.text)
    assert loaded
    for asset in loaded:
        assert (await client.get(asset)).status_code == 200
    assert (await client.head(path)).status_code == 200


async def test_the_openapi_document_describes_all_there_is(client: httpx.AsyncClient) -> None:
    """Every path of the contract is there, webhooks too, with an example for every answer that has a body."""
    document = (await client.get("/openapi.json")).json()

    api = ["events", "events/{id}", "sources", "gaps", "losses", "rejects", "handlers", "handlers/{handler}/dead"]
    api += ["handlers/{handler}/dead/causes", "sources/{label}/requests", "hook-echoes", "balance", "comparison"]
    api += ["products", "devices", "devices/{id}", "silences"]
    expected = {
        f"/api/v1/{path}"
        for path in [*api, *(f"handlers/{{handler}}/{act}" for act in ("redrive", "pause", "resume", "test"))]
    }
    expected |= {"/livez", "/readyz", "/metrics", "/ingest/fleet", "/hooks/other"}
    assert set(document["paths"]) == expected
    known = {f"#/components/schemas/{name}" for name in document["components"]["schemas"]}
    assert set(re.findall(r'"(#/[^"]+)"', json.dumps(document))) <= known
    for path, operations in document["paths"].items():
        for operation in operations.values():
            for status, answer in operation["responses"].items():
                for content in answer.get("content", {}).values():
                    assert "example" in content, (path, status)
    ingest = document["paths"]["/ingest/fleet"]["post"]
    assert {"200", "204", "401", "404", "405", "413", "415", "422", "503"} <= set(ingest["responses"])
    assert set(ingest["requestBody"]["content"]) == {
        "application/json",
        "application/x-www-form-urlencoded",
        "application/x-ndjson",
    }


async def test_answers_have_the_documented_shape(world: World, client: httpx.AsyncClient) -> None:
    """What the API answers is valid against the schemas it publishes, the examples too."""
    await world.commit(an_event(), an_event(1, data=b"\xff", device=None))
    await world.give_up(1)
    world.states.append(a_status())
    coverage = SqlCoverage(world.database)
    (gap,) = await coverage.end((await coverage.open(Origin("tracker", "fleet", "webhook"), 0)).interval, Cause.IDLE)
    world.open_gaps["fleet", "webhook"] = gap
    world.requests["fleet"] = RecentRequests(accepted=(), refused=())
    await Posting(world.database).post_all()
    document = (await client.get("/openapi.json")).json()
    validate = _validator(document)
    for path, operations in document["paths"].items():
        if not path.startswith("/api/") or "get" not in operations:
            continue
        content = operations["get"]["responses"]["200"]["content"]["application/json"]
        answer = await client.get(
            path.replace("devices/{id}", f"devices/{EVENT.device}")
            .replace("{id}", quote(str(EVENT.id)))
            .replace("{handler}", "alerts")
            .replace("{label}", "fleet")
        )
        validate(answer.json(), content["schema"])
        validate(content["example"], content["schema"])


def _validator(document: dict[str, Any]) -> Callable[[Any, dict[str, Any]], None]:
    import jsonschema_rs

    def validate(instance: Any, schema: dict[str, Any]) -> None:
        jsonschema_rs.validate({**schema, "components": document["components"]}, instance)

    return validate
