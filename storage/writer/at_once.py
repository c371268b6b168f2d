"""The writing process of PostgreSQL: several transactions at once, each on a connection."""

from __future__ import annotations

import asyncio
import gc
import socket
from contextlib import suppress
from typing import Any

import structlog
import uvloop

from storage.database import CommitUnanswered
from storage.postgres import PostgresDatabase
from storage.postgres_url import read_postgres_url
from storage.transactions import pack, transaction_named, unpack
from storage.writer.messages import ALIVE, LENGTH, Answer, Opening, Question, framed, reader_of

_ALIVE_SECONDS = 1.0

_read_question = reader_of(Question)


def serve(line: socket.socket, opening: Opening) -> None:
    """Answer until the other end is closed, and then what is still asked."""
    structlog.configure(processors=[_say_nothing])
    gc.freeze()  # see app.start
    uvloop.run(_serve(line, PostgresDatabase(read_postgres_url(opening.url))))


async def _serve(line: socket.socket, database: PostgresDatabase) -> None:
    questions, answers = await asyncio.open_connection(sock=line)
    living = asyncio.create_task(_show_life(answers))
    async with asyncio.TaskGroup() as answering:
        with suppress(asyncio.IncompleteReadError):  # it ends between two questions
            while True:
                size = LENGTH.unpack(await questions.readexactly(LENGTH.size))[0]
                question = _read_question(await questions.readexactly(size))
                answering.create_task(_answer(question, database, answers))
    living.cancel()
    await database.close()


async def _answer(question: Question, database: PostgresDatabase, answers: asyncio.StreamWriter) -> None:
    try:
        asked = transaction_named(question.name)
        result: Any = await database.write(asked.run, *unpack(question.arguments, asked.argument_types))
        answer = Answer(question.number, pack(result))
    except Exception as error:  # whatever it is, who asked has to hear it
        known = pack(error.result) if isinstance(error, CommitUnanswered) else b""
        answer = Answer(question.number, known, type(error).__name__, str(error))
    answers.write(framed(answer))


async def _show_life(answers: asyncio.StreamWriter) -> None:
    """Tell again and again that it works: a server may keep a transaction for longer than a process may be silent."""
    while True:
        answers.write(framed(ALIVE))
        await asyncio.sleep(_ALIVE_SECONDS)


def _say_nothing(*_event: Any) -> Any:
    """Drop what is logged here: the service's own connections meet the same, and the log is the service's."""
    raise structlog.DropEvent
