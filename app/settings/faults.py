"""Faults of a configuration as plain sentences: the key's full name, what was expected, never the value."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Set
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Any, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from app.settings.environment import variable

Key = tuple[str | int, ...]

_EXPECTED = {
    "missing": "required",
    "int_type": "expected a whole number",
    "int_parsing": "expected a whole number",
    "int_from_float": "expected a whole number",
    "int_parsing_size": "expected a smaller number",
    "bool_type": "expected true or false",
    "bool_parsing": "expected true or false",
    "string_type": "expected a text in quotes",
    "is_instance_of": "expected a text in quotes",
    "path_type": "expected a path in quotes",
    "string_pattern_mismatch": "expected a label of lower-case letters, digits and _ that begins with a letter",
    "string_too_short": "expected a text that is not empty",
    "dict_type": "expected a table",
    "mapping_type": "expected a table",
    "model_type": "expected a table",
    "model_attributes_type": "expected a table",
    "tuple_type": "expected a list",
    "literal_error": "expected {expected}",
    "union_tag_invalid": "expected {expected_tags}",
    "union_tag_not_found": "required",
    "greater_than_equal": "expected at least {ge}",
    "less_than_equal": "expected at most {le}",
    "ip_any_network": 'expected a network such as "10.0.0.0/8"',
}
_BARE = re.compile(r"[A-Za-z0-9_-]+")


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong: where, and what was expected there."""

    key: Key
    text: str

    def sentence(self, variables: Iterable[tuple[str, ...]]) -> str:
        """Return the fault on one line; it names the environment variable where one of `variables` (keys) gave the
        value.
        """
        names = tuple(part for part in self.key if isinstance(part, str))
        origin = next((f" (from {variable(key)})" for key in variables if key[: len(names)] == names), "")
        return f"{dotted(self.key)}: {self.text}{origin}"


def dotted(key: Key) -> str:
    """Return `access.read_tokens[0]`, a key as TOML writes it, with the index of an item behind it."""
    parts = (f"[{part}]" if isinstance(part, int) else f".{_quoted(part)}" for part in key)
    return "".join(parts).removeprefix(".")


def _quoted(name: str) -> str:
    return name if _BARE.fullmatch(name) else json.dumps(name)


def faults_of(error: ValidationError, model: type[BaseModel], tree: Mapping[str, Any]) -> Iterator[Fault]:
    """Yield what pydantic found in `tree`, in our words."""
    known = tuple(known_keys(model))
    for detail in error.errors(include_url=False, include_input=False):
        key, type_ = _key(detail, tree)
        if detail["type"] != "extra_forbidden":
            yield Fault(key, _expected(detail, type_))
        elif type_ is not None and any(_labelled(candidate, key) == key for candidate in known):
            yield Fault(key, f'does not go with type = "{type_}"')
        else:
            possible = known_keys(model, types=frozenset(detail["loc"]))  # where tables have types, these are in it
            best = nearest(key, possible)
            best = best if best[:-1] == key[:-1] else nearest(key, known)
            yield Fault(key, f"unknown key; the nearest known one is {dotted(best)}")


def _key(detail: ErrorDetails, tree: Mapping[str, Any]) -> tuple[Key, str | None]:
    """Return the key that is at fault, and the type of its table where that decides which keys there are.

    Behind a table whose `type` is one of several models, pydantic puts that type between its key and the next.
    """
    parts = [part for part in detail["loc"] if part != "[key]"]
    if detail["type"].startswith("union_tag_"):
        parts.append("type")
    key: list[str | int] = []
    here: Any = tree
    type_ = None
    for number, part in enumerate(parts, 1):
        if isinstance(here, Mapping) and number < len(parts) and part == here.get("type") != type_:
            type_ = str(part)
            continue
        key.append(part)
        here, type_ = (here.get(part), None) if isinstance(here, Mapping) and number < len(parts) else (None, type_)
    return tuple(key), type_


def _expected(detail: ErrorDetails, type_: str | None) -> str:
    context = detail.get("ctx", {})
    if detail["type"] == "value_error":
        return str(context["error"])
    if type_ is not None and detail["type"] in {"missing", "too_short", "string_too_short"}:
        return f'required with type = "{type_}"'
    return _EXPECTED.get(detail["type"], detail["msg"]).format_map(context)


def nearest(key: Key, known: Iterable[Key]) -> Key:
    """Return the known key that looks most like `key`; a label in it stays."""
    name = dotted(key)
    return max(
        (_labelled(candidate, key) for candidate in known),
        key=lambda candidate: SequenceMatcher(None, dotted(candidate), name).ratio(),
    )


def _labelled(candidate: Key, key: Key) -> Key:
    label = key[1] if len(key) > 1 else "label"
    return tuple(label if part == "*" else part for part in candidate)


def known_keys(model: type[BaseModel], prefix: Key = (), types: Set[Any] = frozenset()) -> Iterator[Key]:
    """Yield every key that may be written, tables included; `*` stands for a label.

    Of a table whose type is one of `types` only those that go with it.
    """
    for name, field in model.model_fields.items():
        key = (*prefix, field.alias or name)
        yield key
        inner = (*key, "*") if get_origin(field.annotation) is Mapping else key
        tables = list(_models_in(field.annotation))
        for table in [each for each in tables if _has_type(each, types)] or tables:
            yield from known_keys(table, inner, types)


def _has_type(model: type[BaseModel], types: Set[Any]) -> bool:
    return "type" in model.model_fields and not types.isdisjoint(get_args(model.model_fields["type"].annotation))


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _models_in(argument)
