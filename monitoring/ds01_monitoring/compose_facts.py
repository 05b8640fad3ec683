"""What docker-compose.yaml depends on beyond the settings: this machine, and the files that each service reads."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ds01_monitoring.runtime import owner

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ds01_monitoring.config import Settings
    from ds01_monitoring.context import Context

DBUS = Path("/run/dbus/system_bus_socket")
MOUNTS = Path("/proc/self/mountinfo")
DEVICES = Path("/dev")
NVIDIA_DEVICE = re.compile(r"nvidia(\d+|ctl|-uvm|-uvm-tools|-modeset|-caps/nvidia-cap\d+)")


@dataclass(frozen=True)
class Facts:
    """The variable `compose` of the template.

    Attributes:
        user: `uid:gid` of the containers.
        rendered: The folder that holds all versions of the configuration; a mounted link would never change.
        dbus: Whether systemd can be asked over the system's D-Bus.
        rootfs: Whether node_exporter can be shown the host's file systems: the Engine mounts a `/` that holds its
            own folder only where `/` is a shared mount, as it is under systemd.
        nvidia_devices: The GPUs' device files.
        left_out: Services that this machine cannot run, with the reason.
        copies: Secrets of the site, by their path: the copy that the containers' user may read.
        files: By service, the secrets that it reads, and the rendered files that it reads only when it starts.
        exporter_folders: What the exporter reads, where it is a container.
    """

    user: str
    rendered: Path
    dbus: bool
    rootfs: bool
    nvidia_devices: Sequence[str]
    left_out: Mapping[str, str]
    copies: Mapping[str, str]
    files: Mapping[str, Mapping[str, Sequence[str]]]
    exporter_folders: Sequence[str]


def facts(context: Context) -> Facts:
    """Ask this machine, and gather what the settings name."""
    settings, state = context.settings, context.state
    uid, gid = owner.ids(state)
    secrets = _secrets(context)
    sites = sorted({path for paths in secrets.values() for path in paths if state.root not in path.parents})
    return Facts(
        user=f"{uid}:{gid}",
        rendered=state.rendered,
        dbus=DBUS.is_socket(),
        rootfs=_root_is_shared(),
        nvidia_devices=_nvidia_devices(),
        left_out=_left_out(context),
        copies={str(path): str(state.secrets / "site" / _short(path)) for path in sites},
        files={
            service: {"secrets": [str(path) for path in secrets.get(service, ())], "rendered": rendered}
            for service, rendered in (
                ("dcgm-exporter", ["dcgm"]),
                ("node-exporter", []),
                ("alertmanager", []),
                ("prometheus", []),
                ("grafana", ["grafana/provisioning"]),
                ("ds01-exporter", []),
            )
        },
        exporter_folders=exporter_folders(settings),
    )


def exporter_folders(settings: Settings) -> list[str]:
    """Folders, not files: the allocator replaces its files, and a mounted file would stay the old one."""
    allocations = settings.allocations
    wanted = {allocations.state_file.parent, allocations.events_file.parent, allocations.state_dir}
    return sorted(str(path) for path in wanted if not wanted.intersection(path.parents))


def _secrets(context: Context) -> dict[str, list[Path]]:
    """The files below secrets/, and those of the site's own, that each service has to read."""
    settings, paths = context.settings, context.paths()
    notify = settings.notify
    own = [paths.web_config, paths.http_password] if settings.security.local_auth else []
    receivers = [one for one in (notify.slack, notify.teams, notify.webhook, notify.heartbeat) if one]
    mail = [notify.mail.password_file, notify.mail.ca_file] if notify.mail else []
    alertmanager = [*mail, *(one.url_file for one in receivers)]
    remote = [server.password_file for server in settings.prometheus.remote_write]
    grafana = [paths.grafana_admin_password, *own[1:]]
    found = {
        "dcgm-exporter": own[:1],
        "node-exporter": own,
        "alertmanager": [*own, *filter(None, alertmanager)],
        "prometheus": [*own, *filter(None, remote)],
        "grafana": grafana,
        "ds01-exporter": own[1:],
    }
    return {service: list(dict.fromkeys(files)) for service, files in found.items()}


def _short(path: Path) -> str:
    return f"{hashlib.sha256(str(path).encode()).hexdigest()[:8]}-{path.name}"


def _left_out(context: Context) -> dict[str, str]:
    if context.hardware == "dcgm":
        return {}
    reason = context.extra.get("hardware_reason") or f"hardware is {context.hardware}"
    return {"dcgm-exporter": reason}


def _root_is_shared() -> bool:
    """Whether `/` propagates mounts, as it does under systemd; the optional fields of proc(5), mountinfo."""
    rows = [line.split() for line in MOUNTS.read_text().splitlines()] if MOUNTS.exists() else []
    return any(
        row[4] == "/" and any(field.startswith(("shared:", "master:")) for field in row[6:]) for row in rows
    )


def _nvidia_devices() -> list[str]:
    found = [*DEVICES.glob("nvidia*"), *DEVICES.glob("nvidia-caps/*")]
    names = (path for path in found if NVIDIA_DEVICE.fullmatch(str(path.relative_to(DEVICES))))
    return sorted(str(path) for path in names if path.is_char_device())
