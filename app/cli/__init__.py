"""The command line: `headrace` and `python -m app.cli`."""

from __future__ import annotations

from app.cli.main import run

__all__ = ["run"]
