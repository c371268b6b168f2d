"""The delivery modes, a folder each; none imports another."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ingest.sources.mode import SourceMode
from ingest.sources.pubsub.mode import PUBSUB
from ingest.sources.sse.mode import SSE
from ingest.sources.webhook.mode import WEBHOOK

MODES: Mapping[str, SourceMode[Any]] = {mode.name: mode for mode in (WEBHOOK, SSE, PUBSUB)}
"""Every mode by its name, in the order in which they are named."""
