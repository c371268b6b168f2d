"""The code that our pages show, so that tests run what readers copy."""

from __future__ import annotations

import re
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]


def blocks(page: str, language: str) -> list[str]:
    """The code blocks of a language in a page (`README.md`, `docs/…`), in order."""
    text = (CHECKOUT / page).read_text()
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


def block(page: str, language: str, holds: str) -> str:
    """The first of them that holds a text."""
    return next(code for code in blocks(page, language) if holds in code)
