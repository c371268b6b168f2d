"""What every `[handlers.<label>]` has: which events the handler gets, and how hard it is tried. Types extend it."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import BaseModel, BeforeValidator, Field, ValidationInfo, field_validator

from ingest.protocols import Handler
from ingest.settings.fields import STRICT, Texts
from ingest.settings.quantities import Count, Duration, PositiveDuration, Rate, parse_count


class RetrySettings(BaseModel):
    """Back-off from `base` to `cap` with jitter upwards, until `max_age` or `attempts` (the first included)."""

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


class BatchSettings(BaseModel):
    """So many events in one call at most; where fewer are there, `wait` for more."""

    model_config = STRICT

    events: Annotated[Count, Field(le=1000)] = 1
    wait: Duration = timedelta(seconds=1)


class CircuitSettings(BaseModel):
    """So many `failures` in a row open it (0: never); then one event is tried each `probe`, doubling to ten minutes."""

    model_config = STRICT

    failures: Annotated[int, BeforeValidator(parse_count), Field(ge=0)] = 10
    probe: PositiveDuration = timedelta(seconds=30)


class HandlerSettings(BaseModel):
    """One handler. Empty `names`, `products` or `devices` are all of them; `names` and `exclude` are prefixes.

    `rate` bounds the events that are tried, of all replicas together: only one of them has the handler's cursor.

    A type of handler extends it: with `type: Literal["<its name>"]`, keys of its own, and `build`.
    """

    model_config = STRICT
    runs_apart: ClassVar[bool] = False  # True: its code is the operator's, which may block, raise anything, end a loop

    type: str
    names: Texts = ()
    exclude: Texts = ()
    products: Texts = ()
    devices: Texts = ()
    order: Literal["device", "none"] = "device"
    concurrency: Annotated[Count, Field(le=1000)] = 16
    timeout: PositiveDuration = timedelta(seconds=20)
    rate: Rate | None = None
    batch: BatchSettings = BatchSettings()
    retry: RetrySettings = RetrySettings()
    circuit: CircuitSettings = CircuitSettings()
    start: Literal["now", "beginning"] = Field(default="now", alias="from")

    def build(self, label: str, folder: Path) -> Handler:
        """Return the handler of `[handlers.<label>]`; `folder` is where the configuration file is.

        Called without an event loop, also by `headrace check`: nothing is connected yet. Raises ConfigurationError, a
        sentence that names the key.
        """
        raise NotImplementedError

    def is_checked_always(self, _folder: Path) -> bool:
        """Return whether `headrace check` builds it; if not, `check --connect` does."""
        return True
