"""`stop`: everything down, nothing lost."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from ds01_monitoring.cli import App

demo_option = click.option("--demo", is_flag=True, help="Only the simulated server's stack.")


@click.command()
@demo_option
@click.pass_obj
def stop(app: App, demo: bool) -> None:
    """Stop everything that was started; data and secrets stay."""
    from ds01_monitoring import deployment as deployments  # noqa: PLC0415 - the parser need not wait for it.
    from ds01_monitoring.screen import Screen  # noqa: PLC0415

    screen = Screen()
    found = deployments.find(app.state, demo=demo)
    for deployment in found:
        with screen.step("stopping the demo" if deployment.demo else "stopping") as step:
            deployment.control().down(step.say)
            deployment.forget()
            step.result = f"stopped {'the demo' if deployment.demo else 'everything'}; the data stays in {deployment.state.data}"
    if not found:
        screen.line(f"nothing was started from {app.state.root}")
