"""`test-alert`: whether a mail that is sent is also taken."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ds01_monitoring import api, deployment, stack, testalert

if TYPE_CHECKING:
    from ds01_monitoring.cli import App

LOG_LINES = 200
"""Of Alertmanager's log, at each look: more than it writes between two looks."""


@click.command("test-alert")
@click.option(
    "--severity", type=click.Choice(["critical", "warning", "info"]), default="warning", show_default=True
)
@click.option("--user", default="", help="Send it the way of this user's waste mail.")
@click.option(
    "--timeout", type=click.FloatRange(1, 600), default=60, show_default=True, help="Seconds to wait."
)
@click.pass_context
def test_alert(context: click.Context, severity: str, user: str, timeout: float) -> None:
    """Send a test alert and say whether each receiver's server took it.

    Exit code 0 when all did, 1 otherwise. The alert takes the way of a real one, without its waiting and quiet hours.
    """
    app: App = context.obj
    found = deployment.one(app.state, demo=False)
    control = found.control()
    deliveries = testalert.send(
        api.alertmanager(found),
        stack.again(app.settings, found, app.state).context.settings,
        lambda: "\n".join(control.logs("alertmanager", tail=LOG_LINES, follow=False)),
        severity=severity,
        user=user,
        timeout=timeout,
    )
    for delivery in deliveries:
        if delivery.accepted:
            click.echo(f"{delivery.integration}: accepted for {delivery.to} after {delivery.seconds:.1f} s")
        else:
            click.echo(
                f"{delivery.integration}: NOT accepted for {delivery.to}: {delivery.refusal}", err=True
            )
    if not all(delivery.accepted for delivery in deliveries):
        context.exit(1)
