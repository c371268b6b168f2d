"""The ways to the server, and what each may change."""

from __future__ import annotations

from tests.support.conversations.values import Way

DIRECT = Way("direct", direct=True)
NGINX = Way("nginx", direct=False, may_refuse=frozenset({"broken", "long head"}))
HAPROXY = Way(
    "HAProxy",
    direct=False,
    # An offer of a websocket without a key, and a body that HTTP/1.0 sends with GET or its like, are odd to it.
    may_refuse=frozenset({"broken", "long head", "fragment", "websocket", "old semantics"}),
    may_mend=frozenset({"no host", "two hosts", "two equal hosts", "version"}),
)
ALONE = Way("uvicorn alone", direct=True)
