"""`status`, and `monitoring-status`: whether everything is well, for people, cron and programs."""

from __future__ import annotations

import io
import json
import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING

import click

from ds01_monitoring.commands.stop import demo_option

if TYPE_CHECKING:
    from rich.console import RenderableType

    from ds01_monitoring.cli import App
    from ds01_monitoring.health import Health
    from ds01_monitoring.screen import Screen
    from ds01_monitoring.watch import View

WATCH_SECONDS = 5
TROUBLES = 3
"""Failed checks that the live view names; the plain status has all of them."""


@click.command()
@click.option("--quiet", is_flag=True, help="Print nothing; the exit code says it all.")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@click.option("--watch", is_flag=True, help="Every slot and alert, live, until Ctrl-C.")
@demo_option
@click.pass_obj
def status(app: App, quiet: bool, as_json: bool, watch: bool, demo: bool) -> None:
    """Say whether everything is well; exit code 0 if so, 1 if not."""
    from ds01_monitoring import deployment as deployments  # noqa: PLC0415 - the parser need not wait for it.
    from ds01_monitoring.errors import UserError  # noqa: PLC0415

    if quiet + as_json + watch > 1:
        raise click.UsageError("--quiet, --json and --watch exclude each other")
    try:
        examined = look(app, demo=demo)
        if not examined and not as_json:
            raise deployments.nothing(app.state, demo=demo)
    except UserError:
        if quiet:
            raise click.exceptions.Exit(1) from None
        raise
    if watch:
        _watch(app, demo=demo)
        return
    if as_json:
        click.echo(json.dumps(as_data(examined), indent=2))
    elif not quiet:
        _show(examined)
    if not examined or not all(health.healthy for health in examined):
        raise click.exceptions.Exit(1)


def look(app: App, *, demo: bool) -> list[Health]:
    """The health of every stack that was started here."""
    from ds01_monitoring import deployment as deployments  # noqa: PLC0415
    from ds01_monitoring.health import examine  # noqa: PLC0415

    return [examine(deployment) for deployment in deployments.find(app.state, demo=demo)]


def as_data(examined: list[Health]) -> dict[str, object]:
    """All that is known, for programs: `healthy` first, then each stack with its checks."""
    return {
        "healthy": bool(examined) and all(health.healthy for health in examined),
        "deployments": [
            {
                "state_dir": str(health.deployment.state.root),
                "runtime": health.deployment.runtime,
                "hardware": health.deployment.hardware,
                "demo": health.deployment.demo,
                "healthy": health.healthy,
                "checks": [vars(check) for check in health.checks],
            }
            for health in examined
        ],
    }


def _show(examined: list[Health]) -> None:
    from ds01_monitoring.screen import Screen  # noqa: PLC0415 - rich is not for --quiet.

    screen = Screen()
    for health in examined:
        screen.console.print(table(screen, health))


def _watch(app: App, *, demo: bool) -> None:
    from rich.console import Console  # noqa: PLC0415
    from rich.live import Live  # noqa: PLC0415

    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(
            errors="replace"
        )  # A foreign name in a terminal without UTF-8 is no reason to end.
    console = Console(highlight=False)
    if not console.is_terminal:
        raise click.UsageError("--watch needs a terminal; --json is for programs")
    with suppress(KeyboardInterrupt), Live(console=console, screen=True, auto_refresh=False) as live:
        while True:
            live.update(_view(app, demo=demo), refresh=True)
            time.sleep(WATCH_SECONDS)


def _view(app: App, *, demo: bool) -> View:
    """The first stack that runs here, the real one before the demo."""
    from rich.text import Text  # noqa: PLC0415

    from ds01_monitoring import api, board, deployment  # noqa: PLC0415
    from ds01_monitoring.errors import UserError  # noqa: PLC0415
    from ds01_monitoring.watch import View  # noqa: PLC0415

    limits, seen = app.settings.alerts, None
    examined = look(app, demo=demo)
    headline = (
        Text.from_markup(_headline(examined[0])) if examined else Text("nothing runs here", style="red")
    )
    headline.append(f"  {time.strftime('%H:%M:%S')}, Ctrl-C ends", style="dim")
    trouble = [f"{check.name}: {check.detail}" for health in examined[:1] for check in health.failed]
    try:
        server = api.prometheus(deployment.one(app.state, demo=demo))
        seen = board.read(server, now=time.time(), below=limits.gpu_waste.below)
    except UserError as error:
        trouble = [str(error)]
    return View(
        seen,
        headline=headline,
        trouble="\n".join(trouble[:TROUBLES]),
        below=limits.gpu_waste.below,
        warm=(limits.gpu_temperature.warning, limits.gpu_temperature.critical),
    )


def table(screen: Screen, health: Health) -> RenderableType:
    """The checks by area; what failed has its next step below it."""
    from rich.console import Group  # noqa: PLC0415
    from rich.markup import escape  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415

    grid = Table.grid(padding=(0, 2, 0, 0))
    for _ in range(3):
        grid.add_column(overflow="fold")
    shown = ""
    for check in health.checks:
        area = check.area if check.area != shown else ""
        shown = check.area
        mark = screen.marks[check.state]
        grid.add_row(f"[dim]{area}[/]", f"{mark} {escape(check.name)}", escape(check.detail))
        if check.hint:
            grid.add_row("", "", f"[yellow]next: {escape(check.hint)}[/]")
    return Group(_headline(health), grid)


def _headline(health: Health) -> str:
    what = "the demo" if health.deployment.demo else health.deployment.host
    count = len(health.failed)
    verdict = f"[red]{count} check{'s' if count > 1 else ''} failed[/]" if count else "[green]healthy[/]"
    waiting = f", {len(health.pending)} pending" if health.pending else ""
    return f"[bold]{what}[/] ({health.deployment.runtime}): {verdict}{waiting}"
