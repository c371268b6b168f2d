"""Headrace over HTTP, except /ingest: `create_api` gives the FastAPI application."""

from __future__ import annotations

from app.api.application import create_api
from app.api.handlers import HandlersHere
from app.api.probes import Readiness

__all__ = ["HandlersHere", "Readiness", "create_api"]
