"""`python -m tests.support.upstream PLAN` with the plan as JSON: the test upstream as a process of its own."""

from __future__ import annotations

import asyncio
import gc
import sys

import msgspec

from tests.support.upstream.process import Plan, run

if __name__ == "__main__":
    gc.disable()  # a pause of ours must not be read as one of the product
    asyncio.run(run(msgspec.json.decode(sys.argv[1], type=Plan)))
