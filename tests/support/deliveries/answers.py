"""How a receiver answers, well and badly, and which of it a seed gives to which delivery."""

from __future__ import annotations

import random
from enum import StrEnum
from functools import cached_property
from uuid import UUID

import msgspec


class Answer(StrEnum):
    """What a receiver does with a request, or with a handshake."""

    OK = "ok"
    SLOW_BODY = "slow_body"  # 200 and a part of a body; the rest does not come
    BIG_BODY = "big_body"  # 200 and a GiB, as fast as it is taken
    SERVER_ERROR = "server_error"
    SLOW_ERROR = "slow_error"  # as SLOW_BODY, with 500
    BIG_ERROR = "big_error"
    HANG = "hang"
    RESET = "reset"
    THROTTLED_SECONDS = "throttled_seconds"
    THROTTLED_DATE = "throttled_date"
    UNAUTHORIZED = "unauthorized"
    GONE = "gone"
    REDIRECT = "redirect"
    REFUSED = "refused"  # 422: the event is at fault
    TLS_ALERT = "tls_alert"  # in place of a handshake
    TLS_UNTRUSTED = "tls_untrusted"  # a certificate that nobody signed


STATUS = {
    Answer.OK: 200,
    Answer.SLOW_BODY: 200,
    Answer.BIG_BODY: 200,
    Answer.SERVER_ERROR: 500,
    Answer.SLOW_ERROR: 500,
    Answer.BIG_ERROR: 500,
    Answer.THROTTLED_SECONDS: 429,
    Answer.THROTTLED_DATE: 429,
    Answer.UNAUTHORIZED: 401,
    Answer.GONE: 410,
    Answer.REDIRECT: 307,
    Answer.REFUSED: 422,
}
TAKEN = frozenset(answer for answer, status in STATUS.items() if status < 300)
# Of 1,000 deliveries so many are answered so, all others well.
SHARES = {
    Answer.SERVER_ERROR: 30.0,
    Answer.RESET: 20.0,
    Answer.REDIRECT: 10.0,
    Answer.SLOW_BODY: 2.0,
    Answer.SLOW_ERROR: 2.0,
    Answer.HANG: 1.0,
    Answer.BIG_BODY: 0.7,
    Answer.BIG_ERROR: 0.7,
    Answer.THROTTLED_SECONDS: 0.3,
    Answer.THROTTLED_DATE: 0.3,
    Answer.UNAUTHORIZED: 0.3,
    Answer.GONE: 0.2,
}
TLS_FAULTS = 0.05  # of all handshakes, half of them each
REFUSED_EVENTS = 0.005  # are answered 422 whenever they come
FAILING_EVENTS = 0.005  # are answered 500 whenever they come
STORMS = (
    Answer.SERVER_ERROR,
    Answer.HANG,
    Answer.RESET,
    Answer.THROTTLED_SECONDS,
    Answer.UNAUTHORIZED,
    Answer.REDIRECT,
    Answer.TLS_ALERT,
)


class Storm(msgspec.Struct, frozen=True):
    """A time in which all is answered in one way: from a number of deliveries on, for so many `seconds`."""

    after: int
    seconds: float
    answer: Answer


class Weather(msgspec.Struct, kw_only=True, frozen=True, dict=True):
    """The faults of a run: each delivery's by `seed`, event and attempt, whatever else happens; and storms."""

    seed: int
    storms: tuple[Storm, ...] = ()
    faults: float = 1.0  # 0: all is answered well

    @cached_property
    def _table(self) -> tuple[list[Answer], list[float]]:
        return list(SHARES), [share / 1000 for share in SHARES.values()]

    def answer(self, event: UUID, attempt: int) -> Answer:
        """Return how a delivery is answered."""
        if not self.faults:
            return Answer.OK
        fate = random.Random(f"{self.seed} {event}").random()
        if fate < REFUSED_EVENTS:
            return Answer.REFUSED
        if fate < REFUSED_EVENTS + FAILING_EVENTS:
            return Answer.SERVER_ERROR
        drawn = random.Random(f"{self.seed} {event} {attempt}").random() / self.faults
        for answer, share in zip(*self._table, strict=True):
            if drawn < share:
                return answer
            drawn -= share
        return Answer.OK

    def handshake(self, number: int) -> Answer | None:
        """Return which fault a handshake has."""
        drawn = random.Random(f"{self.seed} handshake {number}").random()
        if not self.faults or drawn >= TLS_FAULTS:
            return None
        return Answer.TLS_ALERT if drawn < TLS_FAULTS / 2 else Answer.TLS_UNTRUSTED


def weather(seed: int, events: int, storms: int, seconds: float = 1.5) -> Weather:
    """Return a run's faults, with so many storms among its `events`, no two of them alike."""
    chance = random.Random(f"weather {seed}")
    after = sorted(chance.sample(range(events // 10, events), storms))
    kinds = chance.sample(STORMS, storms)
    return Weather(seed=seed, storms=tuple(Storm(at, seconds, kind) for at, kind in zip(after, kinds, strict=True)))
