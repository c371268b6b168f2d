"""The load driver with product hooks: `python -m tests.bench.hook_driver PLAN`, as tests.support.driver."""

from __future__ import annotations

import sys

import msgspec

from tests.bench.product_hooks import ProductHooks
from tests.support.driver import Plan, main

if __name__ == "__main__":
    plan = msgspec.json.decode(sys.argv[1], type=Plan)
    main(plan, ProductHooks(plan.url, plan.run, plan.started).request)
