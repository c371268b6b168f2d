"""`serve --demo`: the fleet satisfies the webhook it posts to, and the demo's handlers fail as promised."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import pytest
from google.cloud.pubsub_v1 import SubscriberClient

from app.cli.demo import demo_fleet, demo_settings
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


STREAM = "http://127.0.0.1:1/v1/products/demo/events"


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
def test_the_fleet_is_admitted(host: str, tmp_path: Path) -> None:
    """What the fleet sends satisfies its source's webhook, which beyond loopback wants a key."""
    settings = demo_settings(settings_of(tmp_path, "[access]\nopen = true\n", host=host), STREAM)
    wanted = settings.sources["demo"].webhook.auth
    assert wanted.type == ("none" if host == "127.0.0.1" else "header")
    headers = demo_fleet(settings, address(settings))._headers
    lowered = {name.lower(): value for name, value in headers.items()}
    admission, _ = wanted.credentials()
    assert admission.admits(lowered, b"", b"")
    assert admission.admits({}, b"", b"") == (wanted.type == "none")


@pytest.mark.parametrize(
    ("text", "key"),
    [
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
        demo_settings(settings, STREAM)


def test_the_demo_has_a_file_and_a_source_of_its_own(tmp_path: Path) -> None:
    """What is configured keeps its store and its sources to itself; nothing real is taken into the demo's file."""
    mine = settings_of(tmp_path, '[store]\nurl = "postgres://h/d"\n[sources.a]\nformat = "generic"\n[sources.b]\n')
    settings = demo_settings(mine, STREAM)
    assert settings.store.url.value() == "sqlite:///headrace-demo.db"
    assert list(settings.sources) == ["demo"]
    source = settings.sources["demo"]
    assert (source.product, source.webhook.path, source.modes) == ("demo", "/ingest/demo", ("webhook", "sse"))
    assert (source.sse.url, source.sse.streams) == (STREAM, 1)
    assert settings.folder == mine.folder


def test_the_demos_source_pulls_a_subscription_too(tmp_path: Path) -> None:
    """Where there is an emulator the demo's source has that mode as well."""
    source = demo_settings(settings_of(tmp_path), STREAM, "projects/demo/subscriptions/s").sources["demo"]
    assert source.modes == ("webhook", "sse", "pubsub")
    assert source.pubsub.subscription == "projects/demo/subscriptions/s"


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
    assert list(demo_settings(mine, STREAM).handlers) == ["mine"]
    bare = demo_settings(settings_of(tmp_path), STREAM)
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
