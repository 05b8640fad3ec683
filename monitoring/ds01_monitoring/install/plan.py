"""An installation as a list of steps: what `--dry-run` prints is what `install` does."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ds01_monitoring.errors import UserError
from ds01_monitoring.install import environment, files, gpus, machine
from ds01_monitoring.install import manifest as manifests
from ds01_monitoring.install.place import UNITS, USER, Place, Step

if TYPE_CHECKING:
    from ds01_monitoring.install.manifest import Manifest
    from ds01_monitoring.runtime.base import Say

TELEMETRY_USER = "gpu-telemetry"


@dataclass
class Plan:
    """What is to be done, in order.

    Attributes:
        place: Where.
        steps: Nothing to do when empty.
        manifest: The record to write afterwards.
        reloads: Whether systemd will read its units anew.
        notes: What the reader must do alone.
    """

    place: Place
    steps: list[Step]
    manifest: Manifest
    reloads: bool = False
    notes: list[str] = field(default_factory=list)

    def check(self, *, force: bool, rehearsal: bool) -> None:
        """Pass when the plan may be carried out here and now; a rehearsal needs no root.

        Raises:
            UserError: Root is needed, or running containers would lose their GPUs.
        """
        if self.place.this_machine and os.geteuid() != 0 and not rehearsal:
            raise UserError("only root can do this for the whole machine", hint="sudo, or --root DIR")
        if self.reloads and not force:
            gpus.refuse_if_at_risk()


def make(place: Place, *, telemetry: bool) -> Plan:
    """Compare the machine with what this version installs.

    Raises:
        UserError: It cannot be installed here.
    """
    manifest = manifests.read(place)
    telemetry = manifest.telemetry = telemetry or manifest.telemetry
    wanted = files.wanted(telemetry=telemetry, docker=place.this_machine and machine.group_exists("docker"))
    users = [USER, *([TELEMETRY_USER] if telemetry else [])]
    units = [*machine.SERVICES, *([machine.TELEMETRY_SERVICE] if telemetry else [])]
    new = [unit for unit in units if not place.at(UNITS / unit).exists()]
    written = list(files.file_steps(place, manifest, wanted))
    changed = {step.text.split()[1] for step in written if step.text.startswith(("write ", "update "))}
    code = list(environment.steps(place))
    # The user before what it owns, and its definition before the user.
    steps = [*code, *written, *files.link_steps(place, manifest)]
    steps += [*machine.user_steps(place, users), *machine.ownership_steps(place)]
    steps += files.folder_steps(place, manifest)
    services = list(machine.service_steps(place, changed, new=new, code_changed=bool(code)))
    return Plan(
        place,
        [*steps, *services],
        manifest,
        reloads=place.systemd and (machine.reloads(changed) or bool(new)),
        notes=_notes(place, new, first=not place.at(manifests.FILE).exists(), code_changed=bool(code)),
    )


def _notes(place: Place, new: list[str], *, first: bool, code_changed: bool) -> list[str]:
    notes = []
    if code_changed and machine.stack_started(place):
        notes.append(
            "next: monitoring-manage restart; until then the stack runs on with the version before this one"
        )
    if not place.this_machine:
        return [
            *notes,
            "users and services are the installed machine's business: systemd-sysusers, systemctl enable",
        ]
    if new and not place.systemd:
        notes.append(f"systemd does not run here; where it does: systemctl enable {' '.join(new)}")
    if first:
        notes.append("next: edit /etc/ds01-monitoring/monitoring.yaml, then systemctl start ds01-monitoring")
    return notes


def carry_out(plan: Plan, say: Say) -> None:
    """Do it, one step after another; each is told before it is done.

    Raises:
        UserError, OSError: A step failed; the next run goes on from there.
    """
    before = os.umask(0o022)  # Readable for the service's user, whatever root's habits are.
    try:
        for step in plan.steps:
            say(step.text)
            step.act()
        plan.manifest.write(plan.place)
    finally:
        os.umask(before)
