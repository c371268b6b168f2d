"""A connection to PostgreSQL that breaks at a chosen moment: between a client and the server's unix socket."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from sqlalchemy import make_url

_SOCKET = ".s.PGSQL.5432"


class Proxy:
    """Passes bytes both ways until a client sends what it was told to watch for; then it breaks that connection."""

    def __init__(self, server: Path) -> None:
        self._server = server
        self._watched: bytes | None = None
        self._delivers = False
        self.cuts = 0

    def cut_before(self, statement: bytes) -> None:
        """The next time a client sends `statement`, the server never hears it."""
        self._watched, self._delivers = statement, False

    def swallow_answer_to(self, statement: bytes) -> None:
        """The next time a client sends `statement`, the server carries it out and the client never hears so."""
        self._watched, self._delivers = statement, True

    async def serve(self, client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        """One connection."""
        server, to_server = await asyncio.open_unix_connection(self._server)
        answers = asyncio.create_task(_pass_on(server, to_client))
        try:
            while received := await client.read(65536):
                if self._watched is not None and self._watched in received:
                    answers.cancel()
                    await self._cut(received, server, to_server)
                    return
                to_server.write(received)
        except ConnectionError:
            pass  # the client went away, as it may
        finally:
            answers.cancel()
            to_client.close()
            to_server.close()

    async def _cut(self, received: bytes, server: asyncio.StreamReader, to_server: asyncio.StreamWriter) -> None:
        self._watched = None
        self.cuts += 1
        if self._delivers:
            to_server.write(received)
            await server.read(65536)  # it has answered, so it is done


async def _pass_on(server: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
    while answer := await server.read(65536):
        to_client.write(answer)
    to_client.close()


@asynccontextmanager
async def proxied(url: str, folder: Path) -> AsyncIterator[tuple[Proxy, str]]:
    """A proxy in front of the server of `url`, and the URL that leads through it. Its socket lies in `folder`."""
    parsed = make_url(url)
    proxy = Proxy(Path(str(parsed.query["host"])) / _SOCKET)
    listening = await asyncio.start_unix_server(proxy.serve, folder / _SOCKET)
    try:
        yield proxy, parsed.set(query={"host": str(folder)}).render_as_string(hide_password=False)
    finally:
        listening.close()
