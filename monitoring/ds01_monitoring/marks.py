"""Times of maintenance, marked on Grafana's dashboards (its annotations API)."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ds01_monitoring.api import Server

TAGS = ["ds01", "maintenance"]
"""The dashboards ask for annotations with these tags."""


def begin(grafana: Server, *, seconds: int, text: str) -> None:
    """Mark the time from now on for `seconds`, in place of what was announced before."""
    end(grafana)
    now = int(time.time() * 1000)
    body = {"time": now, "timeEnd": now + seconds * 1000, "tags": TAGS, "text": text}
    grafana.call("POST", "/api/annotations", body=body)


def end(grafana: Server) -> None:
    """Let the marks that reach into the future end now."""
    now = int(time.time() * 1000)
    for mark in grafana.call(
        "GET", "/api/annotations", params={"tags": TAGS, "type": "annotation", "from": 0, "to": now}
    ):
        if mark.get("timeEnd", 0) > now:
            grafana.call("PATCH", f"/api/annotations/{mark['id']}", body={"timeEnd": now})
