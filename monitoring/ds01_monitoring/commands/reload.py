"""`reload`: a changed configuration into running servers, or back out when one refuses it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import click

from ds01_monitoring.commands.start import tell
from ds01_monitoring.commands.stop import demo_option
from ds01_monitoring.errors import UserError
from ds01_monitoring.http import Client, Unreachable

if TYPE_CHECKING:
    from pathlib import Path

    from ds01_monitoring.cli import App
    from ds01_monitoring.deployment import Deployment
    from ds01_monitoring.runtime.base import Runtime, Say

ACCEPT_SECONDS = 30
PAUSE_SECONDS = 0.1
NEEDS_RESTART = ("supervisord.conf", "docker-compose.yaml", "exporter.env", "dcgm/counters.csv")
"""Rendered files that no server reads again on a signal."""


@click.command()
@demo_option
@click.pass_obj
def reload(app: App, demo: bool) -> None:
    """Render, check and put in force a changed configuration without stopping anything."""
    from ds01_monitoring import deployment as deployments  # noqa: PLC0415 - the parser need not wait for it.
    from ds01_monitoring import stack as stacks  # noqa: PLC0415
    from ds01_monitoring.commands.backtest import before_enabling  # noqa: PLC0415
    from ds01_monitoring.files import link_atomically  # noqa: PLC0415
    from ds01_monitoring.screen import Screen  # noqa: PLC0415

    screen = Screen()
    running = deployments.one(app.state, demo=demo)
    stack = stacks.again(app.settings, running, app.state)
    current = running.state.current
    before = current.resolve()
    before_enabling(app.settings, running.state, demo=running.demo)
    with screen.step("configuration") as step:
        tree, findings = stack.deploy()
        step.result = f"configuration: {len(tree.sources)} files, checked, " + (
            "unchanged" if tree.path == before else f"now {tree.version}"
        )
    tell(screen, findings)
    with screen.step("servers") as step:
        try:
            names = signal_and_wait(stack.control, running, step.say)
        except UserError:
            if before.is_dir() and before != current.resolve():
                link_atomically(current, before.name)
                stack.control.reload(step.say)  # One of them may have accepted what the other refused.
            raise
        step.result = f"accepted by {' and '.join(names)}"
    changed = [name for name in NEEDS_RESTART if _text(before / name) != _text(current / name)]
    if changed:
        screen.line(f"  {', '.join(changed)} changed: monitoring-manage restart applies that")


def signal_and_wait(control: Runtime, deployment: Deployment, say: Say) -> list[str]:
    """Let the servers read their configuration and wait until each has said what it thinks of it.

    Raises:
        UserError: One refuses, or does not answer within 30 s.
    """
    from ds01_monitoring.health.servers import HAS_RENDERED_FILES  # noqa: PLC0415

    client = Client(deployment.password())
    before = {server: _ask(client, deployment, server) for server in HAS_RENDERED_FILES}
    control.reload(say)
    deadline = time.monotonic() + ACCEPT_SECONDS
    waiting = list(HAS_RENDERED_FILES)
    while waiting:
        late = time.monotonic() > deadline
        for server in list(waiting):
            try:
                now = _ask(client, deployment, server)
            except UserError:
                if late:
                    raise
                continue  # It may have been started anew, as another user, and not listen yet.
            if now is not None and now[0] and now != before[server]:
                waiting.remove(server)
            elif late or (now is not None and not now[0] and (before[server] or (True,))[0]):
                raise _refused(server)
        time.sleep(PAUSE_SECONDS)
    return list(HAS_RENDERED_FILES)


def _ask(client: Client, deployment: Deployment, server: str) -> tuple[bool, float] | None:
    from ds01_monitoring.health.servers import last_reload  # noqa: PLC0415 - the parser need not wait for it.

    try:
        return last_reload(client, deployment, server)
    except Unreachable as error:
        raise UserError(f"does not answer: {error}", place=server, hint="monitoring-manage status") from error


def _refused(server: str) -> UserError:
    return UserError(
        f"{server} did not accept the new configuration; it goes on with the one it had, which is in force again",
        hint=f"monitoring-manage logs {server} --tail 20 has the reason",
    )


def _text(file: Path) -> str | None:
    return file.read_text() if file.is_file() else None
