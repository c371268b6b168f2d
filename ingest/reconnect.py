"""The rules by which a lost stream is opened again, and how often a host is asked; no clock and no socket is near."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, replace

from ingest.event import Cause
from ingest.retrying import Backoff, Draw
from ingest.times import elapsed

# Particle closes the door to an address after 100 opens in five minutes, and where 100 are open; what somebody opens
# by hand must fit in too.
MOST_OPENS = 90
OPENS_SECONDS = 300.0
MOST_OPEN = 90
FULL_SECONDS = 30.0
_LEAST_SECONDS = 1.0
_JITTER_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Loss:
    """The reason why a connection is over or never came to be; `retry_after` is upstream's wish in seconds.

    `of_request`: upstream answered that it does not take what was asked; the same again may never help.
    """

    cause: Cause
    reason: str
    retry_after: float | None = None
    of_request: bool = False


@dataclass(frozen=True, slots=True)
class ReconnectRules:
    """Seconds: `first` (from, to) in the first minute away, then doubled to `longest`; `limited`: for 429, 529.

    Where we are refused, waits are doubled from the first on, up to `refused`.
    """

    first: tuple[float, float] = (1.0, 5.0)
    minute: float = 60.0
    longest: float = 60.0
    limited: tuple[float, float] = (30.0, 60.0)
    refused: float = 3600.0
    retry: tuple[float, float] = (1.0, 60.0)  # what of upstream's own `retry:` is kept to

    def beginning_at(self, retry: float) -> ReconnectRules:
        """Return the same, with waits that begin at `retry` seconds, as far as that is kept to."""
        least = min(max(retry, self.retry[0]), self.retry[1])
        longest = max(self.longest, least)
        return replace(self, first=(least, min(max(self.first[1], 1.5 * least), longest)), longest=longest)


@dataclass(frozen=True, slots=True)
class Patience:
    """The state of a stream that is away: since when (by any clock in seconds), and how often its waits have doubled.

    `refusals` is how often it was refused.
    """

    rules: ReconnectRules = ReconnectRules()
    since: float | None = None
    doublings: int = 0
    refusals: int = 0

    def after(self, loss: Loss, now: float, retry: float | None, draw: Draw) -> tuple[float, Patience]:
        """Return how many seconds to wait before the next attempt, and the patience that is left then.

        Retry-After takes the place of the wait (RFC 9110 §10.2.3). `retry`, which the stream itself once said, is where
        waits begin: none is shorter, and they double from it.
        """
        away = self if self.since is not None else replace(self, since=now)
        rules = self.rules if retry is None else self.rules.beginning_at(retry)
        wait, away = away._wait(rules, loss, now, draw)
        return max(wait, rules.first[0]) if retry is not None else wait, away

    def _wait(self, rules: ReconnectRules, loss: Loss, now: float, draw: Draw) -> tuple[float, Patience]:
        if loss.cause is Cause.UNAUTHORIZED:
            refused = replace(self, refusals=self.refusals + 1)
            wait = Backoff(first=rules.first[1], longest=rules.refused).seconds(refused.refusals, draw)
            return max(wait, loss.retry_after or 0.0), refused
        if loss.retry_after is not None:
            least = max(loss.retry_after, min(_LEAST_SECONDS, rules.first[0]))
            return draw(least, least + min(_JITTER_SECONDS, rules.first[1])), self
        if loss.cause is Cause.RATE_LIMITED:
            return draw(*rules.limited), self
        if self.since is None or now - self.since < rules.minute:
            return draw(*rules.first), self
        least, most = rules.first
        longer = replace(self, doublings=self.doublings + 1)
        # Full jitter over ten seconds and more is more than three on average, which upstream asks for.
        backoff = Backoff(first=2 * most, longest=rules.longest, jitter=1.0, least=least)
        return backoff.seconds(longer.doublings, draw), longer


class OpenBudget:
    """At most `most` opens in `seconds` to one host (with its port), and MOST_OPEN that last, for all that ask."""

    def __init__(self, most: int = MOST_OPENS, seconds: float = OPENS_SECONDS) -> None:
        self._most = most
        self._seconds = seconds
        self._opens: dict[str, deque[float]] = {}
        self._lasting: Counter[str] = Counter()

    def claim(self, host: str, now: float) -> float:
        """Return 0.0, and count an open; or, where there is none left, in how many seconds to ask again."""
        opens = self._opens.setdefault(host, deque())
        while opens and opens[0] <= now - self._seconds:
            opens.popleft()
        if len(opens) >= self._most:
            return opens[0] + self._seconds - now
        if self._lasting[host] >= MOST_OPEN:
            return FULL_SECONDS
        opens.append(now)
        self._lasting[host] += 1
        return 0.0

    def closed(self, host: str) -> None:
        """Note that an open that lasted is over."""
        self._lasting[host] = max(0, self._lasting[host] - 1)


class OwnOpens:
    """protocols.Opens for a process that shares its address with no other one."""

    def __init__(self, budget: OpenBudget | None = None, clock: Callable[[], float] = elapsed) -> None:
        self._budget = budget or OpenBudget()
        self._clock = clock

    async def claim(self, host: str) -> float:
        """See protocols.Opens."""
        return self._budget.claim(host, self._clock())

    def closed(self, host: str) -> None:
        """See protocols.Opens."""
        self._budget.closed(host)
