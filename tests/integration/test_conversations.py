"""Raw HTTP: whatever a connection is sent, in whatever pieces, each request has its answer and no event is made up.

Imports nothing of the product. `tests/chaos/test_many_conversations.py` does the same with many more.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.conversations.examples import examples
from tests.support.conversations.generate import conversations
from tests.support.conversations.judge import faults, shown
from tests.support.conversations.party import Held, hold
from tests.support.conversations.subjects import Stored, headrace, stored, uvicorn_alone
from tests.support.conversations.values import Way
from tests.support.conversations.ways import ALONE as WAY_ALONE
from tests.support.conversations.ways import DIRECT, HAPROXY, NGINX
from tests.support.proxies import haproxy, nginx

SEED = 1
DIRECTLY, BY_PROXY = 1200, 500  # requests
ALONE = 150  # conversations
Proxy = Callable[[Path, int], AbstractContextManager[int]]
EXAMPLES = examples()


@dataclass(frozen=True, slots=True)
class Direct:
    """What was held without a proxy, and what is stored of it."""

    examples: Held
    generated: Held
    stored: Stored


@pytest.fixture(scope="module")
def direct(tmp_path_factory: pytest.TempPathFactory) -> Direct:
    """All that a client does by itself, with one server that has ended since."""
    folder = tmp_path_factory.mktemp("direct")
    with headrace(folder) as server:
        by_hand = hold(list(EXAMPLES.values()), server.port, DIRECT)
        generated = hold(conversations(SEED, DIRECTLY), server.port, DIRECT)
        assert server.terminate() == 0
    return Direct(by_hand, generated, stored(folder))


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example(name: str, direct: Direct) -> None:
    """One odd request is answered as the standards and the contract want it, and the connection is closed or lives."""
    conversation, heard = EXAMPLES[name], direct.examples.heard[list(EXAMPLES).index(name)]
    found = faults(conversation, heard, direct.stored.times, DIRECT)
    assert not found, shown(conversation, heard, found, DIRECT)


def test_generated_conversations(direct: Direct) -> None:
    """Requests with anything in them, cut anywhere: none is lost, none is made up, no connection is open and dead."""
    assert direct.generated.statuses()[204] > DIRECTLY / 3
    assert not (report := direct.generated.report(direct.stored.times)), report
    assert direct.stored.sightings == 0


@pytest.mark.parametrize(("way", "proxy"), [(NGINX, nginx), (HAPROXY, haproxy)], ids=["nginx", "haproxy"])
def test_by_a_proxy(way: Way, proxy: Proxy, tmp_path: Path) -> None:
    """Behind a proxy that lets all clients use the same connections, no client is harmed by what another one sends."""
    with headrace(tmp_path) as server:
        with proxy(tmp_path, server.port) as port:
            held = hold(conversations(SEED, BY_PROXY), port, way)
        assert server.terminate() == 0
    found = stored(tmp_path)
    assert held.statuses()[204] > BY_PROXY / 3
    assert not (report := held.report(found.times)), report
    assert found.sightings == 0


def test_uvicorn_alone(direct: Direct, tmp_path: Path) -> None:
    """The same requests to uvicorn alone are answered otherwise only where there is a reason for it."""
    same = direct.generated.conversations[:ALONE]
    with uvicorn_alone(tmp_path) as port:
        alone = hold(same, port, WAY_ALONE, clients=64, patience_seconds=5)  # many stay without an answer
    assert not (report := direct.generated.unexplained(alone)), report
