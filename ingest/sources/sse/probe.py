"""A look whether a stream could be listened to, by opening it; nothing of it is read."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime

import httpx

from ingest.sources.sse.answers import explain
from ingest.sources.sse.opening import judge_token, make_client, request_headers, stream_refusal

PROBE_SECONDS = 10.0
_MORE_SECONDS = 1.0  # so that what takes all of `seconds` says itself what it is
_OF_TOKEN = frozenset({401, 403})


@dataclass(frozen=True, slots=True)
class Refused:
    """The reason why a stream cannot be opened; `of_token`: because of what we say who we are, not of where we ask."""

    reason: str
    of_token: bool = False


async def probe(url: str, token: str | None, seconds: float = PROBE_SECONDS) -> Refused | None:
    """Open a stream and leave it at once; return why it is refused, or None. Takes about `seconds` at the most."""
    if (unfit := judge_token(token)) is not None:
        return Refused(unfit.reason, of_token=True)
    try:
        async with (
            asyncio.timeout(seconds + _MORE_SECONDS),
            make_client(seconds, seconds) as client,
            client.stream("GET", url, headers=request_headers(token, None)) as response,
        ):
            loss = await stream_refusal(response, token, datetime.now(UTC))
            return None if loss is None else Refused(loss.reason, response.status_code in _OF_TOKEN)
    except TimeoutError:
        return Refused("connected, but no whole answer in time")
    except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
        return Refused(explain(error, listening=False, ended=False, seconds=seconds).reason)
    except Exception as error:  # as in connection.py: whatever upstream answers, it is a refusal
        return Refused(f"the attempt failed ({type(error).__name__})")
