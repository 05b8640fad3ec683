"""What each server says about itself: ready, running the rendered configuration, collecting."""

from __future__ import annotations

import re
from contextlib import suppress
from typing import TYPE_CHECKING

from ds01_monitoring import units
from ds01_monitoring.errors import UserError
from ds01_monitoring.health.checks import Check
from ds01_monitoring.http import Unreachable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ds01_monitoring.deployment import Deployment
    from ds01_monitoring.http import Client

READY = {
    "prometheus": "/-/ready",
    "alertmanager": "/-/ready",
    "grafana": "/api/health",
    "ds01-exporter": "/health",
    "node-exporter": "/",
    "gpu-telemetry": "/healthz",
    "dcgm-exporter": "/health",
}
"""Where each job says that it is ready. A server that has just started may answer 503 for a while."""

COLLECTOR_SUCCESS = "ds01_collector_success"
WARNING = re.compile(r" (?:WARNING|ERROR) (\w+): (.*)")
LOG_LINES = 200
_FILES = (
    "does the allocator run here, and are the paths under allocations: in monitoring.yaml right? "
    "Where there is none, set allocations.allocator: false and run monitoring-manage restart"
)
HINTS = {"state": _FILES, "events": _FILES, "disk": _FILES}

HAS_RENDERED_FILES = ("prometheus", "alertmanager")


def ready(deployment: Deployment, client: Client) -> Iterator[Check]:
    """Whether each server answers as ready; a 500 is not up."""
    for job, address in deployment.addresses.items():
        hint = f"monitoring-manage logs {job}"
        try:
            status = client.get(address, READY[job]).status
        except Unreachable as error:
            yield Check("servers", job, "failed", f"http://{address}: {error}", hint)
            continue
        if status == 200:
            yield Check("servers", job, "ok", f"http://{address}")
        elif status == 401:
            detail = f"http://{address} refuses the password in {deployment.state.secrets}"
            yield Check("servers", job, "failed", detail, f"monitoring-manage restart {job}")
        else:
            yield Check("servers", job, "failed", f"http://{address}{READY[job]} answers {status}", hint)


def configuration(deployment: Deployment, client: Client) -> Iterator[Check]:
    """Whether the servers run the configuration in force: accepted, and loaded after it was put there."""
    current = deployment.state.current
    if not current.is_symlink():
        yield Check("configuration", "rendered", "failed", f"{current} is missing", "monitoring-manage start")
        return
    for server in HAS_RENDERED_FILES:
        loaded = last_reload(client, deployment, server)
        changed = max(
            [current.lstat().st_mtime]
            + [file.stat().st_mtime for file in (current / server).rglob("*") if file.is_file()]
        )
        if loaded is None:
            yield Check("configuration", server, "pending", "it does not say yet what it has loaded")
        elif not loaded[0]:
            hint = f"monitoring-manage check; the reason stands in monitoring-manage logs {server}"
            yield Check("configuration", server, "failed", "it refused the last configuration", hint)
        elif loaded[1] < changed:
            detail = "it runs an older configuration than the one in force"
            yield Check("configuration", server, "failed", detail, "monitoring-manage reload")
        else:
            yield Check("configuration", server, "ok", f"runs {current.resolve().name}")


def last_reload(client: Client, deployment: Deployment, server: str) -> tuple[bool, float] | None:
    """Whether a server accepted its last configuration, and the Unix time of the last one that it accepted.

    None as long as it says neither: one that starts may answer with zeros before it has read any.

    Raises:
        Unreachable: It does not answer.
    """
    names = (
        f"{server}_config_last_reload_successful",
        f"{server}_config_last_reload_success_timestamp_seconds",
    )
    values = {
        name: value
        for name, _labels, value in client.get(deployment.addresses[server], "/metrics").samples()
        if name in names
    }
    return (values[names[0]] == 1, values[names[1]]) if values.get(names[1]) else None


def collectors(deployment: Deployment, client: Client) -> Iterator[Check]:
    """Each source that the allocation exporter reads; one that this machine does not have is no failure."""
    address = deployment.addresses["ds01-exporter"]
    samples = client.get(address, "/metrics").samples()
    found = {labels["collector"]: value == 1 for name, labels, value in samples if name == COLLECTOR_SUCCESS}
    reasons = {} if all(found.values()) else _reasons(deployment)
    for collector, success in found.items():
        if success:
            yield Check("collectors", collector, "ok")
        elif collector in deployment.without:
            yield Check("collectors", collector, "absent", deployment.without[collector])
        else:
            detail = reasons.get(collector, "the exporter cannot read it")
            hint = HINTS.get(collector, "monitoring-manage logs ds01-exporter")
            yield Check("collectors", collector, "failed", detail, hint)
    for collector, reason in deployment.without.items():
        if found and collector not in found:  # Switched off, so the exporter has nothing to say about it.
            yield Check("collectors", collector, "absent", reason)


def _reasons(deployment: Deployment) -> dict[str, str]:
    """What the exporter said last about each collector that fails."""
    found = {}
    with suppress(UserError):  # This user may not read its journal.
        control = deployment.control()
        by_systemd = "ds01-exporter" in units.beside(deployment, control.services())
        for line in (
            units.lines("ds01-exporter", tail=LOG_LINES)
            if by_systemd
            else control.logs("ds01-exporter", tail=LOG_LINES, follow=False)
        ):
            match = WARNING.search(line)
            if match:
                found[match[1]] = match[2]
    return found
