"""`report`: who held, used and wasted how much."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import click

from ds01_monitoring import api, deployment, efficiency, efficiency_formats
from ds01_monitoring.named import NAME
from ds01_monitoring.spans import SPAN

if TYPE_CHECKING:
    from ds01_monitoring.cli import App
    from ds01_monitoring.efficiency import Report


@click.command()
@click.option("--since", type=SPAN, default="7d", show_default=True, help="How far to look back.")
@click.option("--user", type=NAME, help="Only this user.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["table", "csv", "json", "html"]),
    default="table",
    show_default=True,
    help="html is one page with charts that needs nothing else.",
)
@click.pass_obj
def report(app: App, since: int, user: str | None, form: str) -> None:
    """Print GPU-hours held, used and wasted by users and slots, from the recorded series."""
    server = api.prometheus(deployment.one(app.state, demo=False))
    found = efficiency.read(server, now=time.time(), since=since, user=user)
    if form != "table" and not found.users:
        click.echo(efficiency_formats.nobody(found), err=True)
    if form == "json":
        click.echo(efficiency_formats.as_json(found), nl=False)
    elif form == "csv":
        click.echo(efficiency_formats.as_csv(found), nl=False)
    elif form == "html":
        click.echo(efficiency_formats.as_html(found, site=app.settings.site.name), nl=False)
    else:
        _print(found)


def _print(found: Report) -> None:
    from rich.console import Console  # noqa: PLC0415 - 60 ms that only a table needs.

    console = Console()
    console.print(f"{efficiency_formats.span(found)}, in GPU-hours")
    if found.recorded_from:
        console.print(efficiency_formats.record(found))
    if not found.users:
        console.print(efficiency_formats.nobody(found), markup=False)
    for table in efficiency_formats.as_tables(found):
        console.print()
        console.print(table)
