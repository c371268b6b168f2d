"""What we use of libraries beyond what they document (ARCHITECTURE.md, "Reaches"): each failure names what moved."""

from __future__ import annotations

import asyncio
import inspect
import tomllib
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any, cast

import httptools
import httpx
import pytest
import uvicorn
from aiohttp import TCPConnector
from google.api_core import bidi
from google.cloud.pubsub_v1 import SubscriberClient
from google.cloud.pubsub_v1.subscriber import scheduler
from httpx_sse._decoders import SSEDecoder
from packaging.requirements import Requirement
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from app.handlers.http.connector import HeadFirst, make_connector
from ingest.sources.pubsub.bridge import Bridge
from ingest.sources.pubsub.client import _HELPERS, _Over
from ingest.sources.sse.opening import make_client
from ingest.sources.sse.tap import Tap

_ROOT = Path(__file__).parents[2]
_REACHED_INTO = (
    *("uvicorn", "httptools", "httpx", "httpx-sse", "httpcore", "aiohttp"),
    *("google-cloud-pubsub", "google-api-core"),
)


@pytest.mark.parametrize("name", _REACHED_INTO)
def test_a_library_that_is_reached_into_has_an_upper_bound(name: str) -> None:
    """A version that nobody has looked at is not installed, and the one that is here was."""
    project = tomllib.loads((_ROOT / "pyproject.toml").read_text())["project"]
    requirement = next(r for r in map(Requirement, project["dependencies"]) if r.name == name)

    assert any(bound.operator == "<" for bound in requirement.specifier), f"{name} has no upper bound in pyproject.toml"
    assert version(name) in requirement.specifier, f"{name} {version(name)} is outside {requirement.specifier}"


def test_uvicorn_protocol() -> None:
    """GuardedProtocol overrides these callbacks and reads these attributes of a connection."""
    config = uvicorn.Config(lambda *_: None, interface="asgi3", lifespan="off", log_config=None)
    config.load()
    protocol = HttpToolsProtocol(config, ServerState(), {}, asyncio.new_event_loop())

    for name in (
        *("parser", "connections", "flow", "loop", "transport", "scheme", "scope", "headers", "cycle", "pipeline"),
        *("expect_100_continue", "server_state", "timeout_keep_alive", "timeout_keep_alive_task"),
    ):
        assert hasattr(protocol, name), f"uvicorn's HttpToolsProtocol has no attribute {name} any more"
    for name, parameters in {
        "connection_made": ["transport"],
        "connection_lost": ["exc"],
        "data_received": ["data"],
        "eof_received": [],
        "on_headers_complete": [],
        "on_body": ["body"],
        "on_message_complete": [],
        "on_response_complete": [],
        "send_400_response": ["msg"],
        "pause_writing": [],
        "resume_writing": [],
        "_unset_keepalive_if_required": [],
    }.items():
        method = getattr(protocol, name, None)
        assert method is not None, f"uvicorn's HttpToolsProtocol has no {name} any more"
        assert list(inspect.signature(method).parameters) == parameters, (
            f"HttpToolsProtocol.{name} takes other arguments"
        )
    protocol.loop.close()
    assert ServerState().default_headers == [], "uvicorn's ServerState.default_headers is no list of headers any more"


def test_uvicorn_cycle_flow_and_server() -> None:
    """The guard looks at the request that is being answered, holds the reading, and leaves signals to the service."""
    needed = {"scope", "keep_alive", "response_started", "response_complete"}
    source = inspect.getsource(RequestResponseCycle.__init__)
    missing = {name for name in needed if f"self.{name} = " not in source}
    assert not missing, f"uvicorn's RequestResponseCycle does not set {missing} any more"
    flow = FlowControl(cast("asyncio.Transport", None))
    assert flow.read_paused is False, "uvicorn's FlowControl.read_paused is gone"
    assert callable(flow.pause_reading) and callable(flow.resume_reading), "uvicorn's FlowControl reads by other names"  # noqa: PT018
    assert inspect.isgeneratorfunction(inspect.unwrap(uvicorn.Server.capture_signals)), (
        "uvicorn's Server.capture_signals is no context manager any more"
    )
    assert "self.capture_signals()" in inspect.getsource(uvicorn.Server.serve), (
        "uvicorn's Server.serve does not take its signals by capture_signals any more"
    )


def test_httptools_errors() -> None:
    """What a callback of ours raised is the context of the parser's error; an offer says where it stopped."""

    class Refuses:
        def on_headers_complete(self) -> None:
            raise ValueError("ours")

    with pytest.raises(httptools.HttpParserError) as refused:
        httptools.HttpRequestParser(Refuses()).feed_data(b"GET / HTTP/1.1\r\n\r\n")
    assert isinstance(refused.value.__context__, ValueError), (
        "httptools does not keep a callback's error as the context"
    )

    head = b"GET / HTTP/1.1\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n"
    with pytest.raises(httptools.HttpParserUpgrade) as offer:
        httptools.HttpRequestParser(object()).feed_data(head + b"rest")
    assert offer.value.args[0] == len(head), "httptools' HttpParserUpgrade does not say any more where the head ends"


async def test_httpcore_network_stream() -> None:
    """A connection reads by its stream's `read` each time, so that one may be put in its place."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n")
        await writer.drain()
        await tapped.wait()
        writer.write(b"body")
        writer.close()

    tapped = asyncio.Event()
    looks: list[str] = []

    async def before() -> None:
        looks.append("before")

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, make_client(5, 5) as client, client.stream("GET", f"http://127.0.0.1:{port}/") as response:
        stream = response.extensions["network_stream"]
        assert stream.get_extra_info("socket").fileno() > 0, (
            "httpcore's network stream does not give its socket any more"
        )
        tap = Tap(stream, asyncio.get_running_loop().time, before, lambda: looks.append("after"))
        tapped.set()
        body = b"".join([chunk async for chunk in response.aiter_raw()])
    assert (body, tap.reads, looks[:2]) == (b"body", 1, ["before", "after"]), (
        "httpcore does not read by its network stream's `read` any more"
    )


async def test_httpx_redirect() -> None:
    """A response hook may take the Location away before httpx looks at it."""

    async def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(302, headers={"Location": "http://[nowhere"})

    client = make_client(5, 5)
    async with httpx.AsyncClient(transport=httpx.MockTransport(answer), event_hooks=client.event_hooks) as mocked:
        response = await mocked.get("http://x/")
    await client.aclose()
    assert response.next_request is None, "httpx reads the Location of a redirect before its response hooks"


def test_google_client_opens_its_stream_by_its_own_method() -> None:
    """WatchedClient overrides `streaming_pull`, and the client calls it for each stream, with its requests alone."""
    from google.cloud.pubsub_v1.subscriber._protocol import streaming_pull_manager

    assert "start_rpc=self._client.streaming_pull" in inspect.getsource(streaming_pull_manager), (
        "Google's client does not open its stream by SubscriberClient.streaming_pull any more"
    )
    assert list(inspect.signature(SubscriberClient.streaming_pull).parameters)[:2] == ["self", "requests"], (
        "Google's SubscriberClient.streaming_pull takes other arguments"
    )


def test_google_client_gives_up_at_a_call_that_is_over() -> None:
    """Where a call cannot be opened, the stream is done with the error of that call, and opens no other."""
    calls: list[_Over] = []

    def opened(*_args: Any, **_keywords: Any) -> _Over:
        calls.append(_Over())
        return calls[-1]

    done: list[BaseException] = []
    rpc = bidi.ResumableBidiRpc(
        opened, initial_request=None, should_recover=lambda _: False, should_terminate=lambda _: True
    )
    rpc.add_done_callback(done.append)
    rpc.open()
    assert (len(calls), len(done)) == (1, 1), "google.api_core's stream does not end with a call that is over"


@pytest.mark.parametrize("name", sorted(_HELPERS))
def test_google_client_names_its_threads(name: str) -> None:
    """They are looked at by their names."""
    from google.cloud.pubsub_v1.subscriber._protocol import dispatcher, heartbeater, leaser

    names = {
        dispatcher._CALLBACK_WORKER_NAME,
        heartbeater._HEARTBEAT_WORKER_NAME,
        leaser._LEASE_WORKER_NAME,
    }
    assert name in names, f"Google's client has no thread {name} any more: it has {sorted(names)}"


def test_google_scheduler_is_stopped_between_receiving_and_acknowledging() -> None:
    """The client closes its consumer, then stops the scheduler, and only then leases and acknowledgements."""
    from google.cloud.pubsub_v1.subscriber._protocol import streaming_pull_manager

    source = inspect.getsource(streaming_pull_manager.StreamingPullManager._shutdown)
    order = [
        source.find(step)
        for step in ("_consumer.stop()", "_scheduler.shutdown(", "_leaser.stop()", "_dispatcher.stop()")
    ]
    assert -1 < order[0] < order[1] < min(order[2:]), "Google's client stops its parts in another order"


@pytest.fixture
def bridge() -> Iterator[Bridge]:
    """A scheduler of ours."""
    loop = asyncio.new_event_loop()
    yield Bridge(loop, 1.0, lambda: 0.0)
    loop.close()


def test_google_scheduler_interface(bridge: Bridge) -> None:
    """The bridge has what the client calls, with the same arguments."""
    for name in ("schedule", "shutdown"):
        theirs = list(inspect.signature(getattr(scheduler.ThreadScheduler, name)).parameters)[1:]
        ours = list(inspect.signature(getattr(bridge, name)).parameters)
        assert ours == theirs, f"Google's Scheduler.{name} takes {theirs}"
    assert bridge.queue.empty()


def test_httpx_sse_decoder() -> None:
    """A frame is read line by line, and what it held is what an empty line gives back."""
    decoder = SSEDecoder()
    for line in ("event: e", "data: d", "id: 7", "retry: 5"):
        assert decoder.decode(line) is None, "httpx-sse's decoder gives an event ahead of the empty line"
    event = decoder.decode("")

    assert event is not None, "httpx-sse's decoder gives no event at an empty line any more"
    assert (event.event, event.data, event.id, event.retry) == ("e", "d", "7", 5)


async def test_aiohttp_connector() -> None:
    """The pool of the http handler makes its protocols by a factory that is ours."""
    connector = make_connector(keep_alive_seconds=1.0)
    try:
        assert "_factory" in vars(TCPConnector()), "aiohttp's TCPConnector has no attribute _factory any more"
        assert isinstance(connector._factory(), HeadFirst), "aiohttp's TCPConnector is not asked for protocols any more"
    finally:
        await connector.close()
