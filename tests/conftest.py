"""What holds for all tests."""

from __future__ import annotations

import os
import signal

import pytest

from tests.support import run

# gRPC's threads are none of a child's business that only starts a program: its handlers at a fork made some of them
# crash. It reads this once, when it is loaded.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")

_LONG_FIRST = ("chaos", "system", "browser", "integration", "contract")  # what waits, while others use the processor
_BEGAN = pytest.StashKey[bool]()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the folders whose tests take longest, so that the end does not wait for one of them."""
    items.sort(key=_rank)


def _rank(item: pytest.Item) -> int:
    folders = item.nodeid.split("/")
    return min((_LONG_FIRST.index(folder) for folder in folders if folder in _LONG_FIRST), default=len(_LONG_FIRST))


def pytest_sessionstart(session: pytest.Session) -> None:
    """Begin the run, unless this is a worker of one; a SIGTERM ends it as Ctrl-C does."""
    session.config.stash[_BEGAN] = began = run.begin()
    if began:
        signal.signal(signal.SIGTERM, signal.default_int_handler)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """End what the run started, when the workers are gone; what a test left running is an error of the run."""
    if not session.config.stash.get(_BEGAN, False):
        return
    for left in run.end():
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
        session.config.hook.pytest_runtest_logreport(report=_still_running(left))


def _still_running(process: str) -> pytest.TestReport:
    said = f"left running: {process}"
    return pytest.TestReport("the run", (__file__, None, "the run"), {}, "failed", said, "teardown")
