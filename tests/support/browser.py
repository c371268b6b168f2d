"""Chromium by its DevTools protocol: for what a user does on a page, not only what it shows."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

_PATIENCE_SECONDS = 60.0
_FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync", "--remote-debugging-port=0"),
    *("--disable-background-networking", "--disable-component-update"),
)


class Page:
    """One page that is open."""

    def __init__(self, line: aiohttp.ClientWebSocketResponse) -> None:
        self._line = line
        self._number = 0

    async def evaluate(self, expression: str) -> Any:
        """Return what an expression of JavaScript gives, also where it is a promise."""
        self._number += 1
        asked = {"expression": expression, "returnByValue": True, "awaitPromise": True}
        await self._line.send_json({"id": self._number, "method": "Runtime.evaluate", "params": asked})
        while True:
            answer = await self._line.receive_json(timeout=_PATIENCE_SECONDS)
            if answer.get("id") == self._number:
                return answer.get("result", {}).get("result", {}).get("value")

    async def wait_until(self, expression: str) -> None:
        """Return when an expression is true. Raises AssertionError with the page's text after a minute."""
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while await self.evaluate(expression) is not True:
            if time.monotonic() > deadline:
                raise AssertionError(f"{expression}: {await self.evaluate('document.body.innerText')}")
            await asyncio.sleep(0.05)


@asynccontextmanager
async def opened(chromium: str, url: str, profile: Path) -> AsyncIterator[Page]:
    """A page that is open inside the block."""
    browser = await asyncio.create_subprocess_exec(
        *(chromium, *_FLAGS, f"--user-data-dir={profile}", url),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(_PATIENCE_SECONDS):
            while not (found := re.search(rb"ws://([^/]+)/", await _line_of(browser))):
                pass
        async with aiohttp.ClientSession() as session:
            async with session.get(f"http://{found[1].decode()}/json/list") as answer:
                pages = [each for each in await answer.json() if each["type"] == "page"]
            async with session.ws_connect(pages[0]["webSocketDebuggerUrl"]) as line:
                yield Page(line)
    finally:
        browser.kill()
        await browser.wait()


async def _line_of(browser: asyncio.subprocess.Process) -> bytes:
    assert browser.stderr is not None
    line = await browser.stderr.readline()
    assert line, "the browser ended"
    return line
