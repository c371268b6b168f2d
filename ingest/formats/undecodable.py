"""Why an element is no Event: the one exception that formats pass among themselves. It never leaves `decode`."""

from __future__ import annotations

from ingest.event import Reason


class Undecodable(Exception):
    """An element, or a part of it, cannot become an Event: it is kept as a Reject with this reason."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason.value)
        self.reason = reason
