"""The times of a source's streams, in seconds; the defaults suit everybody, tests are in a hurry."""

from __future__ import annotations

from dataclasses import dataclass, field

from ingest.reconnect import ReconnectRules


@dataclass(frozen=True, slots=True)
class StreamRules:
    """The times for which connections are kept, between looks at them, and of what a look proves.

    A connection is replaced at the age of `max_age`, and left when both have listened for `overlap`, which is looked
    for every `look`. The token is looked at every `token`. A connection that lived for `proven_life` makes the next
    loss a new one. What is proven is written down every `record`.
    """

    max_age: float = 12 * 3600.0
    overlap: float = 1.0  # shorter than that, two intervals of coverage count as if a gap were between them
    look: float = 0.2
    token: float = 2.0
    proven_life: float = 10.0
    record: float = 1.0
    tick: float = 0.2  # between two looks at what has come
    frozen: float = 5.0  # a tick that is so late: upstream may have given up on what it had for us
    behind: float = 0.2  # within which upstream, once it was stopped by a backlog, goes on
    latency: float = 0.25  # what upstream has sent, and the network not delivered, when we look
    patient: float = 75.0  # without a byte, where keep-alives come once a minute
    greeting: float = 2.0  # what comes so soon behind the answer is no keep-alive
    reconnect: ReconnectRules = field(default_factory=ReconnectRules)
