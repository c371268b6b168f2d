"""Numbered Particle events: what the oracle sends, byte for byte the same whenever a number is sent again."""

from __future__ import annotations

import functools
import json
import re
from datetime import UTC, datetime, timedelta

BODY_BYTES = 300
_EVENTS_PER_MILLISECOND = 10
_NAME = rb'{"event":"temperature",'
_TEXT = rb'"data":"{\"run\":\"%s\",\"n\":\"%010d\",\"t\":21.5,\"pad\":\"%s\"}",'
_OBJECT = _TEXT.replace(rb'"{', b"{").replace(rb'}"', b"}").replace(rb"\"", b'"')
_REST = rb'"coreid":"e00fce68%016x","published_at":"%s%03dZ"}'
_TEMPLATE = _NAME + _TEXT + _REST
_OBJECT_TEMPLATE = _NAME + _OBJECT + _REST
_NUMBER = re.compile(rb'\{"run":"([^"]+)","n":"(\d{10})"')


class Numbered:
    """The events of one run, by number from 0, all of one name. A body has BODY_BYTES bytes; devices take turns."""

    def __init__(self, run: str, started: datetime, devices: int = 1000) -> None:
        self._run = run.encode()
        self._started = started.astimezone(UTC).replace(microsecond=0)
        self._devices = devices
        self._second = functools.lru_cache(8)(self._format_second)
        self._pad = b""
        self._pad = b"x" * (BODY_BYTES - len(self.body(0)))

    def body(self, number: int, *, as_object: bool = False) -> bytes:
        """The webhook body of one event.

        `as_object`: its data is a JSON object and not a string that holds one; to the store it is the same event.
        """
        second, millisecond = divmod(number // _EVENTS_PER_MILLISECOND, 1000)
        return (_OBJECT_TEMPLATE if as_object else _TEMPLATE) % (
            *(self._run, number, self._pad),
            *(number % self._devices, self._second(second), millisecond),
        )

    def streamed(self, number: int, *, as_object: bool = False) -> bytes:
        """The JSON of the same event in a product's stream, where its name stands on the `event:` line."""
        return b"{" + self.body(number, as_object=as_object)[len(_NAME) :]

    def message(self, number: int) -> tuple[bytes, dict[str, str]]:
        """The same event in a Pub/Sub topic: the value alone, and the attributes beside it."""
        body = json.loads(self.body(number))
        about = {"event": body["event"], "device_id": body["coreid"], "published_at": body["published_at"]}
        return body["data"].encode(), about

    def batch(self, first: int, size: int, *, as_object: bool = False) -> bytes:
        """`size` events from number `first` as NDJSON; one event is the plain body."""
        return b"\n".join(self.body(number, as_object=as_object) for number in range(first, first + size))

    def device(self, number: int) -> str:
        """The device that an event is of."""
        return f"e00fce68{number % self._devices:016x}"

    def _format_second(self, second: int) -> bytes:
        return (self._started + timedelta(seconds=second)).strftime("%Y-%m-%dT%H:%M:%S.").encode()


def number_of(data: bytes) -> tuple[str, int] | None:
    """The run and number in stored data; None where the oracle did not send it."""
    match = _NUMBER.match(data)
    return (match[1].decode(), int(match[2])) if match else None
