"""Whose forwarding headers are believed, by a server on a real socket: `server.trusted_proxies`."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from ipaddress import ip_network
from typing import Any

import httpx
import pytest
from starlette.requests import Request
from starlette.responses import PlainTextResponse

from app.server import Asgi, IngestRouter, make_server
from app.settings import ServerSettings
from ingest.settings.secret import Secret
from tests.support.api import Rules, World, assert_problem

WITH_TOKENS = Rules(read_tokens=(Secret("reader"),), admin_tokens=(Secret("admin"),))
FORWARDED = {"Host": "iot.example.org", "X-Forwarded-Proto": "https", "X-Forwarded-For": "127.0.0.1"}
TOKEN = {"Authorization": "Bearer reader"}


async def say_url(scope: Any, receive: Any, send: Any) -> None:
    """An application that answers with the URL it was asked for."""
    await PlainTextResponse(str(Request(scope).url))(scope, receive, send)


@asynccontextmanager
async def behind(app: Asgi, *trusted: str) -> AsyncIterator[httpx.AsyncClient]:
    """A client on 127.0.0.1 of a server that trusts these networks."""
    listening = socket.create_server(("127.0.0.1", 0))
    settings = ServerSettings(trusted_proxies=tuple(map(ip_network, trusted)))
    server = make_server(IngestRouter({}, app), settings)
    serving = asyncio.create_task(server.serve(sockets=[listening]))
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{listening.getsockname()[1]}") as client:
            yield client
    finally:
        server.should_exit = True
        await serving


@pytest.mark.parametrize(
    ("trusted", "scheme"),
    [
        (("127.0.0.1/32",), "https"),
        (("10.0.0.0/8", "127.0.0.0/8"), "https"),
        (("10.0.0.0/8", "::1/128"), "http"),
        ((), "http"),
    ],
)
async def test_the_scheme_is_what_a_trusted_proxy_names(trusted: tuple[str, ...], scheme: str) -> None:
    """Behind a proxy that ends TLS a request's URL is https; by default, and from others, the header counts nothing."""
    async with behind(say_url, *trusted) as proxy:
        answer = await proxy.get("/api/v1/sources", headers=FORWARDED)
    assert answer.text == f"{scheme}://iot.example.org/api/v1/sources"


@pytest.mark.parametrize("trusted", [(), ("127.0.0.1/32",)])
async def test_trust_in_a_proxy_lets_nobody_in(world: World, trusted: tuple[str, ...]) -> None:
    """Without tokens what a proxy passed on is refused whoever it is and says it is for; with them a token decides."""
    async with behind(world.api(), *trusted) as proxy:
        refused = await proxy.get("/api/v1/sources", headers=FORWARDED | {"Host": "localhost"})
        assert "a proxy passed it on" in assert_problem(refused, 403)["detail"]
        assert (await proxy.get("/api/v1/sources")).status_code == 200
    async with behind(replace(world, rules=WITH_TOKENS).api(), *trusted) as proxy:
        assert_problem(await proxy.get("/api/v1/sources", headers=FORWARDED), 401)
        assert (await proxy.get("/api/v1/sources", headers=FORWARDED | TOKEN)).status_code == 200
