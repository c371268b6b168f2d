"""Structured logs on stderr: JSON lines for machines, readable ones on a terminal. No secret is ever passed to them."""

from __future__ import annotations

import logging
import sys

import structlog
import structlog.tracebacks

_SHARED: list[structlog.typing.Processor] = [
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_log_level,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
    structlog.processors.StackInfoRenderer(),
]


def configure_logs() -> None:
    """Send our own logs and the libraries' (from WARNING) to stderr in one form."""
    readable = sys.stderr.isatty()
    last: structlog.typing.Processor = (
        structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
        if readable
        else structlog.processors.JSONRenderer()
    )
    # A traceback without the values of variables: among those are headers, and with them secrets.
    tracebacks = structlog.processors.ExceptionRenderer(
        structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
    )
    errors: list[structlog.typing.Processor] = [] if readable else [tracebacks]
    structlog.configure(
        processors=[*_SHARED, *errors, last],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=_SHARED,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *errors, last],
        )
    )
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
