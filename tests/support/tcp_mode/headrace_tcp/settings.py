"""`[sources.<label>.tcp]`: the port on which lines are taken."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, Field

from ingest.settings.fields import STRICT
from ingest.settings.quantities import Count


class TcpSettings(BaseModel):
    """A port of 127.0.0.1: a line does not prove who sent it."""

    model_config = STRICT

    port: Annotated[Count, Field(le=65535)] | None = None
