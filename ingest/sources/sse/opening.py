"""The request for a stream, and what of the answer says that it is none."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime

import httpx

from ingest.event import Cause
from ingest.reconnect import Loss
from ingest.sources.sse.answers import LOCATION, judge, shown
from ingest.sources.sse.inflate import inflater_for

_EXPLANATION_BYTES = 4096
_EXPLANATION_SECONDS = 2.0
_MAX_ID_BYTES = 1024
_SENDABLE = re.compile(rb"[!-~\x80-\xff](?:[\t -~\x80-\xff]*[!-~\x80-\xff])?")  # RFC 9110 §5.5: a field's value


def make_client(connect_seconds: float, idle_seconds: float) -> httpx.AsyncClient:
    """HTTPS_PROXY and the like are honoured (trust_env); a redirect is not followed, it would take the token along.

    No connection is kept after an answer that was no stream. httpx would make the request that a redirect asks for even
    where it does not follow, and raise where the address is none: so it is not shown where to.
    """
    return httpx.AsyncClient(
        timeout=httpx.Timeout(idle_seconds, connect=min(connect_seconds, idle_seconds), pool=None),
        limits=httpx.Limits(max_keepalive_connections=0),
        follow_redirects=False,
        trust_env=True,
        headers={"User-Agent": "headrace"},
        event_hooks={"response": [_set_location_aside]},
    )


async def _set_location_aside(response: httpx.Response) -> None:
    response.extensions[LOCATION] = response.headers.pop(LOCATION, None)


def judge_token(token: str | None) -> Loss | None:
    """Return why a token cannot even be sent; None where it can."""
    if token is None or (token and token.isascii() and token.isprintable()):
        return None
    return Loss(Cause.UNAUTHORIZED, "the token is empty or holds characters that no header can carry")


def request_headers(token: str | None, last_event_id: str | None) -> Mapping[bytes, bytes]:
    """Return the headers that a stream is asked for with."""
    headers = {b"Accept": b"text/event-stream", b"Accept-Encoding": b"identity", b"Cache-Control": b"no-store"}
    if token is not None:
        headers[b"Authorization"] = b"Bearer " + token.encode()
    last = (last_event_id or "").encode()  # WHATWG HTML §9.2.3: UTF-8
    if last and len(last) <= _MAX_ID_BYTES and _SENDABLE.fullmatch(last):
        headers[b"Last-Event-ID"] = last
    return headers


async def stream_refusal(response: httpx.Response, token: str | None, now: datetime) -> Loss | None:
    """Return why this is no stream; None where it is one. The body of an error may say it better than its number."""
    said = await _explanation(response, token) if response.status_code >= 400 else ""
    loss = judge(response, now, said)
    encoding = response.headers.get("content-encoding", "")
    if loss is None and inflater_for(encoding) is None:
        return Loss(Cause.ERROR, f"upstream answered with Content-Encoding {shown(encoding)!r}")
    return loss


async def _explanation(response: httpx.Response, token: str | None) -> str:
    """Return the text of a JSON error such as Particle's, short and without our token."""
    body = b""
    with suppress(httpx.HTTPError, OSError, TimeoutError):
        async with asyncio.timeout(_EXPLANATION_SECONDS):
            async for chunk in response.aiter_raw():  # what is compressed could be of any size
                body += chunk
                if len(body) > _EXPLANATION_BYTES:
                    return ""
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return ""
    if not isinstance(document, dict):
        return ""
    text = document.get("error_description") or document.get("error")
    if not isinstance(text, str) or (token and token in text):
        return ""
    return shown(text)
