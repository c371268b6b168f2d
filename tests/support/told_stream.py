"""An event stream beside a server under test, in a thread: it says what the test tells it to, to whoever listens."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

_KEEP_ALIVE_SECONDS = 5.0


class ToldStream:
    """Frames as Particle's stream has them. Whoever opens it is told all from the beginning."""

    def __init__(self) -> None:
        self._frames: list[bytes] = []
        self._more = threading.Condition()
        self._ended = False
        stream = self

        class Listener(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.send_header("Content-Type", "text/event-stream")
                self.end_headers()
                stream._tell(self.wfile)

            def log_message(self, *args: Any, **kwargs: Any) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Listener)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}/events"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        with self._more:
            self._ended = True
            self._more.notify_all()
        self._server.shutdown()
        self._server.server_close()

    def say(self, name: str, members: Mapping[str, object]) -> None:
        """Let all who listen hear an event."""
        with self._more:
            self._frames.append(f"event: {name}\ndata: {json.dumps(members)}\n\n".encode())
            self._more.notify_all()

    def _tell(self, listener: Any) -> None:
        told = 0
        listener.write(b":ok\n\n")
        try:
            while not self._ended:
                with self._more:
                    if len(self._frames) == told and not self._ended:
                        self._more.wait(_KEEP_ALIVE_SECONDS)
                    frames = self._frames[told:]
                listener.write(b"".join(frames) or b"\n")
                told += len(frames)
        except OSError:
            return
