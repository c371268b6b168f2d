"""`[sources.<label>.sse]`: the event stream that we open."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Annotated

from pydantic import AfterValidator, BaseModel, Field

from ingest.settings.fields import STRICT
from ingest.settings.quantities import Count, PositiveDuration
from ingest.settings.secret import Secret

_URL = re.compile(r"https?://[^\s/@]+(/\S*)?")


def _stream_url(url: str) -> str:
    if "access_token=" in url:
        raise ValueError("expected a URL without access_token: put it into token, where nothing shows it")
    if not _URL.fullmatch(url):
        raise ValueError("expected a URL that begins with https:// or http://, without user and password")
    return url


class SseSettings(BaseModel):
    """Streams that we open. The path of `url` says which: of a product, of our own devices, of a prefix of names."""

    model_config = STRICT

    url: Annotated[str, AfterValidator(_stream_url)]
    token: Secret | None = None
    idle_timeout: PositiveDuration = timedelta(seconds=20)
    streams: Annotated[Count, Field(le=32)] = 1
