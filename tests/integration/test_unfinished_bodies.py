"""Bodies that never end: strangers with a wrong key are answered before theirs, and nobody can fill the memory."""

from __future__ import annotations

import asyncio
import hmac
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from app.server import IngestRouter, make_server
from app.settings import ServerSettings
from ingest.sources.webhook import credentials, signatures
from tests.support.stored import rows
from tests.support.webhook_rig import MAX_BODY, WebhookRig, webhook_rig

ROOM = 4 * MAX_BODY
EVENT = b'{"event":"temp","published_at":"2026-07-28T16:53:05.616Z"}'
LARGE = EVENT + b" " * (MAX_BODY - len(EVENT))
NAMES = "SELECT name FROM events ORDER BY position"
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class World:
    """A listening server in this process."""

    def __init__(self, rig: WebhookRig, port: int, connections: AsyncExitStack) -> None:
        self.rig = rig
        self._port = port
        self._connections = connections

    async def begin(self, body: bytes, *head: str, length: int | None = None) -> Streams:
        """Send a request, of whose body `length` bytes are announced."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        self._connections.callback(writer.close)
        lines = ["POST /ingest/fleet HTTP/1.1", "Host: x", f"Content-Length: {length or len(body)}", *head, "", ""]
        writer.write("\r\n".join(lines).encode() + body)
        return reader, writer


@asynccontextmanager
async def served(folder: Path, **options: Any) -> AsyncIterator[World]:
    """A server whose webhook has these options."""
    listening = socket.create_server(("127.0.0.1", 0))
    async with webhook_rig(folder, unfinished_bytes=ROOM, **options) as rig:
        server = make_server(IngestRouter({"/ingest/fleet": rig.source}, rig.source), ServerSettings())
        serving = asyncio.create_task(server.serve(sockets=[listening]))
        async with AsyncExitStack() as connections:
            yield World(rig, listening.getsockname()[1], connections)
        server.should_exit = True
        await serving


async def code_of(reader: asyncio.StreamReader) -> int:
    """The status of the next answer, whose body is read too."""
    async with asyncio.timeout(10):
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        length = head.partition(b"content-length: ")[2].split(b"\r\n")[0]
        await reader.readexactly(int(length or 0))
    return int(head[9:12])


@pytest.mark.parametrize(
    ("auth", "wrong", "right"),
    [
        (credentials.Header("X-Key", lambda: ["s"]), "X-Key: x", "X-Key: s"),
        (credentials.Bearer(lambda: ["s"]), "Authorization: Bearer x", "Authorization: Bearer s"),
        (credentials.Basic(lambda: ["a:b"]), "Authorization: Basic YTpj", "Authorization: Basic YTpi"),
    ],
    ids=["header", "bearer", "basic"],
)
async def test_a_wrong_key_is_refused_before_the_body(
    tmp_path: Path, auth: credentials.Credentials, wrong: str, right: str
) -> None:
    """The sender hears 401 while it still sends; what it sends then is thrown away, and its next request is taken."""
    async with served(tmp_path, auth=auth) as world:
        reader, writer = await world.begin(LARGE[:-1], wrong, length=len(LARGE))
        assert await code_of(reader) == 401
        lines = f"POST /ingest/fleet HTTP/1.1\r\nHost: x\r\n{right}\r\nContent-Length: {len(EVENT)}\r\n\r\n"
        writer.write(LARGE[-1:] + lines.encode() + EVENT)
        assert await code_of(reader) == 204
        assert world.rig.value("auth_failures_total") == 1
        assert await rows(world.rig.database, NAMES) == [("temp",)]


async def test_a_wrong_key_needs_no_promise(tmp_path: Path) -> None:
    """A sender that waits for 100 Continue hears 401 and sends no body at all."""
    async with served(tmp_path, auth=credentials.Header("X-Key", lambda: ["s"])) as world:
        reader, _ = await world.begin(b"", "Expect: 100-continue", length=1000)
        assert await code_of(reader) == 401


async def test_bodies_that_never_end_take_no_room_from_others(tmp_path: Path) -> None:
    """They are bounded together, whatever they are signed with: the oldest is told to come again."""
    signature = hmac.digest(b"s", LARGE, "sha256").hex()
    async with served(tmp_path, auth=signatures.github(lambda: ["s"])) as world:
        strangers = [await world.begin(LARGE[:-1], length=len(LARGE)) for _ in range(20)]
        answers = [asyncio.create_task(code_of(reader)) for reader, _ in strangers]
        async with asyncio.timeout(10):
            while sum(answer.done() for answer in answers) < 16:  # noqa: ASYNC110 - many answers
                await asyncio.sleep(0.01)
        half = len(LARGE) // 2
        reader, writer = await world.begin(LARGE[:half], f"X-Hub-Signature-256: sha256={signature}", length=len(LARGE))
        writer.write(LARGE[half:])
        assert await code_of(reader) == 204

        told = [answer.result() for answer in answers if answer.done()]
        assert told == [503] * len(told)
        assert len(told) <= 17
        for answer in answers:
            answer.cancel()


async def test_a_body_that_ended_leaves_its_room(tmp_path: Path) -> None:
    """Stored, too large, refused or broken off: a hundred bodies one after another are all taken."""
    async with served(tmp_path) as world:
        for _ in range(20):
            reader, writer = await world.begin(LARGE[:10], length=len(LARGE))
            writer.write(LARGE[10:])
            assert await code_of(reader) == 204
            reader, _ = await world.begin(LARGE + b" ", length=len(LARGE) + 1)
            assert await code_of(reader) == 413
            _, writer = await world.begin(LARGE[:-1], length=len(LARGE))
            writer.close()
        assert world.rig.value("ingest_responses_total", code="503") == 0
