"""Transactions by name: what the process that writes is asked for can be found and read there."""

from __future__ import annotations

import pkgutil
import re
from collections.abc import Callable, Iterator
from importlib import import_module
from inspect import Parameter, getsource, signature
from types import ModuleType
from typing import Any
from uuid import UUID

import msgspec
import pytest

import app.api.handlers
import storage
from ingest.deliveries import Parked, Seen
from ingest.event import Ignored, Outcome, Record
from storage.transactions import all_transactions, pack, transaction_named, transaction_of, unpack
from tests.support.records import NOW, a_reject, an_event

_WRITES = re.compile(r"(?<!_transport)\.(?:write|alter|_write)\(\s*(?P<work>[\w.]+)\s*[,)]")


def modules() -> Iterator[ModuleType]:
    """Every module of the store, and the one outside that writes to it."""
    for module in pkgutil.walk_packages(storage.__path__, "storage."):
        # What is copied goes to PostgreSQL alone, which a command writes in its own process.
        if not module.name.startswith(("storage.migrations", "storage.copying")):
            yield import_module(module.name)
    yield app.api.handlers


def written() -> Iterator[Callable[..., Any]]:
    """What the code gives to a database to write, by the name that stands there."""
    for module in modules():
        for found in _WRITES.finditer(getsource(module)):
            value: object = module
            for part in found["work"].split("."):
                value = getattr(value, part, None)
            if callable(value):  # not a parameter, which stands for what is passed on
                yield value


def test_whatever_is_written_is_a_transaction() -> None:
    """A function that a service could not send would fail with SQLite and in production only."""
    found = set(written())

    assert len(found) >= 13, found
    for work in found:
        assert transaction_named(transaction_of(work).name).run is work


def test_the_arguments_of_a_transaction_have_places_and_types() -> None:
    """They travel as a tuple, which the other end reads by the annotations."""
    list(modules())
    for transaction in all_transactions():
        parameters = signature(transaction.run).parameters.values()
        assert {parameter.kind for parameter in parameters} == {Parameter.POSITIONAL_OR_KEYWORD}, transaction.name
        msgspec.msgpack.Decoder(transaction.argument_types)
        msgspec.msgpack.Decoder(transaction.answer_type)


@pytest.mark.parametrize("name", ["os:system", "storage.store:_lock_head", "storage.store:nothing"])
def test_a_name_that_is_not_registered_is_refused(name: str) -> None:
    """Whatever it stands for."""
    with pytest.raises(LookupError, match="not marked as a transaction"):
        transaction_named(name)


@pytest.mark.parametrize("name", ["whole", "half \ud800"], ids=["utf-8", "surrogate"])
def test_values_travel_unchanged(name: str) -> None:
    """Records and what else transactions take or return, also where a text is no UTF-8."""
    ignored = Ignored(source="s", mode=an_event().mode, received_at=NOW)
    records: list[Record] = [an_event(name, attributes={"a": name}), a_reject(), ignored]
    parked = Parked(1, name, 2, NOW, None, "because")
    sent = records, [Outcome.STORED], Seen(3, UUID(int=7)), parked, None, b"\xff"

    assert unpack(pack(sent), tuple[list[Record], list[Outcome], Seen | None, Parked, int | None, bytes]) == sent
