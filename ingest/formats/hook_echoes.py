"""The vendor's own word on its webhooks: events beside those of devices, which name the event that a webhook was for.

`hook-sent/<name>`: it was delivered. `hook-response/<name>/<n>`: a part of what was answered. `hook-error/<name>/<n>`:
a sentence that says why it was not delivered, or that it was not even tried, because of too many errors before.
"""

from __future__ import annotations

import re

from ingest.event import EchoOutcome, HookEcho

_ECHO = re.compile(r"(?:[^/]*/)??hook-(sent|response|error)/(.*)", re.DOTALL)  # also behind one leading device
_PART = re.compile(r"/[0-9]+\Z")
_SKIPPED = re.compile(rb'\A[\s"]*sleeping|too many errors', re.IGNORECASE)


def echo_of(name: str, data: bytes | None) -> HookEcho | None:
    """Return what an event says of a webhook; None where it is about something else."""
    found = _ECHO.fullmatch(name)
    if found is None:
        return None
    outcome, hooked = EchoOutcome(found[1]), found[2]
    if outcome is EchoOutcome.SENT:
        return HookEcho(hooked, outcome)
    if outcome is EchoOutcome.ERROR and _SKIPPED.search(data or b""):
        outcome = EchoOutcome.SKIPPED
    return HookEcho(_PART.sub("", hooked), outcome)
