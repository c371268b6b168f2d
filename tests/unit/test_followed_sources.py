"""Whose counters are followed: those of every product that a source with `sequence` may bring."""

from __future__ import annotations

import msgspec
import pytest

from app.auditor import followed_sources
from app.settings import Settings
from tests.support.dispatching import an_event

PRODUCT = {"from": "/product_id", "map": {"13961": "tracker"}, "default": "rest"}


@pytest.mark.parametrize(("product", "is_followed"), [("tracker", True), ("rest", True), ("other", False)])
def test_a_source_of_several_products_is_followed_in_each(product: str, is_followed: bool) -> None:
    """Also an event that another source stored is one of its product's sequence."""
    settings = Settings.model_validate({"sources": {"all": {"product": PRODUCT, "sequence": "/seq"}}})
    followed = followed_sources(settings.sources)
    for label in ("all", "of the past"):
        event = msgspec.structs.replace(an_event(1), product=product, source=label)
        assert (followed.of_event(event) is not None) is is_followed
