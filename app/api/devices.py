"""GET /api/v1/products, /devices, /devices/{id} and /silences: what was heard of devices, and which stopped."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Literal

import msgspec
from fastapi import APIRouter, Path, Query
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.responses import Response

from app.api.parameters import STRICT, Device, Limit, Text
from app.api.replies import Responses, describes, describes_list, json_reply
from app.device_cursor import order_of, read_cursor, write_cursor
from storage.engine import Database
from storage.queries import device_rows, devices, products, silences
from storage.queries.device_rows import Silences
from storage.queries.devices import Cursor, DeviceFilter, DeviceSpan, Order

After = Annotated[
    str | None, Field(pattern=r"^[A-Za-z0-9_-]+$", max_length=8192, description="`next` of a page before")
]


class DeviceQuery(BaseModel):
    """A filter of devices, and one page of them."""

    model_config = STRICT

    product: Text | None = None
    silent: Annotated[bool, Field(description="only those that are silent")] = False
    missing: Annotated[bool, Field(description="only those of which numbers are missing or lost")] = False
    order: Annotated[
        Literal["device", "-device", "heard", "-heard"],
        Field(description="by id, or by when one was heard last; `-`: backwards"),
    ] = "device"
    limit: Limit = 100
    after: After = None

    def filter(self) -> DeviceFilter:
        """Return what the store is asked for."""
        return DeviceFilter(self.product, self.silent, self.missing)

    def span(self) -> DeviceSpan:
        """Return the page that the store is asked for. Raises HTTPException 404."""
        order, descending = order_of(self.order)
        return DeviceSpan(self.limit, order, descending, _cursor(self.after, order))


class SilenceQuery(BaseModel):
    """One page of silences."""

    model_config = STRICT

    limit: Limit = 100
    after: After = None


class OneDeviceQuery(BaseModel):
    """Of which product a device is meant."""

    model_config = STRICT

    product: Annotated[Text | None, Field(description="where several products have a device of this id")] = None


def devices_router(database: Database, silences_now: Callable[[], Silences]) -> APIRouter:
    """Make the routes of products, devices and silences."""
    router = APIRouter(prefix="/api/v1", tags=["devices"], default_response_class=JSONResponse)

    @router.get("/products", responses=describes_list("products", products.EXAMPLE, errors=(503,)))
    async def list_products() -> Response:
        """Every product that devices are of: how many, how many of them are silent, and what they send."""
        return json_reply({"products": await database.read(products.product_rows, silences_now())})

    @router.get("/devices", responses=_describes_page("devices", device_rows.EXAMPLE))
    async def list_devices(query: Annotated[DeviceQuery, Query()]) -> Response:
        """Devices: what was heard of each, what is missing, and since when it is silent. Go on with `after=<next>`."""
        page = await database.read(devices.devices_page, query.filter(), query.span(), silences_now())
        return json_reply({"devices": page.rows, "next": write_cursor(page.next)})

    @router.head("/devices/{id:path}", include_in_schema=False)
    @router.get("/devices/{id:path}", responses=describes(device_rows.EXAMPLE, 404, 422, 503))
    async def read_device(
        id: Annotated[Device, Path()],  # noqa: A002 - the name of the documented parameter
        query: Annotated[OneDeviceQuery, Query()],
    ) -> Response:
        """One device; where several products have one of this id, the one that was heard of last."""
        found = await database.read(devices.device_by_id, id, silences_now(), query.product)
        if found is None:
            raise HTTPException(404, "There is no device of this id.")
        return json_reply(found)

    @router.get("/silences", responses=_describes_page("silences", silences.EXAMPLE))
    async def list_silences(query: Annotated[SilenceQuery, Query()]) -> Response:
        """Silences that last: sources (`device` is null) first, then devices, the longest silent first. No losses."""
        after = _cursor(query.after, "heard")
        page = await database.read(silences.silences_page, silences_now(), query.limit, after)
        return json_reply({"silences": page.rows, "next": write_cursor(page.next)})

    return router


def _cursor(text: str | None, order: Order) -> Cursor | None:
    """Return where to go on. Raises HTTPException 404 where no page of the order ends so."""
    try:
        return read_cursor(text, order)
    except ValueError:
        raise HTTPException(404, "No page in this order has such a `next`: begin again without `after`.") from None


def _describes_page(name: str, example: msgspec.Struct) -> Responses:
    doc = {"__doc__": "One page. `next` is null when there are no more; hand it back as `after`."}
    members = [(name, list[type(example)]), ("next", str | None)]  # type: ignore[misc]
    page = msgspec.defstruct(f"{name.capitalize()}Page", members, namespace=doc)
    return describes(page([example], None), 404, 422, 503)
