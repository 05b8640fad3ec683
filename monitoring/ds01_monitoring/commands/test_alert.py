"""`test-alert`: whether a mail that is sent is also taken."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ds01_monitoring import api, deployment, testalert
from ds01_monitoring.named import NAME

if TYPE_CHECKING:
    from ds01_monitoring.cli import App
    from ds01_monitoring.testalert import Delivery

LOG_LINES = 200
"""Of Alertmanager's log, at each look: more than it writes between two looks."""


@click.command("test-alert")
@click.option(
    "--severity", type=click.Choice(["critical", "warning", "info"]), default="warning", show_default=True
)
@click.option("--user", type=NAME, help="Send it the way of this user's waste mail.")
@click.option(
    "--timeout",
    type=click.FloatRange(1, 600),
    default=60,
    show_default=True,
    help="Seconds to wait; with less than 20 the proof may come too late.",
)
@click.pass_context
def test_alert(context: click.Context, severity: str, user: str | None, timeout: float) -> None:
    """Send a test alert and say whether each receiver's server took it.

    Exit code 0 when all did, 1 otherwise, and where that cannot be told. The alert takes the way of a real one, without its
    waiting and quiet hours. Alertmanager writes down every 15 s what was taken, so that the answer takes as long.
    """
    app: App = context.obj
    found = deployment.one(app.state, demo=False)
    control = found.control()
    deliveries = testalert.send(
        api.alertmanager(found),
        found.host,
        lambda: "\n".join(control.logs("alertmanager", tail=LOG_LINES, follow=False)),
        found.state.data / "alertmanager" / "nflog",
        severity=severity,
        user=user or "",
        timeout=timeout,
    )
    for delivery in deliveries:
        click.echo(sentence(delivery), err=not delivery.accepted)
    if not all(delivery.accepted and not delivery.doubt for delivery in deliveries):
        context.exit(1)


def sentence(delivery: Delivery) -> str:
    """What became of the alert at one integration, and no more than is known."""
    name, to = delivery.integration, delivery.to
    if not delivery.accepted:
        doubt = f" ({delivery.doubt})" if delivery.doubt else ""
        return f"{name}: NOT accepted for {to}: {delivery.refusal}{doubt}"
    after = f"after {delivery.seconds:.{1 if delivery.seconds >= 1 else 2}f} s"
    remark = f"\n  {delivery.remark}" if delivery.remark else ""
    if delivery.doubt:
        return f"{name}: perhaps accepted for {to} {after}: something was, but {delivery.doubt}{remark}"
    return f"{name}: accepted for {to} {after}{remark}"
