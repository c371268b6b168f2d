"""A process that is stopped (SIGSTOP) for longer than the idle timeout, in front of a stream that goes on."""

from __future__ import annotations

import json
import signal
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.support.server import PATIENCE_SECONDS, Server, wait_until

CONFIG = """
[sources.fleet]
product = "tracker"
mode = "sse"
[sources.fleet.sse]
url = "http://127.0.0.1:%d/v1/products/tracker/events"
idle_timeout = "1s"
"""
SUSPENDED_SECONDS = 6.5  # more than a busy process is ever late


class Upstream(ThreadingHTTPServer):
    """A stream that gives a sign of life every tenth of a second until `ends`, and says what is put into `words`."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Listener)
        self.words: list[bytes] = []
        self.opened = 0
        self.ends = threading.Event()
        self.is_over = False


class Listener(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.0"
    server: Upstream

    def do_GET(self) -> None:
        """Answer with a stream."""
        self.server.opened += 1
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        ends = self.server.ends
        while not self.server.is_over and not (ends.is_set() and ends is self.server.ends):
            words = b"".join(self.server.words) or b"\n"
            self.server.words.clear()
            try:
                self.wfile.write(words)
            except OSError:
                return
            time.sleep(0.1)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def upstream() -> Iterator[Upstream]:
    """The stream on a port of this machine."""
    with Upstream() as server:
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        try:
            yield server
        finally:
            server.is_over = True
            server.shutdown()
            serving.join()


def said(number: int) -> bytes:
    """An event."""
    text = {"data": str(number), "published_at": "2026-07-28T16:53:05.616Z", "coreid": "d1"}
    return f"event: temp\ndata: {json.dumps(text)}\n\n".encode()


def get(server: Server, path: str) -> Any:
    """What the API says."""
    with urllib.request.urlopen(f"{server.url}/api/v1/{path}", timeout=10) as answer:
        return json.load(answer)


def numbers(server: Server) -> list[str]:
    """The data of all events."""
    return [event["data"] for event in get(server, "events")["events"]]


@pytest.mark.parametrize("ends", [False, True])
def test_what_lay_in_the_kernel_is_stored(tmp_path: Path, ends: bool) -> None:
    """It is whole, also where the stream has ended meanwhile; nobody listened since, which is a gap of cause down."""
    with upstream() as stream, Server(tmp_path, CONFIG % stream.server_port) as server:
        stream.words.append(said(1))
        wait_until(lambda: numbers(server) == ["1"], PATIENCE_SECONDS, "the first event did not come")
        wait_until(lambda: get(server, "gaps")["gaps"] == [], PATIENCE_SECONDS, "a gap from the start")
        server.signal(signal.SIGSTOP)
        stream.words.append(said(2))
        stream.words.append(said(3))
        wait_until(lambda: not stream.words, PATIENCE_SECONDS, "nothing is sent")
        if ends:
            stream.ends.set()
        time.sleep(SUSPENDED_SECONDS)
        opened = stream.opened
        server.signal(signal.SIGCONT)

        wait_until(lambda: numbers(server) == ["1", "2", "3"], PATIENCE_SECONDS, "what lay in the kernel is lost")
        if ends:
            stream.ends = threading.Event()
        wait_until(
            lambda: [gap["until"] for gap in get(server, "gaps")["gaps"]] not in ([], [None]),
            PATIENCE_SECONDS,
            "the gap does not end",
        )
        assert {gap["cause"] for gap in get(server, "gaps")["gaps"]} == {"down"}
        assert ends or stream.opened == opened
