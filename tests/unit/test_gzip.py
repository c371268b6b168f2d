"""gzip as senders write it: one member, one for each event, flushed or not, cut anywhere, or no gzip at all."""

from __future__ import annotations

import gzip
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.errors import TooLarge
from ingest.formats.gzip import Gzip, MalformedGzip, gunzip
from ingest.sources.sse.inflate import inflater_for

HEADER_BYTES = 10
INFLATER = zlib.decompressobj


class Counted:
    """zlib's inflater of one member; adds up how many bytes the inflaters of all members were given."""

    given = 0

    def __init__(self, wbits: int) -> None:
        self._inflater = INFLATER(wbits)

    def decompress(self, data: bytes, max_length: int) -> bytes:
        """As zlib's."""
        Counted.given += len(data)
        return self._inflater.decompress(data, max_length)

    def __getattr__(self, name: str) -> object:
        return getattr(self._inflater, name)


@given(st.data())
def test_a_member_for_each_event(data: st.DataObject) -> None:
    """A sender may end the member behind each event, or flush in it: nothing is lost, wherever the bytes are cut."""
    events = [b"data: %d\n\n" % number for number in range(data.draw(st.integers(1, 6)))]
    sent, squeeze = b"", zlib.compressobj(wbits=31)
    for event in events:
        ends_member = data.draw(st.booleans())
        sent += squeeze.compress(event) + squeeze.flush(zlib.Z_FINISH if ends_member else zlib.Z_SYNC_FLUSH)
        squeeze = zlib.compressobj(wbits=31) if ends_member else squeeze
    cuts = sorted(data.draw(st.lists(st.integers(0, len(sent)), max_size=8)))
    inflater = Gzip()
    pieces = [sent[start:end] for start, end in zip([0, *cuts], [*cuts, len(sent)], strict=True)]
    assert b"".join(piece for chunk in pieces for piece in inflater.feed(chunk)) == b"".join(events)
    assert not inflater.pending


def test_each_event_is_there_when_its_member_ends() -> None:
    """What a member holds is pending from behind its header to its end, also where the next header comes with that."""
    inflater = inflater_for("gzip")
    assert inflater is not None
    for number in range(3):
        member = gzip.compress(b"data: %d\n\n" % number)
        out = b""
        for at, byte in enumerate(member[:-1], 1):
            out += b"".join(inflater.feed(bytes([byte])))
            assert inflater.pending == (at > HEADER_BYTES)
        out += b"".join(inflater.feed(member[-1:] + b"\0\0"))
        assert (out, inflater.pending) == (b"data: %d\n\n" % number, False)


def test_what_follows_a_member_and_is_no_gzip_is_an_error() -> None:
    """It is not dropped without a word."""
    with pytest.raises(zlib.error):
        list(Gzip().feed(gzip.compress(b"data: 1\n\n") + b"data: 2\n\n"))


def test_many_members_cost_what_their_bytes_cost(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is left behind a member is handed on a bounded number of times, however much that is."""
    sent = gzip.compress(b"") * 20_000
    with monkeypatch.context() as patched:
        patched.setattr(zlib, "decompressobj", Counted)
        Counted.given = 0
        assert list(Gzip().feed(sent)) == []
    assert Counted.given < 200 * len(sent)


def test_gzip_comes_out_as_it_is_flushed() -> None:
    """Whatever is cut where: what was flushed is there, and what was not is pending."""
    squeeze = zlib.compressobj(wbits=zlib.MAX_WBITS | 16)
    inflater, out = Gzip(), b""
    assert not inflater.pending
    for number in range(3):
        chunk = squeeze.compress(b"data: %d\n\n" % number) + squeeze.flush(zlib.Z_SYNC_FLUSH)
        for at, byte in enumerate(chunk[:-1], 1):
            out += b"".join(inflater.feed(bytes([byte])))
            assert inflater.pending == (number > 0 or at > HEADER_BYTES)
        out += b"".join(inflater.feed(chunk[-1:]))
        assert not inflater.pending
        assert out.endswith(b"data: %d\n\n" % number)


def test_gzip_cannot_fill_the_memory() -> None:
    """A small chunk that stands for much comes in small pieces, and nothing of it is left out."""
    pieces = [len(piece) for piece in Gzip().feed(gzip.compress(bytes(10_000_000)))]
    assert (sum(pieces), max(pieces)) == (10_000_000, 65536)


def test_gunzip_inflates_one_or_several_members() -> None:
    """Members are joined, and zeros behind the last are padding."""
    parts = [b"a" * 100_000, b"", b"b"]
    zipped = b"".join(map(gzip.compress, parts))
    assert gunzip(zipped, 100_001) == gunzip(zipped + b"\0" * 512, 100_001) == b"".join(parts)
    assert gunzip(b"", 10) == b""


def test_gunzip_stops_at_the_bound() -> None:
    """A bomb is refused once it is one byte too large, in one member or in many."""
    for bomb in (gzip.compress(b"\0" * 50_000_000), gzip.compress(b"\0" * 600) * 2):
        with pytest.raises(TooLarge):
            gunzip(bomb, 1000)
    assert len(gunzip(gzip.compress(b"\0" * 1000), 1000)) == 1000


@pytest.mark.parametrize(
    "body",
    [
        b"plain",
        gzip.compress(b"x" * 1000, mtime=0)[:-1],
        gzip.compress(b"x" * 1000, mtime=0)[:5],
        gzip.compress(b"x" * 1000, mtime=0) + b"garbage",
        gzip.compress(b"x", mtime=0) + b"\0\0x",
        gzip.compress(b"x" * 1000, mtime=0)[:-8] + b"\0" * 8,
        zlib.compress(b"x"),
    ],
)
def test_gunzip_refuses_what_is_cut_off_or_no_gzip(body: bytes) -> None:
    """Truncation, garbage behind the end, a wrong checksum and other formats are MalformedGzip."""
    with pytest.raises(MalformedGzip):
        gunzip(body, 10_000)


def test_many_small_gzip_members_are_not_slow() -> None:
    """50,000 empty members cost time in proportion to the bytes, not to their square."""
    assert gunzip(gzip.compress(b"") * 50_000, 10) == b""
