"""`install` and `uninstall`: onto a machine for good, and off it again."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from collections.abc import Callable

    from ds01_monitoring.install.plan import Plan

_root = click.option(
    "--root",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("/"),
    help="Put it below this folder, for packagers: only files, no users, no services.",
)
_dry_run = click.option("--dry-run", is_flag=True, help="Print what would be done, and do nothing.")
_force = click.option(
    "--force", is_flag=True, help="Even where telling systemd takes GPUs away from running containers."
)


@click.command()
@_dry_run
@_root
@_force
@click.option("--telemetry", is_flag=True, help="Also the unit of gpu-telemetry and its settings.")
def install(dry_run: bool, root: Path, force: bool, telemetry: bool) -> None:
    """Install for good: code below /opt, units, configuration, a system user. Safe to repeat."""
    from ds01_monitoring.install import plan as plans  # noqa: PLC0415 - the parser need not wait for it.
    from ds01_monitoring.install.place import Place  # noqa: PLC0415

    plan = plans.make(Place(root.resolve()), telemetry=telemetry)
    _run(plan, plans.carry_out, dry_run=dry_run, force=force, done="installed already; nothing to do")


@click.command()
@click.option("--data", is_flag=True, help="Also series, silences, secrets, configuration and users.")
@_dry_run
@_root
@_force
def uninstall(data: bool, dry_run: bool, root: Path, force: bool) -> None:
    """Take the installation off again; data, secrets and configuration stay unless --data is given."""
    from ds01_monitoring.install import removal  # noqa: PLC0415 - the parser need not wait for it.
    from ds01_monitoring.install.place import Place  # noqa: PLC0415

    plan = removal.make(Place(root.resolve()), data=data)
    _run(plan, removal.carry_out, dry_run=dry_run, force=force, done="not installed; nothing to do")


def _run(
    plan: Plan,
    carry_out: Callable[[Plan, Callable[[str], None]], None],
    *,
    dry_run: bool,
    force: bool,
    done: str,
) -> None:
    """Print each step, and do it unless this is a rehearsal."""
    if not plan.steps:
        click.echo(done)
        return
    if dry_run:
        for step in plan.steps:
            click.echo(step.text)
    plan.check(force=force, rehearsal=dry_run)
    if not dry_run:
        carry_out(plan, click.echo)
    for note in plan.notes:
        click.echo(note)
