"""An oracle posts to two servers through nginx and HAProxy as deploy/ has them, while servers go and come."""

from __future__ import annotations

import http.client
from collections.abc import Iterator
from contextlib import closing

import pytest

from tests.deploy.balancers import BALANCERS
from tests.deploy.cluster import HOOK_SECRET, PATH, Cluster, cluster, restart_in_turn
from tests.support.server import PATIENCE_SECONDS, wait_until


@pytest.fixture(params=BALANCERS, scope="module")
def running(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Two servers behind each balancer, for all tests of a balancer one after another."""
    with cluster(request.param, tmp_path_factory.mktemp(request.param)) as running:
        yield running


def test_a_rolling_restart_is_not_noticed(running: Cluster) -> None:
    """While both servers are restarted in turn senders hear nothing but 204, and every event is stored once."""
    with running.load("restarted") as load:
        load.wait_for(lambda progress: progress.acknowledged > 500, PATIENCE_SECONDS, "no load")
        restart_in_turn(running.servers)
        before = load.progress.acknowledged
        load.wait_for(lambda progress: progress.acknowledged > before + 500, PATIENCE_SECONDS, "no load afterwards")
        report, ledger = load.stop()
    running.verify(report.run, ledger)
    assert set(report.answers) == {"204"}, report
    assert not report.cut, report


@pytest.mark.chaos
def test_a_killed_server_costs_nothing_that_was_acknowledged(running: Cluster) -> None:
    """kill -9 of one server, its restart, then of the other: nothing acknowledged is missing or there twice."""
    with running.load("killed", redeliver=0.02) as load:
        load.wait_for(lambda progress: progress.acknowledged > 500, PATIENCE_SECONDS, "no load")
        for server in running.servers:
            server.kill()
            before = load.progress.acknowledged
            load.wait_for(lambda progress: progress.acknowledged > before + 500, PATIENCE_SECONDS, "no load")  # noqa: B023
            server.start()
        report, ledger = load.stop()
    running.verify(report.run, ledger)
    assert set(report.answers) <= {"204", "502", "503", "504"}, report


@pytest.mark.chaos
def test_a_stopped_server_is_left_out(running: Cluster) -> None:
    """After a SIGTERM the other server takes everything, and senders hear nothing but 204."""
    with running.load("stopped") as load:
        load.wait_for(lambda progress: progress.acknowledged > 500, PATIENCE_SECONDS, "no load")
        assert running.servers[1].terminate() == 0
        before = load.progress.acknowledged
        load.wait_for(lambda progress: progress.acknowledged > before + 500, PATIENCE_SECONDS, "no load afterwards")
        report, ledger = load.stop()
    running.servers[1].start()
    running.verify(report.run, ledger)
    assert set(report.answers) == {"204"}, report


@pytest.mark.chaos
@pytest.mark.parametrize("running", ["haproxy"], indirect=True)
def test_haproxy_looks_at_readyz(running: Cluster) -> None:
    """A server that drains is left out because its readyz is 503, while it still answers."""
    running.servers[1].terminate()
    log = running.folder / "haproxy" / "balancer.log"
    down = "headrace/headrace-2 is DOWN, reason: Layer7 wrong status, code: 503"
    wait_until(lambda: down in log.read_text(), PATIENCE_SECONDS, log.read_text)
    running.servers[1].start()


def test_what_the_balancer_itself_does(running: Cluster) -> None:
    """A body that is too large is refused, and a secret in a query is in no log."""
    with closing(http.client.HTTPConnection("127.0.0.1", running.port, timeout=20)) as sender:
        sender.request("GET", "/api/v1/events?access_token=never-to-be-logged")
        assert sender.getresponse().status == 401
    with closing(http.client.HTTPConnection("127.0.0.1", running.port, timeout=20)) as sender:
        sender.putrequest("POST", PATH)
        sender.putheader("Content-Length", str(2 << 20))
        sender.putheader("X-Particle-Key", HOOK_SECRET)
        sender.endheaders()
        assert sender.getresponse().status == 413

    def logs() -> str:
        return "".join(log.read_text() for log in running.folder.glob("*/*.log"))

    def are_both_logged() -> bool:  # a balancer logs a request after its answer
        return "/api/v1/events" in logs() and PATH in logs()

    wait_until(are_both_logged, PATIENCE_SECONDS, logs)
    assert "never-to-be-logged" not in logs()
