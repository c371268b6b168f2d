"""PostgreSQL as providers run it: roles with limits, backends that are ended, other schemas, several servers, TLS."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

import pytest
from sqlalchemy import Connection, text

from ingest.errors import StoreUnavailable
from ingest.event import Outcome
from storage.engine import Database, open_database
from storage.migrate import migrate, require_newest
from storage.store import SqlStore
from tests.contract.test_postgres_settings import take_long
from tests.support.fresh import DEBIAN, POSTGRES, bare_store, server_of
from tests.support.postgres import database_name, debian_programs
from tests.support.records import NOW, numbered
from tests.support.required import missing
from tests.support.server import free_port
from tests.support.stored import positions, rows, run
from tests.support.tls import make_certificate

STORES = (POSTGRES, DEBIAN)


@pytest.fixture(params=STORES)
def kind(request: pytest.FixtureRequest) -> str:
    """The wheel's PostgreSQL, and Debian's."""
    return str(request.param)


@contextmanager
def role_of(kind: str, url: str, *, owns: bool = True) -> Iterator[tuple[str, str]]:
    """A role that is no superuser, and the URL by which it reaches a database, which it may own."""
    server, role = server_of(kind), f"role_{secrets.token_hex(4)}"
    server.execute(f"CREATE ROLE {role} LOGIN")
    try:
        if owns:
            server.execute(f'ALTER DATABASE "{database_name(url)}" OWNER TO {role}')
        yield role, url.replace("postgres:@", f"{role}:@")
    finally:
        server.drop_database(url)
        server.execute(f"DROP ROLE {role}")


async def commit(database: Database, number: int = 0) -> list[Outcome]:
    """Commit an event of its own."""
    return list((await SqlStore(database, lambda: NOW).commit(numbered(1, number))).outcomes)


async def test_ended_backends_cost_no_commit(database: Database, another: Database) -> None:
    """Whoever ends all connections (a pooler, a provider's maintenance, an idle limit) is not noticed by senders."""
    store = SqlStore(database, lambda: NOW)
    for number in range(3):
        await store.commit(numbered(1, number))
        await rows(another, "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
                            "WHERE datname = current_database() AND pid <> pg_backend_pid()")  # fmt: skip
    assert (await store.commit(numbered(1, 3))).outcomes == [Outcome.STORED]
    assert await positions(database) == [1, 2, 3, 4]


async def test_no_connection_left(kind: str, tmp_path: Path) -> None:
    """A commit that gets no connection says that the store is away; when there is one again it goes on by itself."""
    url = bare_store(kind, tmp_path)
    with role_of(kind, url) as (role, its_url):
        database = open_database(its_url)
        server_of(kind).execute(f"ALTER ROLE {role} CONNECTION LIMIT 0")
        with pytest.raises(StoreUnavailable, match="too many connections"):
            await migrate(database)
        server_of(kind).execute(f"ALTER ROLE {role} CONNECTION LIMIT 20")
        await migrate(database)
        assert await commit(database) == [Outcome.STORED]
        await database.close()


async def test_limits_of_the_role(kind: str, tmp_path: Path) -> None:
    """Whatever a role's statements, transactions and locks are limited to, a commit has the time that it needs."""
    url = bare_store(kind, tmp_path)
    with role_of(kind, url) as (role, its_url):
        for name in ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout", "transaction_timeout"):
            try:
                server_of(kind).execute(f"ALTER ROLE {role} SET {name} = '100ms'")
            except subprocess.CalledProcessError:
                assert name == "transaction_timeout"  # older servers do not know it
        database = open_database(its_url)
        await migrate(database)
        await database.write(take_long)
        assert await commit(database) == [Outcome.STORED]
        await database.close()


async def test_another_schema(kind: str, tmp_path: Path) -> None:
    """`options=-csearch_path=…` puts all tables there, and several stores into one database."""
    url = bare_store(kind, tmp_path)
    owner = open_database(url)
    for schema in ("fleet", "lab"):
        await run(owner, f"CREATE SCHEMA {schema}")
        database = open_database(f"{url}&options=-csearch_path%3D{schema}&application_name={schema}")
        await migrate(database)
        await require_newest(database)
        assert await commit(database) == [Outcome.STORED]
        assert await rows(database, "SHOW application_name") == [(schema,)]
        await database.close()
    found = await rows(owner, "SELECT schemaname FROM pg_tables WHERE tablename = 'head' ORDER BY 1")
    assert found == [("fleet",), ("lab",)]
    await owner.close()
    server_of(kind).drop_database(url)


async def test_a_role_that_may_make_no_tables(kind: str, tmp_path: Path) -> None:
    """The error says which right is missing."""
    url = bare_store(kind, tmp_path)
    owner = open_database(url)
    await run(owner, "REVOKE CREATE ON SCHEMA public FROM PUBLIC")
    await owner.close()
    with role_of(kind, url, owns=False) as (_, its_url):
        database = open_database(its_url)
        with pytest.raises(StoreUnavailable, match=r"permission denied for schema public: .* GRANT CREATE ON SCHEMA"):
            await migrate(database)
        await database.close()


async def test_several_servers(kind: str, tmp_path: Path) -> None:
    """The first one that is there and takes writes is used; where none does, the error says so."""
    url = bare_store(kind, tmp_path)
    folder, name = quote(str(server_of(kind).folder), safe=""), database_name(url)
    several = f"postgresql://postgres@{quote(str(tmp_path), safe='')}:5432,127.0.0.1:1,{folder}:5432/{name}"
    database = open_database(several)
    await migrate(database)
    assert await commit(database) == [Outcome.STORED]
    await database.close()

    server_of(kind).execute(f'ALTER DATABASE "{name}" SET default_transaction_read_only = on')
    database = open_database(several)
    with pytest.raises(StoreUnavailable, match=r"no server of store\.url takes writes"):
        await commit(database)
    await database.close()
    server_of(kind).drop_database(url)


@pytest.fixture
def with_tls(tmp_path_factory: pytest.TempPathFactory, tmp_path: Path) -> Iterator[tuple[int, Path]]:
    """The port of a server that speaks TLS on 127.0.0.1, and the certificate by which it is known."""
    programs = debian_programs()
    if programs is None:
        missing("Debian's package postgresql is not installed")
    folder, port = tmp_path_factory.mktemp("tls"), free_port()
    user = "postgres" if os.geteuid() == 0 else None
    certificate, key = make_certificate(folder)
    key.chmod(0o600)
    if user:
        for part in (folder, certificate, key):
            shutil.chown(part, user)
        for part in (folder, *folder.parents[:-2]):
            part.chmod(0o755)
    data = folder / "data"
    initdb = [str(programs / "initdb"), "--auth=trust", "-U", "postgres", "-E", "utf8", "-N", "-D", str(data)]
    subprocess.run(initdb, user=user, cwd="/", check=True, capture_output=True)
    options = f"-h 127.0.0.1 -p {port} -k '' -c ssl=on -c ssl_cert_file={certificate} -c ssl_key_file={key}"
    control = [str(programs / "pg_ctl"), "-w", "-D", str(data), "-l", str(folder / "log")]
    subprocess.run([*control, "-o", options, "start"], user=user, cwd="/", check=True, capture_output=True)
    try:
        yield port, certificate
    finally:
        subprocess.run([*control, "-m", "immediate", "stop"], user=user, cwd="/", check=False, capture_output=True)


def encrypted(connection: Connection) -> bool:
    """Whether this connection is."""
    return bool(connection.execute(text("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()")).scalar_one())


async def test_tls(with_tls: tuple[int, Path], tmp_path: Path) -> None:
    """Each sslmode does what libpq's does: encrypt, verify by a file of authorities, or refuse."""
    port, certificate = with_tls
    (tmp_path / "other").mkdir()
    stranger, _ = make_certificate(tmp_path / "other", owner="another")
    expected = {
        "sslmode=disable": False,
        "sslmode=prefer": True,
        "sslmode=require": True,
        "sslmode=require&channel_binding=prefer": True,
        f"sslmode=verify-ca&sslrootcert={certificate}": True,
        f"sslmode=verify-full&sslrootcert={certificate}": True,
        f"sslmode=verify-full&sslrootcert={stranger}": None,
        "sslrootcert=system": None,
    }
    for options, answer in expected.items():
        database = open_database(f"postgresql://postgres@127.0.0.1:{port}/postgres?{options}")
        if answer is None:
            with pytest.raises(StoreUnavailable, match="certificate verify failed"):
                await database.read(encrypted)
        else:
            assert await database.read(encrypted) is answer, options
        await database.close()
