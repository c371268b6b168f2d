"""Frames of a stream: every guard against what httpx-sse 0.4.3 does otherwise, however the bytes are cut."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterable

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ingest.formats.sse import KEPT_BYTES, MAX_FRAME_BYTES, Frame, FrameDecoder

BOM = b"\xef\xbb\xbf"
SMALL = 40  # bytes in a frame where a test wants to see large ones


def decoded(*chunks: bytes, max_frame: int = MAX_FRAME_BYTES) -> list[tuple[bytes, bytes]]:
    """Name and data of every frame; of an oversized one "(oversized)" and its beginning."""
    return [shown(frame) for frame in frames(chunks, FrameDecoder(max_frame))]


def frames(chunks: Iterable[bytes], decoder: FrameDecoder) -> list[Frame]:
    """What a decoder makes of chunks."""
    return [frame for chunk in chunks for frame in decoder.feed(chunk)]


def shown(frame: Frame) -> tuple[bytes, bytes]:
    """See `decoded`."""
    return (b"(oversized)", frame.raw) if frame.oversized else (frame.event, frame.data)


def test_what_particle_sends() -> None:
    """The greeting, the keep-alives and an event: only the event is one."""
    assert decoded(b':ok\n\n\n\n\nevent: spark/status\ndata: {"data":"online"}\n\n\n') == [
        (b"spark/status", b'{"data":"online"}')
    ]


def test_an_id_yields_no_event_for_every_blank_line_after_it() -> None:
    """httpx-sse, once it has seen an `id:`, takes each keep-alive for an event without data."""
    decoder = FrameDecoder()
    found = frames([b"id: 7\ndata: a\n\n", b"\n", b"\n\n\n", b"data: b\n\n"], decoder)
    assert [shown(frame) for frame in found] == [(b"", b"a"), (b"", b"b")]
    assert decoder.last_event_id == "7"


@pytest.mark.parametrize(
    "frame", [b"event: a\n\n", b"id: 1\n\n", b"retry: 5\n\n", b"event: a\n: data: x\n\n", b"x\n\n"]
)
def test_a_frame_without_data_is_none(frame: bytes) -> None:
    """httpx-sse yields it; the standard says that nothing is dispatched, and nothing of it reaches the next frame."""
    assert decoded(frame, b"data: b\n\n") == [(b"", b"b")]


def test_data_that_is_empty_is_data() -> None:
    """A frame with an empty `data:` is one, and so is one with an empty line in it."""
    assert decoded(b"event: a\ndata:\n\nevent: b\ndata\ndata: \n\n") == [(b"a", b""), (b"b", b"\n")]


@pytest.mark.parametrize("cut", range(5))
def test_a_leading_bom_costs_no_event(cut: int) -> None:
    """httpx-sse makes it a part of the first field's name; in one chunk or in several it is left out."""
    text = BOM + b"event: a\ndata: b\n\n"
    assert decoded(text[:cut], text[cut:]) == [(b"a", b"b")]


def test_a_bom_is_one_only_at_the_very_start() -> None:
    """Later it is a part of the field's name, which is then unknown."""
    assert decoded(b"\n" + BOM + b"data: a\n\n" + BOM + b"data: b\n\ndata: " + BOM + b"\n\n") == [(b"", BOM)]


@pytest.mark.parametrize("name", [b"error", b"message", b"open", "ä/ö".encode()])
def test_any_name_is_a_name(name: bytes) -> None:
    """`error` and `message` mean nothing special."""
    assert decoded(b"event: %b\ndata: x\n\n" % name) == [(name, b"x")]


@pytest.mark.parametrize("lines", [b"", b"event\n", b"event:\n", b"event: \n", b"event: a\nevent:\n"])
def test_an_empty_name_stays_empty(lines: bytes) -> None:
    """httpx-sse calls such an event "message"."""
    assert decoded(lines + b"data: x\n\n") == [(b"", b"x")]


@pytest.mark.parametrize("mark", ["\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\x1c", "\x1d", "\x1e"])
def test_only_line_ends_end_lines(mark: str) -> None:
    """What Python's splitlines takes for a line end stays inside data and names."""
    text = f"event: a{mark}b\ndata: c{mark}d\n\n".encode()
    assert decoded(text) == [(f"a{mark}b".encode(), f"c{mark}d".encode())]
    assert decoded(b"id: 1\n" + text) == decoded(text)


def test_bytes_that_are_no_utf8_stay_as_they_are() -> None:
    """httpx decodes the stream and puts question marks in their place."""
    assert decoded(b"event: a\ndata: \xff\x00\xc3\n\n") == [(b"a", b"\xff\x00\xc3")]
    assert decoded(b"data: \xff\nevent: \xfe\ndata: \xfd\n\n") == [(b"\xfe", b"\xff\n\xfd")]


@pytest.mark.parametrize("end", [b"\n", b"\r", b"\r\n"])
def test_every_line_end_at_every_cut(end: bytes) -> None:
    """LF, CR and CRLF, whole or with each byte for itself: a CRLF is never two line ends."""
    text = end.join([b":ok", b"", b"event: a", b"data: 1", b"", b"", b"data: 2", b"data: 3", b"", b""])
    expected = [(b"a", b"1"), (b"", b"2\n3")]
    for cut in range(len(text)):
        assert decoded(text[:cut], text[cut:]) == expected
    assert decoded(*(bytes([byte]) for byte in text)) == expected


def test_a_cr_ends_the_frame_at_once() -> None:
    """An event is not held back until the next byte shows whether an LF follows."""
    decoder = FrameDecoder()
    assert [shown(frame) for frame in decoder.feed(b"data: a\r\r")] == [(b"", b"a")]
    assert decoder.feed(b"\n") == []
    assert not decoder.partial


def test_one_space_after_the_colon_is_left_out() -> None:
    """One, and no other white space."""
    assert decoded(b"event:a\ndata:  b \n\n") == [(b"a", b" b ")]
    assert decoded(b"event: a\ndata:b\ndata:\tc\n\n") == [(b"a", b"b\n\tc")]


def test_ids_and_waits_are_heeded() -> None:
    """The last id counts, an empty one takes it back, and a wait is in seconds; nonsense is no wait."""
    decoder = FrameDecoder()
    assert (decoder.last_event_id, decoder.retry_seconds) == (None, None)
    decoder.feed(b"id: 1\nretry: 2500\n\nid: a\x00b\nretry: -1\n\nretry: 1_0\n\nretry: \xb2\n\nretry: x\n\n")
    assert (decoder.last_event_id, decoder.retry_seconds) == ("1", 2.5)
    decoder.feed(b"id:\nretry:99999999999\n\n")
    assert (decoder.last_event_id, decoder.retry_seconds) == ("", 3600.0)


def test_an_id_with_nul_is_ignored_and_one_without_data_is_kept() -> None:
    """WHATWG HTML §9.2.6: the first is no id at all, the second counts, also where it takes the last one back."""
    decoder = FrameDecoder()
    decoder.feed(b"id: a\0\n\n")
    assert str(decoder.last_event_id) == "None"
    decoder.feed("id: ä7\n\n".encode())
    assert decoder.last_event_id == "ä7"
    (found,) = decoder.feed(b"id: x\0y\ndata: b\n\n")
    assert (found.id, decoder.last_event_id) == (b"", "ä7")
    decoder.feed(b"id\n\n")
    assert decoder.last_event_id == ""
    fresh = FrameDecoder()
    fresh.feed(b"id:\n\n")
    assert fresh.last_event_id == ""


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
@pytest.mark.parametrize("step", [1, 7, 1000])
def test_comments_do_not_count_to_the_bound(end: bytes, step: int) -> None:
    """A frame of the largest size is one, however many comments stand in it; a byte more is still too much."""
    for size, expected in (
        (SMALL, (b"", b"x" * (SMALL - 6))),
        (SMALL + 1, (b"(oversized)", b"data: " + b"x" * (SMALL - 6))),
    ):
        comments = (b": keep alive" + end) * 9
        text = comments + b"data: " + b"x" * (size - 6) + end + comments + end + b"data: next" + end + end
        cut = [text[start : start + step] for start in range(0, len(text), step)]
        assert decoded(*cut, max_frame=SMALL) == [expected, (b"", b"next")]


def test_comments_inside_a_frame_need_no_memory() -> None:
    """Nor does one of them that never ends."""
    decoder = FrameDecoder()
    decoder.feed(b"data: a\n")
    tracemalloc.start()
    for _ in range(1000):
        decoder.feed(b": keep alive\n:" + b"x" * 4096)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 100_000
    assert [shown(frame) for frame in decoder.feed(b"\ndata: b\n:\n\n")] == [(b"", b"a\nb")]


def test_an_id_counts_when_its_frame_is_whole() -> None:
    """Of a frame that was cut off nothing is known, so it can be sent again."""
    decoder = FrameDecoder()
    decoder.feed(b"id: 1\ndata: a\n\nid: 2\ndata: b\n")
    assert decoder.last_event_id == "1"


@pytest.mark.parametrize("size", [SMALL, SMALL + 1])
def test_a_frame_over_the_bound_is_one_oversized_frame(size: int) -> None:
    """The bound itself is allowed; a byte more is thrown away but for the beginning, and the stream goes on."""
    large = b"data: " + b"x" * (size - 6)
    expected = [(b"", large[6:])] if size == SMALL else [(b"(oversized)", large[:SMALL])]
    for cut in range(size + 10):
        text = large + b"\n\ndata: next\n\n"
        assert decoded(text[:cut], text[cut:], max_frame=SMALL) == [*expected, (b"", b"next")]


def test_a_line_of_five_mebibytes_needs_no_memory() -> None:
    """It is one oversized frame with its first 64 KiB, however small the pieces in which it comes."""
    decoder = FrameDecoder()
    piece = b"x" * 4096
    tracemalloc.start()
    found = decoder.feed(b"event: big\ndata: ")
    for _ in range(5 * 256):
        found += decoder.feed(piece)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert decoder.partial
    found += decoder.feed(b"\n\nevent: next\ndata: x\n\n")

    assert [shown(frame) for frame in found[1:]] == [(b"next", b"x")]
    assert found[0].oversized
    assert len(found[0].raw) == KEPT_BYTES
    assert found[0].raw.startswith(b"event: big\ndata: xxx")
    assert most < 3 * MAX_FRAME_BYTES


def test_comments_need_no_memory_and_cost_no_event() -> None:
    """Keep-alives without a blank line, and one comment that never ends, are nothing that must be kept."""
    decoder = FrameDecoder(SMALL)
    for _ in range(100):
        assert decoder.feed(b": keep alive\n") == []
    for _ in range(100):
        assert decoder.feed(b": a comment that goes on") == []
    assert not decoder.partial
    assert [shown(frame) for frame in decoder.feed(b"\ndata: x\n\n")] == [(b"", b"x")]


@pytest.mark.parametrize(
    ("text", "partial"),
    [
        (b"", False),
        (b"\n\n", False),
        (b":ok", False),
        (b":ok\n", False),
        (b"data: a\n\n", False),
        (b"data: a\r\n\r\n", False),
        (b"data: a\n\n:ok\n", False),
        (b"d", True),
        (b"data: a\n", True),
        (b"data: a\n:ok\n", True),
        (b"data: a\n\nd", True),
        (b":ok\nid", True),
        (BOM[:2], True),
        (b"x" * (MAX_FRAME_BYTES + 1), True),
    ],
)
def test_a_frame_that_has_begun_shows(text: bytes, partial: bool) -> None:
    """What has begun and not ended could be lost; comments and blank lines could not."""
    decoder = FrameDecoder()
    decoder.feed(text)
    assert decoder.partial is partial


PIECES = st.sampled_from(
    [
        *(
            b"\n",
            b"\r",
            b"\r\n",
            b"\n\n",
            b"event: a",
            b"event:",
            b"data: b",
            b"data",
            b"data:c",
            b"id: 1",
            b"retry: 9",
        ),
        *(b":", b": c", b"x", b" ", b"\xff", BOM, BOM[:1], b"data: " + b"y" * SMALL, b"event: a\ndata: b\n\n"),
    ]
)


@given(st.lists(PIECES, max_size=30), st.data())
@example([b":", b"x" * 60, b"\n", b"data: b", b"\n\n"], None)
def test_cuts_change_nothing(pieces: list[bytes], cuts: st.DataObject | None) -> None:
    """Whole, byte by byte or cut anywhere: the same frames, the same id, the same answer whether one has begun."""
    text = b"".join(pieces)
    places = sorted(cuts.draw(st.sets(st.integers(0, len(text)), max_size=8))) if cuts else []
    ways = [[text], [bytes([byte]) for byte in text]]
    ways.append([text[start:end] for start, end in zip([0, *places], [*places, len(text)], strict=True)])
    results = []
    for chunks in ways:
        decoder = FrameDecoder(SMALL)
        results.append((frames(chunks, decoder), decoder.last_event_id, decoder.retry_seconds, decoder.partial))
    assert results[0] == results[1] == results[2]
    assert all(len(frame.raw) <= SMALL for frame in results[0][0])
