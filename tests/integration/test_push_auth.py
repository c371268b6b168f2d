"""A webhook that Pub/Sub pushes to: who hears what while keys come, change and go, and what is stored."""

from __future__ import annotations

import asyncio
import json
import time
from base64 import b64encode
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from ingest.sources.webhook.oidc import GoogleOidc
from ingest.sources.webhook.signing_keys import FetchRules, SigningKeys
from tests.support.google_keys import AUDIENCE, EMAIL, CertificateServer, SigningKey, signing_key
from tests.support.stored import rows
from tests.support.webhook_rig import Reply, WebhookRig, webhook_rig

QUICK = FetchRules(first_pause=0.01, longest_pause=0.02)
OLD, NEW, STRANGE = signing_key("old"), signing_key("new"), signing_key("strange")
SECONDS = 20.0


def push(value: str) -> bytes:
    """A push of an event with this value."""
    attributes = {"event": "temp", "device_id": "d1", "published_at": "2026-07-28T16:53:05.616Z"}
    message = {"attributes": attributes, "data": b64encode(value.encode()).decode(), "messageId": "1"}
    return json.dumps({"message": message, "subscription": "projects/p/subscriptions/s"}).encode()


@asynccontextmanager
async def pushed_to(folder: Path, url: str, clock: Callable[[], float] = time.monotonic) -> AsyncIterator[WebhookRig]:
    """A running source for our audience and account, with the keys at `url`."""
    keys = SigningKeys(url, QUICK, clock)
    async with webhook_rig(folder, auth=GoogleOidc(AUDIENCE, EMAIL, keys, time.time), upkeep=keys) as rig:
        running = asyncio.create_task(rig.source.run())
        try:
            yield rig
        finally:
            running.cancel()
            with suppress(asyncio.CancelledError):
                await running


async def send(rig: WebhookRig, key: SigningKey, value: str = "1", **claims: object) -> Reply:
    """A push with a token of this key."""
    reply = await rig.send(push(value), headers={"Authorization": f"Bearer {key.token(**claims)}"})
    assert reply is not None
    return reply


async def send_until(rig: WebhookRig, key: SigningKey, code: int) -> set[int]:
    """Push until it is answered so, as Google does; all the other answers."""
    others = set()
    async with asyncio.timeout(SECONDS):
        while (reply := await send(rig, key)).code != code:
            others.add(reply.code)
            await asyncio.sleep(0.002)
    return others


async def test_until_the_first_keys_it_is_not_the_senders_fault(tmp_path: Path) -> None:
    """503 with Retry-After, and the source says why it is down; then 204, and the event is stored."""
    async with CertificateServer() as server:
        server.answer(500, b"")
        async with pushed_to(tmp_path, server.url) as rig:
            reply = await send(rig, OLD)
            assert (reply.code, reply.headers["retry-after"]) == (503, "5")
            assert not rig.source.condition().up
            assert "the keys that Google signs with" in str(rig.source.condition().reason)
            assert rig.value("auth_failures_total") == 0
            assert await rows(rig.database, "SELECT name FROM events") == []

            server.publish("old")
            assert await send_until(rig, OLD, 204) <= {503}
            assert (rig.source.condition().up, rig.source.condition().reason) == (True, None)
            stored = await rows(rig.database, "SELECT name, device, mode FROM events")
            assert stored == [("temp", "d1", "webhook")]


async def test_a_wrong_token_is_401_and_stores_nothing(tmp_path: Path) -> None:
    """For another audience, by another signer, or without one: counted, and nothing is kept."""
    now = [0.0]
    async with CertificateServer("old") as server, pushed_to(tmp_path, server.url, lambda: now[0]) as rig:
        await send_until(rig, OLD, 204)
        assert (await send(rig, OLD, "2", aud="https://other.example")).code == 401
        assert (await send(rig, NEW, "3")).code == 503, "its key may be new: nobody knows yet"
        now[0] = 61.0
        assert await send_until(rig, NEW, 401) == {503}
        reply = await rig.send(push("4"))
        assert reply is not None
        assert reply.code == 401
        assert rig.value("auth_failures_total") == 3
        assert await rows(rig.database, "SELECT data FROM events") == [(b"1",)]


async def test_keys_are_rotated_without_a_401(tmp_path: Path) -> None:
    """A token by a key that is new is 503 until that key is fetched; one that was withdrawn is refused then."""
    now = [0.0]
    async with CertificateServer("old") as server, pushed_to(tmp_path, server.url, lambda: now[0]) as rig:
        await send_until(rig, OLD, 204)
        server.publish("new")
        now[0] = 61.0
        others = await send_until(rig, NEW, 204)
        assert others == {503}
        assert (await send(rig, OLD)).code == 401
        assert len(server.asked) == 2


async def test_a_key_that_is_new_just_after_a_strangers_is_no_senders_fault(tmp_path: Path) -> None:
    """Keys were fetched a moment ago for a key id that somebody made up: Google's new one is 503, never 401."""
    now = [0.0]
    async with CertificateServer("old") as server, pushed_to(tmp_path, server.url, lambda: now[0]) as rig:
        await send_until(rig, OLD, 204)
        assert (await send(rig, STRANGE)).code == 503
        now[0] = 61.0
        assert await send_until(rig, STRANGE, 401) == {503}
        server.publish("old", "new")
        assert {(await send(rig, NEW)).code for _ in range(5)} == {503}
        assert (await send(rig, STRANGE)).code == 401
        now[0] = 122.0
        assert await send_until(rig, NEW, 204) == {503}
        assert len(server.asked) == 3


async def test_a_paused_source_pushes_nothing_in(tmp_path: Path) -> None:
    """While draining it is 503, whoever asks."""
    async with CertificateServer("old") as server, pushed_to(tmp_path, server.url) as rig:
        await send_until(rig, OLD, 204)
        await rig.source.pause()
        assert (await send(rig, OLD)).code == 503
        assert not rig.source.condition().up
