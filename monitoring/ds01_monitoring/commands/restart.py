"""`restart` and `update`: stop and start with the configuration, or the programs, of now."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ds01_monitoring.commands.start import give_past, put_in_force, timeout_option, wait_until_ready
from ds01_monitoring.commands.stop import demo_option
from ds01_monitoring.named import NAME

if TYPE_CHECKING:
    from ds01_monitoring.cli import App
    from ds01_monitoring.screen import Screen
    from ds01_monitoring.stack import Stack


@click.command()
@click.argument("service", type=NAME, required=False)
@demo_option
@timeout_option
@click.pass_obj
def restart(app: App, service: str | None, demo: bool, timeout: float) -> None:
    """Stop and start everything, or one SERVICE, with a changed configuration applied."""
    from ds01_monitoring import deployment as deployments  # noqa: PLC0415 - the parser need not wait for it.
    from ds01_monitoring import stack as stacks  # noqa: PLC0415
    from ds01_monitoring import units  # noqa: PLC0415
    from ds01_monitoring.runtime.base import known  # noqa: PLC0415
    from ds01_monitoring.screen import Screen  # noqa: PLC0415

    screen = Screen()
    running = deployments.one(app.state, demo=demo)
    stack = stacks.again(app.settings, running, app.state)
    deployment = stack.deployment()
    # Before anything changes. A service that only the changed configuration brings is among the jobs.
    by_systemd: list[str] = []
    if service:
        services = stack.control.services()
        by_systemd = units.beside(deployment, services)
        known(service, [*services, *by_systemd, *stack.context.jobs])
    with screen.step("programs and ports") as step:
        stack.control.prepare(stack.context, step.say)
    put_in_force(screen, stack)
    with screen.step(f"restarting {service or 'everything'}") as step:
        if service in by_systemd:
            units.restart(service)
        else:
            stack.control.restart(service, step.say)
        deployment.write()
        step.result = f"restarted {service or 'everything'}"
    wait_until_ready(screen, deployment, timeout)
    give_past(screen, stack)


@click.command()
@demo_option
@timeout_option
@click.pass_obj
def update(app: App, demo: bool, timeout: float) -> None:
    """Get newer programs or images and run them; the real stack's and the demo's, where both run."""
    from ds01_monitoring import deployment as deployments  # noqa: PLC0415
    from ds01_monitoring import stack as stacks  # noqa: PLC0415
    from ds01_monitoring.errors import UserError  # noqa: PLC0415
    from ds01_monitoring.screen import Screen  # noqa: PLC0415

    screen = Screen()
    running = deployments.find(app.state, demo=demo)
    if not running:
        _update(screen, stacks.plan(app.settings, app.state, demo=demo))
    refused = []
    for deployment in running:
        if len(running) > 1:
            screen.line("[bold]the demo[/]" if deployment.demo else f"[bold]{deployment.host}[/]")
        try:
            _update(screen, stacks.again(app.settings, deployment, app.state), timeout=timeout)
        except UserError as error:  # The other stack is not to blame.
            refused.append(error)
    if refused:
        *others, last = refused
        for other in others:
            screen.console.print(f"error: {other}", markup=False)
        raise last


def _update(screen: Screen, stack: Stack, *, timeout: float | None = None) -> None:
    """Renew one stack; without a `timeout` it does not run, and is not started."""
    with screen.step("newer programs") as step:
        stack.control.prepare(stack.context, step.say)
    put_in_force(screen, stack)
    if timeout is not None:
        stack.deployment().write()
    with screen.step("updating") as step:
        stack.control.update(step.say)
        step.result = "up to date"
    if timeout is not None:
        wait_until_ready(screen, stack.deployment(), timeout)
        give_past(screen, stack)
