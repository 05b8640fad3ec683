"""One stack before it runs: its settings, its place, and what was decided about it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ds01_monitoring import context as contexts
from ds01_monitoring import detect
from ds01_monitoring.deployment import Damaged, Deployment, load, runtime_for
from ds01_monitoring.detect import Found
from ds01_monitoring.errors import ConfigError

if TYPE_CHECKING:
    from ds01_monitoring.check import Finding
    from ds01_monitoring.config import Settings
    from ds01_monitoring.context import Context
    from ds01_monitoring.paths import StateDir
    from ds01_monitoring.runtime.base import Runtime
    from ds01_monitoring.tree import RenderedTree

EXPORTER_UNIT = Path("/etc/systemd/system/ds01-exporter.service")
TELEMETRY_UNIT = Path("/etc/systemd/system/gpu-telemetry.service")


@dataclass(frozen=True)
class Stack:
    """What `start`, `restart` and `reload` work on.

    Attributes:
        context: The settings, resolved for this machine.
        runtime: Which runtime, and why.
        hardware: Which source of GPU metrics, and why.
        control: The runtime itself.
    """

    context: Context
    runtime: Found
    hardware: Found
    control: Runtime

    @property
    def exporter_by_systemd(self) -> bool:
        """Whether the exporter's unit runs it, instead of a container or this stack."""
        in_container = self.context.settings.exporter.deployment == "container"
        return not (self.context.demo or in_container or self.context.extra["supervise_exporter"])

    def deploy(self) -> tuple[RenderedTree, list[Finding]]:
        """Render, check and put in force; see `ds01_monitoring.deploy.deploy`."""
        from ds01_monitoring.deploy import deploy  # noqa: PLC0415 - Jinja2 is not for every command.

        return deploy(
            self.context.settings,
            self.context.state,
            tools_required=True,
            search_path=self.control.search_path(),
            runtime=self.context.runtime,
            hardware=self.context.hardware,
            demo=self.context.demo,
            addresses=self.context.addresses,
            extra=self.context.extra,
        )

    def deployment(self) -> Deployment:
        """The record of it."""
        settings, context = self.context.settings, self.context
        here = contexts.default_addresses(settings, "native")
        return Deployment(
            state=context.state,
            runtime=context.runtime,
            hardware=context.hardware,
            demo=context.demo,
            local_auth=settings.security.local_auth,
            host=settings.site.host,
            addresses={job: here[job] for job in context.jobs},
            without=_without(context, self.hardware.reason),
        )


def plan(settings: Settings, state: StateDir, *, demo: bool = False, runtime: str | None = None) -> Stack:
    """Decide what the configuration leaves open.

    Args:
        settings: The site's configuration.
        state: The site's state directory; the demo lies inside it.
        demo: Plan the simulated server instead.
        runtime: Use this one whatever the configuration says.

    Raises:
        ConfigError: The settings contradict each other.
    """
    place = state.demo if demo else state
    chosen = (
        Found(runtime, "asked for on the command line") if runtime else _runtime(settings, state, demo=demo)
    )
    hardware = (
        Found("dcgm", "the demo plays dcgm-exporter") if demo else detect.hardware(settings, chosen.value)
    )
    if settings.exporter.deployment == "container" and chosen.value != "compose" and not demo:
        raise ConfigError(
            f"is container, and the runtime is {chosen.value}: {chosen.reason}",
            place="exporter.deployment",
            hint="set it to auto, or set runtime: compose",
        )
    context = contexts.resolve(
        settings,
        place,
        runtime=chosen.value,
        hardware=hardware.value,
        demo=demo,
        extra={
            "supervise_exporter": demo or _supervised(settings),
            # The unit's agent serves the same readings on the same port of loopback.
            "telemetry_unit": not demo and TELEMETRY_UNIT.exists(),
            "hardware_reason": hardware.reason,
        },
    )
    return Stack(context, chosen, hardware, runtime_for(chosen.value, place, state.bin))


def again(settings: Settings, deployment: Deployment, state: StateDir) -> Stack:
    """The plan of a stack that was started already, with the configuration of now.

    Raises:
        ConfigError: The configuration wants another runtime.
    """
    wanted = settings.runtime
    if not deployment.demo and wanted not in {"auto", deployment.runtime}:
        raise another_runtime(deployment, Found(wanted, f"the configuration says runtime: {wanted}"))
    return plan(settings, state, demo=deployment.demo, runtime=deployment.runtime)


def another_runtime(deployment: Deployment, wanted: Found) -> ConfigError:
    """What runs was started with another runtime: two at once would fight over ports and data."""
    engine = (
        "start the Docker Engine (systemctl start docker), or " if deployment.runtime == "compose" else ""
    )
    return ConfigError(
        f"what was started here runs as {deployment.runtime}, and now it would be {wanted.value}: {wanted.reason}",
        place=str(deployment.state.root),
        hint=f"{engine}monitoring-manage stop, then start",
    )


def recorded(state: StateDir) -> Deployment | None:
    """What was started from a state directory; None also where its record is damaged, as `start` mends that."""
    try:
        return load(state)
    except Damaged:
        return None


def _runtime(settings: Settings, state: StateDir, *, demo: bool) -> Found:
    """What runs stays what it is until it is stopped, even while its Engine does not answer."""
    if demo:
        return Found("native", "the demo needs no Docker")
    before = recorded(state)
    if before is not None and settings.runtime == "auto":
        return Found(before.runtime, "as it was started; after monitoring-manage stop that is decided anew")
    return detect.runtime(settings)


def _supervised(settings: Settings) -> bool:
    """Whether the exporter is a process of ours: `auto` leaves it to systemd where the unit is installed."""
    deployment = settings.exporter.deployment
    return deployment == "process" or (deployment == "auto" and not EXPORTER_UNIT.exists())


def _without(context: Context, hardware_reason: str) -> dict[str, str]:
    """The exporter's collectors that have nothing to read on this machine, each with the reason."""
    cards = contexts.expects_cards(context)
    found = {} if cards else dict.fromkeys(("topology", "xid"), hardware_reason)
    if not context.settings.allocations.allocator:
        reason = "the configuration says allocations.allocator: false"
        found |= dict.fromkeys(("state", "events", "disk"), reason)
    docker = context.settings.allocations.docker
    if context.settings.exporter.deployment == "container":
        reason = "the exporter runs in a container, which gets no Docker socket"
        return found | dict.fromkeys(("docker", "container_use"), reason)
    if docker == "none":
        found |= dict.fromkeys(("docker", "container_use"), "the configuration says allocations.docker: none")
    elif docker == "auto" and not detect.engine_installed():
        found |= dict.fromkeys(("docker", "container_use"), "there is no Docker Engine here")
    return found
