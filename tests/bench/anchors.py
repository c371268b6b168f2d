"""What Headrace is measured against, in the same run: `python -m tests.bench.anchors NAME PORT FOLDER` serves one.

`bare` answers 204 from ASGI, `empty` is a FastAPI route that only reads the body, `naive` is the code one would write
first: a model, a session, a commit per request, with the same durability (WAL, synchronous=FULL). `counting` and
`hanging` receive deliveries.
"""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI, Request, Response
from pydantic import BaseModel
from sqlalchemy import create_engine, event
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column


async def bare(scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:
    """The least an ASGI application can do with a POST."""
    while (await receive()).get("more_body"):
        pass
    await send({"type": "http.response.start", "status": 204, "headers": []})
    await send({"type": "http.response.body"})


def counting() -> ASGIApplication:
    """As `bare`, and a GET tells how many POSTs have come: what deliveries are counted by."""
    count = 0

    async def application(scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:
        nonlocal count
        if scope["method"] == "POST":
            await bare(scope, receive, send)
            count += 1
            return
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": str(count).encode()})

    return application


async def hanging(scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:
    """Never answer."""
    while (await receive())["type"] != "http.disconnect":
        pass


def empty() -> FastAPI:
    """A FastAPI route that reads the body and does nothing with it."""
    app = FastAPI()

    @app.post("/ingest/fleet")
    async def ingest(request: Request) -> Response:
        await request.body()
        return Response(status_code=204)

    return app


class Webhook(BaseModel):
    """A Particle webhook's body."""

    event: str
    data: str | None = None
    coreid: str | None = None
    published_at: str | None = None


class Tables(DeclarativeBase):
    """Where the naive application's table is declared."""


class StoredEvent(Tables):
    """One row for each request."""

    __tablename__ = "events"

    id: Mapped[int] = mapped_column(primary_key=True)
    event: Mapped[str]
    data: Mapped[str | None]
    coreid: Mapped[str | None]
    published_at: Mapped[str | None]


def naive(folder: Path) -> FastAPI:
    """FastAPI, SQLAlchemy and SQLite with a commit per request."""
    engine = create_engine(f"sqlite:///{folder / 'naive.db'}", connect_args={"timeout": 30}, pool_size=40)

    @event.listens_for(engine, "connect")
    def durable(connection: Any, _: Any) -> None:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")

    Tables.metadata.create_all(engine)
    app = FastAPI()

    @app.post("/ingest/fleet", status_code=204)
    def ingest(webhook: Webhook) -> None:
        with Session(engine) as session:
            session.add(StoredEvent(**webhook.model_dump()))
            session.commit()

    return app


ASGIApplication = Callable[[MutableMapping[str, Any], Any, Any], Awaitable[None]]
ANCHORS: dict[str, Callable[[Path], Any]] = {
    "bare": lambda _: bare,
    "counting": lambda _: counting(),
    "hanging": lambda _: hanging,
    "empty": lambda _: empty(),
    "naive": naive,
}


def serve(name: str, port: int, folder: Path) -> None:
    """Serve an anchor as Headrace serves itself: the same loop, the same parser, no access log."""
    uvicorn.run(
        ANCHORS[name](folder),
        port=port,
        loop="uvloop",
        http="httptools",
        ws="none",
        lifespan="off",
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        backlog=4096,
    )


if __name__ == "__main__":
    serve(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]))
