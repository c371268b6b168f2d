"""What the sections of the configuration share: strictness, texts, lists, and choices that are not built yet."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

from pydantic import BeforeValidator, ConfigDict, StringConstraints
from pydantic_core import PydanticCustomError

from app.settings.environment import split_list
from app.settings.faults import NOT_YET

STRICT = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


def split_text(value: Any) -> Any:
    """A list where `value` is a text with commas or in JSON; anything else as it is. Raises ValueError."""
    return split_list(value) if isinstance(value, str) else value


def refuse_unbuilt(*choices: str) -> Callable[[Any], Any]:
    """A validator that refuses choices of the documentation which this version does not run yet."""

    def refuse(value: Any) -> Any:
        chosen = value if isinstance(value, list) else [value]
        for choice in choices:
            if choice in chosen:
                raise PydanticCustomError(NOT_YET, f'this version does not run "{choice}" yet')
        return value

    return refuse


Text = Annotated[str, StringConstraints(min_length=1)]
Texts = Annotated[tuple[Text, ...], BeforeValidator(split_text)]
Label = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]*\z")]
