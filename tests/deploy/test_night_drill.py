"""The night drill: faults one after another in a running deployment.

For each the right alert fires, alone, and the first command of its runbook shows the cause; when the fault is mended,
all is quiet again.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.chaos.test_full_disk import can_mount, small_disk
from tests.deploy.night import Night, an_event, night, posting
from tests.support.required import missing


class Fault(NamedTuple):
    """An alert, what makes it (the fault lasts as long as the block), and what the runbook's command shows."""

    alert: str
    make: Callable[[Night], AbstractContextManager[None]]
    shows: str


@contextmanager
def wrong_secret(at: Night) -> Iterator[None]:
    """A sender's secret is wrong."""
    with posting(at.server, lambda: an_event("temperature"), 10, secret="an old one"):
        yield


@contextmanager
def bad_template(at: Night) -> Iterator[None]:
    """The template of an integration is broken."""
    with posting(at.server, lambda: b'{"event":', 10):
        yield


@contextmanager
def repeating_sender(at: Night) -> Iterator[None]:
    """A sender does not take our word."""
    with posting(at.server, lambda: an_event("again"), 20):
        yield


@contextmanager
def silent_sender(at: Night) -> Iterator[None]:
    """The sender stops."""
    at.sending.clear()
    yield
    at.sending.set()


@contextmanager
def revoked_token(at: Night) -> Iterator[None]:
    """The stream's token is revoked; a new one is put into its file."""
    at.upstream.status = 401
    at.upstream.cut()
    yield
    at.upstream.status = 200
    (at.folder / "stream.token").write_text("second")


@contextmanager
def upstream_gone(at: Night) -> Iterator[None]:
    """The stream's upstream is away."""
    at.upstream.stop()
    yield
    at.upstream.start()


@contextmanager
def slow_handler(at: Night) -> Iterator[None]:
    """A handler waits for something."""
    slow = at.folder / "slow"
    slow.touch()
    yield
    slow.unlink()


@contextmanager
def broken_handler(at: Night) -> Iterator[None]:
    """A handler gives events up; then it is mended, and the runbook's redrive done."""
    broken = at.folder / "broken"
    broken.touch()
    yield
    broken.unlink()
    at.mend(BROKEN_HANDLER.alert, "headrace redrive")


@contextmanager
def receiver_gone(at: Night) -> Iterator[None]:
    """A handler's receiver is away."""
    at.receiver.stop()
    yield
    at.receiver.start()


@contextmanager
def paused_handler(at: Night) -> Iterator[None]:
    """Somebody pauses a handler; it is resumed as the runbook says."""
    at.run("headrace pause rules")
    yield
    at.mend("HeadraceHandlerPaused", "headrace resume")


@contextmanager
def full_disk(at: Night) -> Iterator[None]:
    """Something else fills the disk of the store."""
    ballast = at.store_file.parent / "ballast"
    ballast.write_bytes(bytes(22 << 20))
    yield
    ballast.unlink()


@contextmanager
def dead_server(at: Night) -> Iterator[None]:
    """The only server is killed."""
    at.server.kill()
    yield
    at.server.start()


WRONG_SECRET = Fault("HeadraceAuthenticationFailing", wrong_secret, r'auth_failures_total\{source="fleet"\} [1-9]')
BROKEN_HANDLER = Fault("HeadraceDeadLetters", broken_handler, "the rules are broken")
FAULTS = [
    WRONG_SECRET,
    Fault("HeadraceRejectsRising", bad_template, "malformed_json"),
    Fault("HeadraceDuplicatesUnusual", repeating_sender, r"duplicate"),
    Fault("HeadraceSourceSilent", silent_sender, r"last counted minute"),
    Fault("HeadraceSourceUnauthorized", revoked_token, r"unauthorized|401"),
    Fault("HeadraceSourceDown", upstream_gone, r'"source":"stream".*refused'),
    Fault("HeadraceHandlerLagging", slow_handler, r"rules +running"),
    BROKEN_HANDLER,
    Fault("HeadraceHandlerCircuitOpen", receiver_gone, r"alerts +\S.*(open|connection)"),
    Fault("HeadraceHandlerPaused", paused_handler, r"rules +paused"),
    Fault("HeadraceStoreNearlyFull", full_disk, r"(7|8|9)\d%"),
    Fault("HeadraceMetricsMissing", dead_server, "nothing answers /livez"),
]


def drill(at: Night, fault: Fault) -> None:
    """Make the fault, see its alert fire alone, ask the runbook, mend it, and wait for calm."""
    with fault.make(at):
        at.prometheus.expect_alone(fault.alert)
        shown = at.confirm(fault.alert)
        assert re.search(fault.shows, shown), f"the runbook's command for {fault.alert} shows\n{shown}"


def test_an_alert_of_a_running_deployment(tmp_path: Path) -> None:
    """A wrong secret is told of by a real Prometheus that scrapes a real server, and by nothing else."""
    with night(tmp_path) as at:
        drill(at, WRONG_SECRET)


@pytest.mark.chaos
def test_the_night_drill(tmp_path: Path) -> None:
    """Twelve faults one after another."""
    if not can_mount(tmp_path):
        missing("this user may not mount the small disk")
    with small_disk(tmp_path / "disk") as disk, night(tmp_path, disk) as at:
        for fault in FAULTS:
            print(f"{fault.alert}: {(fault.make.__doc__ or '').strip()}")
            drill(at, fault)
            if fault is not FAULTS[-1]:
                at.prometheus.expect_calm()
