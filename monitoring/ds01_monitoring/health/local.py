"""What this machine itself tells: processes or containers, and the disk."""

from __future__ import annotations

import shutil
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from ds01_monitoring import units
from ds01_monitoring.health.checks import Check
from ds01_monitoring.install.place import SYSTEMD_RUNS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ds01_monitoring.deployment import Deployment
    from ds01_monitoring.http import Client
    from ds01_monitoring.runtime.base import ServiceStatus

GIB = 2**30
# Prometheus needs room to compact its blocks; below these it may stop to store.
LEAST_FREE_BYTES = 1 * GIB
LOW_FREE_RATIO, LOW_FREE_BYTES = 0.05, 20 * GIB


def services(deployment: Deployment, _client: Client) -> Iterator[Check]:
    """Every process or container of the stack, and the units beside it."""
    control = deployment.control()
    for status in control.status():
        yield _service(status)
    for name in units.beside(deployment, control.services()) if SYSTEMD_RUNS.is_dir() else ():
        yield _unit(name)


def _unit(name: str) -> Check:
    state = units.state(name)
    if state in {"active", "activating", "reloading"}:
        return Check("services", name, "ok", f"systemd: {state}")
    hint = f"sudo systemctl restart {name}; its log: monitoring-manage logs {name}"
    return Check("services", name, "failed", f"systemd: {state}", hint)


def _service(status: ServiceStatus) -> Check:
    if status.state == "not installed":
        return Check("services", status.name, "absent", f"not installed: {status.detail}")
    if status.state in {"running", "starting"}:
        age = f", up {_age(time.time() - status.since)}" if status.since else ""
        known = f"pid {status.pid}{age}" if status.pid else ""
        return Check("services", status.name, "ok", "; ".join(filter(None, (known, status.detail))))
    hints = {"failing": f"monitoring-manage logs {status.name}"}
    detail = f"{status.state}: {status.detail}" if status.detail else status.state
    return Check(
        "services", status.name, "failed", detail, hints.get(status.state, "monitoring-manage start")
    )


def _age(seconds: float) -> str:
    whole = max(0, int(seconds))
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if whole >= size:
            return f"{whole // size} {unit}"
    return f"{whole} s"


def disk(deployment: Deployment, _client: Client) -> Iterator[Check]:
    """Room on the file systems that hold the configuration and the series."""
    state = deployment.state
    volumes: dict[int, Path] = {}
    for folder in (state.root, state.data, *state.data.glob("*")):
        with suppress(OSError):  # A folder of the containers' user may be closed to us.
            volumes.setdefault(folder.stat().st_dev, folder)
    for folder in volumes.values():
        yield _room(folder)


def _room(folder: Path) -> Check:
    usage = shutil.disk_usage(folder)
    detail = f"{usage.free / GIB:.1f} of {usage.total / GIB:.1f} GiB free below {folder}"
    low = usage.free < LEAST_FREE_BYTES or (
        usage.free < LOW_FREE_BYTES and usage.free < usage.total * LOW_FREE_RATIO
    )
    if low:
        hint = "make room, or lower prometheus.retention_size and run monitoring-manage restart"
        return Check("disk", "free space", "failed", detail, hint)
    return Check("disk", "free space", "ok", detail)
