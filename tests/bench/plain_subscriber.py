"""The anchor of Pub/Sub: Google's client with a callback that acknowledges at once, and stores nothing.

`python -m tests.bench.plain_subscriber SUBSCRIPTION STREAMS MESSAGES` prints JSON when it had so many.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import msgspec
from google.cloud.pubsub_v1 import SubscriberClient
from google.cloud.pubsub_v1.subscriber.message import Message

from tests.bench.cost import Measured

_PATIENCE_SECONDS = 600.0


def plain_rate(host: str, subscription: str, streams: int, messages: int) -> Measured:
    """Measure in a process of its own."""
    command = [sys.executable, "-m", "tests.bench.plain_subscriber", subscription, str(streams), str(messages)]
    environment = {**os.environ, "PUBSUB_EMULATOR_HOST": host}
    folder = Path(__file__).resolve().parents[2]
    done = subprocess.run(command, check=True, capture_output=True, cwd=folder, env=environment)
    return msgspec.json.decode(done.stdout.splitlines()[-1], type=Measured)


class Count:
    """Counts messages, and notes time and cost at the first and the last."""

    def __init__(self, messages: int) -> None:
        self._messages = messages
        self._lock = threading.Lock()
        self._came = 0
        self._began = (0.0, 0.0)
        self._ended = (0.0, 0.0)
        self.complete = threading.Event()

    def take(self, message: Message) -> None:
        """The callback."""
        message.ack()
        with self._lock:
            self._came += 1
            if self._came == 1:
                self._began = time.monotonic(), time.process_time()
            if self._came == self._messages:
                self._ended = time.monotonic(), time.process_time()
                self.complete.set()

    def rate(self) -> Measured:
        """What it came to."""
        elapsed, cost = (after - before for before, after in zip(self._began, self._ended, strict=True))
        return Measured(self._messages / elapsed, cost / self._messages * 1e6, 0.0)


def main() -> None:
    """Pull, print, and leave without waiting for the client's threads."""
    subscription, streams, messages = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    count = Count(messages)
    for _ in range(streams):
        SubscriberClient().subscribe(subscription, count.take)
    if not count.complete.wait(_PATIENCE_SECONDS):
        sys.exit("the messages did not come")
    print(msgspec.json.encode(count.rate()).decode(), flush=True)
    os._exit(0)


if __name__ == "__main__":
    main()
