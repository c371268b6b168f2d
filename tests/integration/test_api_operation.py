"""What operators ask: sources, rejects, handlers, dead letters, probes and metrics."""

from __future__ import annotations

import base64
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import httpx
import pytest
from msgspec.structs import asdict
from prometheus_client import CollectorRegistry

from ingest.coverage import Gap
from ingest.errors import StoreUnavailable
from ingest.event import Cause, EchoOutcome, HookEcho, Ignored, Origin, Reason, Reject
from ingest.metrics import Metrics
from ingest.source_health import StreamState
from ingest.sources.webhook.request_log import RecentRequests, RequestRow
from ingest.supervisor import State
from storage.coverage import SqlCoverage
from storage.engine import open_database
from storage.migrate import migrate
from tests.support.api import COUNTS, EVENT, NOW, World, a_status, an_event, assert_problem


async def test_rejects_show_what_was_sent(world: World, client: httpx.AsyncClient) -> None:
    """Each reject has its reason, the very bytes and what stood beside them; pages and the filter are as for events."""
    for number, body in enumerate([b"\x00\xff", b"<xml/>", b""]):
        await world.commit(
            Reject(
                source="other" if number == 2 else "fleet",
                mode="webhook",
                received_at=NOW,
                reason=Reason.MALFORMED_JSON,
                body=body,
                attributes={"device_id": "dev1", "nul": "\x00"} if number == 1 else None,
            )
        )

    page = (await client.get("/api/v1/rejects", params={"limit": 1})).json()
    rest = (await client.get("/api/v1/rejects", params={"after": page["next"]})).json()
    other = (await client.get("/api/v1/rejects", params={"source": "other", "order": "desc"})).json()

    assert page["rejects"] == [
        {
            "id": 1,
            "source": "fleet",
            "mode": "webhook",
            "received_at": "2026-07-28T16:53:05.702Z",
            "reason": "malformed_json",
            "body_base64": base64.b64encode(b"\x00\xff").decode(),
            "attributes": None,
        }
    ]
    assert ([row["id"] for row in rest["rejects"]], rest["next"], rest["last"]) == ([2, 3], None, 3)
    assert [row["attributes"] for row in rest["rejects"]] == [{"device_id": "dev1", "nul": "\x00"}, None]
    assert [row["id"] for row in other["rejects"]] == [3]


async def test_sources_show_state_and_counts(world: World, client: httpx.AsyncClient) -> None:
    """Each source and mode with its state, times and counters, and how the first copies of duplicates came."""
    world.states.append(a_status())
    world.metrics.declare_source("fleet", "webhook")
    world.metrics.duplicate.labels("fleet", "webhook", "redelivery").inc()
    world.metrics.auth_failures.labels("fleet").inc(2)
    world.metrics.hook_echoes.labels("fleet", "webhook", "skipped").inc(3)

    (source,) = (await client.get("/api/v1/sources")).json()["sources"]

    assert source == {
        "source": "fleet",
        "mode": "webhook",
        "product": "tracker",
        "state": "running",
        "since": "2026-07-28T16:53:05.702Z",
        "reason": None,
        "last_event_at": "2026-07-28T16:53:05.702Z",
        "last_byte_at": None,
        "counts": COUNTS,
        "duplicate_kinds": {"redelivery": 1, "overlap": 0, "redundant": 0, "resend": 0},
        "auth_failures": 2,
        "hook_echoes": {"sent": 0, "response": 0, "error": 0, "skipped": 3},
        "open_gap": None,
        "streams": [],
    }


async def test_hook_echoes_by_hour_and_name(world: World, client: httpx.AsyncClient) -> None:
    """What the vendor said of its webhooks, beside what was stored; a wrong filter is a problem, and no answer."""
    sent, skipped = (HookEcho("temperature", outcome) for outcome in (EchoOutcome.SENT, EchoOutcome.SKIPPED))
    heard = [Ignored(source="fleet", mode="sse", received_at=NOW, echo=echo) for echo in (sent, sent, skipped)]
    await world.commit(*heard, an_event(), an_event(1), an_event(2, name="other"))

    answer = (await client.get("/api/v1/hook-echoes?source=fleet&since=2026-07-28T16:00:00Z")).json()
    row = {"hour": "2026-07-28T16:00:00.000Z", "source": "fleet", "mode": "sse", "name": "temperature"}
    counts = {"sent": 2, "response": 0, "error": 0, "skipped": 1, "stored": 2}
    assert answer == {"hook_echoes": [row | counts], "next": None}
    for nothing in ("source=other", "until=2026-07-28T16:00:00Z", "since=1m"):
        assert (await client.get(f"/api/v1/hook-echoes?{nothing}")).json() == {"hook_echoes": [], "next": None}
    for wrong in ("limit=0", "limit=1001", "after=3", "since=yesterday", "source=%00"):
        assert_problem(await client.get(f"/api/v1/hook-echoes?{wrong}"), 422)


async def test_the_last_requests_of_a_source(world: World, client: httpx.AsyncClient) -> None:
    """Of this process, as the source gives them; a source that there is not is 404."""
    row = RequestRow(
        received_at="2026-07-28T16:53:05.702Z",
        method="POST",
        path="/ingest/fleet",
        query="",
        headers={"x-key": "***"},
        status=401,
        reason="the header X-Key is none of the secrets",
    )
    world.requests["fleet"] = RecentRequests(accepted=[], refused=[row])
    answer = (await client.get("/api/v1/sources/fleet/requests")).json()
    assert answer == {"accepted": [], "refused": [asdict(row)]}
    assert_problem(await client.get("/api/v1/sources/other/requests"), 404)


async def test_sources_show_the_gap_that_lasts(world: World, client: httpx.AsyncClient) -> None:
    """A source that nobody listens to says since when and why, with the store away too."""
    world.states += [a_status(), a_status("other")]
    world.open_gaps["other", "webhook"] = Gap(NOW - timedelta(seconds=90), None, Cause.REFUSED, 0.0)

    fleet, other = (await client.get("/api/v1/sources")).json()["sources"]

    assert fleet["open_gap"] is None
    assert other["open_gap"] == {"since": "2026-07-28T16:51:35.702Z", "cause": "refused", "seconds": 90}


async def test_gaps_show_when_nobody_listened(world: World, client: httpx.AsyncClient) -> None:
    """Each gap with its cause and length, the newest first where asked so; one that lasts has no end."""
    coverage = SqlCoverage(world.database)
    for source in ("fleet", "other"):
        origin = Origin("tracker", source, "sse")
        first = await coverage.open(origin, 0, ago=100)
        await coverage.end(first.interval, Cause.IDLE, ago=60)
    await coverage.open(Origin("tracker", "fleet", "sse"), 0, ago=50)

    page = (await client.get("/api/v1/gaps", params={"limit": 1})).json()
    rest = (await client.get("/api/v1/gaps", params={"after": page["next"]})).json()
    fleet = (await client.get("/api/v1/gaps", params={"source": "fleet", "order": "desc"})).json()

    (closed,) = page["gaps"]
    assert set(closed) == {"id", "source", "mode", "since", "until", "cause", "seconds", "suspected"}
    assert (closed["id"], closed["source"], closed["mode"], closed["cause"]) == (1, "fleet", "sse", "idle")
    assert closed["since"] < closed["until"]
    assert closed["seconds"] == pytest.approx(10, abs=5)
    (lasting,) = rest["gaps"]
    assert (lasting["source"], lasting["until"], lasting["suspected"]) == ("other", None, 0)
    assert lasting["seconds"] >= 60
    assert (page["next"], rest["next"], rest["last"]) == (1, None, 2)
    assert [gap["id"] for gap in fleet["gaps"]] == [1]


async def test_a_source_that_listens_shows_its_streams(world: World, client: httpx.AsyncClient) -> None:
    """Each connection: what it does since when, why it last ended, and when it is tried again."""
    later = NOW + timedelta(seconds=3)
    streams = (StreamState(1, "waiting", NOW, NOW, Cause.IDLE, "nothing came for 20 s", later),)
    world.states.append(replace(a_status(state=State.DOWN), streams=streams))

    (source,) = (await client.get("/api/v1/sources")).json()["sources"]
    ready = await client.get("/readyz")

    assert source["state"] == "down"
    assert source["streams"] == [
        {
            "stream": 1,
            "state": "waiting",
            "since": "2026-07-28T16:53:05.702Z",
            "last_byte_at": "2026-07-28T16:53:05.702Z",
            "lost": "idle",
            "reason": "nothing came for 20 s",
            "next_attempt_at": "2026-07-28T16:53:08.702Z",
        }
    ]
    assert (ready.status_code, [down["state"] for down in ready.json()["sources_down"]]) == (200, ["down"])


async def test_handlers_show_lag_retries_and_dead_letters(world: World, client: httpx.AsyncClient) -> None:
    """A handler's lag, and its dead letters with event, error and attempts."""
    await world.commit(*(an_event(number) for number in range(3)))
    await world.give_up(1, 2)

    (handler,) = (await client.get("/api/v1/handlers")).json()["handlers"]
    dead = (await client.get("/api/v1/handlers/alerts/dead", params={"limit": 1})).json()

    assert handler.pop("lag_seconds") > 0
    assert handler == {
        "handler": "alerts",
        "state": "running",
        "position": 2,
        "head": 3,
        "lag_events": 1,
        "retries": 0,
        "dead": 2,
        "circuit": "closed",
        "circuit_since": None,
        "last_error": None,
        "paused_at": None,
        "paused_because": None,
        "holder": "me",
        "lease_expires_at": "2096-10-02T07:06:40.000Z",
    }
    assert (dead["next"], dead["last"]) == (1, 1)
    (letter,) = dead["dead"]
    assert letter.pop("event")["id"] == str(EVENT.id)
    assert (letter.pop("attempts"), letter.pop("attempt_count")) == ([], 3)
    assert letter == {
        "position": 1,
        "cause": None,
        "error": "boom",
        "first_failed_at": "1970-01-01T00:00:00.000Z",
    }
    assert_problem(await client.get("/api/v1/handlers/nobody/dead"), 404)


async def test_livez_answers_whatever_else_is_broken(world: World, client: httpx.AsyncClient) -> None:
    """A process that answers is alive, while draining and with the store away too; HEAD works for balancers."""
    world.draining = True

    assert (await client.get("/livez")).status_code == 200
    assert (await client.head("/livez", headers={"host": "10.0.0.7"})).status_code == 200


async def test_readyz_fails_while_draining(world: World, client: httpx.AsyncClient) -> None:
    """Ready before, 503 with the reason as soon as the process is about to stop."""
    ready = {"ready": True, "sources_down": [], "handlers_failing": [], "secrets_unread": [], "spool": None}
    assert (await client.get("/readyz")).json() == ready
    world.draining = True

    problem = assert_problem(await client.get("/readyz"), 503)

    assert (problem["ready"], problem["reason"]) == (False, "draining")


async def test_readyz_names_sources_that_are_down_and_stays_ready(world: World, client: httpx.AsyncClient) -> None:
    """One failed source is no reason to take the others' traffic away."""
    world.states += [a_status(), a_status("other", State.FAILED, "OSError: refused")]

    answer = await client.get("/readyz")

    assert answer.status_code == 200
    assert answer.json()["sources_down"] == [
        {"source": "other", "mode": "webhook", "state": "failed", "reason": "OSError: refused"}
    ]


async def test_a_store_that_is_away_is_503_everywhere(tmp_path: Path) -> None:
    """readyz and every question that needs the store say 503 and when to ask again; metrics and livez go on."""
    away = open_database(f"sqlite:///{tmp_path}/no/such/folder/test.db")
    with pytest.raises(StoreUnavailable):
        await migrate(away)
    world = World(away, Metrics(CollectorRegistry()), store_fault="the last commit failed")
    async with world.client() as client:
        problem = assert_problem(await client.get("/readyz"), 503)
        for path in ("events", f"events/{EVENT.id}", "gaps", "rejects", "handlers", "handlers/alerts/dead"):
            answer = await client.get(f"/api/v1/{path}")
            assert_problem(answer, 503)
            assert answer.headers["retry-after"]
        assert (await client.get("/metrics")).status_code == 200
        assert (await client.get("/livez")).status_code == 200
    await away.close()

    assert problem["reason"] == "store unreachable"
    assert problem["detail"] == "Not ready: the store takes nothing, the last commit failed."


async def test_metrics_are_prometheus_text(world: World, client: httpx.AsyncClient) -> None:
    """The registry's metrics, in the format a scraper asks for."""
    world.metrics.declare_source("fleet", "webhook")

    plain = await client.get("/metrics")
    open_metrics = await client.get("/metrics", headers={"accept": "application/openmetrics-text; version=1.0.0"})

    assert 'headrace_events_stored_total{mode="webhook",source="fleet"} 0.0' in plain.text
    assert plain.headers["content-type"].startswith("text/plain")
    assert open_metrics.headers["content-type"].startswith("application/openmetrics-text")
    assert open_metrics.text.endswith("# EOF\n")
