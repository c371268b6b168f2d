"""The ways to the server, and what each may change."""

from __future__ import annotations

from tests.support.conversations.values import Way

DIRECT = Way("direct", direct=True)
NGINX = Way("nginx", direct=False, may_refuse=frozenset({"broken", "long head"}))
HAPROXY = Way(
    "HAProxy",
    direct=False,
    may_refuse=frozenset({"broken", "long head", "fragment"}),
    may_mend=frozenset({"no host", "two hosts", "two equal hosts"}),
)
ALONE = Way("uvicorn alone", direct=True)
