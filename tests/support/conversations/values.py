"""The values of a conversation: what one TCP connection is sent, and what the standards allow in return."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class After(Enum):
    """The state that a connection may be in after an answer."""

    STAYS = "it takes the next request"
    CLOSES = "it is closed"
    EITHER = "one or the other, as the answer says"


class End(Enum):
    """The last act of the client."""

    STAY = "it stays, and sends one more request to see whether the connection lives"
    HALF_CLOSE = "it says that it sends no more, and reads on"
    HANG_UP = "it is gone"


@dataclass(frozen=True, slots=True)
class Request:
    """One request as bytes, and its oracle.

    `events` are the numbers that must be stored exactly once where the answer is 204, and never where it is a refusal.
    `never` are numbers that its bytes also hold, and that nobody may store. `asked` are its features, by name.
    `waits`: the body is sent when 100 or a final answer came. `cut`: the client ends in the middle of it.
    """

    head: bytes
    body: bytes = b""
    statuses: frozenset[int] = frozenset({204})
    after: After = After.STAYS
    events: tuple[int, ...] = ()
    never: tuple[int, ...] = ()
    method: bytes = b"POST"
    waits: bool = False
    takes_100: bool = True
    cut: bool = False
    asked: frozenset[str] = frozenset()

    @property
    def raw(self) -> bytes:
        """All its bytes."""
        return self.head + self.body


@dataclass(frozen=True, slots=True)
class Write:
    """Send these bytes, in one call."""

    piece: bytes


@dataclass(frozen=True, slots=True)
class AwaitAnswers:
    """Wait until so many final answers came, or 100 Continue where `or_continue`; or until there can be none."""

    count: int
    or_continue: bool = False


Step = Write | AwaitAnswers


@dataclass(frozen=True, slots=True)
class Conversation:
    """Everything one client does on one connection. `probe` is the request that shows whether it lives."""

    seed: int
    index: int
    requests: tuple[Request, ...]
    steps: tuple[Step, ...]
    end: End
    probe: Request

    def asked(self, first: int | None = None) -> frozenset[str]:
        """The features of its first so many requests, or of all."""
        return frozenset().union(*(request.asked for request in self.requests[:first]))


@dataclass(frozen=True, slots=True)
class Answer:
    """One final response."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes

    @property
    def closes(self) -> bool:
        """Whether it says that the connection ends with it."""
        return "close" in (token.strip().lower() for token in ",".join(self.all("connection")).split(","))

    def all(self, name: str) -> list[str]:
        """The values of a header, by its lower-case name."""
        return [value for other, value in self.headers if other == name]


class Ended(Enum):
    """How the client saw the connection end."""

    CLOSED = "the server closed it"
    SILENT = "nothing came for as long as the client waits"
    ALIVE = "it answered the probe"
    LEFT = "the client left"


@dataclass(frozen=True, slots=True)
class Heard:
    """What came back.

    `continued` are the answers before which 100 Continue came. `probe` is the answer to the probe, if one was sent.
    `fault` is a breach of HTTP's syntax.
    """

    answers: tuple[Answer, ...]
    ended: Ended
    continued: frozenset[int] = frozenset()
    probed: bool = False
    probe: Answer | None = None
    fault: str | None = None


@dataclass(frozen=True, slots=True)
class Way:
    """A way to the server, and what it may change.

    A proxy may refuse by itself what it finds odd (`may_refuse`: features), pass it on as something that is in order
    (`may_mend`), close when it likes, forget a client that half-closes, and answer an error in its own form. Nothing
    else: what counts is the same by every way.
    """

    name: str
    direct: bool
    may_refuse: frozenset[str] = frozenset()
    may_mend: frozenset[str] = frozenset()
