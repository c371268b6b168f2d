"""A topic of the Pub/Sub emulator with a subscription, and what makes queues a worry: duplicates, and bad messages."""

from __future__ import annotations

import uuid

from google.api_core.exceptions import GoogleAPICallError, RetryError
from google.cloud.pubsub_v1 import PublisherClient, SubscriberClient

from app.simulator.device import Published
from ingest.errors import ConfigurationError

_PROJECT = "demo"
_DUPLICATE_EVERY = 50  # published twice, as two messages
_POISON_EVERY = 150  # followed by a message that does not say which event it is
_SECONDS = 5.0  # for the emulator to answer


class ProductTopic:
    """What Particle publishes of a product, on the emulator that PUBSUB_EMULATOR_HOST names.

    Made with a topic and a subscription of its own. Raises ConfigurationError where no emulator answers.
    """

    def __init__(self) -> None:
        name = f"headrace-{uuid.uuid4().hex[:12]}"
        self.subscription = f"projects/{_PROJECT}/subscriptions/{name}"
        self._topic = f"projects/{_PROJECT}/topics/{name}"
        self._publisher = PublisherClient()
        self._published = 0
        wanted = {"name": self.subscription, "topic": self._topic, "ack_deadline_seconds": 10}
        try:
            self._publisher.create_topic(request={"name": self._topic}, timeout=_SECONDS, retry=None)
            with SubscriberClient() as subscriber:
                subscriber.create_subscription(request=wanted, timeout=_SECONDS, retry=None)
        except (GoogleAPICallError, RetryError) as error:
            raise ConfigurationError(f"PUBSUB_EMULATOR_HOST: no Pub/Sub emulator answers there ({error})") from None

    def send(self, published: Published) -> None:
        """Publish an event, and what else comes with it. Returns at once: the client sends in threads of its own."""
        self._published += 1
        value, attributes = published.message()
        for _ in range(2 if self._published % _DUPLICATE_EVERY == 0 else 1):
            self._publisher.publish(self._topic, value, **attributes)
        if self._published % _POISON_EVERY == 0:
            self._publisher.publish(self._topic, value, device_id=published.device)
