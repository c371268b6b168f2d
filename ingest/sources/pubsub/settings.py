"""`[sources.<label>.pubsub]`: the subscription that we pull."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Annotated

from pydantic import AfterValidator, BaseModel, Field

from ingest.settings.fields import STRICT
from ingest.settings.quantities import Count, PositiveDuration

_SUBSCRIPTION = re.compile(r"projects/[^/\s]+/subscriptions/[^/\s]+")
_LEAST_LEASE, _LONGEST_LEASE = timedelta(seconds=10), timedelta(minutes=10)


def _subscription(name: str) -> str:
    if not _SUBSCRIPTION.fullmatch(name):
        raise ValueError('expected "projects/<project>/subscriptions/<name>"')
    return name


def _lease(lease: timedelta) -> timedelta:
    if not _LEAST_LEASE <= lease <= _LONGEST_LEASE:
        raise ValueError('expected a duration from "10s" to "10m", which is what Pub/Sub grants')
    return lease


class PubsubSettings(BaseModel):
    """A subscription that we pull. `lease`: how long a killed process keeps its messages from others."""

    model_config = STRICT

    subscription: Annotated[str, AfterValidator(_subscription)] | None = None
    streams: Annotated[Count, Field(le=32)] = 1
    max_messages: Count = 1000
    lease: Annotated[PositiveDuration, AfterValidator(_lease)] = _LEAST_LEASE
