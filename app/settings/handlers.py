"""`[handlers.<label>]`: what events are handed to after the store, which ones, and how hard it is tried."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, Field, ValidationInfo, field_validator

from ingest.settings.fields import STRICT, Texts, refuse_unbuilt
from ingest.settings.quantities import Count, PositiveDuration

_CALL = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*")


class RetrySettings(BaseModel):
    """Back-off from `base` to `cap` with full jitter, until `max_age` or `attempts` (the first included)."""

    model_config = STRICT

    base: PositiveDuration = timedelta(seconds=1)
    cap: PositiveDuration = Field(default=timedelta(minutes=10), validate_default=True)
    max_age: PositiveDuration = timedelta(days=3)
    attempts: Count | None = None

    @field_validator("cap")
    @classmethod
    def _reaches_base(cls, cap: timedelta, info: ValidationInfo) -> timedelta:
        if cap < info.data.get("base", cap):
            raise ValueError("expected at least retry.base")
        return cap


class HandlerSettings(BaseModel):
    """One handler. `names` are prefixes; empty `names` or `products` are all of them. `call` is of python handlers."""

    model_config = STRICT

    type: Annotated[Literal["log", "python"], BeforeValidator(refuse_unbuilt("http", "pubsub", "nats"))]
    call: str = Field(default="", validate_default=True)
    names: Texts = ()
    products: Texts = ()
    order: Literal["device", "none"] = "device"
    concurrency: Annotated[Count, Field(le=1000)] = 16
    timeout: PositiveDuration = timedelta(seconds=20)
    retry: RetrySettings = RetrySettings()
    start: Literal["now", "beginning"] = Field(default="now", alias="from")

    @property
    def runs_apart(self) -> bool:
        """Return whether its code is the operator's, which may block, raise anything, or end a loop."""
        return self.type == "python"

    @field_validator("call")
    @classmethod
    def _goes_with_type(cls, call: str, info: ValidationInfo) -> str:
        handler_type = info.data.get("type")
        if handler_type == "python" and not _CALL.fullmatch(call):
            raise ValueError('expected "module:function" with type = "python"')
        if handler_type == "log" and call:
            raise ValueError('does not go with type = "log"')
        return call
