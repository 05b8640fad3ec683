"""Whether telling systemd to read its units again would take GPUs away from running containers.

With the systemd cgroup driver, `daemon-reload` applies each scope's device rules anew, and systemd finds a device
by its link in /dev/char. NVIDIA's driver does not make these links, so a container that has a GPU loses it
(NVIDIA/nvidia-container-toolkit issues 48 and 1227). `systemctl enable` reloads, too.
"""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

from ds01_monitoring import command
from ds01_monitoring.errors import UserError

SECONDS = 20
DEV = Path("/dev")
FIX = (
    "make the links: nvidia-ctk system create-dev-char-symlinks --create-all (and a udev rule, see docs/install.md); "
    "or stop these containers; or --force, after which they must be restarted"
)


def refuse_if_at_risk() -> None:
    """Pass where a reload takes nothing away.

    Raises:
        UserError: It would; names the containers and the remedy.
    """
    links = missing_links(DEV)
    if not links or engine("info", "--format", "{{.CgroupDriver}}").strip() != "systemd":
        return
    containers = gpu_containers()
    if containers:
        raise UserError(
            f"a systemctl daemon-reload would take the GPUs away from {len(containers)} running containers: "
            f"{', '.join(containers)} (systemd cgroup driver, and no {links[0]})",
            hint=FIX,
        )


def missing_links(dev: Path) -> list[str]:
    """Links in /dev/char that NVIDIA's device files should have and do not."""
    found = []
    for path in (*dev.glob("nvidia*"), *dev.glob("nvidia-caps/*")):
        about = path.stat()
        if stat.S_ISCHR(about.st_mode):
            link = dev / "char" / f"{os.major(about.st_rdev)}:{os.minor(about.st_rdev)}"
            found += [] if link.exists() else [str(link)]
    return sorted(found)


def gpu_containers() -> list[str]:
    """Names of the running containers that have a GPU, however they were given it."""
    running = engine("ps", "--quiet", "--no-trunc").split()
    if not running:
        return []
    return sorted(
        about["Name"].lstrip("/") for about in json.loads(engine("inspect", *running)) if _has_gpu(about)
    )


def _has_gpu(about: dict[str, dict[str, object]]) -> bool:
    host, config = json.dumps(about["HostConfig"]), about["Config"]
    environment = dict(line.partition("=")[::2] for line in config.get("Env") or [])  # type: ignore[attr-defined]
    visible = environment.get("NVIDIA_VISIBLE_DEVICES", "void")
    by_runtime = about["HostConfig"].get("Runtime") == "nvidia" and visible not in {"", "void", "none"}
    requests = about["HostConfig"].get("DeviceRequests") or []
    return by_runtime or bool(requests) or "/dev/nvidia" in host


def engine(*arguments: str) -> str:
    """What Docker answers; empty where there is none or it does not answer."""
    try:
        done = command.run(["docker", *arguments], timeout=SECONDS, check=False)
    except UserError:
        return ""
    return done.stdout if done.returncode == 0 else ""
