"""`[sources.<label>]`: whose events arrive, by which modes, and in which format."""

from __future__ import annotations

from collections.abc import Mapping, Set
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    Field,
    SerializerFunctionWrapHandler,
    ValidationInfo,
    create_model,
    field_validator,
    model_serializer,
    model_validator,
)

from ingest.formats.message_id import parse_message_place
from ingest.formats.pointer import parse_place, parse_pointer
from ingest.formats.product import SentProduct, parse_product_place
from ingest.settings.fields import STRICT, Text, Texts, split_text
from ingest.settings.quantities import PositiveDuration, parse_count
from ingest.sources import modes

IGNORE = ("hook-sent/", "hook-response/", "hook-error/")


def _place(text: str) -> str:
    parse_place(text)
    return text


def _product_place(text: str) -> str:
    parse_product_place(text)
    return text


def _message_place(text: str) -> str:
    parse_message_place(text)
    return text


def _modes(value: Any) -> Any:
    chosen = split_text(value)
    if not isinstance(chosen, list) or not chosen or any(chosen.count(one) > 1 or one not in modes() for one in chosen):
        raise ValueError(f"expected {', '.join(modes())}, or a list with each at most once")
    return chosen


def _pointer(text: str) -> str:
    parse_pointer(text)
    return text


Place = Annotated[str, AfterValidator(_place)]
JsonPointer = Annotated[str, AfterValidator(_pointer)]
Number = Annotated[int, BeforeValidator(parse_count), Field(ge=0, lt=10**18)]
Modes = Annotated[tuple[str, ...], BeforeValidator(_modes)]


class FieldSettings(BaseModel):
    """The places where the generic format finds the parts of an event; None is its default.

    A place is a JSON pointer, "header:Name", "attribute:Name" or "sse:id".
    """

    model_config = STRICT

    id: Place | None = None
    device: Place | None = None
    name: Place | None = None
    time: Place | None = None
    data: Place | None = None


class ProductSettings(BaseModel):
    """Whose events these are: a word, which is `default` alone; or what stands at `from` is a key of `map`."""

    model_config = STRICT

    place: Annotated[Text, AfterValidator(_product_place)] | None = Field(default=None, alias="from")
    map: Mapping[Text, Text] = Field(default_factory=dict)
    default: Text

    def sent(self) -> SentProduct | None:
        """Return how the sender says it; None where it does not."""
        return None if self.place is None else SentProduct(parse_product_place(self.place), self.map)

    @property
    def names(self) -> Set[str]:
        """Return all products that events may be of."""
        return {self.default, *self.map.values()}

    @model_validator(mode="before")
    @classmethod
    def _word_or_table(cls, value: Any) -> Any:
        if value == "":
            raise ValueError("expected a text that is not empty")
        if not isinstance(value, str | dict):
            raise ValueError("expected a text in quotes, or a table with from, map and default")
        return {"default": value} if isinstance(value, str) else value

    @model_serializer(mode="wrap")
    def _as_configured(self, serialize: SerializerFunctionWrapHandler) -> Any:
        return self.default if self.place is None else serialize(self)


class SourceSettings(BaseModel):
    """One source. `product` and the defaults of the modes' tables are filled in from the label before validation."""

    model_config = STRICT

    products: ProductSettings = Field(alias="product")
    modes: Modes = Field(default=("webhook",), alias="mode")
    format: Literal["particle", "generic"] = "particle"
    fields: FieldSettings | None = None
    ignore: Texts = IGNORE
    message_id: Annotated[str, AfterValidator(_message_place)] | None = None
    sequence: JsonPointer | None = None
    sequence_first: Number | None = None
    sequence_modulus: Annotated[Number, Field(ge=16)] | None = None
    sequence_names: Texts = ()
    sequence_epoch: JsonPointer | None = None
    loss_grace: PositiveDuration = timedelta(minutes=5)
    silent_after: PositiveDuration | None = None

    if TYPE_CHECKING:

        def __getattr__(self, mode: str) -> Any: ...

    @property
    def product(self) -> str:
        """Return the product of all events, or of those whose sender says none that we know."""
        return self.products.default

    def table(self, mode: str) -> Any:
        """Return the table of a mode, whether it runs or not."""
        return getattr(self, mode)

    @field_validator("fields")
    @classmethod
    def _only_generic(cls, fields: FieldSettings | None, info: ValidationInfo) -> FieldSettings | None:
        if fields is not None and info.data.get("format") == "particle":
            raise ValueError('does not go with format = "particle"')
        return fields

    @field_validator("sequence_first", "sequence_modulus", "sequence_names", "sequence_epoch")
    @classmethod
    def _only_with_sequence(cls, value: Any, info: ValidationInfo) -> Any:
        if value not in (None, ()) and info.data.get("sequence", "") is None:
            raise ValueError("needs sequence, the place of the counter")
        return value

    @field_validator("sequence_modulus")
    @classmethod
    def _beyond_first(cls, modulus: int | None, info: ValidationInfo) -> int | None:
        if modulus is not None and (info.data.get("sequence_first") or 0) >= modulus:
            raise ValueError("expected more than sequence_first")
        return modulus


# A table for each mode; which there are is known when the program runs.
SourceSettings = create_model(  # type: ignore[misc, call-overload]
    "SourceSettings", __base__=SourceSettings, **{name: (mode.settings, ...) for name, mode in modes().items()}
)
