"""Likely causes of what is wrong: the situations that administrators have met, and how each shows."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ds01_monitoring.install.gpus import FIX

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ds01_monitoring.doctor.facts import Facts

MANY_SERIES = 500_000
"""A server with 8 GPUs in slices and a hundred containers has of the order of 20 000."""


@dataclass(frozen=True)
class Cause:
    """One likely cause.

    Attributes:
        situation: What an administrator would call it; docs/troubleshooting.md has a section of that name.
        evidence: What it was concluded from.
        remedy: The next step.
    """

    situation: str
    evidence: str
    remedy: str


@dataclass(frozen=True)
class Sign:
    """A cause that a service tells in its log: services (a regular expression), what it says, what it means."""

    services: str
    words: str
    situation: str
    remedy: str


SIGNS = (
    Sign(
        ".*",
        r"Driver/library version mismatch",
        "Driver and library do not match",
        "the driver was upgraded while the old one is loaded: reboot, or unload the modules and load the new ones",
    ),
    Sign(
        ".*",
        r"Failed to initialize NVML: Unknown Error",
        "A container has lost its GPUs",
        f"restart the container (monitoring-manage restart dcgm-exporter), then {FIX}",
    ),
    Sign(
        "dcgm-exporter",
        r"DCGM initialization error|Error starting nv-hostengine|incompatible (?:driver|version)",
        "DCGM does not start",
        "the image's DCGM must support the driver: set images.dcgm_exporter to a version that does, then monitoring-manage restart",
    ),
    Sign(
        "dcgm-exporter",
        r"(?i)no GPUs? found|no such device|could not select device driver",
        "The container sees no GPU",
        "install nvidia-container-toolkit, run nvidia-ctk runtime configure --runtime=docker, restart Docker, monitoring-manage restart",
    ),
    Sign(
        "dcgm-exporter",
        r"(?i)profiling.*(?:permission|not supported)|insufficient permission",
        "Profiling metrics are missing",
        "profiling needs CAP_SYS_ADMIN and one reader at a time: is another DCGM or profiler active? monitoring-manage restart dcgm-exporter",
    ),
    Sign(
        "ds01-exporter",
        r"ModuleNotFoundError|No module named",
        "The exporter's code is incomplete",
        "sudo monitoring-manage install",
    ),
    Sign(
        "grafana",
        r"(?i)provision\w*.*(?:error|failed)|failed to (?:load|save) dashboard|error.*provision",
        "Grafana does not load the dashboards",
        "monitoring-manage render, then monitoring-manage restart grafana; is the rendered folder readable for the containers' user?",
    ),
    Sign(
        "alertmanager",
        r"(?i)notify attempt failed|notify for alerts failed",
        "Mail does not arrive",
        "the line has the receiver's own words: correct notify in monitoring.yaml, then monitoring-manage reload and test-alert",
    ),
    Sign(
        "prometheus",
        r"no space left on device|out of memory|compaction failed",
        "Prometheus cannot store",
        "make room, or lower prometheus.retention_time and retention_size, then monitoring-manage restart",
    ),
    Sign(
        ".*",
        r"address already in use",
        "A port is taken",
        "find who listens with ss -ltnp, or set another port under ports:, then monitoring-manage restart",
    ),
)


def likely(facts: Facts) -> list[Cause]:
    """Every cause that something speaks for, the most certain first."""
    found = [*_from_logs(facts), *_from_checks(facts), *_from_machine(facts), *_from_storage(facts)]
    return list({cause.situation: cause for cause in reversed(found)}.values())[::-1]


def _from_logs(facts: Facts) -> Iterator[Cause]:
    """What keeps a container from starting stands in no log of it: the Engine says it, and so does the check."""
    said = dict(facts.logs)
    for check in facts.checks:
        if check.area == "services" and check.state == "failed":
            said[check.name] = [*said.get(check.name, ()), check.detail]
    for sign in SIGNS:
        for service, lines in said.items():
            line = next((line for line in reversed(lines) if re.search(sign.words, line)), None)
            if line is not None and re.fullmatch(sign.services, service):
                yield Cause(sign.situation, f"{service} said: {line.strip()}", sign.remedy)


def _from_checks(facts: Facts) -> Iterator[Cause]:
    for check in facts.checks:
        if check.state != "failed":
            continue
        where = f"{check.area} {check.name}: {check.detail}"
        if check.name == "ds01-exporter" and check.area in {"servers", "targets"}:
            remedy = "sudo systemctl restart ds01-exporter, or monitoring-manage restart; Prometheus in a container reaches it at the bridge's gateway (network.subnet), which exporter.bind must contain"
            yield Cause("Prometheus does not reach the exporter", where, remedy)
        elif check.area == "collectors" and check.name == "state":
            remedy = "does the allocator run, and is allocations.state_file its file, readable for the exporter's user? Hosts without it: docs/exporter.md"
            yield Cause("Allocations are empty", where, remedy)
        elif check.area == check.name == "services" and "Docker" in check.detail:
            yield Cause("The Docker Engine does not answer", where, check.hint)
        elif check.area == "targets":
            yield Cause("Targets are down", where, check.hint)
        elif check.area == "notifications":
            yield Cause("Mail does not arrive", where, check.hint)
        elif check.area == "disk":
            yield Cause("Prometheus cannot store", where, check.hint)


def _from_machine(facts: Facts) -> Iterator[Cause]:
    if facts.settings is not None and facts.settings.runtime == "compose" and not facts.runtimes:
        said = facts.sections.get("Docker", "").strip().rpartition("\n")[2]
        remedy = "systemctl start docker; journalctl -u docker has its reasons"
        yield Cause(
            "The Docker Engine does not answer", f"runtime is compose, and docker says: {said}", remedy
        )
    if facts.driver and facts.runtimes and "nvidia" not in facts.runtimes:
        remedy = "install nvidia-container-toolkit, run nvidia-ctk runtime configure --runtime=docker, restart Docker; or hardware: nvml"
        yield Cause("The container sees no GPU", f"{facts.driver}, and Docker knows {facts.runtimes}", remedy)
    if facts.lost_links:
        yield Cause("A daemon-reload takes GPUs away", f"{facts.lost_links[0]} is not there", FIX)
    names = {item["name"] for item in facts.storage.get("seriesCountByMetricName", ())}
    seen = [
        check
        for check in facts.checks
        if check.area == "targets" and check.name in {"dcgm-exporter", "gpu-telemetry"}
    ]
    if facts.driver and facts.checks and not seen and "ds01:gpu_info" not in names:
        remedy = "hardware: dcgm or nvml in monitoring.yaml, then monitoring-manage restart"
        yield Cause("No GPU metrics", f"{facts.driver}, and no source of GPU metrics is scraped", remedy)


def _from_storage(facts: Facts) -> Iterator[Cause]:
    series = facts.storage.get("headStats", {}).get("numSeries", 0)
    if series > MANY_SERIES:
        most = facts.storage["seriesCountByMetricName"][0]["name"]
        remedy = f"most come from {most}: drop it at its source, or lower prometheus.retention_time"
        yield Cause("Prometheus is slow or large", f"{series} series in memory", remedy)
