"""`backup` and `restore`: what cannot be made again, to another disk and back."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ds01_monitoring.commands.stop import demo_option

if TYPE_CHECKING:
    from ds01_monitoring.cli import App

_folder = click.argument("folder", metavar="DIR", type=click.Path(path_type=Path, file_okay=False))


@click.command()
@_folder
@demo_option
@click.pass_obj
def backup(app: App, folder: Path, demo: bool) -> None:
    """Save series, silences, Grafana's database, configuration and secrets to DIR, while everything runs."""
    from ds01_monitoring import deployment as deployments  # noqa: PLC0415 - the parser need not wait for it.
    from ds01_monitoring.backup.save import Source, save  # noqa: PLC0415
    from ds01_monitoring.config.load import config_path  # noqa: PLC0415
    from ds01_monitoring.screen import Screen  # noqa: PLC0415

    screen = Screen()
    state = app.state.demo if demo else app.state
    with screen.step("backup") as step:
        running = deployments.load(state)
        found = save(
            Source(app.settings, config_path(app.config), state, running), folder.absolute(), step.say
        )
        step.result = f"{folder}: {', '.join(found.parts)}"
    screen.line("  It holds the passwords: keep it where nobody else can read it.")


@click.command()
@_folder
@demo_option
@click.pass_obj
def restore(app: App, folder: Path, demo: bool) -> None:
    """Bring a backup back onto a machine without data; `start` then goes on with it."""
    from ds01_monitoring.backup.restore import restore as bring_back  # noqa: PLC0415
    from ds01_monitoring.screen import Screen  # noqa: PLC0415

    screen = Screen()
    state = app.state.demo if demo else app.state
    with screen.step("restore") as step:
        notes = bring_back(folder.absolute(), _target(app.config), state, step.say)
        step.result = f"restored to {state.root}"
    for note in notes:
        screen.console.print(f"  {note}", markup=False)
    screen.line(f"  next: monitoring-manage{app.options()} start{' --demo' if demo else ''}")


def _target(given: Path | None) -> Path | None:
    """Where the configuration belongs: where the options look for it, else root's place."""
    from ds01_monitoring.config.load import SITE_FILE  # noqa: PLC0415

    named = given or (Path(os.environ["MONITORING_CONFIG"]) if os.environ.get("MONITORING_CONFIG") else None)
    return named or (SITE_FILE if os.geteuid() == 0 else None)
