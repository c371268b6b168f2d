"""SIGTERM while something hangs: the process leaves with 0, in time. Imports nothing of the product."""

from __future__ import annotations

import json
import socket
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from pathlib import Path

from tests.support.postgres import own_server
from tests.support.server import EXIT_SECONDS, PATIENCE_SECONDS, Server, wait_until

PATH = "/ingest/default"
LONG_DRAIN_SECONDS = 24
HANDLER = """
[handlers.rules]
type = "python"
call = "rules:{function}"
timeout = "1h"
"""
RULES = """
import asyncio, os, threading, time
from pathlib import Path

def reached():
    Path("reached").touch()

async def waits(event):
    reached()
    await asyncio.Event().wait()

async def clings(event):
    reached()
    while True:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            pass

async def blocks_the_loop(event):
    reached()
    time.sleep(3600)

def never_returns(event):
    reached()
    threading.Event().wait()

def nobody_reads_the_log(event):
    _, full = os.pipe()
    os.set_blocking(full, False)
    try:
        while True:
            os.write(full, b"x" * 4096)
    except BlockingIOError:
        os.set_blocking(full, True)
    os.dup2(full, 2)
    reached()
"""

Hanging = Callable[[Path], AbstractContextManager[Server]]


@contextmanager
def handler(function: str, folder: Path) -> Iterator[Server]:
    """A function of the handler's hangs, or makes something hang."""
    (folder / "rules.py").write_text(RULES)
    with Server(folder, HANDLER.format(function=function)) as server, post(server, an_event(1)):
        wait_until((folder / "reached").exists, PATIENCE_SECONDS, "the handler was not called")
        yield server


@contextmanager
def slow_sender(folder: Path) -> Iterator[Server]:
    """A webhook's body has begun, and does not go on."""
    whole = an_event(1)
    with Server(folder, "") as server, post(server, whole[:10], length=len(whole)):
        for _ in range(3):
            fetch(server, "/livez")  # what came before these has been read by now
        yield server


@contextmanager
def frozen_store(folder: Path) -> Iterator[Server]:
    """PostgreSQL is suspended while events are on their way into it. None of these may be acknowledged."""
    url = own_server().fresh_database()
    server = Server(folder, f'[store]\nurl = "{url}"\n{HANDLER.format(function="waits")}')
    (folder / "rules.py").write_text(RULES)
    server.migrate()
    with server, ExitStack() as stack:
        stack.enter_context(post(server, an_event(0)))
        wait_until((folder / "reached").exists, PATIENCE_SECONDS, "the handler was not called")
        with own_server().frozen():
            sent = [stack.enter_context(post(server, an_event(number))) for number in range(1, 20)]
            wait_until(lambda: in_flight(server) == len(sent), PATIENCE_SECONDS, "the events do not arrive")
            yield server
            answers = {answer(sender)[:12] for sender in sent}
            assert answers <= {b"HTTP/1.1 503", b""}, answers
    own_server().drop_database(url)


HANGING: dict[str, Hanging] = {
    "slow sender": slow_sender,
    "frozen store": frozen_store,
    **{
        name: partial(handler, name)
        for name in ("waits", "clings", "blocks_the_loop", "never_returns", "nobody_reads_the_log")
    },
}


@contextmanager
def long_drain(folder: Path) -> Iterator[Server]:
    """Nothing hangs; the drain delay is longer than anything that hangs may take. All of it is waited for."""
    with Server(folder, f'[server]\ndrain_delay = "{LONG_DRAIN_SECONDS}s"\n') as server:
        yield server
        assert '"event": "stopped"' in server.log_tail(), server.log_tail()


HANGING["long drain"] = long_drain


def test_a_server_exits_in_time_whatever_hangs(tmp_path: Path) -> None:
    """0 within drain_delay + 20 s: for handlers that never end, stalling senders, a frozen store, a log nobody reads.

    A long drain delay is not cut short.
    """

    def exit_code(name: str) -> int:
        folder = tmp_path / name
        folder.mkdir()
        with HANGING[name](folder) as server:
            return server.terminate(EXIT_SECONDS + (LONG_DRAIN_SECONDS if name == "long drain" else 0))

    with ThreadPoolExecutor(len(HANGING)) as threads:
        codes = dict(zip(HANGING, threads.map(exit_code, HANGING), strict=True))
    assert codes == dict.fromkeys(HANGING, 0)


def an_event(number: int) -> bytes:
    """A webhook's body."""
    at = f"2026-07-28T16:53:05.{number:03d}Z"
    return json.dumps({"event": "alarm", "data": str(number), "coreid": "dev", "published_at": at}).encode()


@contextmanager
def post(server: Server, body: bytes, length: int | None = None) -> Iterator[socket.socket]:
    """Send a request without waiting for its answer; `length` is what it says of a body that is not whole."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as sender:
        head = f"POST {PATH} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length or len(body)}\r\n\r\n"
        sender.sendall(head.encode() + body)
        yield sender


def answer(sender: socket.socket) -> bytes:
    """What a sender was answered; empty where the connection was closed or reset."""
    try:
        return sender.recv(4096)
    except ConnectionError:
        return b""


def fetch(server: Server, path: str) -> str:
    """The body of a GET."""
    with urllib.request.urlopen(server.url + path, timeout=10) as found:
        return str(found.read().decode())


def in_flight(server: Server) -> int:
    """How many webhook events were received and are not settled."""
    lines = fetch(server, "/metrics").splitlines()
    return sum(int(float(line.split()[-1])) for line in lines if line.startswith("headrace_events_in_flight{"))
