"""Raw HTTP, 20,000 generated requests by each way. Imports nothing of the product.

A broken rule is shown with seed and number: `conversation(seed, number)` of `tests.support.conversations.generate` is
the same one again.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import pytest

from tests.support.conversations.differences import REASONS
from tests.support.conversations.generate import conversations
from tests.support.conversations.party import hold
from tests.support.conversations.subjects import headrace, stored, uvicorn_alone
from tests.support.conversations.values import Way
from tests.support.conversations.ways import ALONE, DIRECT, HAPROXY, NGINX
from tests.support.proxies import haproxy, nginx

pytestmark = pytest.mark.chaos

REQUESTS = 20_000
SEED = 2
Proxy = Callable[[Path, int], AbstractContextManager[int]]


def no_proxy(_: Path, port: int) -> AbstractContextManager[int]:
    """The port itself."""
    return nullcontext(port)


@pytest.mark.parametrize(
    ("way", "proxy"), [(DIRECT, no_proxy), (NGINX, nginx), (HAPROXY, haproxy)], ids=["direct", "nginx", "haproxy"]
)
def test_conversations(way: Way, proxy: Proxy, tmp_path: Path) -> None:
    """No event that was answered 204 is lost, nothing in a body is executed, no answer is missing, and no connection
    is open and dead."""
    with headrace(tmp_path) as server:
        with proxy(tmp_path, server.port) as port:
            held = hold(conversations(SEED, REQUESTS), port, way)
        assert server.terminate() == 0
    found = stored(tmp_path)
    print(f"{way.name}: {len(held.heard)} conversations, answers {dict(sorted(held.statuses().items()))}")
    assert held.statuses()[204] > REQUESTS / 3
    assert not (report := held.report(found.times)), report
    assert found.sightings == 0


def test_uvicorn_alone(tmp_path: Path) -> None:
    """The same requests to uvicorn alone are answered otherwise only where a reason is known, and each of them is met.

    Its client has less patience: many of its connections are left without an answer.
    """
    same = conversations(SEED, REQUESTS)
    with headrace(tmp_path) as server:
        ours = hold(same, server.port, DIRECT)
    with uvicorn_alone(tmp_path) as port:
        alone = hold(same, port, ALONE, clients=128, patience_seconds=5)
    reasons = ours.reasons(alone)
    print("\n".join(f"{times:6} {reason}" for reason, times in reasons.most_common() if reason in REASONS))
    assert not (report := ours.unexplained(alone)), report
    assert reasons.keys() == REASONS
