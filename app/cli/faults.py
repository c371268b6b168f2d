"""What a command reports when it cannot do what it was asked: a plain sentence that says what to do, and no secret."""

from __future__ import annotations

from ingest.errors import ConfigurationError, HeadraceError

FOUND_FAULT = 1
BAD_USAGE = 2


class Fault(HeadraceError):
    """A command ran and found something wrong (exit 1). The message says what to do."""


def report(error: BaseException) -> tuple[int, str]:
    """The exit code and the sentence for what a command raised, without the secrets of any URL in it."""
    code, sentence = _report(error)
    return code, without_secrets(sentence)


def without_secrets(text: str) -> str:
    """Return a text whose URLs show no secrets."""
    from ingest.settings.secret import masked_text  # pydantic takes a while, and --help needs none of it

    return masked_text(text)


def _report(error: BaseException) -> tuple[int, str]:
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    if isinstance(error, ConfigurationError):
        return BAD_USAGE, str(error)
    if isinstance(error, HeadraceError):
        return FOUND_FAULT, str(error)
    return FOUND_FAULT, f"{type(error).__name__}: {error} (this is unexpected; --debug shows the traceback)"
