"""Google's Pub/Sub emulator, one for the run; each test has a topic and a subscription of its own in it.

It keeps nothing when it ends, and redelivers slowly.
"""

from __future__ import annotations

import functools
import os
import shutil
import socket
import subprocess
import time
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
from google.api_core.exceptions import NotFound
from google.cloud.pubsub_v1 import SubscriberClient
from google.cloud.pubsub_v1.subscriber.message import Message
from google.pubsub_v1 import PublisherClient
from google.pubsub_v1.services.publisher.transports import PublisherGrpcTransport
from google.pubsub_v1.services.subscriber.transports import SubscriberGrpcTransport

from tests.support import run
from tests.support.required import missing
from tests.support.server import PATIENCE_SECONDS, free_port, wait_until

PROJECT = "tests"
_FOLDERS = ("/usr/lib/google-cloud-sdk", "/usr/share/google-cloud-sdk", "/opt/google-cloud-sdk")
_COMMAND = "platform/pubsub-emulator/bin/cloud-pubsub-emulator"
_AT_ONCE = 500  # messages in one request
_AT_ONCE_BYTES = 8 << 20

Published = tuple[bytes, Mapping[str, str]]  # data and attributes


def emulator_command() -> str | None:
    """Where the emulator is, if it is here: Debian's package google-cloud-cli-pubsub-emulator puts it beside gcloud."""
    found = shutil.which("cloud-pubsub-emulator")
    places = (str(Path(folder, _COMMAND)) for folder in _FOLDERS)
    return found or next(filter(os.path.exists, places), None)


class Emulator:
    """One emulator process. Restarted, it has the same address and nothing in it."""

    def __init__(self) -> None:
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def host(self) -> str:
        """What PUBSUB_EMULATOR_HOST is set to."""
        return f"127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        """The id of the running process."""
        assert self._process is not None, "the emulator was not started here"
        return self._process.pid

    def start(self) -> None:
        """Return when it answers."""
        command = emulator_command()
        if command is None or shutil.which("java") is None:
            missing("the Pub/Sub emulator is not installed (google-cloud-cli-pubsub-emulator, and Java)")
        self._process = subprocess.Popen(
            [command, "--host=127.0.0.1", f"--port={self.port}"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        wait_until(self._answers, PATIENCE_SECONDS, "the Pub/Sub emulator does not start")

    def stop(self) -> None:
        """Kill it: what it held is gone."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def _answers(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
        except OSError:
            return False
        return True


@functools.cache
def publisher(host: str) -> PublisherClient:
    """A client that publishes to an emulator."""
    return PublisherClient(transport=PublisherGrpcTransport(channel=_channel(host)))


@functools.cache
def subscriber(host: str) -> SubscriberClient:
    """A client that pulls from an emulator."""
    return SubscriberClient(transport=SubscriberGrpcTransport(channel=_channel(host)))


def _channel(host: str) -> grpc.Channel:
    unlimited = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]
    return grpc.insecure_channel(host, options=unlimited)


@functools.cache
def session_emulator() -> Emulator:
    """Return the emulator that all processes of the run share: it is never stopped before the end."""
    emulator, pid_file = Emulator(), run.folder() / "emulator.pid"

    def start() -> run.Shared:
        emulator.start()
        pid_file.write_text(str(emulator.pid))
        return run.Shared(str(emulator.port), str(pid_file))

    emulator.port = int(run.share("emulator", start).address)
    return emulator


@dataclass(frozen=True)
class Queue:
    """A topic with one subscription, and a client for each."""

    host: str
    topic: str
    subscription: str

    def publish(self, messages: Iterable[Published]) -> list[str]:
        """Publish in order; the ids of the messages, when the emulator has them."""
        ids: list[str] = []
        waiting: list[dict[str, Any]] = []
        size = 0
        for data, attributes in messages:
            if waiting and (len(waiting) == _AT_ONCE or size + len(data) > _AT_ONCE_BYTES):
                ids += self._send(waiting)
                waiting, size = [], 0
            waiting.append({"data": data, "attributes": dict(attributes)})
            size += len(data)
        if waiting:
            ids += self._send(waiting)
        return ids

    def _send(self, messages: list[dict[str, Any]]) -> list[str]:
        return list(publisher(self.host).publish({"topic": self.topic, "messages": messages}).message_ids)

    def left(self, seconds: float = 2.0) -> int:
        """How many messages come to somebody who pulls for a while: 0 where the subscription is empty. Takes them."""
        came = set()

        def take(message: Message) -> None:
            came.add(message.message_id)
            message.ack()

        pulling = subscriber(self.host).subscribe(self.subscription, take)
        time.sleep(seconds)
        pulling.cancel()
        pulling.result()
        return len(came)


def new_queue(host: str, **options: Any) -> Queue:
    """A fresh topic and subscription. `options`: of the subscription, as Google's API names them."""
    name = f"test-{uuid.uuid4().hex}"  # a name begins with a letter
    queue = Queue(host, f"projects/{PROJECT}/topics/{name}", f"projects/{PROJECT}/subscriptions/{name}")
    make(queue, **options)
    return queue


def make(queue: Queue, **options: Any) -> None:
    """Make a topic and its subscription: after a restart the emulator has forgotten them."""
    try:
        publisher(queue.host).get_topic(topic=queue.topic)
    except NotFound:
        publisher(queue.host).create_topic(name=queue.topic)
    request = {"name": queue.subscription, "topic": queue.topic, "ack_deadline_seconds": 10, **options}
    subscriber(queue.host).create_subscription(request=request)
