"""The pages: static files that hold no data. The server's policy (app.server) runs nothing but our own scripts."""

from __future__ import annotations

from pathlib import Path

from fastapi import APIRouter, FastAPI
from fastapi.responses import FileResponse
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

FOLDER = Path(__file__).parent.parent / "pages"

_HEADERS = {"Referrer-Policy": "no-referrer", "Cache-Control": "no-cache"}


def add_pages(api: FastAPI) -> None:
    """Serve `/`, `/balance`, `/devices`, `/docs` and what they load from `/assets/`."""
    router = APIRouter(include_in_schema=False, default_response_class=FileResponse)

    @router.get("/")
    @router.head("/")
    async def dashboard() -> FileResponse:
        return FileResponse(FOLDER / "index.html", headers=_HEADERS)

    @router.get("/balance")
    @router.head("/balance")
    async def balance() -> FileResponse:
        return FileResponse(FOLDER / "balance.html", headers=_HEADERS)

    @router.get("/devices")
    @router.head("/devices")
    async def devices() -> FileResponse:
        return FileResponse(FOLDER / "devices.html", headers=_HEADERS)

    @router.get("/docs")
    @router.head("/docs")
    async def docs() -> FileResponse:
        return FileResponse(FOLDER / "docs.html", headers=_HEADERS)

    api.include_router(router)
    api.mount("/assets", _Assets(directory=FOLDER / "assets"))


class _Assets(StaticFiles):
    """Files under their own names: Starlette drops a slash behind them, and a path would have two spellings."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        """Return the file. Raises HTTPException 404 where the path ends with a slash."""
        if scope["path"].endswith("/"):
            raise HTTPException(404)
        return await super().get_response(path, scope)
