"""The meaning of a failed delivery: why it failed, and what becomes of the event and of its handler."""

from __future__ import annotations

from enum import StrEnum

from ingest.errors import DeadLetter, HeadraceError

ANSWER_CHARACTERS = 500
_ERROR_CHARACTERS = 500


class FailureCause(StrEnum):
    """Why a delivery failed. The list is closed: it labels a metric."""

    REFUSED = "refused"  # the receiver says that the event is at fault (`dead_on`)
    UNAUTHORIZED = "unauthorized"  # 401, 403
    NOT_FOUND = "not_found"  # 404
    GONE = "gone"  # the receiver wants no more (`pause_on`)
    THROTTLED = "throttled"  # 429
    CLIENT_ERROR = "client_error"  # other 4xx
    SERVER_ERROR = "server_error"  # 5xx
    REDIRECT = "redirect"  # 3xx
    TIMEOUT = "timeout"
    CONNECTION = "connection"  # none could be made, it broke, or what came over it is no HTTP
    TLS = "tls"
    HANDLER_ERROR = "handler_error"  # the handler's code raised
    DEAD_LETTER = "dead_letter"  # it raised DeadLetter
    CRASHED = "crashed"  # the process died of it


class Verdict(StrEnum):
    """The consequence of a failure."""

    RETRY = "retry"
    DEAD = "dead"  # a dead letter at once
    PAUSE = "pause"  # the handler is paused, the event stays first in line
    OPEN = "open"  # the circuit opens at once, the event stays first in line


class DeliveryFailed(HeadraceError):
    """Raised by a handler that knows why a delivery failed. The message is plain, and holds no secret.

    `status` is the receiver's. For `retry_after` seconds (never below 0) it wants nothing more. `answer` is how its
    answer begins, 500 characters at most.
    """

    def __init__(
        self,
        cause: FailureCause,
        verdict: Verdict,
        message: str,
        *,
        status: int | None = None,
        retry_after: float | None = None,
        answer: str = "",
    ) -> None:
        super().__init__(message)
        self.cause = cause
        self.verdict = verdict
        self.status = status
        self.retry_after = retry_after
        self.answer = _kept(answer, ANSWER_CHARACTERS)

    @property
    def opens_circuit(self) -> bool:
        """Return whether it counts among the failures in a row that do: not where the event is at fault."""
        return self.verdict is not Verdict.DEAD


def failure_of(error: BaseException) -> DeliveryFailed:
    """Return what a handler raised as a failed delivery; TimeoutError is one that was not done in time."""
    if isinstance(error, DeliveryFailed):
        return error
    if isinstance(error, DeadLetter):
        return DeliveryFailed(FailureCause.DEAD_LETTER, Verdict.DEAD, text_of(error))
    cause = FailureCause.TIMEOUT if isinstance(error, TimeoutError) else FailureCause.HANDLER_ERROR
    return DeliveryFailed(cause, Verdict.RETRY, text_of(error))


def text_of(error: BaseException) -> str:
    """Return type and message of an error, at most 500 characters, as every database can keep them."""
    try:
        message = str(error)
    except BaseException as broken:  # the error is somebody else's code, and so is its __str__
        message = f"(its message cannot be read: {type(broken).__name__})"
    name = "" if isinstance(error, DeadLetter | DeliveryFailed) and message else type(error).__name__
    return _kept(": ".join(part for part in (name, message) if part), _ERROR_CHARACTERS)


def _kept(text: str, characters: int) -> str:
    """Return the beginning of a text, as every database can keep it."""
    return text[:characters].replace("\0", "\ufffd").encode("utf-8", "replace").decode()
