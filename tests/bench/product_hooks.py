"""Product hooks as the vendor sends them: the body with its attributes, the heads of eight senders, each event new.

`product_hooks.lua` makes the same bytes for wrk; `test_product_hooks.py` compares them.
"""

from __future__ import annotations

import functools
from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit

SENDERS = 8
DEVICES = 1000
_EVENTS_PER_MILLISECOND = 10
_HEAD = (
    "POST {path} HTTP/1.1\r\n"
    "User-Agent: ParticleBot/1.1 (https://docs.particle.io/webhooks)\r\n"
    "X-Hook-Secret: product-{sender}-5bd2ce81a79f6c03\r\n"
    "accept: application/json\r\n"
    "content-type: application/json\r\n"
    "host: {host}\r\n"
    "content-length: "
)
_BODY = (
    rb'{"event":"temperature","data":"{\"run\":\"%s\",\"seq\":%d,\"t\":21.5,\"rh\":48,\"bat\":3.71,\"rssi\":-67}",'
    rb'"published_at":"%s%03dZ","coreid":"e00fce68%016x","userid":"5bd2ce81%016x","fw_version":1,"public":"false"}'
)


class ProductHooks:
    """The requests of one run to one URL, by number from 0. Devices take turns, and each has one sender."""

    def __init__(self, url: str, run: str, started: datetime) -> None:
        address = urlsplit(url)
        self._heads = [
            _HEAD.format(path=address.path, host=address.netloc, sender=sender).encode() for sender in range(SENDERS)
        ]
        self._run = run.encode()
        self._started = started.astimezone(UTC).replace(microsecond=0)
        self._second = functools.lru_cache(8)(self._format_second)

    def request(self, number: int) -> bytes:
        """Return head and body of one event."""
        body = self.body(number)
        return b"%b%d\r\n\r\n%b" % (self._heads[number % SENDERS], len(body), body)

    def body(self, number: int) -> bytes:
        """Return the body of one event: some 280 bytes, the device's own count written as it would."""
        second, millisecond = divmod(number // _EVENTS_PER_MILLISECOND, 1000)
        count, device = divmod(number, DEVICES)
        return _BODY % (self._run, count, self._second(second), millisecond, device, device // SENDERS)

    def _format_second(self, second: int) -> bytes:
        return (self._started + timedelta(seconds=second)).strftime("%Y-%m-%dT%H:%M:%S.").encode()
