"""The writing process of SQLite: one transaction after the other."""

from __future__ import annotations

import socket

from sqlalchemy import make_url

from storage.sqlite import WritingConnection
from storage.transactions import pack, transaction_named, unpack
from storage.writer.messages import ALIVE, LENGTH, Answer, Opening, Question, framed, reader_of

_read_question = reader_of(Question)


def serve(line: socket.socket, opening: Opening) -> None:
    """Answer until the other end is closed."""
    connection = WritingConnection(make_url(opening.url), opening.file)
    line.sendall(framed(ALIVE))
    with line.makefile("rb", buffering=1 << 18) as questions:
        while head := questions.read(LENGTH.size):
            question = _read_question(questions.read(LENGTH.unpack(head)[0]))
            line.sendall(framed(_answer(question, connection)))
    connection.close()


def _answer(question: Question, connection: WritingConnection) -> Answer:
    try:
        asked = transaction_named(question.name)
        result = connection.run(asked.run, *unpack(question.arguments, asked.argument_types))
        return Answer(question.number, pack(result))
    except Exception as error:  # whatever it is, who asked has to hear it
        return Answer(question.number, b"", type(error).__name__, str(error))
