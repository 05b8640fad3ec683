"""A container as the Docker Engine describes it, and what its labels and requests mean."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ds01_exporter.timestamps import parse_timestamp

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_RUNNING = {"running", "paused", "restarting"}
_HOME = re.compile(r"^/home/([^/]+)")
_SLICE = re.compile(r"(?:^|/)ds01-[^/]*?-([^/-]+)\.slice$")
_NO_DEVICES = {"", "none", "void"}


@dataclass(frozen=True)
class Details:
    """What never changes in a container's life, from Docker's inspect call.

    Attributes:
        cgroup_parent: HostConfig.CgroupParent; empty for Docker's default.
        has_gpus: whether it was started with NVIDIA devices: `--gpus`, CDI, `--device` or the nvidia runtime.
    """

    cgroup_parent: str = ""
    has_gpus: bool = False


@dataclass(frozen=True)
class Container:
    """One container of Docker's list, with its details; None where it was gone before they could be asked."""

    id: str
    name: str
    running: bool
    labels: Mapping[str, str] = field(default_factory=dict)
    details: Details | None = None

    @property
    def user(self) -> str:
        """Whose it is according to its labels; empty if they do not say."""
        return self.labels.get("ds01.user") or self.labels.get("aime.mlc.USER") or ""

    @property
    def since(self) -> float | None:
        """When it was given its GPU according to its labels."""
        return parse_timestamp(self.labels.get("ds01.gpu.allocated_at"))

    @property
    def of_monitoring(self) -> bool:
        """Whether it belongs to the monitoring itself."""
        return (
            self.labels.get("ds01.monitoring", "").lower() == "true"
            or self.labels.get("ds01.container_type") == "infrastructure"
            or self.labels.get("com.docker.compose.project") == "ds01-monitoring"
        )

    @property
    def managed(self) -> bool:
        """Whether it carries a mark of the allocator: a label, its way of naming, or its cgroup."""
        parent = self.details.cgroup_parent if self.details else ""
        return (
            "._." in self.name
            or parent.rpartition("/")[2].startswith("ds01")
            or any(key.startswith(("ds01.", "aime.mlc.")) for key in self.labels)
        )

    @property
    def guessed_user(self) -> str:
        """Whose it seems to be: its labels, the home folder it was started in, or its cgroup's name."""
        if self.user:
            return self.user
        for key in ("devcontainer.local_folder", "com.docker.compose.project.working_dir"):
            if home := _HOME.match(self.labels.get(key, "")):
                return home[1]
        parent = _SLICE.search(self.details.cgroup_parent) if self.details else None
        return parent[1] if parent else ""

    def slot_marks(self) -> Iterator[str]:
        """Yield the slot names or UUIDs that its labels say it was given.

        `ds01.gpu.slots` (else `ds01.gpu.allocated`) hold names; where they are missing `ds01.gpu.uuids`,
        `ds01.gpu.uuid` or `ds01.gpu_slot`, which in spite of its name holds a UUID.
        """
        for key in (
            "ds01.gpu.slots",
            "ds01.gpu.allocated",
            "ds01.gpu.uuids",
            "ds01.gpu.uuid",
            "ds01.gpu_slot",
        ):
            marks = [mark.strip() for mark in self.labels.get(key, "").split(",") if mark.strip()]
            if marks:
                yield from dict.fromkeys(mark.replace(":", ".") for mark in marks)
                return


def read_container(entry: object, details: Details | None) -> Container | None:
    """Read one entry of `GET /containers/json`; None for one that is not as Docker documents it."""
    if not isinstance(entry, dict):
        return None
    identifier, names, labels = entry.get("Id"), entry.get("Names"), entry.get("Labels")
    if not isinstance(identifier, str) or not identifier:
        return None
    paths = [name for name in names if isinstance(name, str)] if isinstance(names, list) else []
    own = [path for path in paths if path.count("/") <= 1]  # "/other/alias" is a link's name for it
    return Container(
        id=identifier,
        name=(own or paths or [identifier[:12]])[0].removeprefix("/"),
        running=str(entry.get("State")) in _RUNNING,
        labels={str(key): str(value) for key, value in labels.items()} if isinstance(labels, dict) else {},
        details=details,
    )


def read_details(document: object) -> Details:
    """Read the answer of `GET /containers/<id>/json`."""
    host = _part(_part(document).get("HostConfig"))
    parent = host.get("CgroupParent")
    requests = host.get("DeviceRequests")
    devices = host.get("Devices")
    runtime = host.get("Runtime")
    return Details(
        cgroup_parent=parent if isinstance(parent, str) else "",
        has_gpus=any(_asks_for_gpus(request) for request in _items(requests))
        or any(
            str(_part(device).get("PathOnHost", "")).startswith("/dev/nvidia") for device in _items(devices)
        )
        or (
            isinstance(runtime, str)
            and "nvidia" in runtime
            and _sees_devices(_part(_part(document).get("Config")))
        ),
    )


def _asks_for_gpus(request: object) -> bool:
    """Whether a device request is for GPUs: `--gpus N|all|device=…` (capability gpu), or CDI's nvidia.com/gpu."""
    values = _part(request)
    capabilities = [name for group in _items(values.get("Capabilities")) for name in _items(group)]
    devices = _items(values.get("DeviceIDs"))
    if values.get("Driver") == "cdi":
        return any(str(device).startswith("nvidia.com/") for device in devices)
    wanted = values.get("Driver") == "nvidia" or "gpu" in capabilities
    return wanted and (bool(devices) or values.get("Count") != 0)


def _sees_devices(config: Mapping[str, object]) -> bool:
    """Whether the nvidia runtime gives GPUs to a container with this environment."""
    for variable in _items(config.get("Env")):
        name, _, value = str(variable).partition("=")
        if name == "NVIDIA_VISIBLE_DEVICES":
            return value.strip().lower() not in _NO_DEVICES
    return False


def _part(value: object) -> Mapping[str, object]:
    return value if isinstance(value, dict) else {}


def _items(value: object) -> list[object]:
    return value if isinstance(value, list) else []
