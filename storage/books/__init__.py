"""The books: what follows from committed events, posted a moment later, so that the commit pays nothing for it."""

from __future__ import annotations

BOOKS = "(books)"  # the place in the order of commit up to which all is posted; no handler can be called so
COMPARISON = "(comparison)"  # the same of what waits for the grace; behind it a digest of what is compared
TRANSITS = "(transits)"  # the same of further arrivals, by their ids
