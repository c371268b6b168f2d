"""What Google's errors mean to an operator: a cause from the closed list, and one sentence."""

from __future__ import annotations

import pytest
from google.api_core.exceptions import PermissionDenied, RetryError
from google.auth.exceptions import DefaultCredentialsError, RefreshError
from grpc import StatusCode

from ingest.event import Cause
from ingest.sources.pubsub.errors import ended, explain

EVERY_CODE = pytest.mark.parametrize("code", [*StatusCode, None])


@EVERY_CODE
@pytest.mark.parametrize("connected", [True, False])
def test_every_end_of_a_call_has_a_cause_and_a_sentence(code: StatusCode | None, connected: bool) -> None:
    """Whatever the server said and however long, it is one line of at most 300 characters."""
    loss = ended(code, "a\nlong story " * 100, connected=connected)
    assert loss.reason
    assert len(loss.reason) <= 300
    assert "\n" not in loss.reason


def test_the_same_end_means_something_else_without_a_connection() -> None:
    """A server that ends a stream is there; one that was not reached refused."""
    assert ended(StatusCode.UNAVAILABLE, None, connected=True).cause is Cause.CLOSED
    assert ended(StatusCode.UNAVAILABLE, None, connected=False).cause is Cause.REFUSED


def test_a_key_that_was_revoked_is_a_refusal() -> None:
    """gRPC calls it a server that is not available, although it was never asked."""
    said = 'Getting metadata from plugin failed with error: ("invalid_grant: Invalid JWT Signature.")'
    loss = ended(StatusCode.UNAVAILABLE, said, connected=True)
    assert loss.cause is Cause.UNAUTHORIZED
    assert loss.reason.startswith("the credentials cannot be used: ")


@pytest.mark.parametrize(
    ("error", "cause", "sentence"),
    [
        (PermissionDenied("no"), Cause.UNAUTHORIZED, "no permission to consume the subscription"),
        (DefaultCredentialsError("none"), Cause.UNAUTHORIZED, "no credentials: set GOOGLE_APPLICATION_CREDENTIALS"),
        (RefreshError("revoked"), Cause.UNAUTHORIZED, "the credentials cannot be used: revoked"),
        (RetryError("late", None), Cause.ERROR, "acknowledgements could not be sent for too long"),
        (ValueError("odd"), Cause.ERROR, "ValueError: odd"),
        (None, Cause.ERROR, "NoneType: None"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_why_a_client_gave_up(error: BaseException | None, cause: Cause, sentence: str) -> None:
    """The sentence says what to do, where there is something to do."""
    loss = explain(error)
    assert loss.cause is cause
    assert loss.reason.startswith(sentence)
