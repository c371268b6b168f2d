"""`[sources.<label>.webhook]`: the endpoint that senders post to."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel

from ingest.settings.fields import STRICT, Texts
from ingest.settings.quantities import Size
from ingest.sources.webhook.auth import AuthSettings, NoAuth

_RESERVED = ("/api", "/metrics", "/livez", "/readyz", "/docs", "/openapi.json")
_PATH = re.compile(r"(?:/[A-Za-z0-9._~!$&'()*+,;=:@-]+)+/?")


def _path(path: str) -> str:
    if not _PATH.fullmatch(path):
        raise ValueError('expected a path such as "/ingest/fleet"')
    if any(f"{path}/".startswith(f"{reserved}/") for reserved in _RESERVED):
        raise ValueError(f"expected a path outside {', '.join(_RESERVED)}")
    return path.rstrip("/")


class WebhookSettings(BaseModel):
    """The endpoint at `path`; `max_body` in bytes, inflated; `receipt` are prefixes of the names of events."""

    model_config = STRICT

    path: Annotated[str, AfterValidator(_path)]
    auth: AuthSettings = NoAuth()
    max_body: Size = 1 << 20
    on_reject: Literal["accept", "refuse"] = "accept"
    receipt: Texts = ()
