"""HTTPS whose certificate is replaced while the server runs. Imports nothing of the product."""

from __future__ import annotations

import http.client
import shutil
import ssl
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from cryptography import x509

from tests.support.server import Server, wait_until
from tests.support.tls import client_context, make_certificate

CONFIG = """
[server]
tls_cert = "certificate.pem"
tls_key = "key.pem"
"""
NOTICED_SECONDS = 10.0  # it looks once a second


@pytest.fixture
def pairs(tmp_path: Path) -> dict[str, Path]:
    """Folders with a certificate and its key: the first, the one that replaces it, and one of another kind of key."""
    folders = {name: tmp_path / name for name in ("old", "new", "rsa")}
    for name, folder in folders.items():
        folder.mkdir()
        make_certificate(folder, with_rsa=name == "rsa")
    return folders


@pytest.fixture
def server(tmp_path: Path, pairs: dict[str, Path]) -> Iterator[Server]:
    """A server with the certificate `old`."""
    shutil.copytree(pairs["old"], tmp_path, dirs_exist_ok=True)
    with Server(tmp_path, CONFIG, https=True) as server:
        yield server


def connect(server: Server, believed: Path) -> http.client.HTTPSConnection:
    """A new connection of a client that believes this folder's certificate only. Raises ssl.SSLError."""
    context = client_context(believed / "certificate.pem")
    connection = http.client.HTTPSConnection("127.0.0.1", server.port, timeout=10, context=context)
    connection.connect()
    connection.auto_open = 0
    return connection


def serves(server: Server, believed: Path) -> bool:
    """Whether a new connection gets this folder's certificate."""
    try:
        with closing(connect(server, believed)) as connection:
            return is_alive(connection)
    except ssl.SSLCertVerificationError:
        return False


def is_alive(connection: http.client.HTTPSConnection) -> bool:
    """Whether a request on an open connection is answered."""
    connection.request("GET", "/livez")
    answer = connection.getresponse()
    answer.read()
    return answer.status == 200


def expires(server: Server, believed: Path) -> float:
    """What the metrics say of when the certificate expires, in Unix seconds."""
    with closing(connect(server, believed)) as connection:
        connection.request("GET", "/metrics")
        lines = connection.getresponse().read().decode().splitlines()
    (value,) = (line.split()[1] for line in lines if line.startswith("headrace_certificate_expires_timestamp_seconds "))
    return float(value)


def expiry(folder: Path) -> float:
    """When the certificate in a folder expires, in Unix seconds."""
    return x509.load_pem_x509_certificate((folder / "certificate.pem").read_bytes()).not_valid_after_utc.timestamp()


def put(file: Path, content: bytes) -> None:
    """Replace a file at once: a look in the middle of the writing would be logged too."""
    written = file.with_suffix(".next")
    written.write_bytes(content)
    written.replace(file)


def refusals(server: Server) -> int:
    """How often the log says that a certificate was not taken."""
    return server.log.read_text().count("certificate_not_renewed")


@pytest.mark.parametrize("kind", ["new", "rsa"])
def test_a_new_certificate_is_served_without_a_restart(server: Server, pairs: dict[str, Path], kind: str) -> None:
    """New connections get it, whatever its kind of key, and never the old one again; open ones go on."""
    with closing(connect(server, pairs["old"])) as open_before:
        assert is_alive(open_before)
        shutil.copytree(pairs[kind], server.folder, dirs_exist_ok=True)
        wait_until(lambda: serves(server, pairs[kind]), NOTICED_SECONDS, "the new certificate is not served")
        assert not serves(server, pairs["old"])
        assert is_alive(open_before)
        assert expires(server, pairs[kind]) == expiry(pairs[kind])


def test_a_broken_certificate_leaves_the_old_one(server: Server, pairs: dict[str, Path]) -> None:
    """Half a file, a key that does not match, or none: logged once each, and the old one served until it is whole."""
    old, new = pairs["old"], pairs["new"]
    certificate, key = server.folder / "certificate.pem", server.folder / "key.pem"

    def breaks(number: int) -> None:
        wait_until(lambda: refusals(server) == number, NOTICED_SECONDS, "a broken certificate is not logged")
        assert serves(server, old)

    whole = (new / "certificate.pem").read_bytes()
    put(certificate, whole[: len(whole) // 2])
    breaks(1)
    put(certificate, whole)  # the key is still the old one's
    breaks(2)
    key.unlink()
    breaks(3)
    put(key, (new / "key.pem").read_bytes())
    wait_until(lambda: serves(server, new), NOTICED_SECONDS, "the new certificate is not served")
    assert refusals(server) == 3
