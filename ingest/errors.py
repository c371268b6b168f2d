"""The errors of ours, and what then becomes of the record.

HeadraceError
├── ConfigurationError     the operator's file is at fault; nothing runs (exit 2)
├── StoreUnavailable       no COMMIT was answered: the record is deferred, its sender will send it again
│   └── StoreFault         so too, but the store is there: something else is wrong, perhaps with one record alone
├── TooLarge               more than the inbox could ever hold: refused (413), sending again cannot help
├── Undecodable            an element is no Event: it is kept as a Reject; never leaves a format
├── LeaseLost              another process holds this cursor: nothing was written, let go
├── StoreRewound           the database was put back to an older state: what is remembered of it is void
├── IntervalLost           so too, and an interval of coverage went with it: begin another one
└── DeadLetter             raised by a handler: this event goes to the dead letters at once, without a retry
"""

from __future__ import annotations

from ingest.event import Reason


class HeadraceError(Exception):
    """The root of our own errors."""


class ConfigurationError(HeadraceError):
    """The configuration cannot be used; the message names the key and what was expected."""


class StoreUnavailable(HeadraceError):
    """The store did not say that it committed: the same records can be offered again, the same write be repeated.

    It did not commit, unless the connection was lost or the writing process died before its answer to the COMMIT.
    """


class StoreFault(StoreUnavailable):
    """The store answered with an error that is no outage: a statement of ours, or a record, is at fault."""


class TooLarge(HeadraceError):
    """One request holds more than the inbox can ever hold."""


class Undecodable(HeadraceError):
    """An element, or a part of it, cannot become an Event: it is kept as a Reject with this reason."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason.value)
        self.reason = reason


class LeaseLost(HeadraceError):
    """The cursor's epoch has moved on: somebody else works on it."""


class StoreRewound(HeadraceError):
    """The store is not the one that was read: it was put back to an older state. Begin again at the cursor."""


class IntervalLost(HeadraceError):
    """An interval of coverage is not in the store any more, or shorter than what was written: begin another one."""


class DeadLetter(HeadraceError):
    """Raise this in a handler to send the event straight to the dead letters, with the message as reason."""
