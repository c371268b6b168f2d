"""What is known of one device's counter: ranges and not numbers, in a few dozen bytes while all is well."""

from __future__ import annotations

import msgspec

HEAD_NUMBERS = 4
RECENT_NUMBERS = 12
DIGEST_BYTES = 3
_ENTRY_BYTES = 2 + DIGEST_BYTES
_UNKNOWN = bytes(DIGEST_BYTES)

Span = tuple[int, int]  # the first and the last number


class Hole(msgspec.Struct, array_like=True, gc=False):
    """Numbers of a run that did not come (yet). See LossRange; these numbers go on where the counter wraps."""

    id: int
    first: int
    last: int
    noticed_at: int
    due_at: int
    source: str
    lost: bool = False

    def size(self) -> int:
        """Return how many numbers it is."""
        return self.last - self.first + 1


class Run(msgspec.Struct, array_like=True, gc=False):
    """Numbers from `first` to `top`, all of which came but those in `holes`; `began_at` in microseconds.

    `head` are digests of what came with the first numbers: a device that restarts begins with them again.
    """

    first: int
    top: int
    began_at: int
    epoch: int | None = None
    holes: list[Hole] = []
    head: bytes = b""

    def hole_of(self, number: int) -> Hole | None:
        """Return the hole that a number lies in."""
        return next((hole for hole in self.holes if hole.first <= number <= hole.last), None)

    def is_waiting(self) -> bool:
        """Return whether numbers are missing that are not lost yet."""
        return any(not hole.lost for hole in self.holes)

    def begin_at(self, number: int) -> None:
        """Extend the run downwards."""
        self.head = (_UNKNOWN * min(self.first - number, HEAD_NUMBERS) + self.head)[: HEAD_NUMBERS * DIGEST_BYTES]
        self.first = number

    def remember(self, number: int, digest: bytes) -> None:
        """Keep a digest if the number is one of the first."""
        at = (number - self.first) * DIGEST_BYTES
        if 0 <= at < HEAD_NUMBERS * DIGEST_BYTES:
            head = self.head.ljust(at, b"\0")
            self.head = head[:at] + digest + head[at + DIGEST_BYTES :]

    def remembered(self, number: int) -> bytes | None:
        """Return the digest of one of the first numbers, where it is known."""
        at = (number - self.first) * DIGEST_BYTES
        found = self.head[at : at + DIGEST_BYTES]
        return found if found and found != _UNKNOWN else None


class DeviceState(msgspec.Struct, array_like=True, gc=False):
    """The runs of a device, the newest last, and what it sent last.

    `recent` has a digest for each of the numbers that came last, the last `own` of them in the newest run.
    `doubtful` are numbers that came and may belong to the newest run, `forgotten` the epochs of runs that are not kept.
    """

    runs: list[Run] = []
    recent: bytes = b""
    own: int = 0
    doubtful: list[Span] = []
    forgotten: list[int] = []

    def encode(self) -> bytes:
        """Return it as the store keeps it."""
        return _encode(self)

    @staticmethod
    def decode(encoded: bytes) -> DeviceState:
        """Return what was encoded. Raises msgspec.MsgspecError where it is something else."""
        return _decode(encoded)

    def remember(self, raw: int, digest: bytes) -> None:
        """Keep the digest of a number that came, and forget the oldest."""
        kept = self.recent + (raw & 0xFFFF).to_bytes(2, "little") + digest
        self.recent = kept[-RECENT_NUMBERS * _ENTRY_BYTES :]
        self.own = min(self.own + 1, RECENT_NUMBERS)

    def has_just_come(self, raw: int, digest: bytes) -> bool:
        """Return whether this number came a short while ago with this digest, in whatever run."""
        entry = (raw & 0xFFFF).to_bytes(2, "little") + digest
        return entry in self.recent and any(
            self.recent[at : at + _ENTRY_BYTES] == entry for at in range(0, len(self.recent), _ENTRY_BYTES)
        )

    def recent_digest(self, raw: int) -> bytes | None:
        """Return the digest with which a number came a short while ago in the newest run."""
        low = (raw & 0xFFFF).to_bytes(2, "little")
        for at in range(len(self.recent) - self.own * _ENTRY_BYTES, len(self.recent), _ENTRY_BYTES):
            if self.recent[at : at + 2] == low:
                return self.recent[at + 2 : at + _ENTRY_BYTES]
        return None

    def doubt(self, number: int, most: int) -> None:
        """Note that a number may belong to the newest run; of more than `most` spans the two nearest become one."""
        spans: list[Span] = []
        for span in sorted([*self.doubtful, (number, number)]):
            if spans and span[0] <= spans[-1][1] + 1:
                spans[-1] = (spans[-1][0], max(spans[-1][1], span[1]))
            else:
                spans.append(span)
        if len(spans) > most:
            nearest = min(range(1, len(spans)), key=lambda at: spans[at][0] - spans[at - 1][1])
            spans[nearest - 1 : nearest + 1] = [(spans[nearest - 1][0], spans[nearest][1])]
        self.doubtful = spans

    def without_doubtful(self, first: int, last: int) -> list[Span]:
        """Return the numbers from `first` to `last` that did certainly not come."""
        certain: list[Span] = []
        for begin, end in self.doubtful:
            if end < first or begin > last:
                continue
            if begin > first:
                certain.append((first, begin - 1))
            first = end + 1
        return [*certain, (first, last)] if first <= last else certain


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(DeviceState).decode
