"""Settings from the environment: `HEADRACE_STORE__URL` is `store.url`, and each overrides one key of the file.

Values stay the texts they are: guessing at JSON would make the token "1e5" a number.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

PREFIX = "HEADRACE_"
_NOT_SETTINGS = frozenset({"HEADRACE_CONFIG", "HEADRACE_DEBUG"})

# What Kubernetes sets in every pod beside a Service named headrace or headrace-…
_SERVICE_LINK = re.compile(r"(?:.*_)?(?:SERVICE_(?:HOST|PORT(?:_.+)?)|PORT_[0-9]+_(?:TCP|UDP|SCTP)(?:_[A-Z]+)?)")
_SERVICE_ADDRESS = re.compile(r"(?:tcp|udp|sctp)://")


def settings_variables(environ: Mapping[str, str]) -> dict[tuple[str, ...], str]:
    """The variables of `environ` that are meant as settings, by key; `("sources", "fleet", "mode")` for example."""
    return {
        tuple(name.removeprefix(PREFIX).lower().split("__")): value
        for name, value in sorted(environ.items())
        if name.startswith(PREFIX) and name not in _NOT_SETTINGS and not _is_service_link(name, value)
    }


def variable(key: tuple[str, ...]) -> str:
    """The name of the variable that sets `key`."""
    return PREFIX + "__".join(key).upper()


def overridden(tree: Mapping[str, Any], key: tuple[str, ...], value: Any) -> dict[str, Any]:
    """`tree` with `value` at `key`. Where a part of the way is no table, that is left for validation to report."""
    name, *rest = key
    if not rest:
        return {**tree, name: value}
    inner = tree.get(name, {})
    return {**tree, name: overridden(inner, tuple(rest), value) if isinstance(inner, dict) else inner}


def _is_service_link(name: str, value: str) -> bool:
    rest = name.removeprefix(PREFIX)
    if "__" in rest:
        return False
    return bool(_SERVICE_LINK.fullmatch(rest)) or (rest.endswith("PORT") and bool(_SERVICE_ADDRESS.match(value)))
