"""The parts that sections of the configuration share: strictness, texts and lists."""

from __future__ import annotations

import json
from typing import Annotated, Any

from pydantic import BeforeValidator, ConfigDict, StringConstraints

STRICT = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


def split_list(text: str) -> list[Any]:
    """Split a JSON list, or texts with commas between them.

    Raises ValueError where it begins as JSON and is not a list.
    """
    if not text.lstrip().startswith("["):
        return [item.strip() for item in text.split(",") if item.strip()]
    try:
        return list(json.loads(text))
    except ValueError:
        raise ValueError("expected a JSON list, or texts with commas between them") from None


def split_text(value: Any) -> Any:
    """Return a list where `value` is a text with commas or in JSON; anything else as it is. Raises ValueError."""
    return split_list(value) if isinstance(value, str) else value


Text = Annotated[str, StringConstraints(min_length=1)]
Texts = Annotated[tuple[Text, ...], BeforeValidator(split_text)]
Label = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]*\z")]
