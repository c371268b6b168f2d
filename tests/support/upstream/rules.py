"""How the test upstream behaves: the rules of its streams, and the faults that can be struck into them."""

from __future__ import annotations

from typing import Literal

import msgspec

Break = Literal["stall", "finish", "half_close", "reset", "cut"]
Answer = Literal["401", "403", "404", "429", "500", "529", "html", "redirect"]
Nonsense = Literal["not_modified", "nowhere", "no_url", "ages", "scraps"]
Kind = Literal[Break, Answer, Nonsense, "never_answer", "refuse"]
Streams = Literal["all", "oldest", "newest"] | tuple[int, ...]  # or these connections, by number

BREAKS: tuple[Break, ...] = ("stall", "finish", "half_close", "reset", "cut")


class Rules(msgspec.Struct, frozen=True, kw_only=True):
    """How streams look and what they are granted. Sizes in bytes.

    Whatever would make a connection hold more than `backlog` unsent bytes is dropped for it, as a real upstream does.
    """

    token: str | None = None  # other bearers get 401; None lets everybody in
    newline: Literal["\n", "\r", "\r\n"] = "\n"
    bom: bool = False
    retry_ms: int | None = None  # sent once, at the beginning
    ids: bool = False  # `id:` is the number of the event
    as_object: bool = False  # data is a JSON object, not a string that holds one
    keep_alive: Literal["newline", "comment"] | None = "newline"
    keep_alive_seconds: float = 10.0
    split: bool = False  # each byte is a write, and a chunk, of its own
    chunked: bool = True  # else the end of the connection is the end of the body
    gzip: bool = False
    resend: int = 0  # of the last so many events, those behind Last-Event-ID come first on each connection
    location: str = "/elsewhere"  # where a redirect leads
    send_buffer: int | None = None  # SO_SNDBUF
    backlog: int = 1 << 16


class Fault(msgspec.Struct, frozen=True, kw_only=True, tag="fault"):
    """Something that goes wrong, once.

    * `stall`: the streams stay open and nothing is written to them any more;
    * `finish` ends them in good order, `half_close` closes our side, in the middle of a chunked body where there is
      one, `reset` sends RST, `cut` closes in the middle of the next event's frame;
    * an answer (`401` … `redirect`), one that cannot be understood (`not_modified` … `scraps`), `never_answer` and
      `refuse` reset the streams, and then are what the next `times` connections meet, or all for `seconds`; while it
      refuses nobody listens on the port.
    """

    kind: Kind
    streams: Streams = "all"
    seconds: float = 0.0
    times: int = 1
    retry_after: str | None = None
    resend: int = 0  # the next stream begins with the last so many events


class DispatchLimits(msgspec.Struct, frozen=True, kw_only=True, tag="pace"):
    """How fast events are published from now on: one after each pause of a random length. None is not at all."""

    pause_seconds: tuple[float, float] | None
