"""uvicorn alone: `python -m tests.support.conversations.alone PORT` serves an application that takes every body."""

from __future__ import annotations

import sys
from collections.abc import MutableMapping
from typing import Any

import uvicorn


async def application(scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:
    """Read the body, and answer 204."""
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        if not message["more_body"]:
            break
    await send({"type": "http.response.start", "status": 204, "headers": []})
    await send({"type": "http.response.body"})


if __name__ == "__main__":
    uvicorn.run(  # as Headrace does it: the same loop, the same parser
        application,
        port=int(sys.argv[1]),
        loop="uvloop",
        http="httptools",
        ws="none",
        lifespan="off",
        log_level="error",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=75,
    )
