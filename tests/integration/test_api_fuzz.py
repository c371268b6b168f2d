"""Whatever is asked of the documented paths, valid or not, the answer is one that the document promises."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable
from prometheus_client import CollectorRegistry
from schemathesis import GenerationMode
from schemathesis.core.result import Ok

from app.api import HandlersHere
from app.handlers.log import LogSettings
from ingest.metrics import Metrics
from storage.engine import open_database
from storage.migrate import migrate
from tests.support.api import World, a_status, an_event

HOST = {"host": "localhost"}
ELSEWHERE = ("/ingest", "/hooks")  # stand in front of the application: their own tests ask them


@pytest.fixture
def filled(tmp_path: Path) -> Iterator[World]:
    """A server with events, a source, a handler and a dead letter."""
    database = open_database(f"sqlite:///{tmp_path}/test.db")
    handlers = HandlersHere("me", {"alerts": LogSettings()})
    world = World(database, Metrics(CollectorRegistry()), states=[a_status()], handlers=handlers)

    async def fill() -> None:
        await migrate(database)
        await world.commit(an_event(), an_event(1, data=b"\xff", device=None, attributes={"a": "\ud800"}))
        await world.give_up(1)

    asyncio.run(fill())
    yield world
    asyncio.run(database.close())


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE], ids=["valid", "invalid"])
def test_answers_keep_to_the_document(filled: World, mode: GenerationMode) -> None:
    """Status, content type and body are as documented for generated requests; there is never a 500."""
    document = schemathesis.openapi.from_asgi("/openapi.json", filled.api(), headers=HOST)
    asked = 0
    for result in document.get_all_operations():
        assert isinstance(result, Ok)
        operation = result.ok()
        if operation.path.startswith(ELSEWHERE):
            continue

        @settings(max_examples=20, deadline=None, database=None, suppress_health_check=list(HealthCheck))
        @given(case=operation.as_strategy(generation_mode=mode))
        def ask(case: schemathesis.Case[Any]) -> None:
            nonlocal asked
            case.validate_response(case.call(headers=HOST))
            asked += 1

        try:
            ask()
        except Unsatisfiable:
            assert mode is GenerationMode.NEGATIVE  # where there is no parameter, nothing can be wrong with it
    assert asked > 60
