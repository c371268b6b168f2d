"""Where Headrace may answer otherwise than uvicorn alone, with the reason; everywhere else both say the same."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from tests.support.conversations.values import Conversation, End, Ended, Heard


@dataclass(frozen=True, slots=True)
class Difference:
    """Features whose requests may be answered otherwise.

    `spoils`: uvicorn's connection is not in order afterwards, so nothing behind such a request can be compared.
    """

    features: frozenset[str]
    reason: str
    spoils: bool = False


DIFFERENCES = (
    Difference(
        frozenset({"upgrade"}),
        "an offer to upgrade is ignored; uvicorn answers before the body, and takes the body for the next request",
        spoils=True,
    ),
    Difference(
        frozenset({"trailers"}),
        "trailers are dropped; uvicorn's parser takes Connection, Upgrade and lengths in them for the request's",
        spoils=True,
    ),
    Difference(frozenset({"no host", "two hosts", "two equal hosts"}), "HTTP/1.1 without one Host is 400"),
    Difference(frozenset({"too long a head"}), "a head has at most 64 KiB", spoils=True),
    Difference(
        frozenset({"semantics", "locked", "asked", "br", "too large", "connect"}),
        "a webhook has a path, methods, credentials, codings and a limit; the application of uvicorn alone takes all",
    ),
)
HALF_CLOSE = "a client that half-closes gets its answers; uvicorn closes at once"
IN_ORDER = "no answer is missing; uvicorn answers what it cannot parse at once, in the place of answers that are due"
REASONS = frozenset({*(row.reason for row in DIFFERENCES), HALF_CLOSE, IN_ORDER})
_UNPARSABLE = frozenset({"broken", "fold", "lf"}).union(*(row.features for row in DIFFERENCES if row.spoils))


def differences(conversation: Conversation, ours: Heard, alone: Heard) -> Iterator[str]:
    """Each difference in statuses and closing, as its reason, or as what it is where no reason is known."""
    for number, request in enumerate(conversation.requests):
        if max(len(ours.answers), len(alone.answers)) <= number:
            break
        ourselves, itself = _said(ours, number), _said(alone, number)
        if ourselves == itself:
            if ourselves is not None and ourselves[1]:
                return
        else:
            found = _reason(conversation, number, alone)
            yield found or f"{', '.join(sorted(request.asked)) or 'plain'}: Headrace {ourselves}, uvicorn {itself}"
            if None in {ourselves, itself} or ourselves[1] or itself[1]:  # type: ignore[index]  # neither is None
                return
        if any(row.spoils and row.features & request.asked for row in DIFFERENCES):
            return
    if conversation.end is End.STAY and _end(ours) != _end(alone):
        yield f"the end: Headrace {_end(ours)}, uvicorn {_end(alone)}"


def _said(heard: Heard, number: int) -> tuple[int, bool] | None:
    if number >= len(heard.answers):
        return None
    return heard.answers[number].status, heard.answers[number].closes


def _end(heard: Heard) -> tuple[Ended, int | None]:
    return heard.ended, heard.probe.status if heard.probe else None


def _reason(conversation: Conversation, number: int, alone: Heard) -> str | None:
    request = conversation.requests[number]
    for row in DIFFERENCES:
        if row.features & request.asked:
            return row.reason
    if conversation.end is End.HALF_CLOSE and len(alone.answers) <= number:
        return HALF_CLOSE
    replaced = len(alone.answers) > number and alone.answers[number].status == 400
    if replaced and any(later.asked & _UNPARSABLE for later in conversation.requests[number + 1 :]):
        return IN_ORDER
    return None
