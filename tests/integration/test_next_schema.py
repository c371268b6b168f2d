"""A server that runs while the database gets a schema that only a later version knows."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from storage.engine import open_database
from storage.migrate import migrate
from tests.chaos.scene import POSTGRES, full_speed, only, server_on, store_of
from tests.support import database
from tests.support.later_version import LATER, have_later_version
from tests.support.oracle import Load, faults, read_metrics, verify_flow
from tests.support.postgres import own_server
from tests.support.server import PATIENCE_SECONDS, Server, wait_until


def test_a_running_server_goes_on_with_the_next_schema(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No sender notices the migration, and what comes in an outage after it is drained, as before."""
    have_later_version(tmp_path, monkeypatch)
    with store_of(POSTGRES, tmp_path) as url:
        server = server_on(url, tmp_path)
        server.config.write_text(server.config.read_text().replace("[store]", '[store]\nspool = "spool.db"', 1))
        with server, full_speed(server, tmp_path, connections=8) as load:
            until_more(load)
            assert asyncio.run(migrated(url)) == LATER
            until_more(load)
            with own_server().outage():
                until_more(load)
                assert spooled(server)
            report, ledger = load.stop()
            only(report, "204")
            assert not report.cut
            wait_until(lambda: not spooled(server), PATIENCE_SECONDS, "the spool is not drained", every=0.1)
            verify_flow(server.url, "/ingest/fleet")
            assert faults(database.read(url), {"load": ledger}) == []


async def migrated(url: str) -> str:
    """Bring the database to the next schema; return which one."""
    opened = open_database(url)
    try:
        return (await migrate(opened))[1]
    finally:
        await opened.close()


def until_more(load: Load) -> None:
    """Return when some hundred events more are acknowledged."""
    enough = load.progress.acknowledged + 300
    load.wait_for(lambda progress: progress.acknowledged > enough, PATIENCE_SECONDS, "nothing is taken")


def spooled(server: Server) -> float:
    """How many records are in the spool."""
    return dict(read_metrics(server.url))["headrace_spool_events"]
