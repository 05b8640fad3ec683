"""Whether the settings about single alerts name alerts that exist, and look back no further than is kept."""

from __future__ import annotations

import difflib
from operator import attrgetter
from typing import TYPE_CHECKING

from ds01_monitoring.check.findings import Finding, error, warning
from ds01_monitoring.config import duration_seconds
from ds01_monitoring.rules import alert_names

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ds01_monitoring.config import Settings
    from ds01_monitoring.tree import RenderedTree


HEARD_BY_DESIGN = frozenset(
    {"DS01Watchdog", "DS01UserWaste", "DS01UserWasteOver", "DS01Digest", "DS01DigestOver"}
)
"""Alerts that are no news to an administrator: the heartbeat, the weekly mail and the users' mail hang on it."""

LOOK_BACK = (
    *("alerts.gpu_waste.window", "alerts.gpu_metrics_frozen.window", "alerts.gpu_throttling.window"),
    *("alerts.gpu_power_limit.window", "alerts.gpu_unallocated_use.window", "alerts.disk_filling.trend"),
    *("alerts.notifications_failing.window", "alerts.notifications_failing.watchdog_after"),
    *("alerts.xid.hold", "notify.users.after", "notify.users.at_most_every"),
)
"""Settings that say how far back a rule looks."""


def check(tree: RenderedTree) -> list[Finding]:
    """Findings about `alerts.notify`, and about windows longer than what Prometheus keeps."""
    return [*_audiences(tree), *_windows(tree.context.settings)]


def _audiences(tree: RenderedTree) -> Iterator[Finding]:
    known = alert_names(tree.path)
    for name in tree.context.settings.alerts.notify:
        if name not in known:
            yield error("there is no such alert", place=f"alerts.notify.{name}", hint=suggest(name, known))
        elif name in HEARD_BY_DESIGN:
            yield error(
                "the heartbeat, the weekly mail and the users' mail hang on who hears it",
                place=f"alerts.notify.{name}",
                hint="take the line out; notify.heartbeat, notify.digest and notify.users say what becomes of it",
            )


def _windows(settings: Settings) -> Iterator[Finding]:
    kept = settings.prometheus.retention_time
    for key in LOOK_BACK:
        value = attrgetter(key)(settings)
        if duration_seconds(value) > duration_seconds(kept):
            yield warning(
                f"{value} is longer than prometheus.retention_time, {kept}, and nothing is known of before",
                place=key,
                hint=f"shorten it, or set prometheus.retention_time to {value} or more",
            )


def suggest(name: str, known: set[str]) -> str:
    """What may have been meant, or all that there is."""
    close = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {close[0]}?" if close else f"alerts: {', '.join(sorted(known))}"
