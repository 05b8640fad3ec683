"""`logs`: what the services print."""

from __future__ import annotations

from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING

import click

from ds01_monitoring.commands.stop import demo_option
from ds01_monitoring.named import NAME

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ds01_monitoring.cli import App
    from ds01_monitoring.runtime.base import Runtime


@click.command()
@click.argument("service", type=NAME, required=False)
@click.option(
    "--tail", type=click.IntRange(min=0), metavar="N", help="The last N lines of each, and no more."
)
@demo_option
@click.pass_obj
def logs(app: App, service: str | None, tail: int | None, demo: bool) -> None:
    """Follow what all services, or one SERVICE, print; Ctrl-C ends it. What systemd runs has its log in the journal."""
    from ds01_monitoring import deployment as deployments  # noqa: PLC0415 - the parser need not wait for it.
    from ds01_monitoring import units  # noqa: PLC0415
    from ds01_monitoring.runtime.base import known  # noqa: PLC0415
    from ds01_monitoring.runtime.supervisor import NAME  # noqa: PLC0415

    running = deployments.one(app.state, demo=demo)
    control = running.control()
    services = control.services()
    by_systemd = units.beside(running, services)
    if service:
        known(service, [*services, *by_systemd, NAME])
    with suppress(KeyboardInterrupt):  # The usual way to end it.
        if service in by_systemd:
            found = _of_unit(service, tail)
        elif service or not by_systemd:
            found = control.logs(service, tail=tail, follow=tail is None)
        else:
            found = _everything(control, by_systemd, tail)
        for line in found:
            click.echo(line)


def _of_unit(name: str, tail: int | None) -> Iterator[str]:
    from ds01_monitoring import units  # noqa: PLC0415

    if tail is not None:
        yield from units.lines(name, tail=tail)
        return
    with ExitStack() as stack:
        journal = units.follow(name)
        stack.callback(journal.end)
        yield from journal


def _everything(control: Runtime, by_systemd: list[str], tail: int | None) -> Iterator[str]:
    """The stack's own services and, between them, the units; a journal that cannot be read says so in its place."""
    from ds01_monitoring import units  # noqa: PLC0415
    from ds01_monitoring.errors import UserError  # noqa: PLC0415
    from ds01_monitoring.runtime.streams import merged  # noqa: PLC0415

    with ExitStack() as stack:
        journals = []
        for name in by_systemd:
            try:
                if tail is not None:
                    yield from units.lines(name, tail=tail, prefix=f"{name} | ")
                    continue
                journals.append(units.follow(name, prefix=f"{name} | "))
                stack.callback(journals[-1].end)
            except UserError as error:
                yield f"{name} | {error.problem}"
        yield from merged(control.logs(None, tail=tail, follow=tail is None), *journals)
