"""A store that stops under a living server: senders hear so in time, memory is bounded, readyz knows it.

Imports nothing of the product.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import os
import signal
from pathlib import Path

import pytest

from tests.support.server import PATIENCE_SECONDS, Server, wait_until

PATH = "/ingest/default"
MIB = 1024 * 1024
SENDERS = 300
BODY = b'{"event":"big","coreid":"d%d","data":"' + b"x" * (1_000_000 - 60) + b'"}'
SENDERS_PATIENCE_SECONDS = 20  # Particle's
MOST_GROWTH = 160 * MIB


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs Linux")
def test_a_writing_process_that_stops(tmp_path: Path) -> None:
    """Three hundred senders of a megabyte hear 503 before they give up, and memory stays; then it goes on by itself."""
    with Server(tmp_path, '[store]\ninbox_bytes = "16MiB"\n') as server:
        assert post(server, b'{"event":"first"}') == 204
        (writer,) = children(server.pid)
        before = memory(server.pid, "VmRSS")
        Path(f"/proc/{server.pid}/clear_refs").write_text("5")  # the peak begins anew
        os.kill(writer, signal.SIGSTOP)

        answers = asyncio.run(send_all(server.port))
        growth = memory(server.pid, "VmHWM") - before
        assert set(answers) == {503}
        assert growth <= MOST_GROWTH, f"{growth / MIB:.0f} MiB"
        assert "writer_killed" in server.log.read_text()

        server.wait_ready()
        assert post(server, b'{"event":"last"}') == 204
        assert children(server.pid) != [writer]
        assert server.terminate() == 0


def test_readyz_fails_while_the_writing_process_is_stopped(tmp_path: Path) -> None:
    """After five seconds it is no place for traffic, with nobody sending; when it goes on, it is again."""
    with Server(tmp_path, "") as server:
        (writer,) = children(server.pid)
        os.kill(writer, signal.SIGSTOP)
        wait_until(lambda: get(server, "/readyz") == 503, PATIENCE_SECONDS, "it stays ready")
        os.kill(writer, signal.SIGCONT)
        server.wait_ready()


def test_a_file_that_is_removed(tmp_path: Path) -> None:
    """Nothing is acknowledged any more, and readyz fails, until it is put back."""
    file, elsewhere = tmp_path / "headrace.db", tmp_path / "elsewhere.db"
    with Server(tmp_path, "") as server:
        assert post(server, b'{"event":"first"}') == 204
        file.rename(elsewhere)
        assert post(server, b'{"event":"second"}') == 503
        wait_until(lambda: get(server, "/readyz") == 503, PATIENCE_SECONDS, "it stays ready")
        assert not file.exists()
        elsewhere.rename(file)
        server.wait_ready()
        assert post(server, b'{"event":"third"}') == 204


def children(pid: int) -> list[int]:
    """The processes that it started and that run."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def memory(pid: int, name: str) -> int:
    """A line of /proc/PID/status, in bytes."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))


def get(server: Server, path: str) -> int:
    """The status of an answer."""
    return _status(server, "GET", path)


def post(server: Server, body: bytes) -> int:
    """The status of the answer to an event."""
    return _status(server, "POST", PATH, body)


def _status(server: Server, method: str, path: str, body: bytes | None = None) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=SENDERS_PATIENCE_SECONDS)
    try:
        connection.request(method, path, body)
        return connection.getresponse().status
    finally:
        connection.close()


async def send_all(port: int) -> list[int]:
    """The statuses that so many senders at once hear. Raises TimeoutError where one gives up."""
    return await asyncio.gather(*(send(port, number) for number in range(SENDERS)))


async def send(port: int, number: int) -> int:
    """One sender, on a connection of its own."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    body = BODY % number
    head = f"POST {PATH} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Length: {len(body)}\r\n\r\n"
    writer.write(head.encode())
    writer.write(body)
    await writer.drain()
    async with asyncio.timeout(SENDERS_PATIENCE_SECONDS):
        line = await reader.readline()
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    return int(line.split()[1])
