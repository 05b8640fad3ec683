"""The variables of every template, resolved for one place and runtime."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ds01_monitoring import compose_facts, detect, inventory, mailing, quiet, secrets
from ds01_monitoring import demo as demos
from ds01_monitoring.runtime.binaries import prometheus_features

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from ds01_monitoring.config import Settings
    from ds01_monitoring.paths import StateDir

JOBS = (
    "dcgm-exporter",
    "gpu-telemetry",
    "ds01-exporter",
    "node-exporter",
    "prometheus",
    "alertmanager",
    "grafana",
)
ALLOCATOR_SOURCES = ("DS01_STATE_FILE", "DS01_EVENTS_FILE", "DS01_STATE_DIR")
PROMETHEUS_GOGC = 200
"""Percent by which Prometheus' heap may grow before Go collects garbage, instead of its own 75.

At a thousand GPUs collecting was a quarter of its work, and is a tenth with this. Near its limit of memory Prometheus 3
collects more often by itself (auto-gomemlimit).
"""
HARDWARE_JOB = {"dcgm": "dcgm-exporter", "nvml": "gpu-telemetry"}


@dataclass(frozen=True)
class Paths:
    """Absolute paths, the same on the host and inside the containers."""

    root: Path
    rendered: Path
    data: Path
    logs: Path
    run: Path
    bin: Path
    secrets: Path
    http_password: Path
    web_config: Path
    grafana_admin_password: Path


@dataclass(frozen=True)
class Context:
    """One rendering: the settings and everything decided from them.

    Attributes:
        runtime: `compose` or `native`.
        hardware: `dcgm`, `nvml` or `none`.
        jobs: The scrape jobs that are enabled, in a fixed order.
        addresses: Where Prometheus and Grafana reach each job, `host:port`.
        demo: Whether this is the demo's simulated server.
        extra: Further variables that the runtime's own template needs.
    """

    settings: Settings
    state: StateDir
    runtime: str
    hardware: str
    jobs: tuple[str, ...]
    addresses: Mapping[str, str]
    demo: bool = False
    extra: Mapping[str, Any] = field(default_factory=dict)

    def variables(self) -> dict[str, Any]:
        """What the templates see at the top."""
        exporter, dcgm = dcgm_versions(self.settings.images.dcgm_exporter)
        return {
            **self.settings.variables(),
            "runtime": self.runtime,
            "hardware": self.hardware,
            "jobs": list(self.jobs),
            "addresses": dict(self.addresses),
            "paths": self.paths(),
            "demo": self.demo,
            "http_user": secrets.USER,
            "prometheus_gogc": PROMETHEUS_GOGC,
            "prometheus_features": prometheus_features(tag_version(self.settings.images.prometheus)),
            "dcgm_exporter_version": exporter,
            "dcgm_version": dcgm,
            "exporter_env": exporter_environment(self),
            "inventory": inventory.read(self.state),
            "users": mailing.user_mail(self.settings.notify.users),
            "quiet_intervals": quiet.time_intervals(self.settings.notify.quiet_hours),
            "digest_intervals": quiet.digest_intervals(self.settings.notify.digest),
            "compose": compose_facts.facts(self) if self.runtime == "compose" else None,
            **{name: value for name, value in self.extra.items() if name != "exporter_env"},
        }

    def paths(self) -> Paths:
        """Where the servers find things; `rendered` is the version in force."""
        state = self.state
        return Paths(
            root=state.root,
            rendered=state.current,
            data=state.data,
            logs=state.logs,
            run=state.run,
            bin=state.bin,
            secrets=state.secrets,
            http_password=state.secrets / "http_password",
            web_config=state.secrets / "web-config.yml",
            grafana_admin_password=secrets.grafana_password_file(self.settings, state),
        )


def resolve(
    settings: Settings,
    state: StateDir,
    *,
    runtime: str | None = None,
    hardware: str | None = None,
    demo: bool = False,
    addresses: Mapping[str, str] | None = None,
    extra: Mapping[str, Any] | None = None,
) -> Context:
    """Decide what the configuration leaves open; `addresses` overrides single jobs.

    The demo has its own data and people and runs natively unless told otherwise.
    """
    if demo:
        settings = demos.settings(settings, state)
        runtime = runtime or "native"
    runtime = runtime or detect.runtime(settings).value
    hardware = hardware or ("dcgm" if demo else detect.hardware(settings, runtime).value)
    wanted = {"ds01-exporter", "node-exporter", "prometheus", "alertmanager"}
    if hardware in HARDWARE_JOB:
        wanted.add(HARDWARE_JOB[hardware])
    if runtime == "compose" or detect.grafana_binary(state):
        wanted.add("grafana")
    known = {**default_addresses(settings, runtime), **(addresses or {})}
    jobs = tuple(job for job in JOBS if job in wanted)
    return Context(settings, state, runtime, hardware, jobs, known, demo, extra or {})


def default_addresses(settings: Settings, runtime: str) -> dict[str, str]:
    """Where each job is reached: services by name inside the compose network, loopback otherwise.

    The exporter and gpu-telemetry run on the host, which containers see as the bridge's gateway.
    """
    ports, host = settings.ports, settings.network.gateway if runtime == "compose" else "127.0.0.1"
    on_host = {
        "ds01-exporter": f"{host}:{settings.exporter.port}",
        "gpu-telemetry": f"{host}:{ports.gpu_telemetry}",
    }
    services = {
        "dcgm-exporter": (9400, ports.dcgm_exporter),
        "node-exporter": (9100, ports.node_exporter),
        "prometheus": (9090, ports.prometheus),
        "alertmanager": (9093, ports.alertmanager),
        "grafana": (3000, ports.grafana),
    }
    for job, (inside, published) in services.items():
        on_host[job] = f"{job}:{inside}" if runtime == "compose" else f"127.0.0.1:{published}"
    if settings.dcgm.address:
        on_host["dcgm-exporter"] = settings.dcgm.address
    if runtime == "compose" and settings.exporter.deployment == "container":
        on_host["ds01-exporter"] = f"ds01-exporter:{settings.exporter.port}"
    return on_host


def expects_cards(context: Context) -> bool:
    """Whether this machine has GPUs, or had them: an inventory or a driver's library outlives a failed boot."""
    if context.hardware != "none" or context.settings.hardware == "none":
        return context.hardware != "none"
    return bool(inventory.read(context.state)) or detect.driver_found() is not None


def exporter_environment(context: Context) -> dict[str, str]:
    """The allocation exporter's environment variables: rendered/exporter.env."""
    settings = context.settings
    allocations = settings.allocations
    bind = settings.exporter.bind or ["127.0.0.1"]
    if not settings.exporter.bind and context.runtime == "compose":
        bind = ["127.0.0.1", settings.network.gateway]
    variables = {
        "DS01_STATE_FILE": str(allocations.state_file),
        "DS01_EVENTS_FILE": str(allocations.events_file),
        "DS01_STATE_DIR": str(allocations.state_dir),
        "DS01_MIG_EQUIVALENTS_PER_GPU": f"{allocations.mig_equivalents_per_gpu:g}",
        "DS01_EXPORTER_BIND": ",".join(bind),
        "DS01_EXPORTER_PORT": str(settings.exporter.port),
        "DOCKER_HOST": _docker_host(allocations.docker),
        "DS01_TOPOLOGY": "nvml" if expects_cards(context) else "none",
        "DS01_CGROUP_ROOT": "/sys/fs/cgroup",
        **({} if allocations.allocator else dict.fromkeys(ALLOCATOR_SOURCES, "none")),
        **(demos.exporter_environment(context.state) if context.demo else {}),
        **(_container_environment(context) if settings.exporter.deployment == "container" else {}),
        **context.extra.get("exporter_env", {}),
    }
    if settings.security.local_auth:
        variables["DS01_EXPORTER_PASSWORD_FILE"] = str(context.paths().http_password)
    return variables


def _container_environment(context: Context) -> dict[str, str]:
    """What differs inside a container: only its own network, no Docker socket, and GPUs only where the Engine gives them."""
    gpus = context.hardware == "dcgm" and not context.settings.dcgm.address
    return {
        "DS01_EXPORTER_BIND": "0.0.0.0",  # noqa: S104 - the container's own; the host publishes it on loopback.
        "DOCKER_HOST": "none",
        "DS01_TOPOLOGY": "nvml" if gpus else "none",
    }


def _docker_host(setting: str) -> str:
    """What the exporter is told: an address, or `none` where there is no Engine to ask."""
    if setting == "auto":
        setting = str(detect.ENGINE_SOCKET) if detect.engine_installed() else "none"
    return setting if setting == "none" or setting.startswith("unix://") else f"unix://{setting}"


def dcgm_versions(image: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Versions of dcgm-exporter and of DCGM that an image's tag tells; empty where it does not.

    The tags are `<DCGM>-<exporter>-<variant>`, like 4.5.3-4.8.2-distroless, and from exporter 4.8.4 on the
    exporter's version alone (NVIDIA's release notes of dcgm-exporter).
    """
    match = re.search(r":(?:(\d+(?:\.\d+)+)-)?(\d+(?:\.\d+)+)(?:-[a-z][\w.-]*)?(?:@.*)?$", image)
    if match is None:
        return (), ()
    dcgm, exporter = (tuple(int(part) for part in text.split(".")) if text else () for text in match.groups())
    return exporter, dcgm


def tag_version(image: str) -> tuple[int, ...]:
    """The version that an image's tag tells, as in `prom/prometheus:v3.14.0`; empty where it does not."""
    match = re.search(r":v?(\d+(?:\.\d+)+)(?:-[a-z][\w.-]*)?(?:@.*)?$", image)
    return tuple(int(part) for part in match[1].split(".")) if match else ()
