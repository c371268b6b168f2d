"""Every query of the Grafana dashboard finds something in a real Prometheus that scraped a real server."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from tests.deploy.known_metrics import unknown_metrics
from tests.deploy.prometheus import Prometheus, scraping
from tests.deploy.promtool import DEPLOY
from tests.support.numbered import Numbered
from tests.support.server import Server, free_port, wait_until

DASHBOARD = json.loads((DEPLOY / "grafana" / "headrace.json").read_text())
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
# A source of each mode; whether an upstream is there makes no difference to what is shown.
CONFIG = """
[sources.fleet]
product = "tracker"
[sources.stream]
mode = "sse"
[sources.stream.sse]
url = "http://127.0.0.1:{closed}/events"
token = "t"
[sources.queue]
mode = "pubsub"
[sources.queue.pubsub]
subscription = "projects/p/subscriptions/s"
[handlers.log]
type = "log"
"""


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """One that saw a server take events, duplicates, rejects and a wrong request."""
    folder = tmp_path_factory.mktemp("dashboard")
    emulator = {"PUBSUB_EMULATOR_HOST": f"127.0.0.1:{free_port()}"}
    with (
        Server(folder, CONFIG.format(closed=free_port()), environment=emulator) as server,
        scraping(folder / "prometheus", [f"127.0.0.1:{server.port}"]) as prometheus,
    ):
        _use(server, prometheus)
        yield prometheus


def _use(server: Server, prometheus: Prometheus) -> None:
    """Send, until Prometheus knows a rate of it."""
    events = Numbered("dashboard", datetime.now(UTC))
    numbers = iter(range(10**6))
    with httpx.Client(base_url=server.url, trust_env=False) as client:

        def sent_and_seen() -> bool:
            body = events.body(next(numbers))
            for content in (body, body, b"{}"):
                assert client.post("/ingest/fleet", content=content).status_code == 204
            return bool(prometheus.query("rate(headrace_events_stored_total{source='fleet'}[10s]) > 0"))

        wait_until(sent_and_seen, 60, prometheus.log_tail, every=0.2)


def queries(panel: Any) -> list[str]:
    """Return the panel's queries with Grafana's variables filled in."""
    filled = {"$__rate_interval": "10s", "$source": ".*", "$handler": ".*"}
    found = [str(target["expr"]) for target in panel["targets"]]
    for variable, value in filled.items():
        found = [query.replace(variable, value) for query in found]
    return found


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: str(panel["title"]))
def test_a_panel_shows_something(panel: Any, prometheus: Prometheus) -> None:
    """No query is refused, and none is without a series."""
    for query in queries(panel):
        assert prometheus.query(query), query


def test_it_is_a_dashboard() -> None:
    """It leads from the overview to sources, handlers and losses; panels say what they show and do not overlap."""
    assert [panel["title"] for panel in DASHBOARD["panels"] if panel["type"] == "row"] == [
        *("Overview", "Source", "Handler", "Losses"),
    ]
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not taken & cells, panel["title"]
        assert max(x for x, _ in cells) < 24
        taken |= cells


def test_it_names_known_metrics_only() -> None:
    """Every metric of the dashboard is one that a server has."""
    assert unknown_metrics((DEPLOY / "grafana" / "headrace.json").read_text()) == set()


def test_the_provisioning_finds_it() -> None:
    """Grafana looks for dashboards where compose.yaml puts this one."""
    provided = (DEPLOY / "grafana/provisioning/dashboards/headrace.yaml").read_text()
    assert "path: /var/lib/grafana/dashboards" in provided
    assert "/var/lib/grafana/dashboards/headrace.json" in (DEPLOY / "compose.yaml").read_text()
