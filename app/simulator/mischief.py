"""What goes wrong at real webhooks, one body of each kind: echoes of our own hooks, and bodies no one can decode."""

from __future__ import annotations

import gzip
from collections.abc import Callable, Sequence
from datetime import datetime

from app.simulator.device import FORM, Hook, compact, particle_time


def bad_bodies(device: str, at: datetime) -> Sequence[Hook]:
    """Every kind of mischief, as if it came from this device at this time; each kind is counted differently."""
    make = _maker(device, at)
    return [
        make(event="hook-sent/temperature", data=""),  # ignored: an echo of our own webhook
        Hook.of(b'{"event":"temperature","data":"21.5'),  # cut off by an operator's template
        make(event=""),
        Hook.of(b'"just a string"'),
        make(event=f"{device}/hook-response/temperature/0", data="ok"),  # ignored, and addressed to the device
        make(published_at="yesterday"),
        make(event="bell\x07"),
        Hook.of(b'{"event":"caf\xe9","data":"latin-1"}'),
        Hook.of(b"temperature 21.5", FORM),
        Hook.of(b'{"event":"deep","data":' + b"[" * 80 + b"]" * 80 + b"}"),
        Hook.of(
            make().body + b"\n" + make().body[:40], "application/x-ndjson"
        ),  # half a line: whoever sent it was stopped
        Hook(gzip.compress(make().body)[:-12], {"content-encoding": "gzip"}),
        Hook.of(b'{"message":{"data":"21.5"},"subscription":"projects/p/subscriptions/s"}'),  # data is no base64
        Hook.of(b""),
        make(coreid="x" * 300),
    ]


def _maker(device: str, at: datetime) -> Callable[..., Hook]:
    usual = {"event": "temperature", "data": "21.5", "coreid": device, "published_at": particle_time(at)}
    return lambda **changed: Hook.of(compact(usual | changed))
