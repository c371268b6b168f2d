"""The meaning of a receiver's answer for the event, the handler and its circuit, in the order of the contract."""

from __future__ import annotations

import ssl
from collections.abc import Container, Iterator, Sequence

import aiohttp

from ingest.delivery import FailureCause, Verdict
from ingest.settings.secret import masked_text

Meaning = tuple[FailureCause, Verdict]
Table = Sequence[tuple[Container[int], Meaning | None]]

# With one of these the receiver may say how long it wants nothing more.
MAY_ASK_TO_WAIT = frozenset({429, 502, 503, 504})


def table_of(dead_on: Sequence[int], pause_on: Sequence[int]) -> Table:
    """Return what each status means; the first line that has it counts. None is delivered."""
    return (
        (range(200, 300), None),
        (frozenset(dead_on), (FailureCause.REFUSED, Verdict.DEAD)),
        (frozenset(pause_on), (FailureCause.GONE, Verdict.PAUSE)),
        ({401, 403}, (FailureCause.UNAUTHORIZED, Verdict.OPEN)),  # the receiver is set up wrong, or we are
        ({404}, (FailureCause.NOT_FOUND, Verdict.OPEN)),
        ({429}, (FailureCause.THROTTLED, Verdict.RETRY)),
        (range(300, 400), (FailureCause.REDIRECT, Verdict.RETRY)),  # not followed
        (range(400, 500), (FailureCause.CLIENT_ERROR, Verdict.RETRY)),
        (range(1000), (FailureCause.SERVER_ERROR, Verdict.RETRY)),
    )


def meaning_of(status: int, table: Table) -> Meaning | None:
    """Return what a status means."""
    return next(meaning for statuses, meaning in table if status in statuses)


def cause_of(error: Exception) -> tuple[FailureCause, Verdict, str]:
    """Return why there was no answer, what is done about it, and a sentence that holds nothing of our request."""
    cause, text = _explain(error)
    return cause, Verdict.RETRY, text


def _explain(error: Exception) -> tuple[FailureCause, str]:
    for each in reversed([*_chain(error)]):  # aiohttp's own errors only look like those of ssl
        if isinstance(each, ssl.SSLCertVerificationError):
            return FailureCause.TLS, f"its certificate is not trusted: {each.verify_message}"
        if isinstance(each, ssl.SSLError):
            return FailureCause.TLS, f"TLS failed: {(each.reason or 'unknown').replace('_', ' ').lower()}"
    if isinstance(error, TimeoutError):
        return FailureCause.TIMEOUT, "no answer in time"
    if isinstance(error, aiohttp.ClientHttpProxyError):
        return FailureCause.CONNECTION, f"the proxy answered {error.status}"
    if isinstance(error, aiohttp.ClientResponseError):  # its text would show the whole URL
        return FailureCause.CONNECTION, "what it answered is no HTTP"
    return FailureCause.CONNECTION, masked_text(str(error)) or type(error).__name__


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
