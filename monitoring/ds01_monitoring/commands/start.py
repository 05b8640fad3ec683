"""`start`: everything up, and the reader told where to look."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from ds01_monitoring.check import Finding
    from ds01_monitoring.cli import App
    from ds01_monitoring.deployment import Deployment
    from ds01_monitoring.screen import Screen
    from ds01_monitoring.stack import Stack

timeout_option = click.option(
    "--timeout",
    type=click.FloatRange(min=1),
    default=60,
    show_default=True,
    metavar="SECONDS",
    help="How long to wait until everything is ready.",
)


@click.command()
@click.option("--demo", is_flag=True, help="Watch a simulated GPU server instead of this one.")
@click.option("--runtime", type=click.Choice(["compose", "native"]), help="Whatever the configuration says.")
@timeout_option
@click.pass_obj
def start(app: App, demo: bool, runtime: str | None, timeout: float) -> None:
    """Start everything and wait until it is ready; safe to repeat."""
    from ds01_monitoring import stack as stacks  # noqa: PLC0415 - the parser of options need not wait for it.
    from ds01_monitoring.screen import Screen  # noqa: PLC0415

    screen = Screen()
    began = time.monotonic()
    stack = stacks.plan(app.settings, app.state, demo=demo, runtime=runtime)
    before = stacks.recorded(stack.context.state)
    if before is not None and before.runtime != stack.runtime.value:
        raise stacks.another_runtime(before, stack.runtime)
    screen.line(f"runtime {stack.runtime.value}: {stack.runtime.reason}")
    screen.line(f"hardware {stack.hardware.value}: {stack.hardware.reason}")
    deployment = launch(screen, stack, timeout)
    screen.line(f"Everything is ready after {time.monotonic() - began:.1f} s.")
    show_pages(screen, deployment, app.options())


def launch(screen: Screen, stack: Stack, timeout: float) -> Deployment:
    """Bring a stack up, step by step."""
    with screen.step("programs and ports") as step:
        stack.control.prepare(stack.context, step.say)
    put_in_force(screen, stack)
    deployment = stack.deployment()
    with screen.step("services") as step:
        deployment.write()
        stack.control.up(step.say)
        step.result = (
            f"services: {', '.join(service.name for service in stack.control.status() if service.pid)}"
        )
    wait_until_ready(screen, deployment, timeout)
    learn_inventory(screen, stack, deployment)
    give_past(screen, stack)
    return deployment


def give_past(screen: Screen, stack: Stack) -> None:
    """Where the demo has no past yet, fill in the day before, without waiting for it."""
    from ds01_monitoring import past  # noqa: PLC0415

    simulated = stack.context.demo and stack.context.runtime == "native"
    if simulated and past.begin(stack.context, stack.control.search_path() or ""):
        screen.line(f"{screen.marks['pending']} the past 24 hours are filled in within a few minutes")


def learn_inventory(screen: Screen, stack: Stack, deployment: Deployment) -> None:
    """On the first start, accept the GPUs that are there; from then on a lost one is noticed."""
    from ds01_monitoring import inventory  # noqa: PLC0415 - the parser of options need not wait for it.
    from ds01_monitoring.commands.reload import signal_and_wait  # noqa: PLC0415 - it imports this module.

    if deployment.hardware == "none" or inventory.file(deployment.state).exists():
        return
    with screen.step("inventory") as step:
        cards = inventory.seen(deployment)
        if not cards:
            step.result = "inventory: no GPU seen yet; `monitoring-manage inventory accept` makes one later"
            return
        inventory.write(deployment.state, cards)
        stack.deploy()
        signal_and_wait(stack.control, deployment, step.say)
        step.result = f"inventory: {len(cards)} GPUs accepted"


def put_in_force(screen: Screen, stack: Stack) -> None:
    """Render, check and swap; warnings are shown, errors end the command."""
    from ds01_monitoring.commands.backtest import before_enabling  # noqa: PLC0415 - the parser need not wait.

    before_enabling(stack.context.settings, stack.context.state, demo=stack.context.demo)
    with screen.step("configuration") as step:
        tree, findings = stack.deploy()
        if stack.exporter_by_systemd:
            from ds01_monitoring import exporter_unit  # noqa: PLC0415

            exporter_unit.apply(stack.context.state, step.say)
        step.result = f"configuration: {len(tree.sources)} files, checked"
    tell(screen, findings)


def tell(screen: Screen, findings: list[Finding]) -> None:
    """Show warnings about the configuration."""
    for finding in findings:
        screen.console.print(str(finding), style="yellow", markup=False)


def wait_until_ready(screen: Screen, deployment: Deployment, timeout: float) -> None:
    """Wait for all checks, then ask each exporter once; what is not ours to mend is shown as a warning."""
    from ds01_monitoring import readiness  # noqa: PLC0415

    with screen.step("waiting until everything is ready") as step:
        health = readiness.wait(deployment, timeout, step.say)
        pending = sum(check.area == "targets" for check in health.pending)
        step.result = "ready"
        if pending:
            step.result += f"; Prometheus asks {pending} targets for the first time within 30 s"
    with screen.step("asking each exporter") as step:
        counts = readiness.ask_exporters(deployment)
        step.result = "exporters answer: " + ", ".join(
            f"{job} {count} samples" for job, count in counts.items()
        )
    for check in health.failed:
        text = f"warning: {check.name}: {check.detail}\n  hint: {check.hint}"
        screen.console.print(text, style="yellow", markup=False)
    if deployment.hardware == "none" and any(check.name == "state" for check in health.failed):
        screen.line(
            "This machine has neither a GPU nor an allocator; `start --demo` shows a simulated server."
        )


def show_pages(screen: Screen, deployment: Deployment, options: str) -> None:
    """Where to look, with which password, and how to get there from elsewhere.

    Args:
        screen: Where it is shown.
        deployment: What runs.
        options: The global options that the reader has to give again, with a space before.
    """
    from ds01_monitoring.pages import called, pages, tunnel  # noqa: PLC0415

    found = pages(deployment)
    screen.line()
    for page in found:
        screen.line(f"  [bold]{page.job:<13}[/] {page.url}  [dim]{page.shows}[/]")
    if "grafana" not in deployment.addresses:
        screen.line(
            "  [bold]grafana      [/] [dim]not installed; optional, install it to see the dashboards[/]"
        )
    if deployment.local_auth:
        secrets = deployment.state.secrets
        screen.line(f"  [bold]user[/] ds01, [bold]password in[/] {secrets / 'http_password'}")
        if "grafana" in deployment.addresses:
            screen.line(f"  [bold]grafana's password in[/] {secrets / 'grafana_admin_password'}")
    if found:
        screen.line(f"  from your own computer: {tunnel(found, deployment)}")
    flag = " --demo" if deployment.demo else ""
    status, manage = (f"{called(name)}{options}" for name in ("monitoring-status", "monitoring-manage"))
    screen.line(f"  then: {status}, {manage} logs, {manage} stop{flag}")
