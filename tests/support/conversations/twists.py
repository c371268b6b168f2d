"""What HTTP allows and few senders do: each twist makes a draft odd, and says what may become of it.

The rules are those of RFC 9110 and 9112, the contract, and what has been decided where these leave a choice.
"""

from __future__ import annotations

import gzip
import random
from collections.abc import Callable

from tests.support.conversations.draft import ASKED_PATH, LOCKED_PATH, MAX_BODY, PATH, SECRET, Draft, event, smuggled

Twist = Callable[[random.Random, Draft], None]

_TRAILERS = (
    b"Connection: close",
    b"Content-Encoding: gzip",
    b"X-Key: guessed",
    b"Host: elsewhere",
    b"Expect: 100-continue",
    b"Connection: Upgrade\r\nUpgrade: h2c",
    b"Content-Type: text/plain",
    b"X-Checksum: 1234",
    b"Content-Length: 3",
    b"Transfer-Encoding: chunked",
)
_OFFERS = (b"h2c", b"websocket", b"TLS/1.0", b"foo", b"h2c, foo/2", b"WebSocket")
_CLOSING = (
    (b"Connection: close",),
    (b"connection: Close",),
    (b"Connection: close", b"Connection: keep-alive"),
    (b"Connection: close, keep-alive",),
    (b"Connection: keep-alive, CLOSE",),
    (b"Connection: keep-alive", b"Connection: close"),
    (b"Connection: x-mine , ,close",),
    (b"Connection: Upgrade, close", b"Upgrade: h2c"),
)
_STAYING = (
    (b"Connection: keep-alive",),
    (b"Connection: Keep-Alive", b"Keep-Alive: timeout=5, max=1000"),
    (b"Keep-Alive: 300",),
    (b"Connection: closed",),
    (b"Connection: not-close, x-close",),
    (b"Connection:",),
)


def chunked(chance: random.Random, draft: Draft) -> None:
    """A body in chunks of any size, with extensions, and sometimes with trailers."""
    draft.framing = [chance.choice((b"Transfer-Encoding: chunked", b"transfer-encoding: Chunked"))]
    draft.asked.add("chunked")
    trailers: list[bytes] = []
    if chance.random() < 0.5:
        trailers = chance.sample(_TRAILERS, chance.randrange(1, 4))
        draft.asked.add("trailers")
    if any(line.startswith((b"Content-Length", b"Transfer-Encoding")) for line in trailers):
        draft.tolerated |= {400}  # nobody may send such trailers (RFC 9110 §6.5.1)
        draft.asked.add("framing in trailers")
    if b"Connection: close" in trailers:
        draft.either = True
    draft.wire = _in_chunks(chance, draft.content) + b"".join(b"%b\r\n" % line for line in trailers) + b"\r\n"


def compressed(chance: random.Random, draft: Draft) -> None:
    """gzip is accepted; other codings are refused; what calls itself gzip and is not is kept as a reject."""
    if not draft.content:
        return
    kind = chance.choice(("gzip", "gzip", "gzip", "br", "not gzip"))
    draft.asked.add(kind)
    draft.lines.append(b"Content-Encoding: " + (b"br" if kind == "br" else b"gzip"))
    if kind == "gzip":
        draft.content = gzip.compress(draft.content, mtime=0)
    elif kind == "br":
        draft.refused |= {415}
    else:
        draft.carry_nothing()


def expecting(chance: random.Random, draft: Draft) -> None:
    """Expect: 100-continue, and the sender waits for it, or does not."""
    draft.lines.append(chance.choice((b"Expect: 100-continue", b"expect: 100-Continue")))
    draft.waits = chance.random() < 0.6 and draft.version == b"HTTP/1.1"
    draft.asked.add("expect")


def offering(chance: random.Random, draft: Draft) -> None:
    """An offer to upgrade is ignored (RFC 9110 §7.8), and the body is a body."""
    connection = chance.choice((b"Upgrade", b"upgrade, HTTP2-Settings", b"keep-alive, Upgrade"))
    offer = chance.choice(_OFFERS)
    draft.lines += [b"Connection: " + connection, b"Upgrade: " + offer]
    if offer.lower() == b"websocket":
        draft.asked.add("websocket")
    if b"HTTP2" in connection:
        draft.lines.append(b"HTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA")
    draft.asked.add("upgrade")


def closing(chance: random.Random, draft: Draft) -> None:
    """`close` among the options of Connection, in any line of it, ends the connection (RFC 9112 §9.3, §9.6)."""
    draft.lines += chance.choice(_CLOSING)
    draft.closes = True
    draft.asked |= {"in order", "close"} | ({"upgrade"} if any(b"Upgrade" in line for line in draft.lines) else set())


def staying(chance: random.Random, draft: Draft) -> None:
    """Options that are not `close`."""
    draft.lines += chance.choice(_STAYING)
    draft.asked |= {"in order", "staying"}


def by_proxy(chance: random.Random, draft: Draft) -> None:
    """Proxy-Connection is no standard: it may be ignored (RFC 9110 appendix) or taken for Connection."""
    draft.lines.append(b"Proxy-Connection: " + chance.choice((b"close", b"keep-alive", b"Close")))
    draft.either = True
    draft.asked.add("proxy-connection")


def old(chance: random.Random, draft: Draft) -> None:
    """HTTP/1.0 closes, unless both want otherwise; it knows neither chunks nor 100, and needs no Host."""
    draft.version = b"HTTP/1.0"
    draft.waits = False
    draft.asked.add("http/1.0")
    if chance.random() < 0.4:
        draft.lines.append(b"Connection: keep-alive")
        draft.either = True
    else:
        draft.closes = True
    if chance.random() < 0.3:
        draft.hosts = []
        draft.asked.add("http/1.0 without host")
    if draft.framing is not None:  # "as if the framing is faulty" (RFC 9112 §6.1)
        draft.tolerated |= {400}
        draft.closes = True
        draft.asked.add("chunked http/1.0")


def hosts(chance: random.Random, draft: Draft) -> None:
    """No Host, and more than one, are 400 (RFC 9112 §3.2); an empty one is odd."""
    kind = chance.choice(("no host", "two hosts", "two equal hosts", "empty host"))
    draft.asked.add(kind)
    if kind == "empty host":
        draft.hosts = [b"Host:"]
        draft.tolerated |= {400}
        return
    draft.hosts = {"no host": [], "two hosts": [b"Host: a", b"host: b"]}.get(kind, [b"Host: a", b"Host: a"])
    if draft.version != b"HTTP/1.0":
        draft.broken = {400}
        draft.either = True
    elif kind != "no host":
        draft.tolerated |= {400}


def targets(chance: random.Random, draft: Draft) -> None:
    """Other ways to write the same target."""
    if draft.target != PATH:
        return
    kind, target = chance.choice(
        (
            ("absolute", b"http://127.0.0.1" + PATH),
            ("absolute", b"HTTP://127.0.0.1:80" + PATH + b"?a=b"),
            ("fragment", PATH + b"#fragment"),
            ("fragment", PATH + b"?a=b#/../c?d"),
            ("percent", b"/ingest/fl%65et"),
            ("percent", b"/%69ngest/fleet?a=%00"),
            ("query", PATH + b"?key=x&a=/b?c"),
            ("slash", PATH + b"/"),
            ("slash", PATH + b"/?"),
        )
    )
    draft.target = target
    draft.asked.add(kind)


def locked(chance: random.Random, draft: Draft) -> None:
    """A key belongs into the head; one in a trailer, or in a fragment, opens nothing and locks nothing."""
    kind = chance.choice(("key", "wrong key", "no key", "asked", "asked fragment", "asked wrong"))
    draft.asked.add("locked" if "key" in kind else "asked")
    if "fragment" in kind:
        draft.asked.add("fragment")
    draft.target = {
        "asked": ASKED_PATH + b"?key=" + SECRET,
        "asked fragment": ASKED_PATH + b"?key=" + SECRET + b"#x",
        "asked wrong": ASKED_PATH + b"#?key=" + SECRET,
    }.get(kind, LOCKED_PATH)
    if kind == "asked wrong":
        draft.asked.add("fragment")
    if kind in {"key", "wrong key"}:
        draft.lines.append(b"X-Key: " + (SECRET if kind == "key" else b"guessed"))
    if kind in {"wrong key", "no key", "asked wrong"}:
        draft.refused |= {401}
    if kind != "asked" and chance.random() < 0.6 and draft.framing is None:
        draft.framing = [b"Transfer-Encoding: chunked"]
        draft.asked |= {"chunked", "trailers"}
        key = b"wrong" if kind == "key" else SECRET
        draft.wire = _in_chunks(chance, draft.content) + b"X-Key: %b\r\n\r\n" % key


def elsewhere(chance: random.Random, draft: Draft) -> None:
    """Another path or method is not executed, and neither is its body."""
    kind = chance.choice(("path", "method", "method", "options", "bare"))
    draft.asked |= {"semantics"} | ({"old semantics"} if draft.version == b"HTTP/1.0" else set())
    if kind == "path":
        draft.target = chance.choice((b"/nothing", b"/ingest/nobody", b"/ingest", b"/ingest/fleet/more"))
        draft.refused |= {404}
    elif kind == "options":
        draft.method, draft.target = b"OPTIONS", b"*"
        draft.refused |= {400, 404, 405}
        draft.either = True
        draft.asked.add("asterisk")
    else:
        draft.method = chance.choice((b"GET", b"HEAD", b"DELETE", b"PATCH", b"OPTIONS"))
        draft.refused |= {405}
    if kind == "bare":
        draft.carry_nothing()
        draft.content, draft.framing, draft.wire = b"", [], None


def smuggling(chance: random.Random, draft: Draft) -> None:
    """A body that is itself a request is a body."""
    draft.carry_nothing()
    draft.never.append(next(draft.numbers))
    content = smuggled(draft.never[-1])
    draft.content = chance.choice((content, b"\r\n" + content, content * 2, b"0\r\n\r\n" + content))
    draft.lines = [line for line in draft.lines if not line.startswith(b"Content-Type")] + [b"Content-Type: text/plain"]
    draft.asked.add("smuggling")


def looks(chance: random.Random, draft: Draft) -> None:
    """The same request, written otherwise."""
    kind = chance.choice(("blank lines", "case", "spaces", "many headers", "long head", "fold", "header", "lf"))
    draft.asked.add(kind)
    match kind:
        case "blank lines":
            draft.before = b"\r\n" * chance.randrange(1, 3)
        case "case":
            draft.lines = [chance.choice((line.lower(), line)) for line in draft.lines]
            draft.hosts = [line.upper() for line in draft.hosts]
        case "spaces":
            draft.lines.append(b"X-Spaces:  \t a  b \t ")
        case "many headers":
            draft.lines += [b"X-Header-%d: %d" % (number, number) for number in range(90)]
        case "long head":
            draft.lines.append(b"X-Long: " + b"x" * chance.randrange(20_000, 40_000))
        case "fold":  # reject, or read as a space (RFC 9112 §5.2)
            draft.lines.append(b"X-Fold: one\r\n two")
            draft.tolerated |= {400}
        case "header":
            draft.lines.append(b"X-Text: POST /ingest/fleet HTTP/1.1")
        case "lf":  # may be recognized (RFC 9112 §2.2)
            draft.line_end = b"\n"
            draft.tolerated |= {400}


def large(chance: random.Random, draft: Draft) -> None:
    """More bytes than fit into a buffer: white space behind the events, up to the limit or over it."""
    over = chance.random() < 0.3
    size = MAX_BODY + chance.randrange(1, 100_000) if over else chance.randrange(60_000, 200_000)
    draft.content = (b"[" + b",".join(map(event, draft.events)) + b"]").ljust(size)
    draft.asked.add("too large" if over else "large")
    if over:
        draft.refused |= {413}


def empty(_: random.Random, draft: Draft) -> None:
    """No body at all is a body of length 0 (RFC 9112 §6.3), and an undecodable one."""
    draft.events, draft.content, draft.framing = [], b"", []
    draft.asked.add("empty")


def _in_chunks(chance: random.Random, content: bytes) -> bytes:
    most = chance.choice((1, 7, 64, 10_000)) if len(content) < 5000 else chance.choice((4096, 100_000))
    parts = []
    while content:
        size = chance.randrange(1, most + 1)
        part, content = content[:size], content[size:]
        digits = chance.choice((b"%x", b"%X", b"0%x")) % len(part)
        parts.append(digits + _extension(chance) + b"\r\n" + part + b"\r\n")
    return b"".join(parts) + b"0" + _extension(chance) + b"\r\n"


def _extension(chance: random.Random) -> bytes:
    if chance.random() < 0.85:
        return b""
    return chance.choice((b";a", b";a=b", b';q="quoted; POST / HTTP/1.1"', b";a=b;c=d"))


# Those that decide about content come first, then its coding, its framing, and what depends on the framing.
CONTENT: tuple[Twist, ...] = (smuggling, large, empty)
CODING: tuple[Twist, ...] = (compressed,)
FRAMING: tuple[Twist, ...] = (chunked, chunked, locked)
CONNECTION: tuple[Twist, ...] = (closing, staying, by_proxy, offering, offering, old)
EXPECT: tuple[Twist, ...] = (expecting,)
REST: tuple[Twist, ...] = (hosts, targets, elsewhere, looks, looks)
