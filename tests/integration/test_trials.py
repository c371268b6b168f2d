"""A handler tried out with one event: what it answers is told, and nothing else happens."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import select

from app.api import HandlersHere
from app.handlers.http.settings import HttpSettings
from app.handlers.log import LogSettings
from app.handlers.python import PythonSettings
from app.settings import HandlerSettings
from app.trial import TrialOf, try_apart
from ingest.settings.secret import Secret
from storage.tables import crash_marks, cursors, deliveries
from tests.support.api import EVENT, Rules, World, an_event, assert_problem
from tests.support.raw_receiver import RawReceiver, raw_receiver, saying

CODE = """
import asyncio, os, time
print("imported")
async def takes(event):
    print(event.name)
def raises(event):
    raise ValueError(f"no rule for {event.name}")
async def blocks(event):
    time.sleep(60)
async def waits(event):
    await asyncio.sleep(60)
def leaves(event):
    os._exit(7)
def quits(event):
    raise SystemExit(3)
"""


@pytest.fixture
async def receiver() -> AsyncIterator[RawReceiver]:
    """A receiver that answers 204 until it is told otherwise."""
    async with raw_receiver() as receiver:
        yield receiver


def python(function: str, **values: Any) -> HandlerSettings:
    """A handler of the module above."""
    return PythonSettings.model_validate({"call": f"tried_out:{function}", "timeout": "300ms"} | values)


def configure(world: World, folder: Path, settings: HandlerSettings) -> None:
    """Let the server have one handler."""
    (folder / "tried_out.py").write_text(CODE)
    world.handlers = HandlersHere("me", {"alerts": settings}, folder)


async def tried(world: World, body: Mapping[str, str] | None = None) -> dict[str, Any]:
    """What the API tells of a trial."""
    async with world.client(authorization="Bearer made") as client:
        answer = await client.post("/api/v1/handlers/alerts/test", json=body, timeout=60)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


async def test_the_answer_of_a_receiver_is_told(world: World, receiver: RawReceiver, tmp_path: Path) -> None:
    """Status and text, of a success too, at most 500 characters, without the secrets that it repeats."""
    secret = "Bearer abcdefgh"
    configure(world, tmp_path, HttpSettings(url=receiver.url, headers={"X-Key": Secret(secret)}, format="plain"))
    text = f"{secret} ".encode() + b"x" * 600
    receiver.answer = saying(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(text), text))
    told = await tried(world)
    assert (told["delivered"], told["status"], told["cause"], told["error"]) == (True, 200, None, None)
    assert told["answer"].startswith("******** xxx")
    assert len(told["answer"]) == 500
    receiver.answer = saying(b"HTTP/1.1 503 No\r\ncontent-length: 9\r\n\r\ntry later")
    told = await tried(world)
    assert (told["delivered"], told["status"], told["answer"]) == (False, 503, "try later")
    assert (told["cause"], told["error"]) == ("server_error", "answered 503")
    assert len(receiver.received) == 2


async def test_a_stored_event_is_delivered_as_it_is(world: World, receiver: RawReceiver, tmp_path: Path) -> None:
    """By its id; a sample is one that the handler's filters let through, in its format."""
    settings = {"url": receiver.url, "format": "plain", "names": ["alarm/"], "devices": ["d7"], "products": ["pumps"]}
    configure(world, tmp_path, HttpSettings.model_validate(settings))
    await world.commit(an_event())
    told = await tried(world, {"id": str(EVENT.id)})
    assert told["id"] == str(EVENT.id) == json.loads(receiver.received[0].body)["id"]
    assert (told["status"], told["answer"]) == (204, "")
    told = await tried(world)
    sample = json.loads(receiver.received[1].body)
    assert (sample["id"], sample["name"], sample["device"]) == (told["id"], "alarm/", "d7")
    assert sample["product"] == "pumps"


@pytest.mark.parametrize(
    ("function", "cause", "error"),
    [
        ("takes", None, None),
        ("raises", "handler_error", "ValueError: no rule for headrace/test"),
        ("quits", "handler_error", "SystemExit: 3"),
        ("waits", "timeout", "TimeoutError: not done within 0.3 s"),
        ("blocks", "timeout", "TimeoutError: did not return, and was left behind at tried_out.py:9"),
        ("leaves", "crashed", "its process ended: exit code 7"),
    ],
)
async def test_python_code_is_tried_where_it_harms_nobody(
    world: World, tmp_path: Path, function: str, cause: str | None, error: str | None
) -> None:
    """Whether it raises, waits, blocks or ends the process: that is told, and the server goes on meanwhile."""
    configure(world, tmp_path, python(function))
    trial = asyncio.create_task(tried(world))
    async with world.client() as client:
        assert (await client.get("/livez")).status_code == 200
        assert not trial.done()
    told = await trial
    assert (told["delivered"], told["cause"], told["error"]) == (cause is None, cause, error)
    assert (told["status"], told["answer"]) == (None, None)


async def test_a_trial_changes_nothing_in_the_store(world: World, tmp_path: Path) -> None:
    """No cursor, no parked row and no mark, of an event that is a dead letter either."""
    await world.commit(an_event(), an_event(1))
    await world.give_up(1)
    configure(world, tmp_path, python("raises"))

    async def rows() -> list[Any]:
        queries = [select(table) for table in (cursors, deliveries, crash_marks)]
        return await world.database.read(lambda connection: [connection.execute(query).all() for query in queries])

    before = await rows()
    assert not (await tried(world, {"id": str(EVENT.id)}))["delivered"]
    assert await rows() == before


async def test_a_handler_is_tried_once_at_a_time(world: World, tmp_path: Path) -> None:
    """Another try is 409 meanwhile, so that code which hangs cannot pile up."""
    configure(world, tmp_path, python("waits", timeout="2s"))
    path = "/api/v1/handlers/alerts/test"
    async with world.client(authorization="Bearer made") as client:
        answers = await asyncio.gather(*(client.post(path, timeout=60) for _ in range(3)))
        assert sorted(answer.status_code for answer in answers) == [200, 409, 409]
        assert (await client.post(path, timeout=60)).status_code == 200


async def test_only_administrators_try_what_there_is(world: World, tmp_path: Path) -> None:
    """Without a token 401, with a reader's 403; 404 for an unknown handler or event; 422 for an odd body."""
    world.rules = Rules(read_tokens=(Secret("reader"),), admin_tokens=(Secret("admin"),))
    configure(world, tmp_path, LogSettings())
    path = "/api/v1/handlers/alerts/test"
    async with world.client() as nobody, world.client(authorization="Bearer reader") as reader:
        assert_problem(await nobody.post(path), 401)
        assert_problem(await reader.post(path), 403)
    async with world.client(authorization="Bearer admin") as admin:
        assert (await admin.post(path)).json()["delivered"]
        assert_problem(await admin.post("/api/v1/handlers/nobody/test"), 404)
        assert_problem(await admin.post(path, json={"id": str(UUID(int=1))}), 404)
        for body in (b"[]", b'{"id": "x"}', b'{"ids": []}', b"\xff"):
            assert_problem(await admin.post(path, content=body), 422)
        assert_problem(await admin.post(path, content=b" " * (1 << 21)), 413)


async def test_a_handler_that_cannot_be_made_says_why(world: World, tmp_path: Path) -> None:
    """The sentence names the key."""
    configure(world, tmp_path, python("missing"))
    async with world.client(authorization="Bearer made") as client:
        problem = assert_problem(await client.post("/api/v1/handlers/alerts/test", timeout=60), 422)
    assert problem["detail"].startswith("handlers.alerts.call: tried_out")


async def test_a_process_knows_the_secrets_of_files(receiver: RawReceiver, tmp_path: Path) -> None:
    """A secret that is read again when its file changes is sent as it is now."""
    settings = HttpSettings(url=receiver.url, headers={"X-Key": Secret(lambda: "of a file")})
    told = await try_apart(TrialOf("alerts", settings, tmp_path, an_event()))
    assert told.delivered, told.error
    assert receiver.received[0].headers["x-key"] == "of a file"
