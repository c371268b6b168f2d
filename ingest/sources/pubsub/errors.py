"""The meaning of Google's errors: a Loss with a cause and a sentence for the operator."""

from __future__ import annotations

from google.api_core.exceptions import GoogleAPICallError, RetryError
from google.auth.exceptions import DefaultCredentialsError, GoogleAuthError
from grpc import StatusCode

from ingest.event import Cause
from ingest.reconnect import Loss

_LONGEST_REASON = 300
_HOPELESS = {  # until somebody changes something
    StatusCode.NOT_FOUND: "the subscription does not exist",
    StatusCode.PERMISSION_DENIED: "no permission to consume the subscription (roles/pubsub.subscriber)",
    StatusCode.UNAUTHENTICATED: "the credentials are not accepted",
    StatusCode.INVALID_ARGUMENT: "the subscription cannot be pulled",
    StatusCode.FAILED_PRECONDITION: "the subscription cannot be pulled",
}
# What a server does now and then; the client itself ends a call that has lasted for half an hour.
_ORDINARY = {StatusCode.UNAVAILABLE, StatusCode.CANCELLED, StatusCode.OK, StatusCode.DEADLINE_EXCEEDED}
# What gRPC says where google-auth gets no token: a key that was revoked, a metadata server that is away.
_PLUGIN_FAILED = "Getting metadata from plugin failed"
_NO_CREDENTIALS = "no credentials: set GOOGLE_APPLICATION_CREDENTIALS to a key file, or PUBSUB_EMULATOR_HOST"


def ended(code: StatusCode | None, details: str | None, *, connected: bool) -> Loss:
    """Return why a call is over, by gRPC's status. `connected`: the server was reached when it ended."""
    said = f": {details}" if details else ""
    if _PLUGIN_FAILED in said:
        return _loss(Cause.UNAUTHORIZED, f"the credentials cannot be used{said}")
    if code in _HOPELESS:
        return _loss(Cause.UNAUTHORIZED, f"{_HOPELESS[code]}{said}")
    if code is StatusCode.RESOURCE_EXHAUSTED:
        return _loss(Cause.RATE_LIMITED, f"too many requests{said}")
    if code in _ORDINARY:
        ordinary = _loss(Cause.CLOSED, f"the stream ended{said}")
        return ordinary if connected else _loss(Cause.REFUSED, f"the server cannot be reached{said}")
    return _loss(Cause.ERROR, f"{code.name.lower() if code else 'unknown'}{said}")


def explain(error: BaseException | None, *, connected: bool = True) -> Loss:
    """Return why the client gave up. `connected`: as for `ended`."""
    if isinstance(error, GoogleAPICallError):
        return ended(error.grpc_status_code, error.message, connected=connected)
    if isinstance(error, DefaultCredentialsError):
        return _loss(Cause.UNAUTHORIZED, f"{_NO_CREDENTIALS} ({_said(error)})")
    if isinstance(error, GoogleAuthError):
        return _loss(Cause.UNAUTHORIZED, f"the credentials cannot be used: {_said(error)}")
    if isinstance(error, RetryError):
        return _loss(Cause.ERROR, "acknowledgements could not be sent for too long")
    return _loss(Cause.ERROR, f"{type(error).__name__}: {error}")


def _said(error: GoogleAuthError) -> str:
    """Return the sentence alone: behind it stand the errors it comes from, or the whole answer."""
    return str(error.args[0]) if error.args else type(error).__name__


def _loss(cause: Cause, reason: str) -> Loss:
    """Return the reason on one line; Google writes paragraphs."""
    return Loss(cause, " ".join(reason.split())[:_LONGEST_REASON])
