"""Takes an installation off a machine: code, units and commands; with `--data` everything else too."""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from ds01_monitoring import command, deployment
from ds01_monitoring.install import gpus, machine
from ds01_monitoring.install import manifest as manifests
from ds01_monitoring.install.files import SETTINGS, SHIPPED, TELEMETRY, TELEMETRY_SETTINGS
from ds01_monitoring.install.manifest import digest_of
from ds01_monitoring.install.place import CONFIG, HOME, LOGS, STATE, UNITS, USER, Place, Step
from ds01_monitoring.install.plan import TELEMETRY_USER, Plan
from ds01_monitoring.paths import StateDir
from ds01_monitoring.runtime import processes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ds01_monitoring.install.manifest import Manifest
    from ds01_monitoring.runtime.base import Say

TELEMETRY_FOLDERS = (Path("/var/lib/gpu-telemetry"), Path("/var/log/gpu-telemetry"))
PROJECT = "ds01-monitoring"
SECONDS = 60


def make(place: Place, *, data: bool) -> Plan:
    """What has to go.

    Args:
        place: Where.
        data: Series, silences, dashboards' database, secrets, configuration and users as well.

    Raises:
        UserError: The record of the installation cannot be read.
    """
    manifest = manifests.read(place)
    telemetry = manifest.telemetry or place.at(TELEMETRY_SETTINGS).exists()
    state = StateDir(place.at(STATE))
    units = [unit for name in manifest.files if (unit := Path(name).name).endswith(".service")]
    steps = list(_stop(state, data=data)) if place.this_machine else []
    # Those that an interrupted run removed are nothing that systemctl would know.
    steps += machine.stop_steps(place, [unit for unit in units if place.at(UNITS / unit).exists()])
    steps += _files(place, manifest, data=data)
    steps += _links(place, manifest)
    if data:
        steps += _kept_earlier(place, manifest)
        folders = [STATE, CONFIG, LOGS, *(TELEMETRY_FOLDERS if telemetry else ())]
        steps += [_removal(place, folder) for folder in folders if place.at(folder).exists()]
        steps += _users(place, telemetry=telemetry)
    if units:
        steps += machine.reload_steps(place)
    if place.at(HOME).exists():  # Last: this program may run from there.
        steps.append(_removal(place, HOME))
    notes = [] if data else [f"kept: {STATE}, {CONFIG}; `uninstall --data` from a clone removes them"]
    if steps and place.this_machine and gpus.engine("image", "ls", "--quiet"):
        notes.append(
            "Docker's images are left; `docker image ls` shows them, `docker image prune --all` removes unused ones"
        )
    return Plan(place, steps, manifest, reloads=place.systemd and bool(units), notes=notes)


def carry_out(plan: Plan, say: Say) -> None:
    """Do it, one step after another; each is told before it is done."""
    for step in plan.steps:
        say(step.text)
        step.act()


def _stop(state: StateDir, *, data: bool) -> Iterator[Step]:
    recorded = deployment.find(state, demo=False)
    for running in recorded:
        what = "the demo" if running.demo else "the stack"
        yield Step(f"stop {what} ({running.runtime})", partial(_down, running))
    for place in {state, state.demo} - {running.state for running in recorded}:
        runtime = _unrecorded(place)
        if runtime:
            control = deployment.runtime_for(runtime, place, place.bin)
            yield Step(
                f"stop a stack without a record ({runtime})", partial(control.down, lambda _text: None)
            )
    for kind in ("volume", "network") if data else ():
        found = gpus.engine(kind, "ls", "--quiet", *_of_project()).split()
        if found:
            yield Step(
                f"remove Docker's {kind}s of {PROJECT}: {' '.join(found)}",
                partial(_docker_remove, kind, found),
            )


def _unrecorded(state: StateDir) -> str | None:
    """The runtime of what runs from a state directory although its record is lost; None where nothing does."""
    folder = f"label=com.docker.compose.project.working_dir={state.current}"
    if gpus.engine("ps", "--all", "--quiet", *_of_project(), "--filter", folder):
        return "compose"
    return "native" if any(process.alive() for process in processes.read_all(state.run)) else None


def _of_project() -> list[str]:
    return ["--filter", f"label=com.docker.compose.project={PROJECT}"]


def _docker_remove(kind: str, names: list[str]) -> None:
    there = set(gpus.engine(kind, "ls", "--quiet").split())  # Stopping the stack may have removed some.
    if left := [name for name in names if name in there]:
        command.run(["docker", kind, "rm", *left], timeout=SECONDS)


def _down(running: deployment.Deployment) -> None:
    running.control().down(lambda _text: None)
    running.forget()


def _files(place: Place, manifest: Manifest, *, data: bool) -> Iterator[Step]:
    """Our files; an edited one is set aside, settings stay, unless everything goes."""
    for name, shipped in manifest.files.items():
        target = Path(name)
        if target.is_relative_to(HOME):
            continue
        there, new = place.at(target), place.at(target.with_name(f"{target.name}.new"))
        if new.exists():
            yield Step(f"remove {name}.new", new.unlink)
        if not there.exists() or (target in SETTINGS and not data):
            continue
        if digest_of(there) == shipped or data:
            yield Step(f"remove {name}", partial(_remove_file, there))
        else:
            saved = there.with_name(f"{there.name}.saved")
            yield Step(
                f"set aside {name}, which was edited, as {saved.name}", partial(_set_aside, there, saved)
            )


def _kept_earlier(place: Place, manifest: Manifest) -> Iterator[Step]:
    """What an uninstallation without --data left behind; its record is gone."""
    saved = [target.with_name(f"{target.name}.saved") for target in {**SHIPPED, **TELEMETRY}]
    for target in (*saved, *SETTINGS):
        if str(target) not in manifest.files and place.at(target).exists():
            yield Step(f"remove {target}", place.at(target).unlink)


def _set_aside(path: Path, saved: Path) -> None:
    path.replace(saved)


def _links(place: Place, manifest: Manifest) -> Iterator[Step]:
    for name, target in manifest.links.items():
        for link in (name, f"{name}.new"):
            there = place.at(Path(link))
            if there.is_symlink() and str(there.readlink()) == target:
                yield Step(f"remove {link}", there.unlink)


def _users(place: Place, *, telemetry: bool) -> Iterator[Step]:
    if place.this_machine:
        for user in (USER, *([TELEMETRY_USER] if telemetry else [])):
            if machine.user_exists(user):
                yield Step(f"remove the system user {user}", partial(_remove_user, user))


def _remove_user(user: str) -> None:
    command.run(["userdel", user], timeout=SECONDS)


def _removal(place: Place, folder: Path) -> Step:
    return Step(f"remove {folder}", partial(shutil.rmtree, place.at(folder)))


def _remove_file(path: Path) -> None:
    """Remove a file, and the drop-in folder that it was alone in."""
    path.unlink()
    if path.parent.name.endswith(".service.d") and not any(path.parent.iterdir()):
        path.parent.rmdir()
