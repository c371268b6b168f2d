"""The `http` handler over TLS: whom it believes, and how a real nginx believes it."""

from __future__ import annotations

import asyncio
import shutil
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from hashlib import sha1
from itertools import count
from pathlib import Path

import pytest
import uvloop

from app.handlers.http.handler import HttpHandler
from app.handlers.http.settings import HttpSettings
from app.handlers.http.tls import TlsSettings, client_tls
from ingest.delivery import FailureCause, Verdict
from tests.support.deliveries.judge import FLOOD_BYTES
from tests.support.dispatching import an_event, until
from tests.support.http_handler import EVENT, failure
from tests.support.proxies import verifying_nginx
from tests.support.raw_receiver import Flood, raw_receiver
from tests.support.tls import make_certificate, self_signed


@asynccontextmanager
async def handler_for(url: str, folder: Path, **tls: str) -> AsyncIterator[HttpHandler]:
    """A handler whose files are looked at whenever it delivers: its clock is a second on at each look."""
    settings = HttpSettings(url=url, tls=TlsSettings.model_validate(tls))
    handler = HttpHandler(settings, client_tls("handlers.h.tls", settings.tls, folder, count().__next__))
    try:
        yield handler
    finally:
        await handler.close()


async def test_a_certificate_is_verified(tmp_path: Path) -> None:
    """By the file that `ca` names, for the host of the URL; by the system's where there is none."""
    context, _ = self_signed(tmp_path)
    async with raw_receiver(context) as receiver:
        async with handler_for(receiver.url, tmp_path, ca="certificate.pem") as handler:
            await handler.deliver([EVENT])
        for url, tls in (
            (receiver.url, {}),
            (receiver.url.replace("127.0.0.1", "localhost"), {"ca": "certificate.pem"}),
        ):
            async with handler_for(url, tmp_path, **tls) as handler:
                failed = await failure(handler)
                assert (failed.cause, failed.verdict) == (FailureCause.TLS, Verdict.RETRY)
                assert "certificate is not trusted" in str(failed)
        assert len(receiver.received) == 1


def test_of_a_large_answer_a_beginning_is_read_over_tls(tmp_path: Path) -> None:
    """Its connection is dropped at once, without a goodbye that would wait for the rest: in uvloop, as it is served."""
    context, _ = self_signed(tmp_path)

    async def deliver() -> int:
        async with (
            raw_receiver(context) as receiver,
            handler_for(receiver.url, tmp_path, ca="certificate.pem") as handler,
        ):
            receiver.answer = flood = Flood(200)
            await handler.deliver([an_event(1)])
            await until(lambda: receiver.open == 0, "for the connection to be closed")
            return flood.written

    assert uvloop.run(deliver()) < FLOOD_BYTES


async def test_a_receiver_that_speaks_no_tls(tmp_path: Path) -> None:
    """What answers in plain HTTP is a fault of TLS."""

    async def answer(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server, handler_for(f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}/", tmp_path) as handler:
        failed = await failure(handler)
        assert (failed.cause, str(failed)) == (FailureCause.TLS, "TLS failed: wrong version number")


@pytest.fixture
def nginx(tmp_path: Path) -> Iterator[str]:
    """The URL of an nginx that believes two clients, whose files are in `one` and `two`."""
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        make_certificate(tmp_path / name, owner=name)
    make_certificate(tmp_path)
    clients = [(tmp_path / name / "certificate.pem").read_bytes() for name in ("one", "two")]
    (tmp_path / "clients.pem").write_bytes(b"".join(clients))
    with verifying_nginx(tmp_path) as port:
        yield f"https://127.0.0.1:{port}/"


def fingerprint(folder: Path) -> str:
    """What nginx calls a certificate."""
    der = ssl.PEM_cert_to_DER_cert((folder / "certificate.pem").read_text())
    return sha1(der, usedforsecurity=False).hexdigest()


def install(tmp_path: Path, name: str, *files: str) -> None:
    """Put a client's files where the handler looks for them."""
    (tmp_path / "own").mkdir(exist_ok=True)
    for file in files or ("certificate.pem", "key.pem"):
        shutil.copy(tmp_path / name / file, tmp_path / "own" / file)


OWN = {"ca": "certificate.pem", "cert": "own/certificate.pem", "key": "own/key.pem"}


async def test_a_client_certificate_is_renewed(nginx: str, tmp_path: Path) -> None:
    """Half of a renewal changes nothing; when it is whole the next delivery shows the new certificate."""
    install(tmp_path, "one")
    async with handler_for(nginx, tmp_path, **OWN) as handler:
        first = await failure(handler)
        assert (first.status, first.answer) == (503, fingerprint(tmp_path / "one"))
        install(tmp_path, "two", "certificate.pem")
        assert (await failure(handler)).answer == fingerprint(tmp_path / "one")
        install(tmp_path, "two", "key.pem")
        renewed = await asyncio.gather(*[failure(handler) for _ in range(3)])
        assert {failed.answer for failed in renewed} == {fingerprint(tmp_path / "two")}


async def test_without_a_client_certificate(nginx: str, tmp_path: Path) -> None:
    """An nginx answers 400, which by default means that the event is at fault."""
    async with handler_for(nginx, tmp_path, ca="certificate.pem") as handler:
        failed = await failure(handler)
        assert (failed.status, failed.verdict) == (400, Verdict.DEAD)
        assert "No required SSL certificate was sent" in failed.answer
