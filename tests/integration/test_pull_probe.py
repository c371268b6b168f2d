"""Whether a subscription can be pulled, as `check --connect` finds out: what it asks, and what it makes of answers."""

from __future__ import annotations

import socket
import time

import pytest
from google.pubsub_v1.types import BigQueryConfig, PushConfig, Subscription

from ingest.sources.pubsub.probe import probe
from tests.support.emulator import new_queue, session_emulator, subscriber
from tests.support.guarded_queue import CONSUME, GET, SUBSCRIPTION, guarded_queue

MISSING = SUBSCRIPTION.replace("guarded", "missing")


@pytest.mark.parametrize(
    ("granted", "subscription", "said"),
    [
        ((GET, CONSUME), SUBSCRIPTION, None),
        ((CONSUME,), SUBSCRIPTION, None),  # roles/pubsub.subscriber
        ((GET,), SUBSCRIPTION, "no permission to consume the subscription (roles/pubsub.subscriber)"),
        ((), SUBSCRIPTION, "no permission to consume the subscription (roles/pubsub.subscriber)"),
        ((CONSUME,), MISSING, "no permission to consume the subscription (roles/pubsub.subscriber)"),
        ((GET, CONSUME), MISSING, "the subscription does not exist"),
    ],
)
def test_the_permission_to_consume_is_enough(
    granted: tuple[str, ...], subscription: str, said: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who may consume a subscription need not be allowed to look at it; who may only look cannot pull."""
    with guarded_queue(*granted) as queue:
        monkeypatch.setenv("PUBSUB_EMULATOR_HOST", queue.host)
        fault = probe(subscription)
    assert set(queue.asked) <= {"GetSubscription", "TestIamPermissions"}
    if said is None:
        assert fault is None
    else:
        assert fault is not None
        assert fault.startswith(said)
        assert "\n" not in fault


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (Subscription(name=SUBSCRIPTION, detached=True), "detached"),
        (Subscription(name=SUBSCRIPTION, push_config=PushConfig(push_endpoint="https://x.org/?k=s3cret")), "pushes"),
        (Subscription(name=SUBSCRIPTION, topic="_deleted-topic_"), "topic was deleted"),
        (Subscription(name=SUBSCRIPTION, bigquery_config=BigQueryConfig(table="p.d.t")), "table"),
    ],
)
def test_a_subscription_that_goes_elsewhere_is_a_fault(
    found: Subscription, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where no message would ever come to who pulls, permission is not enough; no endpoint is shown."""
    with guarded_queue(GET, CONSUME, subscription=found) as queue:
        monkeypatch.setenv("PUBSUB_EMULATOR_HOST", queue.host)
        fault = probe(SUBSCRIPTION)
    assert fault is not None
    assert said in fault
    assert "s3cret" not in fault


def test_a_server_that_never_answers_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """The time that is given is kept, where the client alone would try for a minute."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("PUBSUB_EMULATOR_HOST", f"127.0.0.1:{silent.getsockname()[1]}")
        began = time.monotonic()
        fault = probe(SUBSCRIPTION, seconds=1)
    assert fault is not None
    assert time.monotonic() - began < 30


def test_no_message_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """What waits in the subscription is there for who pulls next, at its first delivery attempt."""
    queue = new_queue(session_emulator().host)
    queue.publish([(b"21.5", {"event": "temperature"})])
    monkeypatch.setenv("PUBSUB_EMULATOR_HOST", queue.host)

    assert probe(queue.subscription) is None

    pulled = subscriber(queue.host).pull(subscription=queue.subscription, max_messages=10, timeout=8)  # leases: 10 s
    assert [received.message.data for received in pulled.received_messages] == [b"21.5"]
