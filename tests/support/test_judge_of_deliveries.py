"""The judge of deliveries sees each kind of wrong, and the receiver writes down what it is sent."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import pytest

from tests.support.deliveries.account import Account, Row, Stored, Tally, Tried
from tests.support.deliveries.answers import STORMS, TAKEN, Answer, Weather, weather
from tests.support.deliveries.journal import Connected, Delivered, Entry, Flooded, Refused
from tests.support.deliveries.judge import FLOOD_BYTES, Rules, faults
from tests.support.deliveries.running import RunningReceiver
from tests.support.server import wait_until
from tests.support.tls import client_context

RULES = Rules(devices=frozenset("ab"), attempts=2, timeout=1.0, probe=1.0)
EVENTS = [Stored(position, UUID(int=position), "abc"[position % 3]) for position in range(1, 10)]
TALLY = Tally(position=9, first=0, unmatched=3, delivered=6, deleted=0, skipped=0)
ACCOUNT = Account(EVENTS, [], TALLY)
SEED, HANDSHAKES = 52, 15  # with both kinds of TLS fault among them, and none that hangs
OK, FAILED = Answer.OK, Answer.SERVER_ERROR
ALL = (1, 3, 4, 6, 7, 9)  # those of a are 3, 6 and 9, of b 1, 4 and 7


def came(*positions: int | tuple[int, Answer]) -> list[Entry]:
    """Deliveries of these positions, a second apart, taken unless said otherwise."""
    entries: list[Entry] = []
    for at, each in enumerate(positions, 1):
        position, answer = each if isinstance(each, tuple) else (each, OK)
        entries.append(Delivered(UUID(int=position), 1, float(at), 1, answer))
    return entries


def dead(position: int, *attempts: int, status: int | None = 500) -> Row:
    """A dead letter with attempts at these seconds."""
    history = [Tried(datetime.fromtimestamp(at, UTC), status, "server_error") for at in attempts]
    return Row(position, len(attempts), True, "server_error", history)


def account(*rows: Row, parked: Sequence[Row] = (), **tally: int) -> Account:
    """What the store says: all was delivered but for these."""
    known = {"delivered": len(ALL) - len(rows) - len(parked)} | tally
    return Account(EVENTS, [*rows, *parked], replace(TALLY, **known))


TWICE_FAILED = came((3, FAILED), 1, (3, FAILED), 4, 6, 7, 9)
WAITING = Row(9, 0, False, None, [])
DIED_AT_2 = replace(RULES, deaths=(2.5,))


@pytest.mark.parametrize(
    ("entries", "store", "rules"),
    [
        (came(*ALL), ACCOUNT, RULES),
        (came(3, 6, 9, 1, 4, 7), ACCOUNT, RULES),
        (came((1, FAILED), (1, Answer.HANG), *ALL), ACCOUNT, RULES),
        (came(1, 3, 1, 3, 4, 6, 7, 9), ACCOUNT, DIED_AT_2),  # what was not saved comes again
        (came(1, 4, 1, 4, 3, 6, 7, 9), ACCOUNT, DIED_AT_2),  # though what is behind it was taken
        (came((1, Answer.REFUSED), 4, (1, Answer.REFUSED), 3, 6, 7, 9), account(dead(1, 3, status=422)), DIED_AT_2),
        (TWICE_FAILED, account(dead(3, 1, 3)), RULES),
        (came(3, 6, *ALL[:1], 4, 7), account(parked=[WAITING]), RULES),
        (came(*ALL[:-1]), replace(ACCOUNT, tally=replace(TALLY, position=8, unmatched=3, delivered=5)), RULES),
        (TWICE_FAILED, account(dead(3, 1, 3)), replace(RULES, open=((3.1, 4.0),))),
        ([*came(*ALL), Flooded(1, FLOOD_BYTES)], ACCOUNT, RULES),
    ],
)
def test_what_is_right(entries: list[Entry], store: Account, rules: Rules) -> None:
    """Nothing is found where everything is as it should be."""
    assert faults(entries, store, rules) == []


@pytest.mark.parametrize(
    ("fault", "entries", "store", "rules"),
    [
        ("lost", came(*ALL[1:]), ACCOUNT, RULES),
        ("lost", came((1, FAILED), *ALL[1:]), ACCOUNT, RULES),
        ("out of order", came(4, 1, 3, 6, 7, 9), ACCOUNT, RULES),
        ("out of order", came((1, FAILED), 4, 1, 3, 6, 7, 9), ACCOUNT, RULES),
        ("out of order", came((1, FAILED), 4, 1, 3, 6, 7, 9), ACCOUNT, replace(RULES, attempts=8, deaths=(2.5,))),
        ("twice", came(1, *ALL), ACCOUNT, RULES),
        ("twice", came((1, Answer.BIG_BODY), *ALL), ACCOUNT, RULES),
        ("twice", came(1, *ALL), ACCOUNT, replace(RULES, deaths=(0.5, 2.5))),
        ("twice", came(*ALL, 1), ACCOUNT, replace(RULES, deaths=(6.5,))),  # it had been saved by then
        ("dead without", came(*ALL[1:]), account(dead(1)), RULES),
        ("dead before", came((3, FAILED), 1, 4, 6, 7, 9), account(dead(3, 1)), RULES),
        ("dead, though", came(*ALL), account(dead(1, 1, 2)), RULES),
        ("attempts that", came((3, FAILED), 1, 4, 6, 7, 9), account(dead(3, 1, 2)), RULES),
        ("a history", TWICE_FAILED, account(replace(dead(3, 1, 3), attempts=3)), RULES),
        ("died while", TWICE_FAILED, account(dead(3, 1, 3)), replace(RULES, open=((2.5, 4.0),))),
        ("6 deliveries while", came(*ALL), ACCOUNT, replace(RULES, open=((-1.0, 6.5),), probe=5.0)),
        ("passed 9", came(*ALL), account(delivered=5), RULES),
        ("tallied 2", came(*ALL), account(unmatched=2, delivered=7), RULES),
        ("rows of", came(*ALL), account(dead(2, 1, 2), unmatched=2, delivered=6), RULES),
        ("delivered, but", came(*ALL, 2), ACCOUNT, RULES),
        ("delivered, but", came(*ALL, 99), ACCOUNT, RULES),
        ("wrong requests", [*came(*ALL[1:]), Delivered(UUID(int=1), 1, 9.0, 1, OK, "unsigned")], ACCOUNT, RULES),
        ("took", [*came(*ALL), Flooded(1, FLOOD_BYTES + 1)], ACCOUNT, RULES),
    ],
)
def test_what_is_wrong(fault: str, entries: list[Entry], store: Account, rules: Rules) -> None:
    """Each kind of wrong is found."""
    assert any(found.startswith(fault) for found in faults(entries, store, rules)), faults(entries, store, rules)


def test_weather() -> None:
    """A seed gives the same answers again, each kind among them, and storms of different kinds."""
    events = [UUID(int=number) for number in range(5_000)]
    first, again = (answers(weather(1, 20_000, len(STORMS)), events) for _ in range(2))
    assert first == again != answers(weather(2, 20_000, 3), events)
    assert set(first) == set(Answer) - {Answer.TLS_ALERT, Answer.TLS_UNTRUSTED}
    assert sum(answer in TAKEN for answer in first) > 0.9 * len(events)
    assert {storm.answer for storm in weather(1, 20_000, len(STORMS)).storms} == set(STORMS)


def answers(of: Weather, events: list[UUID]) -> list[Answer]:
    """How the first delivery of each is answered."""
    return [of.answer(event, 1) for event in events]


def test_the_receiver_writes_down(tmp_path: Path) -> None:
    """Each connection, whether its handshake went well, and each request with what is wrong with it."""
    with RunningReceiver(tmp_path / "receiver", Weather(seed=SEED), tls=True) as receiver:
        request = b"POST /events HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}"
        for _ in range(HANDSHAKES):
            with suppress(OSError), client(receiver) as connection:
                connection.sendall(request)
                assert connection.recv(100)[:9] in {b"HTTP/1.1 ", b""}
        wait_until(
            lambda: sum(not isinstance(each, Delivered) for each in receiver.journal.read()) >= HANDSHAKES,
            10,
            "not all",
        )
        entries = receiver.journal.entries
    assert {type(entry) for entry in entries} >= {Connected, Delivered, Refused}
    assert {entry.answer for entry in entries if isinstance(entry, Refused)} == {
        Answer.TLS_ALERT,
        Answer.TLS_UNTRUSTED,
    }
    assert all("Missing required headers" in entry.fault for entry in entries if isinstance(entry, Delivered))


def client(receiver: RunningReceiver) -> ssl.SSLSocket:
    """A connection to a receiver, verified."""
    context = client_context(receiver.certificate)
    return context.wrap_socket(
        socket.create_connection(("127.0.0.1", receiver.port), timeout=10), server_hostname="127.0.0.1"
    )
