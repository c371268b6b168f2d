"""How long to leave alone what fails."""

from __future__ import annotations

from random import Random

_FIRST_SECONDS = 0.2
_LONGEST_SECONDS = 5.0
_DOUBLINGS = 30


class Backoff:
    """Growing waits with jitter, from a fifth of a second to `longest_seconds`; it starts again after a success."""

    def __init__(self, random: Random, longest_seconds: float = _LONGEST_SECONDS) -> None:
        self._random = random
        self._longest_seconds = longest_seconds
        self._failures = 0

    def next_seconds(self) -> float:
        """How long to wait after one more failure."""
        longest = min(self._longest_seconds, _FIRST_SECONDS * 2.0 ** min(self._failures, _DOUBLINGS))
        self._failures += 1
        return self._random.uniform(longest / 2, longest)

    def reset(self) -> None:
        """It worked."""
        self._failures = 0
