"""How long to leave a store alone that is away."""

from __future__ import annotations

from random import Random

_FIRST_SECONDS = 0.2
_LONGEST_SECONDS = 5.0
_DOUBLINGS = 5


class Backoff:
    """Growing waits with jitter, from a fifth of a second to five; it starts again after a success."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self._failures = 0

    def next_seconds(self) -> float:
        """How long to wait after one more failure."""
        longest = min(_LONGEST_SECONDS, _FIRST_SECONDS * 2.0 ** min(self._failures, _DOUBLINGS))
        self._failures += 1
        return self._random.uniform(longest / 2, longest)

    def reset(self) -> None:
        """It worked."""
        self._failures = 0
