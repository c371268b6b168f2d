"""A simulated Particle device: what it publishes, and the webhooks, frames and messages the cloud makes of it."""

from __future__ import annotations

import base64
import json
import random
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from urllib.parse import urlencode

JSON = "application/json"
FORM = "application/x-www-form-urlencoded"
PRODUCT_ID = 13961
_IMAGE_BYTES = 48
_FIRMWARE = ("87", "91", "92")


@dataclass(frozen=True, slots=True)
class Hook:
    """One webhook request's body, and its headers: Particle sends free text without any Content-Type."""

    body: bytes
    headers: Mapping[str, str]

    @classmethod
    def of(cls, body: bytes, content_type: str | None = JSON) -> Hook:
        """A body with its content type, if any."""
        return cls(body, {} if content_type is None else {"content-type": content_type})


@dataclass(frozen=True, slots=True)
class Published:
    """An event as the cloud has it from a device: it goes out by webhook, by stream, to a topic, or all of them."""

    device: str
    name: str
    value: str
    at: datetime
    firmware: str
    by_form: bool

    def hook(self) -> Hook:
        """Its webhook."""
        fields = {"event": self.name, **self._common()}
        if self.by_form:
            return Hook.of(urlencode(fields).encode(), FORM)
        return Hook.of(compact(fields | {"fw_version": self.firmware, "product_id": str(PRODUCT_ID)}))

    def frame(self) -> bytes:
        """What a product's stream says of it; its name stands on the `event:` line alone."""
        rest = {"ttl": 60, "userid": "", "version": int(self.firmware), "public": False, "productID": PRODUCT_ID}
        return b"event: %b\ndata: %b\n\n" % (self.name.encode(), compact(self._common() | rest))

    def message(self) -> tuple[bytes, dict[str, str]]:
        """Its message in a topic: the value alone, and the attributes beside it."""
        about = {"event": self.name, "device_id": self.device, "published_at": particle_time(self.at)}
        return self.value.encode(), about | {"fw_version": self.firmware}

    def _common(self) -> dict[str, object]:
        return {"data": self.value, "coreid": self.device, "published_at": particle_time(self.at)}


class Device:
    """Walks its temperature at random, and now and then reports its status or sends a picture. Seeded: repeatable."""

    def __init__(self, number: int, seed: int) -> None:
        self._random = random.Random(f"{seed}/{number}")  # noqa: S311 - to look real, not to keep a secret
        self.id = f"e00fce68{self._random.getrandbits(64):016x}"
        self._firmware = self._random.choice(_FIRMWARE)
        self._by_form = number % 10 == 9  # a webhook made with only event and URL sends forms
        self._celsius = self._random.uniform(15, 25)
        self._published = 0

    def pause(self, mean_seconds: float) -> float:
        """Seconds until it publishes again."""
        return self._random.uniform(0.5, 1.5) * mean_seconds

    def repeats(self, share: float) -> bool:
        """Whether the cloud will send the next event once more."""
        return self._random.random() < share

    def publish(self, at: datetime) -> Published:
        """Its next event, published at an aware time."""
        name, value = self._next_event()
        return Published(self.id, name, value, at, self._firmware, self._by_form)

    def _next_event(self) -> tuple[str, str]:
        self._published += 1
        if self._published == 1:
            return "spark/status", "online"
        if self._published % 40 == 0:
            return "spark/status", self._random.choice(("offline", "online", "auto-update"))
        if self._published % 25 == 0:
            picture = base64.b64encode(self._random.randbytes(_IMAGE_BYTES)).decode()
            return "camera/thumbnail", f"data:application/octet-stream;base64,{picture}"
        self._celsius += self._random.gauss(0, 0.2)
        return "temperature", compact({"t": round(self._celsius, 2), "seq": self._published}).decode()


def particle_time(at: datetime) -> str:
    """UTC in milliseconds with a Z, as the cloud stamps events."""
    return at.strftime("%Y-%m-%dT%H:%M:%S.") + f"{at.microsecond // 1000:03d}Z"


def compact(fields: Mapping[str, object]) -> bytes:
    """JSON as the cloud writes it, without blanks."""
    return json.dumps(fields, separators=(",", ":")).encode()
