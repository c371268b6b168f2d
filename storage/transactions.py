"""Transactions by name: what the process that writes may be asked for, with arguments and answers as MessagePack.

A transaction is a function of a module, marked as such, whose annotations say what it takes and returns: by them each
end reads what the other one wrote. No code travels.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache, cached_property
from importlib import import_module
from inspect import signature
from typing import Any, TypeVar, get_type_hints

import msgspec

_F = TypeVar("_F", bound=Callable[..., object])

_JSON = b"\xc1"  # MessagePack never uses it
_pack = msgspec.msgpack.Encoder(uuid_format="bytes").encode
_decoder = cache(msgspec.msgpack.Decoder)


class Transaction:
    """A marked function: its name, `module:qualname`, and how its arguments and its answer travel."""

    def __init__(self, function: Callable[..., object]) -> None:
        self.name = f"{function.__module__}:{function.__qualname__}"
        self.run = function
        self._signature = signature(function)

    @cached_property
    def argument_types(self) -> Any:
        """Return the type of the arguments behind the connection, as a tuple. They are all positional."""
        hints = get_type_hints(self.run)
        return tuple[tuple(hints[name] for name in list(self._signature.parameters)[1:])]  # type: ignore[misc]

    @cached_property
    def answer_type(self) -> Any:
        """Return the type of what the function returns."""
        return get_type_hints(self.run)["return"]

    def pack_arguments(self, args: tuple[Any, ...], keywords: dict[str, Any]) -> bytes:
        """Return the arguments behind the connection. Raises OverflowError for a number of more than 64 bits."""
        if keywords or len(args) != len(self._signature.parameters) - 1:
            bound = self._signature.bind(None, *args, **keywords)
            bound.apply_defaults()
            args = bound.args[1:]
        return pack(args)


_transactions: dict[Callable[..., object], Transaction] = {}
_by_name: dict[str, Transaction] = {}


def transaction(function: _F) -> _F:
    """Mark a function of a Connection as a transaction."""
    marked = Transaction(function)
    _transactions[function] = _by_name[marked.name] = marked
    return function


def transaction_of(function: Callable[..., object]) -> Transaction:
    """Return the transaction that a function is marked as. Raises LookupError."""
    try:
        return _transactions[function]
    except KeyError:
        raise LookupError(f"{function} is not marked as a transaction") from None


def transaction_named(name: str) -> Transaction:
    """Return the transaction of a name, whose module is imported first. Raises LookupError where there is none."""
    if name not in _by_name:
        import_module(name.partition(":")[0])
    try:
        return _by_name[name]
    except KeyError:
        raise LookupError(f"{name} is not marked as a transaction") from None


def all_transactions() -> list[Transaction]:
    """Return those of the modules that were imported."""
    return list(_by_name.values())


def pack(value: object) -> bytes:
    """Return a value as it travels: as MessagePack, or as JSON where it holds a lone surrogate, which is no UTF-8."""
    try:
        return _pack(value)
    except UnicodeEncodeError:
        return _JSON + json.dumps(msgspec.to_builtins(value)).encode()


def unpack(packed: bytes, type_: Any) -> Any:
    """Return a value that was packed. Raises msgspec.ValidationError where it is not of the type."""
    if packed.startswith(_JSON):
        return msgspec.convert(json.loads(packed[1:]), type_)
    return _decoder(type_).decode(packed)
