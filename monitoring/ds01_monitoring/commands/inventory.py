"""`inventory`: which GPUs this server must have, so that a lost one is noticed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ds01_monitoring.commands.reload import reload
from ds01_monitoring.commands.stop import demo_option
from ds01_monitoring.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ds01_monitoring.cli import App
    from ds01_monitoring.inventory import Card


@click.group()
def inventory() -> None:
    """Show or renew the GPUs and MIG instances that this server must have."""


@inventory.command()
@demo_option
@click.pass_obj
def show(app: App, demo: bool) -> None:
    """Print what was accepted, and what the exporters show now where it differs."""
    from ds01_monitoring import deployment, inventory  # noqa: PLC0415 - the parser need not wait for it.

    running = deployment.one(app.state, demo=demo)
    accepted = inventory.ordered(inventory.read(running.state))
    now = inventory.ordered(inventory.seen(running))
    _table("accepted", accepted)
    if now != accepted:
        _table("seen now", now)
        raise click.exceptions.Exit(1)


@inventory.command()
@demo_option
@click.pass_context
def accept(context: click.Context, demo: bool) -> None:
    """Accept what the exporters show now, and let the running stack know."""
    from ds01_monitoring import deployment, inventory  # noqa: PLC0415

    running = deployment.one(context.obj.state, demo=demo)
    cards = inventory.ordered(inventory.seen(running))
    if not cards and running.hardware != "none":
        raise UserError(
            "the exporters show no GPU at all, which is nothing to accept",
            hint="monitoring-manage status says what is wrong; with no GPU at all set hardware: none",
        )
    inventory.write(running.state, cards)
    _table("accepted", cards)
    context.invoke(reload, demo=demo)


def _table(title: str, cards: Sequence[Card]) -> None:
    click.echo(f"{title}: {len(cards)} GPU{'' if len(cards) == 1 else 's'}")
    for card in cards:
        slices = f", MIG instances {', '.join(card.GPU_I_IDs)}" if card.GPU_I_IDs else ""
        click.echo(f"  GPU {card.gpu} {card.UUID}{slices}")
