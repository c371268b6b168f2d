"""The meaning of upstream's answers and the network's faults: a Loss with a cause and a sentence for the operator."""

from __future__ import annotations

import os
import socket
import ssl
from collections.abc import Iterator
from datetime import datetime
from urllib.parse import urlsplit

import httpx

from ingest.event import Cause
from ingest.reconnect import Loss
from ingest.retry_after import parse_retry_after

_UNAUTHORIZED = frozenset({401, 403, 404})
_NOT_OF_REQUEST = frozenset({407, 408, 425})  # of a proxy's door, or of the moment
_LIMITED = frozenset({429, 529})  # documents differ
_LONGEST_RETRY_AFTER = 3600.0
_SHOWN_CHARACTERS = 200
_EVENT_STREAM = "text/event-stream"
LOCATION = "location"  # where a response's extensions hold that header, see opening.make_client


def judge(response: httpx.Response, now: datetime, said: str = "") -> Loss | None:
    """Return why an answer is no stream; None where it is one. `said` is upstream's own explanation."""
    status, because = response.status_code, f": {said}" if said else ""
    wait = parse_retry_after(response.headers.get("retry-after"), now, _LONGEST_RETRY_AFTER)
    if status in _UNAUTHORIZED:
        return Loss(Cause.UNAUTHORIZED, f"upstream answered {status}{because}", wait, of_request=True)
    if status in _LIMITED:
        return Loss(Cause.RATE_LIMITED, f"upstream answered {status}, too many requests{because}", wait)
    location = response.extensions.get(LOCATION)
    if 300 <= status < 400 and location is not None:
        target = _without_query(location)
        return Loss(Cause.ERROR, f"upstream answered {status}, a redirect to {target}: put the right address into url")
    if status != 200:
        of_request = 400 <= status < 500 and status not in _NOT_OF_REQUEST
        return Loss(Cause.ERROR, f"upstream answered {status}{because}", wait, of_request)
    content_type = response.headers.get("content-type", "")
    if _EVENT_STREAM not in {each.partition(";")[0].strip().lower() for each in content_type.split(",")}:
        found = shown(content_type) or "no content type"
        return Loss(Cause.ERROR, f"upstream answered with {found}, not with {_EVENT_STREAM}")
    return None


def explain(error: Exception, *, listening: bool, ended: bool, seconds: float) -> Loss:
    """Return why a connection failed. `listening`: it had been answered; `ended`: upstream closed it; `seconds`:
    idle at most.

    Nothing is quoted that may hold a header of ours.
    """
    if isinstance(error, httpx.ConnectTimeout | httpx.PoolTimeout):
        return Loss(Cause.REFUSED, "no connection could be made in time")
    if isinstance(error, httpx.TimeoutException):
        silent = f"nothing came for {seconds:g} s" if listening else f"connected, but no answer within {seconds:g} s"
        return Loss(Cause.IDLE, silent)
    if isinstance(error, httpx.ProxyError):
        return Loss(Cause.REFUSED, f"the proxy refused the connection: {shown(str(error))}")
    if isinstance(error, httpx.ConnectError):
        return _explain_connecting(error)
    if ended and listening:  # TCP closed in good order, even if HTTP did not: everything that was sent has come
        return Loss(Cause.CLOSED, "upstream closed the connection in the middle of its answer")
    if ended or (isinstance(error, httpx.RemoteProtocolError) and "without sending" in str(error)):
        return Loss(Cause.ERROR, "upstream closed the connection without an answer")
    if isinstance(error, httpx.ReadError | httpx.WriteError):
        return Loss(Cause.ERROR, "the connection was reset")
    if isinstance(error, httpx.RemoteProtocolError):
        return Loss(Cause.ERROR, "upstream does not speak HTTP as it should")
    if isinstance(error, ssl.SSLError):
        return Loss(Cause.ERROR, _explain_tls(error))
    return Loss(Cause.ERROR, f"the request failed ({type(error).__name__})")


def _explain_connecting(error: Exception) -> Loss:
    for cause in _causes(error):
        if isinstance(cause, ssl.SSLError):
            return Loss(Cause.ERROR, _explain_tls(cause))
        if isinstance(cause, socket.gaierror):
            return Loss(Cause.REFUSED, f"the host's name cannot be resolved: {cause.strerror}")
        if isinstance(cause, OSError) and cause.errno is not None:
            return Loss(Cause.REFUSED, f"no connection: {os.strerror(cause.errno)}")
    return Loss(Cause.REFUSED, "no connection: it was closed while it was being made")


def _explain_tls(error: ssl.SSLError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"certificate not trusted: {error.verify_message}"
    return f"TLS failed: {(error.reason or error.strerror or 'unknown').replace('_', ' ').lower()}"


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """Yield the error, what it comes from, and so on; the innermost may be several."""
    while error is not None:
        yield error
        if isinstance(error, BaseExceptionGroup):
            for inner in error.exceptions:
                yield from _causes(inner)
        error = error.__cause__ or error.__context__


def shown(text: str) -> str:
    """Return what of upstream's text an operator is shown: short, and nothing that a terminal would obey."""
    return "".join(character for character in text[:_SHOWN_CHARACTERS] if character.isprintable())


def _without_query(url: str) -> str:
    """Return what of an address may be shown."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "what is no address"
    return shown(f"{parts.scheme}://{parts.hostname}{parts.path}" if parts.hostname else parts.path)
