"""The handler types there are: a file each, listed in `_BUILT_IN`, and those of installed packages.

A package names its settings model as an entry point of the group `headrace.handlers`; the point's name is the `type`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, Annotated, Any, Union, get_args

from pydantic import BeforeValidator, Field, ValidationError
from pydantic_core import InitErrorDetails, PydanticCustomError

from app.handlers.http.settings import HttpSettings
from app.handlers.log import LogSettings
from app.handlers.python import PythonSettings
from ingest.settings.handlers import HandlerSettings

_GROUP = "headrace.handlers"
_BUILT_IN: Mapping[str, type[HandlerSettings]] = {"http": HttpSettings, "log": LogSettings, "python": PythonSettings}
_NOT_YET = {name: f'this version does not run "{name}" yet' for name in ("pubsub", "nats")}


def handler_types(points: Iterable[EntryPoint]) -> tuple[dict[str, type[HandlerSettings]], dict[str, str]]:
    """Return the settings model of each type, and why others cannot be used. What is built in is not replaced."""
    models, refused = dict(_BUILT_IN), dict(_NOT_YET)
    for point in points:
        if point.name in models:
            continue
        try:
            models[point.name] = _loaded(point)
        except Exception as error:
            refused[point.name] = f"{point.value}, which an installed package names for it, cannot be used: {error}"
    return models, refused


def _loaded(point: EntryPoint) -> type[HandlerSettings]:
    model = point.load()
    if not (isinstance(model, type) and issubclass(model, HandlerSettings)):
        raise TypeError("expected a class that extends HandlerSettings")
    if get_args(model.model_fields["type"].annotation) != (point.name,):
        raise TypeError(f'expected its type to be Literal["{point.name}"]')
    return model


_MODELS, _REFUSED = handler_types(entry_points(group=_GROUP))


def _refuse(table: Any) -> Any:
    """Let a table pass unless its type is one that cannot be used. Raises ValidationError, at its key `type`."""
    why = _REFUSED.get(str(table.get("type"))) if isinstance(table, dict) else None
    if why is None:
        return table
    error = PydanticCustomError("refused_type", "{why}", {"why": why})
    raise ValidationError.from_exception_data("handler", [InitErrorDetails(type=error, loc=("type",), input=None)])


if TYPE_CHECKING:
    AnyHandlerSettings = HandlerSettings
else:
    AnyHandlerSettings = Annotated[
        Union[tuple(_MODELS.values())],  # noqa: UP007 - of a tuple that is known when we run
        Field(discriminator="type"),
        BeforeValidator(_refuse),
    ]
