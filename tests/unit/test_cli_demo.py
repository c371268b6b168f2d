"""`serve --demo`: the fleet satisfies the webhook it posts to, and the demo's handlers fail as promised."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import pytest
from google.cloud.pubsub_v1 import SubscriberClient

from app.cli.demo import (
    credentials_for,
    demo_fleet,
    demo_source,
    demo_stream,
    with_demo_handlers,
    with_demo_stream,
    with_demo_subscription,
)
from app.cli.serving import address
from app.settings import Settings, load
from app.simulator.demo import on_event_now_and_then
from app.simulator.device import Device
from app.simulator.topic import ProductTopic
from ingest import DeadLetter
from ingest.errors import ConfigurationError
from ingest.event import Event
from tests.support.emulator import session_emulator
from tests.support.server import free_port
from tests.support.tls import make_certificate


def settings_of(tmp_path: Path, text: str = "", **listening: str | int) -> Settings:
    """The settings of a file with this text."""
    file = tmp_path / "headrace.toml"
    file.write_text(text)
    return load(file, {}, **listening)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "auth",
    [
        '{ type = "none" }',
        '{ type = "header", name = "X-Particle-Key", secrets = "s3 cret/é" }',
        '{ type = "bearer", secrets = ["first", "second"] }',
        '{ type = "query", name = "key", secrets = ["a&b=c +%"] }',
        '{ type = "basic", secrets = ["ann:pass:word"] }',
    ],
)
def test_the_fleet_is_admitted(auth: str, tmp_path: Path) -> None:
    """What the fleet sends satisfies the webhook's own check, for each type of auth it knows."""
    settings = settings_of(tmp_path, f"[sources.fleet.webhook]\nauth = {auth}\n")
    wanted = settings.sources["fleet"].webhook.auth
    query, headers = credentials_for(wanted)
    lowered = {name.lower(): value.encode().decode("latin-1") for name, value in headers.items()}
    admission, _ = wanted.credentials()
    assert admission.admits(lowered, query.removeprefix("?").encode(), b"")
    demo_fleet(settings, address(settings))


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ('[sources.a.webhook]\nauth = { type = "github", secrets = "x" }\n', "webhook.auth.type"),
        ('[sources.a]\nformat = "generic"\n', "format particle"),
        ("[server]\nport = 0\n", "server.port"),
        ('[server]\ntls_cert = "certificate.pem"\ntls_key = "key.pem"\n', "server.tls_cert"),
    ],
)
def test_a_demo_that_could_not_send_is_refused(
    text: str, key: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the fleet could reach no webhook, that is said before anything starts."""
    monkeypatch.chdir(tmp_path)
    make_certificate(tmp_path)
    settings = settings_of(tmp_path, text)
    with pytest.raises(ConfigurationError, match=key):
        demo_fleet(settings, address(settings))


def test_the_stream_is_of_the_product_that_the_fleet_posts_to(tmp_path: Path) -> None:
    """The first source the fleet can satisfy is the demo's; its product is in the stream's path."""
    closed = '[sources.a.webhook]\nauth = { type = "github", secrets = "x" }\n'
    settings = settings_of(tmp_path, closed + '[sources.b]\nproduct = "tracker"\n')
    assert demo_source(settings) == "b"
    stream = demo_stream(settings)
    assert urlsplit(stream.url).path == "/v1/products/tracker/events"
    stream.close()


def test_the_demos_source_takes_the_stream_too(tmp_path: Path) -> None:
    """The one source that the fleet feeds has both modes; the others, and its webhook, stay as they are."""
    settings = settings_of(tmp_path, '[sources.a]\nformat = "generic"\n[sources.b]\nproduct = "tracker"\n')
    stream = demo_stream(settings)
    both = with_demo_stream(settings, stream)
    source = both.sources["b"]
    assert source.modes == ("webhook", "sse")
    assert source.sse is not None
    assert (source.sse.url, source.sse.streams) == (stream.url, 1)
    assert source.webhook == settings.sources["b"].webhook
    assert both.sources["a"] == settings.sources["a"]
    assert both.folder == settings.folder
    assert with_demo_stream(both, stream) == both
    stream.close()


def test_the_demos_source_pulls_a_subscription_too(tmp_path: Path) -> None:
    """Where there is an emulator the demo's source has that mode as well; a subscription of its own stays."""
    settings = settings_of(tmp_path, '[sources.b]\nproduct = "tracker"\n')
    both = with_demo_subscription(settings, "projects/demo/subscriptions/s")
    assert both.sources["b"].modes == ("webhook", "pubsub")
    assert both.sources["b"].pubsub.subscription == "projects/demo/subscriptions/s"
    assert both.sources["b"].webhook == settings.sources["b"].webhook
    assert with_demo_subscription(both, "projects/demo/subscriptions/other") == both


def test_the_demo_publishes_to_the_emulator(monkeypatch: pytest.MonkeyPatch) -> None:
    """The demo's topic holds each event once, some twice, and now and then a message without an event's name."""
    monkeypatch.setenv("PUBSUB_EMULATOR_HOST", session_emulator().host)
    topic = ProductTopic()
    device = Device(1, seed=1)
    for _ in range(150):
        topic.send(device.publish(datetime(2026, 7, 28, tzinfo=UTC)))
    messages: list[Any] = []
    with SubscriberClient() as client:
        while len(messages) < 150 + 3 + 1:
            pulled = client.pull(subscription=topic.subscription, max_messages=1000)
            messages += [received.message for received in pulled.received_messages]
    assert len([message for message in messages if "event" not in message.attributes]) == 1
    assert {key for message in messages for key in message.attributes} == {
        *("event", "device_id", "published_at", "fw_version"),
    }


def test_a_demo_without_its_emulator_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nothing answers at PUBSUB_EMULATOR_HOST, that is one sentence before anything starts."""
    monkeypatch.setenv("PUBSUB_EMULATOR_HOST", f"127.0.0.1:{free_port()}")
    with pytest.raises(ConfigurationError, match="PUBSUB_EMULATOR_HOST: no Pub/Sub emulator answers"):
        ProductTopic()


def test_handlers_of_the_configuration_stay_alone(tmp_path: Path) -> None:
    """The demo brings handlers only where there are none, and those can be built."""
    mine = settings_of(tmp_path, '[handlers.mine]\ntype = "log"\n')
    assert list(with_demo_handlers(mine).handlers) == ["mine"]
    bare = with_demo_handlers(settings_of(tmp_path))
    assert len(bare.handlers) == 2
    assert bare.folder == tmp_path
    for label, handler in bare.handlers.items():
        handler.build(label, bare.folder)


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("0.0.0.0", "127.0.0.1"),
        ("::1", "[::1]"),
        ("::", "[::1]"),
        ("localhost", "localhost"),
    ],
)
def test_the_address_can_be_opened(host: str, expected: str, tmp_path: Path) -> None:
    """The address that is shown and posted to is one that this machine can open, also where all are listened on."""
    settings = settings_of(tmp_path, "[access]\nopen = true\n", host=host, port=8123)
    assert urlsplit(address(settings)).netloc == f"{expected}:8123"


async def fate(name: str, device: str) -> str:
    """What the demo's shaky handler does with an event."""
    at = datetime(2026, 7, 28, tzinfo=UTC)
    event = Event(
        id=UUID(int=1),
        product="default",
        device=device,
        name=name,
        data=None,
        content_type=None,
        published_at=at,
        received_at=at,
        source="default",
        mode="webhook",
        attributes={},
    )
    try:
        await on_event_now_and_then(event)
    except DeadLetter:
        return "dead"
    except ConnectionError:
        return "failed"
    return "delivered"


async def test_the_shaky_handler_shows_every_outcome() -> None:
    """When the demo's devices go online some are given up, some fail however often, and most get through."""
    devices = [Device(number, seed=1).id for number in range(50)]
    fates = [await fate("spark/status", device) for device in devices]
    assert 1 <= fates.count("dead") <= 6
    failing = [device for device, what in zip(devices, fates, strict=True) if what == "failed"]
    assert {await fate("spark/status", device) for device in failing[:1] * 3} == {"failed"}
    assert fates.count("delivered") > 35
    assert [await fate("temperature", devices[0]) for _ in range(100)].count("delivered") > 80
