"""Headers that keep browsers from harm are on every answer of a server on a real socket, whoever in it gives it."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from app.server import IngestRouter, make_server
from app.settings import ServerSettings
from ingest.sources.webhook import credentials
from tests.support.api import World
from tests.support.webhook_rig import MAX_BODY, webhook_rig

POLICY = b"content-security-policy: default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
BODY = b"Content-Length: 2\r\n\r\n{}"
HOOK = b"POST /ingest/fleet HTTP/1.1\r\nHost: localhost\r\n"
KEY = b"X-Key: key\r\n"
LARGE = b"Content-Length: %d\r\n\r\n%b" % (MAX_BODY + 1, bytes(MAX_BODY + 1))
EVENT = b'{"event":"e","data":"1"}'


async def broken(_scope: Any, _receive: Any, _send: Any) -> None:
    """An application that fails before it answers."""
    raise RuntimeError("secret")


@pytest.fixture
async def server(world: World, tmp_path: Path) -> AsyncIterator[socket.socket]:
    """The socket of a server with everything in it: API, pages, a webhook with a key, and one that is broken."""
    async with webhook_rig(tmp_path, auth=credentials.Header("X-Key", lambda: ["key"])) as rig:
        listening = socket.create_server(("127.0.0.1", 0))
        server = make_server(
            IngestRouter({"/ingest/fleet": rig.source, "/broken": broken}, world.api()), ServerSettings()
        )
        serving = asyncio.create_task(server.serve(sockets=[listening]))
        yield listening
        server.should_exit = True
        await serving


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        *((b"GET %b HTTP/1.1\r\nHost: localhost\r\n\r\n" % path, 200) for path in (b"/", b"/docs", b"/assets/docs.js")),
        *((b"GET %b HTTP/1.1\r\nHost: localhost\r\n\r\n" % path, 200) for path in (b"/livez", b"/metrics")),
        (b"GET /api/v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n", 200),
        (b"GET /api/v1/events?limit=x HTTP/1.1\r\nHost: localhost\r\n\r\n", 422),
        (b"POST /api/v1/handlers/h/redrive HTTP/1.1\r\nHost: localhost\r\n" + BODY, 401),
        (b"GET /api/v1/events HTTP/1.1\r\nHost: evil.example\r\n\r\n", 403),
        (b"GET /nothing HTTP/1.1\r\nHost: localhost\r\n\r\n", 404),
        (b"POST / HTTP/1.1\r\nHost: localhost\r\n" + BODY, 405),
        (HOOK + KEY + b"Content-Length: %d\r\n\r\n%b" % (len(EVENT), EVENT), 204),
        (HOOK + BODY, 401),
        (HOOK.replace(b"POST", b"GET") + b"\r\n", 405),
        (HOOK + KEY + LARGE, 413),
        (HOOK + KEY + b"Content-Encoding: br\r\n" + BODY, 415),
        (b"GET /broken HTTP/1.1\r\nHost: localhost\r\n\r\n", 500),
        (b"nonsense\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"CONNECT evil.example:443 HTTP/1.1\r\nHost: evil.example\r\n\r\n", 405),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nX: %b\r\n\r\n" % bytes(b"a" * 100_000), 431),
    ],
    ids=lambda value: value[:40].decode() if isinstance(value, bytes) else str(value),
)
async def test_every_answer_has_them_once(server: socket.socket, request_: bytes, status: int) -> None:
    """Nobody guesses a type, runs a script of others or frames an answer, whichever part of the server gives it."""
    reader, writer = await asyncio.open_connection(*server.getsockname())
    writer.write(request_)
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    writer.close()

    assert head.startswith(b"http/1.1 %d " % status)
    assert head.count(b"\r\nx-content-type-options: nosniff\r\n") == 1
    assert head.count(b"\r\n%b\r\n" % POLICY) == head.count(b"content-security-policy") == 1
