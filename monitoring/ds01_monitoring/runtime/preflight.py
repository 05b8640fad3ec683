"""What can stand in the way of containers, found before anything is changed."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import TYPE_CHECKING

from ds01_monitoring.errors import UserError
from ds01_monitoring.runtime import engine, ports

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ds01_monitoring.context import Context
    from ds01_monitoring.runtime.base import Say
    from ds01_monitoring.runtime.engine import Container

ROUTES = Path("/proc/net/route")
BRIDGE = "ds01-monitoring"
IMAGES = {
    "dcgm-exporter": "dcgm_exporter",
    "node-exporter": "node_exporter",
    "prometheus": "prometheus",
    "alertmanager": "alertmanager",
    "grafana": "grafana",
    "ds01-exporter": "ds01_exporter",
}
PORTS = {
    "dcgm-exporter": "dcgm_exporter",
    "node-exporter": "node_exporter",
    "prometheus": "prometheus",
    "alertmanager": "alertmanager",
    "grafana": "grafana",
}


def services(context: Context) -> list[str]:
    """The jobs that are containers."""
    settings = context.settings
    return [
        job
        for job in context.jobs
        if (job in PORTS and not (job == "dcgm-exporter" and settings.dcgm.address))
        or (job == "ds01-exporter" and settings.exporter.deployment == "container")
    ]


def published(context: Context) -> dict[int, str]:
    """Port on loopback to the container that gets it."""
    settings = context.settings
    return {
        settings.exporter.port if job == "ds01-exporter" else getattr(settings.ports, PORTS[job]): job
        for job in services(context)
    }


def on_host(context: Context) -> dict[int, str]:
    """Port to the program of ours that listens there beside the containers, but for what systemd runs."""
    settings, extra = context.settings, context.extra
    exporter = settings.exporter.deployment != "container" and extra.get("supervise_exporter", True)
    telemetry = "gpu-telemetry" in context.jobs and not extra.get("telemetry_unit", False)
    return {
        **({settings.exporter.port: "ds01-exporter"} if exporter else {}),
        **({settings.ports.gpu_telemetry: "gpu-telemetry"} if telemetry else {}),
    }


def check(context: Context, ours: set[int]) -> None:
    """Refuse what cannot work; `ours` are the processes of this stack on the host.

    Raises:
        UserError: Says what is in the way and what to do.
    """
    settings = context.settings
    running = engine.containers()
    no_other_stack(running, context.state.rendered)
    wanted = {**published(context), **on_host(context)}
    free_ports(wanted, {port for one in running for port in one.published()}, ours)
    free_subnet(settings.network.subnet)
    if "dcgm-exporter" in services(context) and not engine.nvidia():
        raise UserError(
            "the Docker Engine cannot give GPUs to containers, which hardware: dcgm needs",
            hint=engine.NVIDIA_HINT,
        )
    host = settings.dcgm.address.rpartition(":")[0]
    if host in {"localhost", "127.0.0.1", "[::1]"}:
        raise UserError(
            f"dcgm.address is {settings.dcgm.address}, which inside a container is the container itself",
            hint=f"let that dcgm-exporter listen on the bridge's gateway, {settings.network.gateway}, and name it so",
            exit_code=2,
        )
    for folder in _exporter_folders(context):
        if not Path(folder).is_dir():
            raise UserError(
                "is missing, and the exporter's container reads it",
                place=folder,
                hint="make it, or correct allocations: in monitoring.yaml",
            )


def _exporter_folders(context: Context) -> list[str]:
    from ds01_monitoring.compose_facts import exporter_folders  # noqa: PLC0415 - it needs more than most.

    return exporter_folders(context.settings) if "ds01-exporter" in services(context) else []


def no_other_stack(containers: list[Container], rendered: Path) -> None:
    """Refuse to take over the containers of another stack: every stack's have the same names.

    Raises:
        UserError: Names where it was started from.
    """
    folders = {Path(one.folder) for one in containers if one.running and one.folder}
    for folder in sorted(folders):
        if folder.parent.resolve() != rendered.resolve():
            ours = folder.parent.name == rendered.name
            raise UserError(
                f"a stack of the project {engine.PROJECT} runs on this Engine already",
                place=str(folder),
                hint=f"monitoring-manage --state-dir {folder.parent.parent} stop"
                if ours
                else f"docker compose --project-name {engine.PROJECT} down; its volumes stay",
            )


def free_ports(wanted: dict[int, str], published_by_us: set[int], ours: set[int]) -> None:
    """Refuse ports that somebody else listens on, with the name of who does.

    Raises:
        UserError: Names each port, its service and its listener.
    """
    taken = {
        port: listener
        for port, listener in ports.listeners(wanted).items()
        if port not in published_by_us and listener.pid not in ours
    }
    if taken:
        told = "; ".join(f"{port} ({wanted[port]}) by {listener}" for port, listener in sorted(taken.items()))
        raise UserError(
            f"ports are taken: {told}",
            hint="stop that program (an older stack of ours: monitoring-manage stop), or give this one other ports "
            "under `ports:` (`exporter: {port: …}`) in monitoring.yaml",
        )


def free_subnet(subnet: str) -> None:
    """Refuse a subnet that overlaps with another network of the Engine, or with a route of this machine.

    Raises:
        UserError: Names the network or the interface.
    """
    wanted = ipaddress.IPv4Network(subnet)
    for name, found in (*_networks(), *_routes()):
        if wanted.overlaps(found):
            raise UserError(
                f"the subnet {subnet} collides with {found} of {name}",
                place="network.subnet",
                hint="set it to a free one in monitoring.yaml; docker network ls and ip route show what is taken",
                exit_code=2,
            )


def _networks() -> Iterator[tuple[str, ipaddress.IPv4Network]]:
    for network in engine.networks():
        labels = network.get("Labels") or {}
        if labels.get(engine.PROJECT_LABEL) == engine.PROJECT:
            continue
        for config in (network.get("IPAM") or {}).get("Config") or ():
            subnet = config.get("Subnet", "")
            if subnet and ":" not in subnet:
                yield f"the Docker network {network['Name']}", ipaddress.IPv4Network(subnet, strict=False)


def _routes() -> Iterator[tuple[str, ipaddress.IPv4Network]]:
    """Routes but the default one, which VPNs write as two halves.

    The kernel writes addresses as little-endian hexadecimal numbers (proc(5)).
    """
    rows = [line.split() for line in ROUTES.read_text().splitlines()[1:]] if ROUTES.exists() else []
    for interface, destination, *rest in rows:
        mask = rest[5]
        address, bits = (int.from_bytes(bytes.fromhex(text), "little") for text in (destination, mask))
        if bits.bit_count() > 1 and interface != BRIDGE:
            yield (
                f"the interface {interface}",
                ipaddress.IPv4Network((address, bits.bit_count()), strict=False),
            )


def pull_missing(context: Context, say: Say) -> None:
    """Get the images that are not here.

    Raises:
        UserError: One cannot be had.
    """
    for job in services(context):
        image = getattr(context.settings.images, IMAGES[job])
        if engine.has_image(image):
            continue
        if job == "ds01-exporter" and "/" not in image:  # Docker Hub has none of that name, or a stranger's.
            raise UserError(f"there is no image {image}", hint="monitoring-manage build")
        say(f"pulling {image}")
        try:
            engine.docker("pull", "--quiet", image, timeout=engine.PULL_SECONDS)
        except UserError as error:
            raise UserError(error.problem, place=f"images.{IMAGES[job]}: {image}", hint=error.hint) from error
