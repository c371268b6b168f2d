"""What takes long to decode is decoded aside: the event loop goes on meanwhile."""

from __future__ import annotations

import asyncio
import gzip
import threading
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path

import pytest

from ingest.decoding import AT_ONCE_BYTES
from ingest.event import Record
from ingest.formats.particle import ParticleFormat
from tests.support.stored import rows
from tests.support.webhook_rig import Reply, WebhookRig, webhook_rig

SMALL = b'{"event":"small"}'
LARGE = b'{"event":"large","data":"%b"}' % (b"x" * AT_ONCE_BYTES)
GZIP = {"Content-Encoding": "gzip"}
MAX_BODY = 4 * AT_ONCE_BYTES


@pytest.fixture
def answered(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Until it is set, a large body is being decoded."""
    event, decode = threading.Event(), ParticleFormat.decode

    def slowly(
        self: ParticleFormat, body: bytes, headers: Mapping[str, str], received_at: datetime
    ) -> Sequence[Record]:
        assert len(body) <= AT_ONCE_BYTES or event.wait(10)
        return decode(self, body, headers, received_at)

    monkeypatch.setattr(ParticleFormat, "decode", slowly)
    return event


async def settled(rig: WebhookRig, sending: asyncio.Task[Reply | None], answered: threading.Event) -> int:
    """The status of what is being sent, which is decoded until something else has been answered."""
    for _ in range(5):
        await asyncio.sleep(0)
    small = await rig.send(SMALL)
    assert small is not None
    assert (small.code, sending.done()) == (204, False)
    answered.set()
    reply = await sending
    assert reply is not None
    return reply.code


@pytest.mark.parametrize(
    ("pieces", "headers"),
    [
        ((LARGE,), {}),
        ((LARGE[:100], LARGE[100:]), {}),
        ((gzip.compress(LARGE),), GZIP),
        ((gzip.compress(LARGE)[:20], gzip.compress(LARGE)[20:]), GZIP),
        ((b"\n".join([SMALL] * (AT_ONCE_BYTES // 15)),), {}),
    ],
    ids=["one piece", "two pieces", "gzip", "gzip in pieces", "many lines"],
)
async def test_others_are_answered_meanwhile(
    tmp_path: Path, answered: threading.Event, pieces: Sequence[bytes], headers: Mapping[str, str]
) -> None:
    """A large body, or one that is large when inflated, holds nobody up; its events are stored all the same."""
    async with webhook_rig(tmp_path, max_body=MAX_BODY) as rig:
        sending = asyncio.create_task(rig.send(*pieces, headers=headers))
        assert await settled(rig, sending, answered) == 204
        assert len(await rows(rig.database, "SELECT 1 FROM events")) > 1


async def test_a_small_max_body_bounds_inflation_too(tmp_path: Path) -> None:
    """Also where what it inflates to would be decoded at once."""
    async with webhook_rig(tmp_path, max_body=1000) as rig:
        for size, code in ((900, 204), (1001, 413)):
            body = b'{"event":"e","data":"%b"}' % (b"x" * (size - len(b'{"event":"e","data":""}')))
            reply = await rig.send(gzip.compress(body), headers=GZIP)
            assert reply is not None
            assert reply.code == code


async def test_what_waits_to_be_decoded_counts_as_unfinished(tmp_path: Path, answered: threading.Event) -> None:
    """There is one bound for all that is not handed on yet: the oldest hears 503 and the rest are stored."""
    async with webhook_rig(tmp_path, max_body=MAX_BODY, unfinished_bytes=2 * len(LARGE)) as rig:
        sending = [asyncio.create_task(rig.send(LARGE)) for _ in range(3)]
        for _ in range(20):
            await asyncio.sleep(0)
        answered.set()
        codes = [reply.code for reply in await asyncio.gather(*sending) if reply is not None]
        assert codes == [503, 204, 204]
