"""Something large to decode, and who decodes it."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import pytest

from ingest.decoding import AT_ONCE_BYTES
from ingest.event import Record
from ingest.formats.particle import ParticleFormat

LARGE = b'{"data":"%b"}' % (b"x" * AT_ONCE_BYTES)


def decoding_threads(monkeypatch: pytest.MonkeyPatch, decode: str) -> list[int]:
    """The threads in which this method of ParticleFormat will have run."""
    threads: list[int] = []
    original = getattr(ParticleFormat, decode)

    def noted(*args: Any) -> Sequence[Record]:
        threads.append(threading.get_ident())
        found: Sequence[Record] = original(*args)
        return found

    monkeypatch.setattr(ParticleFormat, decode, noted)
    return threads
