"""What an installation changes beyond files: the system user, who owns the state, and systemd's services."""

from __future__ import annotations

import grp
import os
import pwd
import shutil
from functools import partial
from typing import TYPE_CHECKING

from ds01_monitoring import command, deployment
from ds01_monitoring.errors import UserError
from ds01_monitoring.install.place import STATE, UNITS, USER, Place, Step
from ds01_monitoring.paths import StateDir
from ds01_monitoring.runtime.owner import NOBODYS_ID

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

SECONDS = 120
SERVICES = ("ds01-exporter.service", "ds01-monitoring.service")
TELEMETRY_SERVICE = "gpu-telemetry.service"
RESTARTED = ("ds01-exporter.service", TELEMETRY_SERVICE)
"""Those that run our code all the time; the stack's own unit ends when everything is up."""


def group_exists(name: str) -> bool:
    """Whether this machine has a group of that name."""
    try:
        grp.getgrnam(name)
    except KeyError:
        return False
    return True


def user_exists(name: str) -> bool:
    """Whether this machine has a user of that name."""
    try:
        pwd.getpwnam(name)
    except KeyError:
        return False
    return True


def user_steps(place: Place, users: Iterable[str]) -> Iterator[Step]:
    """The system users that are missing."""
    for name in users if place.this_machine else ():
        if not user_exists(name):
            yield Step(f"make the system user {name}", partial(_make_user, name))


def _make_user(name: str) -> None:
    if shutil.which("systemd-sysusers"):
        command.run(["systemd-sysusers", f"{name}.conf"], timeout=SECONDS)
        return
    shell = shutil.which("nologin") or "/bin/false"
    arguments = [
        "--system",
        "--user-group",
        "--no-create-home",
        "--home-dir",
        f"/var/lib/{name}",
        "--shell",
        shell,
    ]
    command.run(["useradd", *arguments, name], timeout=SECONDS)


def ownership_steps(place: Place) -> Iterator[Step]:
    """State that was made before there was a user for it, by root or for containers, becomes the user's.

    Raises:
        UserError: A stack runs from it.
    """
    state = place.at(STATE)
    if not place.this_machine or not state.is_dir() or state.stat().st_uid not in {0, NOBODYS_ID}:
        return
    if stack_started(place):
        raise UserError(
            f"does not belong to {USER} yet, and a stack runs from it",
            place=str(state),
            hint=f"monitoring-manage stop; install then gives the folder to {USER}",
        )
    yield Step(f"give {STATE} and what is in it to {USER}", partial(give, state, USER))


def stack_started(place: Place) -> bool:
    """Whether a stack was started from the installed state directory; "no" to a user who may not look there."""
    return os.access(StateDir(place.at(STATE)).run / deployment.FILE, os.F_OK)


def give(folder: Path, user: str) -> None:
    """Let a folder and all below it belong to a user; links are changed themselves, never followed."""
    entry = pwd.getpwnam(user)
    for parent, _folders, files in os.walk(folder):
        for path in (parent, *(os.path.join(parent, name) for name in (*_folders, *files))):  # noqa: PTH118 - a bytes-safe walk.
            os.chown(path, entry.pw_uid, entry.pw_gid, follow_symlinks=False)


def service_steps(place: Place, changed: set[str], *, new: list[str], code_changed: bool) -> Iterator[Step]:
    """Tell systemd about units that changed, enable those that are new, restart what runs old code.

    Args:
        place: Where; without a running systemd there is nobody to tell.
        changed: Paths of files that are written.
        new: Units that were not there before: an administrator's `disable` is respected later.
        code_changed: Whether the environment is another one than before.
    """
    if not place.systemd:
        return
    if reloads(changed):
        yield Step("systemctl daemon-reload", partial(_systemctl, "daemon-reload"))
    if new:
        yield Step(f"systemctl enable {' '.join(new)}", partial(_systemctl, "enable", *new))
    for unit in RESTARTED:
        if (
            (code_changed or any(f"/{unit}" in path for path in changed))
            and unit not in new
            and (UNITS / unit).exists()
        ):
            yield Step(f"systemctl try-restart {unit}", partial(_systemctl, "try-restart", unit))


def reloads(changed: set[str]) -> bool:
    """Whether systemd must read its units again."""
    return any(path.startswith(f"{UNITS}/") for path in changed)


def stop_steps(place: Place, units: list[str]) -> Iterator[Step]:
    """Stop and disable units."""
    if place.systemd and units:
        yield Step(
            f"systemctl disable --now {' '.join(units)}", partial(_systemctl, "disable", "--now", *units)
        )


def reload_steps(place: Place) -> Iterator[Step]:
    """Let systemd forget units that are gone."""
    if place.systemd:
        yield Step("systemctl daemon-reload", partial(_systemctl, "daemon-reload"))


def _systemctl(*arguments: str) -> None:
    command.run(["systemctl", *arguments], timeout=SECONDS)
