"""The check of every server that a test stops: a loss that the test did not declare fails it."""

from __future__ import annotations

import re
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from ingest.metrics import Metrics
from tests.support.losses import GAPS, LOSS_METRICS, losses_in
from tests.support.oracle import read_metrics
from tests.support.server import PATIENCE_SECONDS, Server, wait_until

CONFIG = """
[sources.fleet]
sequence = "/seq"
sequence_first = 1
"""
MISSING = 'headrace_events_missing{source="fleet"} 1.0'
GAP = 'headrace_gaps_total{cause="idle",mode="sse",source="fleet"} 2.0'
PAGE = f"""
# TYPE headrace_events_missing gauge
headrace_events_missing{{source="other"}} 0.0
{MISSING}
{GAP}
headrace_events_duplicate_total{{kind="overlap",mode="sse",source="fleet"}} 5.0
"""


def shows(server: Server, metric: str) -> None:
    """Return when a sample of this name is 1."""
    wait_until(lambda: (metric, 1.0) in read_metrics(server.url), PATIENCE_SECONDS, f"no {metric}")


def lossy_run(server: Server, ending: Callable[[Server], object]) -> None:
    """Let a device's first number be missing, and the run end in some way."""
    body = b'{"event": "loc", "coreid": "dev1", "data": "{\\"seq\\": 2}", "published_at": "2026-07-28T16:53:05.000Z"}'
    with server:
        with urllib.request.urlopen(urllib.request.Request(f"{server.url}/ingest/fleet", body), timeout=30) as answer:
            assert answer.status == 204
        shows(server, "headrace_events_missing")
        ending(server)


def leave(_: Server) -> None:
    """Go to the end of the block."""


def fail(_: Server) -> None:
    """Fail, as a test does."""
    raise LookupError


def kill_and_stop(server: Server) -> None:
    """Let a kill make a gap, and stop the process that tells of it."""
    server.kill()
    server.start()
    shows(server, "headrace_gaps_total")
    assert server.terminate() == 0


@pytest.mark.parametrize("ending", [leave, Server.terminate, kill_and_stop])
def test_a_server_that_lost_something_fails_its_test(ending: Callable[[Server], object], tmp_path: Path) -> None:
    """Whether SIGTERM or the end of the block ends it; it does not run any more afterwards."""
    server = Server(tmp_path, CONFIG)
    with pytest.raises(AssertionError, match=re.escape(MISSING)):
        lossy_run(server, ending)

    with pytest.raises(AssertionError, match="not started"):
        _ = server.pid


def test_a_declared_loss_fails_nothing(tmp_path: Path) -> None:
    """The gap of a kill by the test itself need not be declared."""
    lossy_run(Server(tmp_path, CONFIG, losses=["headrace_events_missing"]), kill_and_stop)


def test_a_failure_of_the_test_is_not_hidden(tmp_path: Path) -> None:
    """An error in the block is what comes out of it, whatever was lost."""
    with pytest.raises(LookupError):
        lossy_run(Server(tmp_path, CONFIG), fail)


@pytest.mark.parametrize(
    ("declared", "left"), [((), [MISSING, GAP]), (GAPS, [MISSING]), (['cause="idle"', 'source="fleet"'], [])]
)
def test_what_is_not_0_is_a_loss_unless_declared(declared: Sequence[str], left: Sequence[str]) -> None:
    """A declaration is a part of the sample; duplicates are no losses."""
    assert losses_in(PAGE, declared) == left


def test_each_name_is_a_metric_of_the_product() -> None:
    """A name that the product does not know would never be seen."""
    shown = generate_latest(Metrics(CollectorRegistry()).registry).decode()
    assert {name for name in LOSS_METRICS if f"# TYPE {name} " in shown} == LOSS_METRICS
