"""Structured logs on stderr: JSON lines for machines, readable ones on a terminal. No secret is ever passed to them.

Logging never raises: a line that cannot be written is lost, and whoever wrote it goes on.
"""

from __future__ import annotations

import io
import logging
import os
import sys
from contextlib import suppress
from typing import Any, TextIO, cast

import structlog
import structlog.tracebacks
from structlog.typing import EventDict, ExcInfo, WrappedLogger

from app.thinned_logs import Thinned
from app.visible import visible, visible_lines
from ingest.settings.secret import masked_text

_SHARED: list[structlog.typing.Processor] = [
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_log_level,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
    structlog.processors.StackInfoRenderer(),
]


def configure_logs() -> None:
    """Send our own logs and the libraries' (from WARNING) to stderr in one form."""
    lines = _UnfailingLines(sys.stderr)
    readable = sys.stderr is not None and sys.stderr.isatty()
    last: structlog.typing.Processor = (
        structlog.dev.ConsoleRenderer(
            colors=not os.environ.get("NO_COLOR"),
            exception_formatter=_masked_traceback,  # https://no-color.org
        )
        if readable
        else structlog.processors.JSONRenderer()
    )
    # A traceback without the values of variables: among those are headers, and with them secrets.
    tracebacks = structlog.processors.ExceptionRenderer(
        structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
    )
    errors: list[structlog.typing.Processor] = [_mask, _spell_out] if readable else [tracebacks, _mask]
    structlog.configure(
        processors=[Thinned(), *_SHARED, *errors, last],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(cast("TextIO", lines)),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(lines)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=_SHARED,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *errors, last],
        )
    )
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)


class _UnfailingLines:
    """A stream that loses what cannot be written: on a full disk, into a pipe without a reader, without a stderr."""

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream

    def write(self, text: str) -> None:
        """Write, if it can be written."""
        if self._stream is not None:
            with suppress(OSError, ValueError):  # the latter where the stream is closed
                self._stream.write(text)

    def flush(self) -> None:
        """Have it written, if it can be."""
        if self._stream is not None:
            with suppress(OSError, ValueError):
                self._stream.flush()


def _mask(_logger: WrappedLogger, _method: str, line: EventDict) -> EventDict:
    """Take the secrets out of the URLs that errors of libraries bring along."""
    return {name: _masked(value) for name, value in line.items()}


def _spell_out(_logger: WrappedLogger, _method: str, line: EventDict) -> EventDict:
    """Let nothing from outside move a terminal's cursor; a traceback in a line's text keeps its own lines."""
    traceback = line.pop("traceback", None)
    spelled: EventDict = {name: _visible(value) for name, value in line.items()}
    if traceback is not None:
        spelled["exception"] = visible_lines(str(traceback))
    return spelled


def _visible(value: Any) -> Any:
    if isinstance(value, str):
        return visible(value)
    if isinstance(value, dict):
        return {visible(str(name)): _visible(inner) for name, inner in value.items()}
    return [_visible(inner) for inner in value] if isinstance(value, list | tuple) else value


def _masked(value: Any) -> Any:
    if isinstance(value, str):
        return masked_text(value)
    if isinstance(value, dict):
        return {name: _masked(inner) for name, inner in value.items()}
    return [_masked(inner) for inner in value] if isinstance(value, list) else value


def _masked_traceback(lines: TextIO, error: ExcInfo) -> None:
    text = io.StringIO()
    structlog.dev.plain_traceback(text, error)
    lines.write(visible_lines(masked_text(text.getvalue())))
