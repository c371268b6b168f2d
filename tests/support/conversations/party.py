"""Conversations that were held with a server by one way, and what is to be said about them."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tests.support.conversations.client import hold_all
from tests.support.conversations.differences import REASONS, differences
from tests.support.conversations.judge import faults, shown
from tests.support.conversations.values import Conversation, End, Heard, Way

_CLIENTS = 32
_PATIENCE_SECONDS = 20.0  # of a client; the server has 15 s for an answer, whatever its store does
_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Held:
    """Conversations, and what each client heard."""

    way: Way
    conversations: Sequence[Conversation]
    heard: Sequence[Heard]

    def report(self, stored: Mapping[int, int]) -> str:
        """What broke a rule: how many, and some of it in full; empty is good."""
        broken = [
            (conversation, heard, found)
            for conversation, heard in zip(self.conversations, self.heard, strict=True)
            if (found := faults(conversation, heard, stored, self.way))
        ]
        texts = [shown(*one, self.way) for one in sorted(broken, key=lambda one: len(one[0].requests))[:_SHOWN]]
        return "\n".join([f"{len(broken)} of {len(self.heard)} conversations broke a rule", *texts]) if broken else ""

    def unexplained(self, alone: Held) -> str:
        """Where uvicorn alone answered otherwise without a reason that is known; empty is good."""
        texts = []
        for conversation, ours, its in zip(self.conversations, self.heard, alone.heard, strict=False):
            if conversation.end is not End.HANG_UP:
                found = [what for what in differences(conversation, ours, its) if what not in REASONS]
                texts += (
                    [shown(conversation, ours, found, self.way), shown(conversation, its, [], alone.way)]
                    if found
                    else []
                )
        return "\n".join([f"{len(texts) // 2} conversations differ", *texts[: 2 * _SHOWN]]) if texts else ""

    def reasons(self, alone: Held) -> Counter[str]:
        """How often each reason explains a difference from uvicorn alone."""
        both = zip(self.conversations, self.heard, alone.heard, strict=False)
        return Counter(
            what
            for conversation, ours, its in both
            if conversation.end is not End.HANG_UP
            for what in differences(conversation, ours, its)
        )

    def statuses(self) -> Counter[int]:
        """How often each answer was given."""
        return Counter(answer.status for heard in self.heard for answer in heard.answers)


def hold(
    conversations: Sequence[Conversation],
    port: int,
    way: Way,
    *,
    clients: int = _CLIENTS,
    patience_seconds: float = _PATIENCE_SECONDS,
) -> Held:
    """Hold the conversations with what listens on the port."""
    heard = asyncio.run(hold_all(conversations, port, clients=clients, patience_seconds=patience_seconds))
    return Held(way, conversations, heard)
