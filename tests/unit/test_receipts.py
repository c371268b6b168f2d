"""Receipts on a real SQLite store: which requests are answered with their event's id, and when."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from uuid import UUID

import msgspec
import pytest

from ingest.event import Commit, Record
from ingest.protocols import Store
from tests.support.stored import rows
from tests.support.webhook_rig import MAX_BODY, Reply, WebhookRig, webhook_rig

AT = b'"published_at":"2026-07-28T16:53:05.616Z","coreid":"e00fce682e79a004f1e69a2b"'
LOC = b'{"event":"loc","data":"{\\"n\\":7}",%b}' % AT
FORM = {"Content-Type": "application/x-www-form-urlencoded"}
IDS = "SELECT id FROM events ORDER BY position"


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[WebhookRig]:
    """A source that gives receipts for `loc…` and `door/…`."""
    async with webhook_rig(tmp_path, receipt=["loc", "door/"]) as rig:
        yield rig


def id_of(reply: Reply | None) -> str:
    """The id in a receipt, which has the documented shape."""
    assert reply is not None
    assert reply.code == 200
    assert reply.headers == {"content-type": "application/json", "content-length": str(len(reply.body))}
    assert len(reply.body) <= 64
    receipt = json.loads(reply.body)
    assert receipt.keys() == {"id"}
    return str(receipt["id"])


class Refusing:
    """A store that takes every event for one that it cannot keep."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def commit(self, records: Sequence[Record]) -> Commit:
        """See Store."""
        return await self._store.commit([msgspec.structs.replace(record, published_at="noon") for record in records])


async def stored_ids(rig: WebhookRig) -> list[str]:
    """The ids of all events, in order of commit."""
    return [str(UUID(bytes=id_) if isinstance(id_, bytes) else id_) for (id_,) in await rows(rig.database, IDS)]


async def test_a_receipt_comes_after_the_commit(rig: WebhookRig) -> None:
    """While the commit waits so does the device; then it hears the id that is stored."""
    rig.database.close_gate()
    sending = asyncio.create_task(rig.send(LOC))
    while not rig.value("events_in_flight", mode="webhook"):  # noqa: ASYNC110 - a gauge cannot be awaited
        await asyncio.sleep(0)
    await asyncio.sleep(0.02)
    assert not sending.done()

    rig.database.open_gate()
    assert [id_of(await sending)] == await stored_ids(rig)


@pytest.mark.parametrize("copy", [LOC, LOC.replace(b'"{\\"n\\":7}"', b'{ "n": 7 }')], ids=["same", "data as object"])
async def test_a_duplicate_has_the_same_receipt(rig: WebhookRig, copy: bytes) -> None:
    """A device that did not hear the first receipt hears it again when its event is sent again."""
    first = id_of(await rig.send(LOC))

    assert id_of(await rig.send(copy)) == first
    assert await stored_ids(rig) == [first]
    assert rig.value("events_duplicate_total", mode="webhook", kind="redelivery") == 1


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (LOC, {}),
        (b"\xef\xbb\xbf  " + LOC + b"\r\n", {}),
        (gzip.compress(LOC), {"Content-Encoding": "gzip"}),
        (b"event=loc&data=7&coreid=d1", FORM),
        (b'{"event":"location/gps","data":"7"}', {}),
        (b'{"event":"door/7"}', {}),
        (b'{"event":"loc","data":"%b"}' % (b"7" * (MAX_BODY - 40)), {}),
        (b'{"event":"loc","more":[%b]}' % (b"7," * 20_000 + b"7"), {}),
    ],
    ids=["JSON", "spaces", "gzip", "form", "longer name", "second prefix", "large", "with a list"],
)
async def test_a_single_event_of_these_names_has_a_receipt(
    rig: WebhookRig, body: bytes, headers: dict[str, str]
) -> None:
    """Whatever shape it has and however it is cut into pieces, by POST and by PUT; an event without an id in it too."""
    first = id_of(await rig.send(body, headers=headers))
    second = id_of(await rig.send(body[:9], body[9:], headers=headers, method="PUT"))
    assert await stored_ids(rig) == list(dict.fromkeys([first, second]))


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (b'{"event":"temperature"}', {}),
        (b'{"event":"lo"}', {}),
        (b'{"event":"Loc"}', {}),
        (b'{"event":"a/loc"}', {}),
        (b'{"event":"door"}', {}),
        (b"[" + LOC + b"]", {}),
        (b" \n[" + LOC + b"]", {}),
        (b"[" + LOC + b"," + LOC + b"]", {}),
        (LOC + b"\n" + LOC, {}),
        (gzip.compress(b"[" + LOC + b"]"), {"Content-Encoding": "gzip"}),
        (b"[]", {}),
        (b'{"event":"hook-sent/loc"}', {}),
        (b'{"event":"loc","coreid":{}}', {}),
        (b'{"event":"loc"', {}),
        (b"no gzip", {"Content-Encoding": "gzip"}),
        (b"", FORM),
    ],
)
async def test_everything_else_stays_204(rig: WebhookRig, body: bytes, headers: dict[str, str]) -> None:
    """Other names, batches even of one event, rejects and ignored events have the empty answer."""
    assert await rig.send(body, headers=headers) == Reply(204, {}, b"")


async def test_without_the_key_nothing_has_a_receipt(tmp_path: Path) -> None:
    """The default is the empty answer."""
    async with webhook_rig(tmp_path) as rig:
        assert await rig.send(LOC) == Reply(204, {}, b"")


async def test_a_reject_has_no_receipt(tmp_path: Path) -> None:
    """Where rejects are refused it is 422; a receipt never speaks of an event that is not there."""
    async with webhook_rig(tmp_path, receipt=["loc"], refuse_rejects=True) as rig:
        refused = await rig.send(b'{"event":"loc","coreid":{}}')
        assert refused is not None
        assert refused.code == 422
        id_of(await rig.send(LOC))


async def test_what_the_store_refuses_has_no_receipt(tmp_path: Path) -> None:
    """An event that the database calls an error is kept as a reject, and its device is not told that it is stored."""
    async with webhook_rig(tmp_path, receipt=["loc"], spoil=Refusing) as rig:
        assert await rig.send(LOC) == Reply(204, {}, b"")
        assert await rows(rig.database, "SELECT reason FROM rejects") == [("refused_by_store",)]
        assert rig.value("events_rejected_total", mode="webhook", reason="refused_by_store") == 1


async def test_what_is_deferred_has_no_receipt(rig: WebhookRig) -> None:
    """While the store is away the answer is 503; when it is back, the receipt."""
    rig.database.away = True
    deferred = await rig.send(LOC)
    assert deferred is not None
    assert (deferred.code, rig.value("events_deferred_total", mode="webhook")) == (503, 1)

    rig.database.away = False
    assert [id_of(await rig.send(LOC))] == await stored_ids(rig)


@pytest.mark.parametrize("method", ["GET", "HEAD", "DELETE"])
async def test_other_methods_stay_405(rig: WebhookRig, method: str) -> None:
    """A receipt is the answer to something that was sent."""
    reply = await rig.send(LOC, method=method)
    assert reply is not None
    assert reply.code == 405


async def test_receipts_are_counted_by_their_code(rig: WebhookRig) -> None:
    """The counter is there at 0 from the start."""
    assert rig.value("ingest_responses_total", code="200") == 0
    await rig.send(LOC)
    await rig.send(LOC)
    await rig.send(b'{"event":"other"}')
    assert rig.value("ingest_responses_total", code="200") == 2
    assert rig.value("ingest_responses_total", code="204") == 1
