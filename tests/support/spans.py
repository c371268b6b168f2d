"""Stretches of time as pairs of seconds, (since, until): sets of them, sorted and apart from one another."""

from __future__ import annotations

from collections.abc import Iterable

Span = tuple[float, float]


def union(spans: Iterable[Span], touching: float = 0.0) -> list[Span]:
    """The set of all instants in any of them; spans at most `touching` apart become one."""
    merged: list[Span] = []
    for since, until in sorted(spans):
        if merged and since <= merged[-1][1] + touching:
            merged[-1] = (merged[-1][0], max(merged[-1][1], until))
        else:
            merged.append((since, until))
    return merged


def complement(spans: Iterable[Span], within: Span) -> list[Span]:
    """What of `within` no span covers."""
    free: list[Span] = []
    at, end = within
    for since, until in union(spans):
        if since > at:
            free.append((at, min(since, end)))
        at = max(at, until)
        if at >= end:
            return free
    return [*free, (at, end)]


def seconds(spans: Iterable[Span]) -> float:
    """How long they are together."""
    return sum(until - since for since, until in union(spans))


def meets(span: Span, spans: Iterable[Span], slack: float = 0.0) -> bool:
    """Whether a span has an instant in common with one of them, give or take `slack` seconds."""
    return any(since - slack <= span[1] and span[0] <= until + slack for since, until in spans)
