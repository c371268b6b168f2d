"""What runs in the writing process."""

from __future__ import annotations

import signal
import socket
import sys

from storage.writer.messages import LENGTH, Opening, reader_of

_read_opening = reader_of(Opening)


def main() -> None:
    """Serve the socket that the command line names, until its other end is closed."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # the service decides: it has records to drain first
        signal.signal(number, signal.SIG_IGN)
    with socket.socket(fileno=int(sys.argv[1])) as line:
        opening = _read_opening(_received(line, LENGTH.unpack(_received(line, LENGTH.size))[0]))
        if opening.url.startswith("sqlite"):
            from storage.writer import in_turn  # neither needs what the other one imports

            in_turn.serve(line, opening)
        else:
            from storage.writer import at_once

            at_once.serve(line, opening)


def _received(line: socket.socket, size: int) -> bytes:
    return line.recv(size, socket.MSG_WAITALL)
