"""A listening socket that nobody can connect to any more, while those who have are still accepted.

To close a listening socket resets whoever has connected and was not accepted yet, and a proxy has sent a request there
by then, which it will not send to another server. So the kernel first drops who begins to connect (a SYN alone): they
try again after a second, find the port closed, and go elsewhere.
"""

from __future__ import annotations

import contextlib
import ctypes
import socket
import struct
import sys

_SO_ATTACH_FILTER = 26  # Linux: asm-generic/socket.h
_FLAGS_BYTE, _SYN, _ACK = 13, 0x02, 0x10  # RFC 9293 §3.1
# Classic BPF (linux/filter.h): code, jump if true, jump if false, operand; it begins at the TCP header.
_DROP_SYN = (
    (0x30, 0, 0, _FLAGS_BYTE),  # load the byte of flags
    (0x54, 0, 0, _SYN | _ACK),  # keep these two
    (0x15, 0, 1, _SYN),  # only a SYN?
    (0x06, 0, 0, 0),  # take nothing of the packet
    (0x06, 0, 0, 0xFFFFFFFF),  # take all of it
)


def make_unconnectable(listening: socket.socket) -> None:
    """Drop who begins to connect. Does nothing on other systems than Linux, or where that is forbidden."""
    if sys.platform != "linux":
        return
    program = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *line) for line in _DROP_SYN))
    with contextlib.suppress(OSError):
        listening.setsockopt(
            socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("HP", len(_DROP_SYN), ctypes.addressof(program))
        )
