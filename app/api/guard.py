"""Asks the access rules before anything else sees a request."""

from __future__ import annotations

from starlette.types import ASGIApp, Receive, Scope, Send

from app.access import AccessRules, refusal
from app.api.problems import problem


class Guard:
    """An ASGI middleware around API and pages."""

    def __init__(self, app: ASGIApp, rules: AccessRules, *, loopback: bool) -> None:
        self._app = app
        self._rules = rules
        self._loopback = loopback

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer it with the refusal."""
        if scope["type"] == "http":
            refused = refusal(
                self._rules,
                loopback=self._loopback,
                method=scope["method"],
                path=scope["path"],
                headers=scope["headers"],
                http_version=scope["http_version"],
            )
            if refused is not None:
                headers = {"WWW-Authenticate": "Bearer"} if refused.status == 401 else None
                await problem(refused.status, refused.detail, headers)(scope, receive, send)
                return
        await self._app(scope, receive, send)
