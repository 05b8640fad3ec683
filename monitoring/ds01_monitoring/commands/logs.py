"""`logs`: what the services print."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import click

from ds01_monitoring.commands.stop import demo_option

if TYPE_CHECKING:
    from ds01_monitoring.cli import App


@click.command()
@click.argument("service", required=False)
@click.option(
    "--tail", type=click.IntRange(min=0), metavar="N", help="The last N lines of each, and no more."
)
@demo_option
@click.pass_obj
def logs(app: App, service: str | None, tail: int | None, demo: bool) -> None:
    """Follow what all services, or one SERVICE, print; Ctrl-C ends it."""
    from ds01_monitoring import deployment as deployments  # noqa: PLC0415 - the parser need not wait for it.

    control = deployments.one(app.state, demo=demo).control()
    with suppress(KeyboardInterrupt):  # The usual way to end it.
        for line in control.logs(service, tail=tail, follow=tail is None):
            click.echo(line)
