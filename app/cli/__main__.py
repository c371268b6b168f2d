"""`python -m app.cli` is `headrace`."""

from __future__ import annotations

import sys

from app.cli.main import run

sys.exit(run())
