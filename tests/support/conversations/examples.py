"""The least conversation for each fault that a server of HTTP can have here, written by hand."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from tests.support.conversations.draft import ASKED_PATH, LOCKED_PATH, PATH, SECRET, event, smuggled
from tests.support.conversations.generate import probe
from tests.support.conversations.values import After, AwaitAnswers, Conversation, End, Request, Step, Write

FIRST = 1_000_000_000  # above every generated number
_EACH = 10
_Written = Callable[[int], Request]
_HOST = b"Host: 127.0.0.1"
_CLOSES, _EITHER = After.CLOSES, After.EITHER
_CHUNKED = b"Transfer-Encoding: chunked"
_OFFER = (_HOST, b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA")


def examples() -> dict[str, Conversation]:
    """By name; each has numbers of its own."""
    made: dict[str, Conversation] = {}
    for place, (name, requests, end) in enumerate(_written()):
        first = FIRST + place * _EACH
        numbered = [request(first + 2 * number) for number, request in enumerate(requests)]
        made[name] = Conversation(0, place, tuple(numbered), _steps(numbered), end, probe(first + _EACH - 1))
    return made


def _steps(requests: Sequence[Request]) -> tuple[Step, ...]:
    """All in one piece, unless it is one that waits."""
    if requests[0].waits:
        return Write(requests[0].head), AwaitAnswers(1, or_continue=True), Write(requests[0].body)
    return (Write(b"".join(request.raw for request in requests)),)


def _post(
    *lines: bytes,
    start: bytes = b"POST %b HTTP/1.1" % PATH,
    body: bytes = b"%EVENT%",
    trailers: bytes | None = None,
    statuses: frozenset[int] = frozenset({204}),
    after: After = After.STAYS,
) -> _Written:
    """A request by its number: `%EVENT%` in its body becomes its event, `%SMUGGLED%` a request that is only a body."""

    def numbered(number: int) -> Request:
        whole = body.replace(b"%EVENT%", event(number)).replace(b"%SMUGGLED%", smuggled(number + 1))
        framing: list[bytes] = []
        if trailers is not None:
            framing = [_CHUNKED]
            whole = b"%x\r\n%b\r\n0\r\n%b\r\n" % (len(whole), whole, trailers)
        elif whole and not any(line.startswith((b"Content-Length", b"Transfer-Encoding")) for line in lines):
            framing = [b"Content-Length: %d" % len(whole)]
        stored = 204 in statuses and b"%EVENT%" in body
        return Request(
            b"\r\n".join([start, *lines, *framing, b"", b""]),
            whole,
            statuses=statuses,
            after=after,
            events=(number,) if stored else (),
            never=(number + 1,) if stored else (number, number + 1),
            method=start.split(b" ")[0],
            waits=b"Expect: 100-continue" in lines and not start.endswith(b"1.0"),
            takes_100=not start.endswith(b"1.0"),
        )

    return numbered


def _written() -> Iterator[tuple[str, list[_Written], End]]:
    yield from ((name, requests, End.STAY) for name, requests in _STAYING.items())
    yield from ((name, requests, End.HALF_CLOSE) for name, requests in _HALF_CLOSED.items())


_PLAIN = _post(_HOST)
_ASKED = b"POST %b?key=%b" % (ASKED_PATH, SECRET)
_LOCKED = b"POST %b HTTP/1.1" % LOCKED_PATH
_BROKEN = frozenset({400, 501, 505})

_STAYING = {
    "an offer of h2c": [_post(*_OFFER)],
    "an offer of a websocket": [_post(_HOST, b"Connection: upgrade", b"Upgrade: websocket")],
    "an offer of TLS, in chunks": [_post(_HOST, b"Connection: Upgrade", b"Upgrade: TLS/1.0", trailers=b"")],
    "an offer, and a request behind it": [_post(*_OFFER), _PLAIN],
    "an offer whose body is a request": [_post(*_OFFER, b"Content-Type: text/plain", body=b"%SMUGGLED%")],
    "an offer in a trailer": [_post(_HOST, trailers=b"Connection: Upgrade\r\nUpgrade: h2c\r\n"), _PLAIN],
    "close in a trailer": [_post(_HOST, trailers=b"Connection: close\r\n", after=_EITHER)],
    "close in a trailer, and a request behind it": [
        _post(_HOST, trailers=b"Connection: close\r\n", after=_EITHER),
        _PLAIN,
    ],
    "close in a trailer behind a refusal": [
        _post(
            _HOST,
            start=b"GET %b HTTP/1.1" % PATH,
            trailers=b"Connection: close\r\n",
            statuses=frozenset({405}),
            after=_EITHER,
        ),
        _PLAIN,
    ],
    "a length in a trailer behind a refusal": [
        _post(
            _HOST,
            start=b"GET %b HTTP/1.1" % PATH,
            trailers=b"Content-Length: 3\r\n",
            statuses=frozenset({400, 405}),
            after=_EITHER,
        ),
        _PLAIN,
    ],
    "expecting": [_post(_HOST, b"Expect: 100-continue")],
    "expecting, with close in a trailer, and refused": [
        _post(
            *(_HOST, b"Expect: 100-continue"),
            start=b"GET %b HTTP/1.1" % PATH,
            trailers=b"Connection: close\r\n",
            statuses=frozenset({405}),
            after=_EITHER,
        )
    ],
    "expecting, and refused": [
        _post(_HOST, b"Expect: 100-continue", start=b"GET %b HTTP/1.1" % PATH, statuses=frozenset({405}), after=_EITHER)
    ],
    "a coding in a trailer": [_post(_HOST, trailers=b"Content-Encoding: gzip\r\n")],
    "a key in a trailer": [
        _post(_HOST, start=_LOCKED, trailers=b"X-Key: %b\r\n" % SECRET, statuses=frozenset({401}), after=_EITHER)
    ],
    "a wrong key in a trailer": [_post(_HOST, b"X-Key: " + SECRET, start=_LOCKED, trailers=b"X-Key: wrong\r\n")],
    "a length in a trailer": [
        _post(_HOST, trailers=b"Content-Length: 3\r\n", statuses=frozenset({204, 400}), after=_EITHER)
    ],
    "close, then keep-alive": [_post(_HOST, b"Connection: close", b"Connection: keep-alive", after=_CLOSES)],
    "close, then keep-alive, and a request behind it": [
        _post(_HOST, b"Connection: close", b"Connection: keep-alive", after=_CLOSES),
        _PLAIN,
    ],
    "keep-alive and CLOSE in a line": [_post(_HOST, b"Connection: keep-alive, CLOSE", after=_CLOSES)],
    "close, and a request behind it": [_post(_HOST, b"Connection: close", after=_CLOSES), _PLAIN],
    "Proxy-Connection: close": [_post(_HOST, b"Proxy-Connection: close", after=_EITHER)],
    "no Host": [_post(statuses=frozenset({400}), after=_EITHER)],
    "two Hosts": [_post(_HOST, b"Host: x", statuses=frozenset({400}), after=_EITHER)],
    "HTTP/1.0 without Host": [_post(start=b"POST %b HTTP/1.0" % PATH, after=_CLOSES)],
    "HTTP/1.0 that expects 100": [_post(b"Expect: 100-continue", start=b"POST %b HTTP/1.0" % PATH, after=_CLOSES)],
    "a fragment": [_post(_HOST, start=b"POST %b#x HTTP/1.1" % PATH)],
    "a fragment behind a key": [_post(_HOST, start=_ASKED + b"#x HTTP/1.1")],
    "a key in a fragment": [
        _post(_HOST, start=b"POST %b#?key=%b HTTP/1.1" % (ASKED_PATH, SECRET), statuses=frozenset({401}), after=_EITHER)
    ],
    "a long head": [_post(_HOST, b"X-Long: " + b"x" * 40_000)],
    "too long a head": [
        _post(_HOST, b"X-Long: " + b"x" * 70_000, statuses=frozenset({400, 431}), after=_CLOSES, body=b"%SMUGGLED%")
    ],
    "no HTTP": [_post(start=b"\x16\x03\x01\x02\x00\x01", body=b"", statuses=_BROKEN, after=_CLOSES)],
    "another version": [_post(_HOST, start=b"POST %b HTTP/9.9" % PATH, body=b"", statuses=_BROKEN, after=_CLOSES)],
    "the preface of HTTP/2": [_post(start=b"PRI * HTTP/2.0\r\n\r\nSM", body=b"", statuses=_BROKEN, after=_CLOSES)],
    "no HTTP behind a request": [
        _PLAIN,
        _post(start=b"\x16\x03\x01\x02\x00\x01", body=b"", statuses=_BROKEN, after=_CLOSES),
    ],
    "a chunk that is none": [
        _post(_HOST, _CHUNKED, body=b"zz\r\n%SMUGGLED%", statuses=frozenset({400}), after=_CLOSES),
    ],
    "two lengths": [_post(_HOST, b"Content-Length: 5", b"Content-Length: 6", statuses=frozenset({400}), after=_CLOSES)],
    "a length and chunks": [
        _post(_HOST, b"Content-Length: 5", _CHUNKED, body=b"0\r\n\r\n%SMUGGLED%", statuses=_BROKEN, after=_CLOSES)
    ],
    "a body that is a request": [_post(_HOST, b"Content-Type: text/plain", body=b"\r\n%SMUGGLED%")],
    "a body that is a request, to nowhere": [
        _post(_HOST, start=b"POST /nothing HTTP/1.1", body=b"%SMUGGLED%", statuses=frozenset({404}), after=_EITHER)
    ],
    "GET with a body that is a request": [
        _post(_HOST, start=b"GET %b HTTP/1.1" % PATH, body=b"%SMUGGLED%", statuses=frozenset({405}), after=_EITHER)
    ],
    "HEAD": [_post(_HOST, start=b"HEAD %b HTTP/1.1" % PATH, body=b"", statuses=frozenset({405})), _PLAIN],
    "no HTTP behind HEAD": [
        _post(_HOST, start=b"HEAD %b HTTP/1.1" % PATH, body=b"", statuses=frozenset({405})),
        _post(start=b"\x16\x03\x01\x02\x00\x01", body=b"", statuses=_BROKEN, after=_CLOSES),
    ],
    "HEAD that is broken": [
        _post(_HOST, b"no colon", start=b"HEAD %b HTTP/1.1" % PATH, body=b"", statuses=_BROKEN, after=_CLOSES)
    ],
    "HEAD without Host": [_post(start=b"HEAD %b HTTP/1.1" % PATH, body=b"", statuses=frozenset({400}), after=_EITHER)],
    "CONNECT": [
        _post(_HOST, start=b"CONNECT x:443 HTTP/1.1", body=b"", statuses=frozenset({400, 404, 405, 501}), after=_EITHER)
    ],
    "a method nobody knows": [
        _post(_HOST, start=b"FETCH %b HTTP/1.1" % PATH, statuses=frozenset({400, 405, 501}), after=_EITHER)
    ],
}

_HALF_CLOSED = {
    "half-closed behind a request": [_PLAIN],
    "half-closed behind two": [_PLAIN, _post(_HOST, trailers=b"")],
    "half-closed behind a refusal": [
        _post(_HOST, start=b"POST /nothing HTTP/1.1", statuses=frozenset({404}), after=_EITHER)
    ],
    "half-closed behind a request and no HTTP": [
        _PLAIN,
        _post(start=b"\x00\x00\x00", body=b"", statuses=_BROKEN, after=_CLOSES),
    ],
    "half-closed behind no HTTP": [_post(start=b"\x00\x00\x00", body=b"", statuses=_BROKEN, after=_CLOSES)],
}
