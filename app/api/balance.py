"""GET /api/v1/balance and /comparison: what was received and delivered, and which ways brought it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from fastapi import APIRouter, Query
from fastapi.responses import JSONResponse
from prometheus_client import CollectorRegistry
from starlette.responses import Response

from app.api.parameters import ComparisonQuery, span_of
from app.api.replies import describes, describes_page, json_reply, page_reply
from storage.engine import Database
from storage.queries import balance, comparison

_AMBIGUOUS = "headrace_events_ambiguous_total"


def balance_router(database: Database, registry: CollectorRegistry, graces: Mapping[str, float]) -> APIRouter:
    """Make the routes. `graces`: how many seconds late an event may come, by source."""
    router = APIRouter(prefix="/api/v1", tags=["balance"], default_response_class=JSONResponse)

    @router.get("/balance", responses=describes(balance.EXAMPLE, 503))
    async def read_balance() -> Response:
        """From received to delivered, with what left at each step, and the evidence of what did not come.

        Counts are of all processes and restarts, except `ambiguous`.
        """
        return json_reply(await database.read(balance.balance, _ambiguous(registry)))

    @router.get("/comparison", responses=describes_page("comparison", comparison.EXAMPLE, 422, 503))
    async def list_comparison(query: Annotated[ComparisonQuery, Query()]) -> Response:
        """Which ways brought the events of each hour, and what each way missed: only where events come several ways.

        Whole hours: a page may have more rows than `limit` where one hour has.
        """
        page = await database.read(comparison.comparison_page, query.filter(), span_of(query), graces)
        return page_reply("comparison", page)

    return router


def _ambiguous(registry: CollectorRegistry) -> dict[str, int]:
    """Return this process's count of numbers that fit no run, by source."""
    families = registry.restricted_registry([_AMBIGUOUS]).collect()
    return {sample.labels["source"]: int(sample.value) for family in families for sample in family.samples}
