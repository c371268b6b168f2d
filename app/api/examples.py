"""One example of every answer, as a reader of the documentation sees it."""

from __future__ import annotations

from typing import Any

EVENT: dict[str, Any] = {
    "id": "0199f3a2-7c11-8b52-9f0e-3c5a7d1e2f40",
    "position": 1042,
    "product": "tracker",
    "device": "e00fce682e79a004f1e69a2b",
    "name": "temperature",
    "data": '{"t":21.5}',
    "content_type": "application/json",
    "published_at": "2026-07-28T16:53:05.616Z",
    "received_at": "2026-07-28T16:53:05.702Z",
    "source": "fleet",
    "mode": "webhook",
    "attributes": {"fw_version": "91", "public": "false"},
}
EVENTS_PAGE = {"events": [EVENT], "next": 1042, "last": 1042}
EVENT_WITH_SIGHTINGS = {
    **EVENT,
    "sightings": [{"source": "fleet", "mode": "webhook", "received_at": "2026-07-28T16:53:35.911Z"}],
}
SOURCES = {
    "sources": [
        {
            "source": "fleet",
            "mode": "webhook",
            "product": "tracker",
            "state": "running",
            "since": "2026-07-28T08:00:00.000Z",
            "reason": None,
            "last_event_at": "2026-07-28T16:53:05.702Z",
            "last_byte_at": "2026-07-28T16:53:05.702Z",
            "counts": {
                "received": 1050,
                "stored": 1042,
                "duplicate": 5,
                "rejected": 2,
                "ignored": 1,
                "deferred": 0,
                "in_flight": 0,
            },
            "duplicate_kinds": {"redelivery": 5, "overlap": 0, "redundant": 0},
            "open_gap": None,
            "streams": [],
        },
        {
            "source": "fleet",
            "mode": "sse",
            "product": "tracker",
            "state": "down",
            "since": "2026-07-28T16:53:12.000Z",
            "reason": "nothing came for 20 s",
            "last_event_at": "2026-07-28T16:52:44.011Z",
            "last_byte_at": "2026-07-28T16:52:52.000Z",
            "counts": {
                "received": 1040,
                "stored": 0,
                "duplicate": 1040,
                "rejected": 0,
                "ignored": 0,
                "deferred": 0,
                "in_flight": 0,
            },
            "duplicate_kinds": {"redelivery": 0, "overlap": 1040, "redundant": 0},
            "streams": [
                {
                    "stream": 1,
                    "state": "waiting",
                    "since": "2026-07-28T16:53:12.000Z",
                    "last_byte_at": "2026-07-28T16:52:52.000Z",
                    "lost": "idle",
                    "reason": "nothing came for 20 s",
                    "next_attempt_at": "2026-07-28T16:53:14.718Z",
                }
            ],
            "open_gap": {"since": "2026-07-28T16:52:52.000Z", "cause": "idle", "seconds": 21.4},
        },
    ]
}
GAPS_PAGE = {
    "gaps": [
        {
            "id": 3,
            "source": "fleet",
            "mode": "webhook",
            "since": "2026-07-28T07:58:21.104Z",
            "until": "2026-07-28T08:00:00.000Z",
            "cause": "down",
            "seconds": 98.896,
            "suspected": 11.5,
        }
    ],
    "next": None,
    "last": 3,
}
REJECTS_PAGE = {
    "rejects": [
        {
            "id": 2,
            "source": "fleet",
            "mode": "webhook",
            "received_at": "2026-07-28T16:53:05.702Z",
            "reason": "malformed_json",
            "body_base64": "eyJldmVudCI6InRlbXA=",
            "attributes": None,
        }
    ],
    "next": None,
    "last": 2,
}
HANDLERS = {
    "handlers": [
        {
            "handler": "alerts",
            "state": "running",
            "position": 1040,
            "head": 1042,
            "lag_events": 2,
            "lag_seconds": 0.013,
            "retries": 1,
            "dead": 1,
            "holder": "gateway-1:4711",
            "lease_expires_at": "2026-07-28T16:53:15.000Z",
        }
    ]
}
DEAD_PAGE = {
    "dead": [
        {
            "position": 1042,
            "error": "ValueError: no such rule",
            "attempts": 12,
            "first_failed_at": "2026-07-28T16:53:05.800Z",
            "event": EVENT,
        }
    ],
    "next": None,
    "last": 1042,
}
METRICS = 'headrace_events_stored_total{mode="webhook",source="fleet"} 1042.0\n'

OF_SCHEMA: dict[str, Any] = {
    "EventsPage": EVENTS_PAGE,
    "EventWithSightings": EVENT_WITH_SIGHTINGS,
    "SourcesList": SOURCES,
    "GapsPage": GAPS_PAGE,
    "RejectsPage": REJECTS_PAGE,
    "HandlersList": HANDLERS,
    "DeadPage": DEAD_PAGE,
    "Redriven": {"redriven": 1},
    "Live": {"live": True},
    "Ready": {"ready": True, "sources_down": [], "handlers_failing": []},
}
