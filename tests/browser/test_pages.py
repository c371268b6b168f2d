"""The pages in a real browser, filled from a real server: what an operator sees, and what a device cannot do to it."""

from __future__ import annotations

import asyncio
import re
import shutil
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from app.server import make_server
from app.settings import ServerSettings
from ingest.event import Cause, Origin, Reason, Reject
from ingest.metrics import Metrics
from ingest.sequences import LossRange, LossState
from ingest.settings.secret import Secret
from storage.coverage import SqlCoverage
from storage.cursors import SqlCursors
from storage.engine import open_database
from storage.migrate import migrate
from storage.sequences import AUDITOR, Followed
from tests.support.api import NOW, Rules, World, a_status, an_event
from tests.support.browser import opened
from tests.support.heard_devices import a_counter, a_device, a_loss, keep
from tests.support.required import missing

FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--virtual-time-budget=2500", "--dump-dom"),
)
PATIENCE_SECONDS = 60
CONTROLS = [chr(code) for code in (0x61C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A))]
FLEET = Origin("tracker", "fleet", "sse")


@pytest.fixture
def chromium() -> str:
    """The browser's program."""
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    return found or missing("no Chromium")


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    """A server over an empty store."""
    database = open_database(f"sqlite:///{tmp_path}/test.db")
    await migrate(database)
    yield World(database, Metrics(CollectorRegistry()))
    await database.close()


@asynccontextmanager
async def serving(world: World) -> AsyncIterator[str]:
    """The address of a server that runs inside the block."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = make_server(world.api(), ServerSettings())
        running = asyncio.create_task(server.serve(sockets=[listener]))
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            await running


async def dom_of(chromium: str, url: str, profile: Path) -> str:
    """The page's markup after some seconds of its own time."""
    browser = await asyncio.create_subprocess_exec(
        *(chromium, *FLAGS, f"--user-data-dir={profile}", url),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    async with asyncio.timeout(PATIENCE_SECONDS):
        out, _ = await browser.communicate()
    return out.decode()


def text_of(dom: str, table: str) -> str:
    """What is written in the body of a table, tags left out."""
    found = re.search(rf'<table id="{table}".*?<tbody>(.*?)</tbody>', dom, re.DOTALL)
    assert found, dom
    return re.sub(r"<[^>]+>", " ", found[1])


async def test_an_operator_sees_counters_sources_handlers_gaps_events_and_rejects(
    chromium: str, world: World, tmp_path: Path
) -> None:
    """Within seconds of opening the page everything is there, the counters adding up."""
    await world.commit(an_event(), an_event(1, name="spark/status", data=b"online", device=None))
    await world.commit(
        Reject(source="fleet", mode="webhook", received_at=NOW, reason=Reason.NOT_AN_OBJECT, body=b'"just text"')
    )
    await world.give_up(1)
    coverage = SqlCoverage(world.database)
    await coverage.end((await coverage.open(FLEET, 0, ago=9000)).interval, Cause.DOWN, ago=7260)
    await coverage.end((await coverage.open(FLEET, 0, ago=60)).interval, Cause.IDLE, ago=30)
    world.states.append(a_status())
    async with serving(world) as url:
        dom = await dom_of(chromium, f"{url}/", tmp_path / "profile")

    assert re.search(r'data-count="received"><dt>Received</dt><dd>8</dd>', dom)
    assert "Received is the sum of the other six" in dom
    assert text_of(dom, "sources").split()[:4] == ["fleet", "webhook", "tracker", "running"]
    assert text_of(dom, "handlers").split() == ["alerts", "running", "0", "0.0", "s", "0", "1"]
    gaps = text_of(dom, "gaps").split()
    assert gaps[:4] == ["fleet", "sse", "idle", "open"]
    assert gaps[gaps.index("down") - 2 :][:4] == ["fleet", "sse", "down", "over"]
    assert gaps[-3:] == ["2", "h", "0"]
    names = re.findall(r'class="key"[^>]*>([^<]+)', dom[dom.index('<table id="events"') :])
    assert names == ["spark/status", "temperature", "not_an_object"]
    assert '"just text"' in text_of(dom, "rejects")


async def test_the_balance_leads_from_received_to_delivered(chromium: str, world: World, tmp_path: Path) -> None:
    """What left at each step is there, with where to look, and gaps and losses are on one axis of time."""
    await world.commit(an_event(), an_event(), an_event(1))
    await world.commit(
        Reject(source="fleet", mode="webhook", received_at=NOW, reason=Reason.NOT_AN_OBJECT, body=b'"just text"')
    )
    await world.give_up(1)
    coverage = SqlCoverage(world.database)
    await coverage.end((await coverage.open(FLEET, 0, ago=9000)).interval, Cause.DOWN, ago=7260)
    await coverage.open(FLEET, 0, ago=3660)
    cursor = await SqlCursors(world.database).acquire(AUDITOR, holder="one", begin="beginning")
    assert cursor is not None
    now = round(time.time() * 1e6)
    lost = [LossRange(1, "fleet", "tracker", "<b>", 5, 16, LossState.LOST, now - 1_800_000_000, now)]
    await cursor.advance(0, followed=Followed(ranges=lost))
    async with serving(world) as url, opened(chromium, f"{url}/balance", tmp_path / "profile") as page:
        await page.wait_until("!document.getElementById('content').hidden")

        async def cells(table: str) -> list[str]:
            return list(await page.evaluate(f"[...document.querySelectorAll('#{table} td')].map(td => td.textContent)"))

        kinds = "overlap 0, redelivery 1, redundant 0, resend 0"
        assert await cells("received") == ["fleet", "webhook", "4", "1", "0", "1", kinds, "2", "0", "2"]
        assert (await cells("passed"))[:2] == ["alerts", "2"]
        assert (await cells("losses"))[:8] == ["fleet", "12", "0", "0", "0", "1", "60 min", "0"]
        labels = "[...document.querySelectorAll('#axis .label')].map(label => label.textContent)"
        assert await page.evaluate(labels) == ["fleet", "fleet sse"]
        titles = await page.evaluate("[...document.querySelectorAll('#axis rect')].map(mark => mark.textContent)")
        assert titles[0].startswith("12 lost, of 1 devices")
        assert titles[1].startswith("down: ")
        right = "[...document.querySelectorAll('#axis rect')].map(mark => +mark.getAttribute('x')).every(x => x > 850)"
        assert await page.evaluate(right) is True
        await page.evaluate(
            "const s = document.getElementById('span'); s.value = '1'; s.dispatchEvent(new Event('change'))"
        )
        await page.wait_until(f"({labels}).length === 1")
        links = "[...document.querySelectorAll('main a')].map(link => new URL(link.href).pathname)"
        for path in await page.evaluate(links):
            assert await page.evaluate(f"fetch('{path}').then(answer => answer.status)") == 200


async def test_what_devices_send_is_only_ever_text(chromium: str, world: World, tmp_path: Path) -> None:
    """Markup in a name, a device or a reject's body is shown as it was sent: it makes no element and runs nothing."""
    attack = "<img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script>"
    await world.commit(
        an_event(name=attack, device=attack, data=attack.encode()),
        Reject(source="fleet", mode="webhook", received_at=NOW, reason=Reason.MALFORMED_JSON, body=attack.encode()),
    )
    world.states.append(a_status(reason=attack))
    async with serving(world) as url:
        dom = await dom_of(chromium, f"{url}/", tmp_path / "profile")

    assert "<title>Headrace</title>" in dom
    assert "<img" not in dom
    assert dom.count("<script") == 1
    assert dom.count("&lt;img src=x") >= 4


async def test_bidirectional_controls_are_spelled_out(chromium: str, world: World, tmp_path: Path) -> None:
    """What a device sends is shown in the order it has, in cells and in what a cell says when it is pointed at."""
    turned = "".join(f"{number}{control}" for number, control in enumerate(CONTROLS))
    spelled = "".join(f"{number}\\u{ord(control):04x}" for number, control in enumerate(CONTROLS))
    await world.commit(
        an_event(name=turned, device=turned, data=turned.encode(), content_type=turned),
        Reject(source="fleet", mode="webhook", received_at=NOW, reason=Reason.MALFORMED_JSON, body=turned.encode()),
    )
    world.states.append(a_status(reason=turned))
    async with serving(world) as url:
        dom = await dom_of(chromium, f"{url}/", tmp_path / "profile")

    assert not set(CONTROLS) & set(dom)
    assert text_of(dom, "events").count(spelled) == 3
    assert f'title="{spelled}"' in dom
    assert spelled in text_of(dom, "rejects")
    assert spelled in text_of(dom, "sources")


async def test_the_page_asks_for_a_token(chromium: str, world: World, tmp_path: Path) -> None:
    """Where tokens guard the data the page shows a form and none of the data."""
    world.rules = Rules(read_tokens=(Secret("reader"),))
    await world.commit(an_event())
    async with serving(world) as url:
        dom = await dom_of(chromium, f"{url}/", tmp_path / "profile")

    assert re.search(r'<form id="token-form" class="card">', dom)
    assert re.search(r'<main id="content" hidden="">', dom)
    assert "temperature" not in dom


async def test_the_printed_link_carries_the_token(chromium: str, world: World, tmp_path: Path) -> None:
    """The page that is opened by the link that `serve` prints asks for no token."""
    world.rules = Rules(read_tokens=(Secret("reader"),))
    await world.commit(an_event())
    async with serving(world) as url:
        dom = await dom_of(chromium, f"{url}/#token=made", tmp_path / "profile")

    assert re.search(r'<form id="token-form" class="card" hidden="">', dom)
    assert "temperature" in dom


@pytest.mark.parametrize(
    ("page", "shows"),
    [("/", "headrace_events_stored_total"), ("/balance", "headrace_events_stored_total"), ("/docs", '"openapi":')],
)
async def test_links_to_data_work_with_tokens(
    page: str, shows: str, chromium: str, world: World, tmp_path: Path
) -> None:
    """Metrics and the OpenAPI document open from their link, with the token that the page has or then asks for."""
    world.rules = Rules(read_tokens=(Secret("reader"),))
    async with serving(world) as url, opened(chromium, f"{url}{page}", tmp_path / "profile") as tab:
        await tab.wait_until("!document.getElementById('token-form').hidden")
        await tab.evaluate("document.querySelector('a[data-token]').click()")
        await tab.wait_until("!document.getElementById('token-form').hidden")
        await tab.evaluate("document.getElementById('token').value = 'reader'")
        await tab.evaluate("document.getElementById('token-form').requestSubmit()")
        await tab.wait_until("document.getElementById('token-form').hidden")
        await tab.evaluate("document.querySelector('a[data-token]')?.click()")
        await tab.wait_until(f"location.protocol === 'blob:' && document.body.innerText.includes('{shows}')")


async def test_times_are_utc_wherever_the_reader_is(
    chromium: str, world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Dates and hours are of one zone, which the headings name, on a machine that is elsewhere."""
    monkeypatch.setenv("TZ", "Pacific/Auckland")
    await world.commit(an_event())
    async with serving(world) as url:
        dom = await dom_of(chromium, f"{url}/", tmp_path / "profile")

    assert "2026-07-28 16:53:05.616" in text_of(dom, "events")
    heads = re.findall(r'<th scope="col"[^>]*>([^<]+)', dom)
    assert {"Published, UTC", "Received, UTC", "Since, UTC", "Until, UTC"} <= set(heads)


async def test_the_documentation_is_readable_without_the_internet(chromium: str, world: World, tmp_path: Path) -> None:
    """/docs lists every operation with parameters and examples, loading nothing from elsewhere."""
    async with serving(world) as url:
        dom = await dom_of(chromium, f"{url}/docs", tmp_path / "profile")

    assert "`" not in re.sub(r"<script.*?</script>", "", dom)
    assert "<code>{</code>" in dom
    assert "event=temperature&amp;data=%7B%22t%22%3A21.5%7D&amp;coreid=e00fce682e79a004f1e69a2b" in dom
    assert dom.count("<details") == sum(len(path) for path in world.api().openapi()["paths"].values())
    for shown in ("/ingest/fleet", "/api/v1/events/{id}", "published before this time", "e00fce682e79a004f1e69a2b"):
        assert shown in dom


async def test_which_devices_stopped_is_one_list(chromium: str, world: World, tmp_path: Path) -> None:
    """The page of devices shows those its address asks for, others when its filters change, and markup as text."""
    attack = "<img src=x onerror=\"document.title='owned'\">"
    rows = [a_device("goes-on"), a_device("stopped", 3), a_device(attack, 5, product="boron", firmware=attack)]
    await keep(world.database, rows, [a_loss(1, "stopped")], [a_counter("stopped", 41)])
    async with (
        serving(world) as url,
        opened(chromium, f"{url}/devices?silent=true&product=tracker", tmp_path / "profile") as tab,
    ):
        shown = "[...document.querySelectorAll('#devices tbody td.key')].map((cell) => cell.textContent).join()"
        await tab.wait_until(f"{shown} === 'stopped'")
        text = await tab.evaluate("document.querySelector('#devices tbody').textContent")
        assert "behind 41" in str(text)
        filters = "document.getElementById('filters').elements"
        choose = "document.getElementById('filters').dispatchEvent(new Event('change'))"
        await tab.evaluate(f"{filters}.product.value = ''; {choose}")
        await tab.wait_until(f"{shown}.endsWith(',stopped')")
        await tab.evaluate(f"{filters}.silent.checked = false; {choose}")
        await tab.wait_until(f"{shown}.endsWith(',goes-on,stopped') && location.search === ''")
        assert await tab.evaluate("document.querySelectorAll('img').length") == 0
        assert await tab.evaluate("document.title") == "Devices · Headrace"
