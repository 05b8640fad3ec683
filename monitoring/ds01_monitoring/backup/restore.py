"""`restore`: a backup onto a machine that has nothing yet."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from ds01_monitoring import deployment, inventory
from ds01_monitoring.backup import contents
from ds01_monitoring.config.reference import documented_text
from ds01_monitoring.errors import UserError
from ds01_monitoring.install import machine
from ds01_monitoring.install.place import USER
from ds01_monitoring.runtime import owner

if TYPE_CHECKING:
    from ds01_monitoring.paths import StateDir
    from ds01_monitoring.runtime.base import Say

DATA = ("prometheus", "alertmanager", "grafana")


def restore(folder: Path, configuration: Path | None, state: StateDir, say: Say) -> list[str]:
    """Put a backup where the next `start` finds it; returns what the reader has to know.

    Args:
        folder: The backup.
        configuration: Where monitoring.yaml belongs; None = nowhere on this machine.
        state: An empty state directory.
        say: Told each step.

    Raises:
        UserError: It is no backup, something runs here, or there is data that would be lost.
    """
    found = contents.read(folder)
    _refuse_if_used(state)
    fresh = not state.root.exists()
    before = os.umask(0o077)
    try:
        state.root.mkdir(parents=True, exist_ok=True)
        state.root.chmod(0o755)
        state.data.mkdir(exist_ok=True)
        for name in DATA:
            if (folder / name).is_dir():
                say(name)
                shutil.rmtree(state.data / name, ignore_errors=True)  # Empty, see above.
                shutil.copytree(folder / name, state.data / name, copy_function=shutil.copyfile)
        say("secrets")
        for secret in (folder / contents.SECRETS).iterdir():
            _private(secret, state.secrets / secret.name)
        listed = inventory.file(state)
        if (folder / listed.name).is_file():
            shutil.copyfile(folder / listed.name, listed)
        _adopt(state, fresh=fresh)
        # In this order: the folder of the configuration is everybody's to read, also where passwords lie in it.
        notes = [*_configuration(folder, configuration), *_site_files(folder, found)]
    finally:
        os.umask(before)
    return notes


def _refuse_if_used(state: StateDir) -> None:
    if deployment.load(state) is not None:
        raise UserError("a stack runs from here", place=str(state.root), hint="monitoring-manage stop")
    used = [state.data / name for name in DATA if any(_files(state.data / name))]
    if used:
        raise UserError(
            f"there is data already: {', '.join(path.name for path in used)}",
            place=str(state.data),
            hint="move it away, or restore into another --state-dir",
        )


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()] if folder.is_dir() else []


def _adopt(state: StateDir, *, fresh: bool) -> None:
    """What root restored belongs to whom the servers run as."""
    if os.geteuid() != 0:
        return
    if fresh and machine.user_exists(USER):
        machine.give(state.root, USER)
        return
    uid, gid = owner.ids(state)
    for folder in (state.data, state.secrets):
        owner.give(folder, *folder.rglob("*"), uid=uid, gid=gid)


def _site_files(folder: Path, found: contents.Contents) -> list[str]:
    """The site's own passwords go where the configuration names them; one that is there stays."""
    notes = []
    for name, original in found.site_files.items():
        target = Path(original)
        if target.exists():
            notes.append(f"kept {target}, which was there; the backup's is {folder / name}")
            continue
        try:
            _private(folder / name, target)
        except PermissionError:
            notes.append(f"may not write {target}: copy it from {folder / name}, mode 0600")
    return notes


def _configuration(folder: Path, target: Path | None) -> list[str]:
    source = folder / contents.CONFIGURATION
    text = source.read_text(encoding="utf-8")
    if target is None:
        return [f"the configuration is {source}: name it with --config or $MONITORING_CONFIG"]
    here = target.read_text(encoding="utf-8") if target.exists() else None
    if here == text:
        return []
    changed = here is not None and here != documented_text()
    place = target.with_name(f"{target.name}.new") if changed else target
    if not place.parent.exists():
        place.parent.mkdir(parents=True)
        place.parent.chmod(0o755)
    place.write_text(text, encoding="utf-8")
    place.chmod(0o644)
    return [
        f"kept {target}, which was edited, and wrote {place}: compare them" if changed else f"wrote {place}"
    ]


def _private(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)
    target.chmod(0o600)
