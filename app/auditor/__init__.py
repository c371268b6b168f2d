"""From the store to what is lost: follows the counters of devices, beside the handlers and like one of them."""

from __future__ import annotations

from app.auditor.auditor import Auditor
from app.auditor.followed_sources import FollowedSources, followed_sources

__all__ = ["Auditor", "FollowedSources", "followed_sources"]
