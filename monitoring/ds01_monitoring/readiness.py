"""Waits until a stack that was started is well, and asks its exporters what Prometheus will ask them."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from ds01_monitoring.errors import UserError
from ds01_monitoring.health import examine
from ds01_monitoring.http import Client, Unreachable

if TYPE_CHECKING:
    from ds01_monitoring.deployment import Deployment
    from ds01_monitoring.health import Check, Health
    from ds01_monitoring.runtime.base import Say

PAUSE_SECONDS = 0.2
NAMED_AT_ONCE = 3
OUTSIDE = ("collectors", "disk", "notifications")
"""Areas about what lies outside the stack."""

OUTSIDE_SECONDS = 5
SERVERS = ("prometheus", "alertmanager", "grafana")


def wait(deployment: Deployment, timeout_seconds: float, say: Say) -> Health:
    """Return as soon as nothing fails; what Prometheus has not asked yet does not count as failing.

    Sources that the exporter cannot read, a full disk and a refusing mail server are not mended by
    waiting: once all else is well, they get a few seconds more and are then returned as they are.

    Raises:
        UserError: A service still fails when the time is over; names it and its next step.
    """
    deadline = time.monotonic() + timeout_seconds
    settled: float | None = None
    while True:
        health = examine(deployment)
        failed = [check for check in health.failed if check.area not in OUTSIDE]
        settled = None if failed else settled or time.monotonic()
        patient = settled is not None and time.monotonic() - settled > OUTSIDE_SECONDS
        if health.healthy or patient:
            return health
        if failed and time.monotonic() > deadline:
            raise _too_late(failed, timeout_seconds)
        say(_names(health.failed))
        time.sleep(PAUSE_SECONDS)


def _names(checks: list[Check]) -> str:
    names = list(dict.fromkeys(check.name for check in checks))
    more = f" and {len(names) - NAMED_AT_ONCE} more" if len(names) > NAMED_AT_ONCE else ""
    return ", ".join(names[:NAMED_AT_ONCE]) + more


def _too_late(failed: list[Check], timeout_seconds: float) -> UserError:
    told = "\n".join(f"  {check.area} {check.name}: {check.detail}" for check in failed)
    hints = "; ".join(dict.fromkeys(check.hint for check in failed if check.hint))
    return UserError(
        f"not ready after {timeout_seconds:g} s\n{told}", hint=f"{hints}; then monitoring-manage status"
    )


def ask_exporters(deployment: Deployment) -> dict[str, int]:
    """The number of samples that each exporter answers right now, before Prometheus comes by.

    Raises:
        UserError: One does not answer.
    """
    client = Client(deployment.password(), timeout_seconds=10)
    counts = {}
    for job in (job for job in deployment.addresses if job not in SERVERS):
        address = deployment.addresses[job]
        try:
            reply = client.get(address, "/metrics")
        except Unreachable as error:
            raise _silent(job, address, str(error)) from error
        if reply.status != 200:
            raise _silent(job, address, f"status {reply.status}")
        counts[job] = sum(bool(line) and not line.startswith("#") for line in reply.text.splitlines())
    return counts


def _silent(job: str, address: str, reason: str) -> UserError:
    return UserError(
        f"{job} has no metrics: {reason}",
        place=f"http://{address}/metrics",
        hint=f"monitoring-manage logs {job}",
    )
