"""What Google's errors mean: a Loss with a cause and a sentence for the operator."""

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
_NO_CREDENTIALS = "no credentials: set GOOGLE_APPLICATION_CREDENTIALS to a key file, or PUBSUB_EMULATOR_HOST"


def ended(code: StatusCode | None, details: str | None, *, connected: bool) -> Loss:
    """Why a call is over, by gRPC's status. `connected`: the server was reached when it ended."""
    said = f": {details}" if details else ""
    if code in _HOPELESS:
        return Loss(Cause.UNAUTHORIZED, f"{_HOPELESS[code]}{said}"[:_LONGEST_REASON])
    if code is StatusCode.RESOURCE_EXHAUSTED:
        return Loss(Cause.RATE_LIMITED, f"too many requests{said}"[:_LONGEST_REASON])
    if code in {StatusCode.UNAVAILABLE, StatusCode.CANCELLED, StatusCode.OK}:  # what a server does now and then
        ordinary = Loss(Cause.CLOSED, f"the server ended the stream{said}"[:_LONGEST_REASON])
        return ordinary if connected else Loss(Cause.REFUSED, f"the server cannot be reached{said}"[:_LONGEST_REASON])
    return Loss(Cause.ERROR, f"{code.name.lower() if code else 'unknown'}{said}"[:_LONGEST_REASON])


def explain(error: BaseException | None) -> Loss:
    """Why the client gave up."""
    if isinstance(error, GoogleAPICallError):
        return ended(error.grpc_status_code, error.message, connected=True)
    if isinstance(error, DefaultCredentialsError):
        return Loss(Cause.UNAUTHORIZED, f"{_NO_CREDENTIALS} ({error})"[:_LONGEST_REASON])
    if isinstance(error, GoogleAuthError):
        return Loss(Cause.UNAUTHORIZED, f"the credentials cannot be used: {error}"[:_LONGEST_REASON])
    if isinstance(error, RetryError):
        return Loss(Cause.ERROR, "acknowledgements could not be sent for too long")
    return Loss(Cause.ERROR, f"{type(error).__name__}: {error}"[:_LONGEST_REASON])
