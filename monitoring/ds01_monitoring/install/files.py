"""The files of an installation: what is new is written, what somebody edited is left alone."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from ds01_monitoring import paths
from ds01_monitoring.files import link_atomically, write_atomically
from ds01_monitoring.install.manifest import digest, digest_of
from ds01_monitoring.install.place import COMMANDS, CONFIG, HOME, LOGS, STATE, UNITS, USER, Place, Step, owner

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ds01_monitoring.install.manifest import Manifest

# -I: neither the caller's PYTHONPATH nor the folder it stands in reaches a program that root runs.
LAUNCHER = """#!/bin/sh
here=$(dirname "$(readlink -f "$0")")
exec "$here/../venv/bin/python" -I -c 'import sys; sys.argv[0] = "{name}"; from {module} import {function}; sys.exit({function}())' "$@"
"""
LAUNCHERS = {
    "monitoring-manage": ("ds01_monitoring.cli", "manage"),
    "monitoring-status": ("ds01_monitoring.cli", "status"),
    "ds01-exporter": ("ds01_exporter.__main__", "main"),
    "ds01-demo": ("ds01_demo.__main__", "main"),
    "gpu-telemetry": ("gpu_telemetry.cli", "main"),
}
ON_PATH = ("monitoring-manage", "monitoring-status", "gpu-telemetry")

DOCKER_GROUP = UNITS / "ds01-exporter.service.d" / "docker.conf"
DOCKER_GROUP_TEXT = """# Written where the group docker exists: lets the exporter ask the Engine for containers and their labels.
[Service]
SupplementaryGroups=docker
"""

SHIPPED = {
    UNITS / "ds01-exporter.service": "config/deploy/systemd/ds01-exporter.service",
    UNITS / "ds01-monitoring.service": "config/deploy/systemd/ds01-monitoring.service",
    Path("/etc/logrotate.d/ds01-monitoring"): "config/deploy/logrotate/ds01-monitoring",
    Path("/etc/sysusers.d/ds01-monitoring.conf"): "config/deploy/sysusers.d/ds01-monitoring.conf",
    CONFIG / "monitoring.yaml": "config/monitoring.yaml",
}
TELEMETRY_SETTINGS = Path("/etc/default/gpu-telemetry")
TELEMETRY = {
    UNITS / "gpu-telemetry.service": "config/deploy/systemd/gpu-telemetry.service",
    TELEMETRY_SETTINGS: "config/deploy/default/gpu-telemetry",
    Path("/etc/sysusers.d/gpu-telemetry.conf"): "config/deploy/sysusers.d/gpu-telemetry.conf",
    Path("/etc/tmpfiles.d/gpu-telemetry.conf"): "config/deploy/tmpfiles.d/gpu-telemetry.conf",
}
SETTINGS = (CONFIG / "monitoring.yaml", TELEMETRY_SETTINGS)
"""What `uninstall` keeps unless it is told to remove data."""

FOLDERS: dict[Path, str | None] = {HOME: None, CONFIG: None, LOGS: None, STATE: USER}
"""Made where they are not there; each with its owner (None = root)."""


@dataclass(frozen=True)
class File:
    """One file that ships, by its path on the installed machine."""

    target: Path
    text: str
    mode: int = 0o644


def wanted(*, telemetry: bool, docker: bool) -> list[File]:
    """Every file of an installation."""
    root = paths.data_root()
    sources = {**SHIPPED, **(TELEMETRY if telemetry else {})}
    files = [File(target, (root / source).read_text(encoding="utf-8")) for target, source in sources.items()]
    if docker:
        files.append(File(DOCKER_GROUP, DOCKER_GROUP_TEXT))
    for name, (module, function) in LAUNCHERS.items():
        files.append(
            File(HOME / "bin" / name, LAUNCHER.format(name=name, module=module, function=function), 0o755)
        )
    return files


def links() -> dict[Path, Path]:
    """The commands on PATH."""
    return {COMMANDS / name: HOME / "bin" / name for name in ON_PATH}


def folder_steps(place: Place, manifest: Manifest) -> Iterator[Step]:
    """The folders that are missing; what lies above them (/etc, /var/lib) is made with the files."""
    for folder, user in FOLDERS.items():
        target = place.at(folder)
        if not target.is_dir():
            manifest.folders = sorted({*manifest.folders, str(folder)})
            whose = f", owned by {user}" if user else ""
            yield Step(f"make {folder}{whose}", partial(_make, place, target, user))


def file_steps(place: Place, manifest: Manifest, files: list[File]) -> Iterator[Step]:
    """Write what is missing or old; offer what was edited as `.new`. The manifest is brought up to date."""
    for file in files:
        now, shipped = digest_of(place.at(file.target)), digest(file.text.encode())
        before = manifest.files.get(str(file.target))
        manifest.files[str(file.target)] = shipped
        if now == shipped:
            continue
        if now is None or now == before:
            verb = "write" if now is None else "update"
            yield Step(f"{verb} {file.target}", partial(_write, place, file, place.at(file.target)))
        elif shipped != before:
            beside = file.target.with_name(f"{file.target.name}.new")
            if digest_of(place.at(beside)) != shipped:
                yield Step(
                    f"keep {file.target}, which was edited, and write {beside}: compare them",
                    partial(_write, place, file, place.at(beside)),
                )


def link_steps(place: Place, manifest: Manifest) -> Iterator[Step]:
    """The links on PATH; a command of the same name that is not ours is left alone."""
    for link, target in links().items():
        there = place.at(link)
        present = str(there.readlink()) if there.is_symlink() else None
        ours = manifest.links.get(str(link))
        manifest.links[str(link)] = str(target)
        if present == str(target):
            continue
        if not os.path.lexists(there) or (present is not None and present == ours):
            yield Step(f"link {link} to {target}", partial(_link, there, target))
            continue
        beside = there.with_name(f"{there.name}.new")
        if not beside.is_symlink() or str(beside.readlink()) != str(target):
            yield Step(
                f"keep {link}, which is not ours, and link {link}.new to {target}",
                partial(_link, beside, target),
            )


def _make(place: Place, target: Path, user: str | None) -> None:
    target.mkdir(parents=True, exist_ok=True)
    owner(place, target, user)


def _write(place: Place, file: File, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(target, file.text, mode=file.mode)
    owner(place, target, None)


def _link(link: Path, target: Path) -> None:
    link.parent.mkdir(parents=True, exist_ok=True)
    link_atomically(link, str(target))
