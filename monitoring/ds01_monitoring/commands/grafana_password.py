"""`grafana-password`: the administrator's password, and a new one for a Grafana that runs.

Grafana takes the password of its configuration only when it creates its database; later its own program
has to change it.
"""

from __future__ import annotations

import os
import secrets as randomness
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from pathlib import Path

    from ds01_monitoring.cli import App
    from ds01_monitoring.deployment import Deployment

RESET_SECONDS = 60
RESET = ("admin", "reset-admin-password", "--password-from-stdin")


@click.command("grafana-password")
@click.option("--reset", is_flag=True, help="Give the running Grafana a new password.")
@click.pass_obj
def grafana_password(app: App, reset: bool) -> None:
    """Print the name and password of Grafana's administrator.

    With --reset the password is a new one: what grafana.admin_password_file holds where the site has one, else
    a generated one.
    """
    from ds01_monitoring import deployment as deployments  # noqa: PLC0415 - the parser need not wait for it.
    from ds01_monitoring import secrets  # noqa: PLC0415
    from ds01_monitoring.files import write_atomically  # noqa: PLC0415
    from ds01_monitoring.runtime import owner  # noqa: PLC0415

    settings = app.settings
    file = secrets.grafana_password_file(settings, app.state)
    if reset:
        running = deployments.one(app.state, demo=False)
        ours = file.parent == app.state.secrets
        new = randomness.token_urlsafe(24) if ours else _read(file)
        change(running, new)
        if ours:
            write_atomically(file, new + "\n", mode=0o600)
            if os.geteuid() == 0:
                os.chown(file, *owner.ids(app.state))
    click.echo(f"user      {settings.grafana.admin_user}\npassword  {_read(file)}\nfile      {file}")


def _read(file: Path) -> str:
    from ds01_monitoring.errors import UserError  # noqa: PLC0415

    try:
        return file.read_text(encoding="utf-8").strip()
    except FileNotFoundError as error:
        raise UserError("is not made yet", place=str(file), hint="monitoring-manage start") from error
    except OSError as error:
        raise UserError(
            f"cannot be read: {error.strerror}", place=str(file), hint="run this as its owner, or as root"
        ) from error


def change(running: Deployment, password: str) -> None:
    """Let Grafana's own program set the administrator's password; it goes over standard input.

    Raises:
        UserError: Grafana does not run here, or refuses.
    """
    from ds01_monitoring import command, detect  # noqa: PLC0415
    from ds01_monitoring.errors import UserError  # noqa: PLC0415
    from ds01_monitoring.runtime import binaries, engine  # noqa: PLC0415

    environment = {**os.environ, "GF_PATHS_DATA": str(running.state.data / "grafana")}
    if running.runtime == "compose":
        words, environment = (
            ["docker", "exec", "--interactive", "ds01-grafana", "grafana", "cli"],
            engine.environment(),
        )
    else:
        program = detect.grafana_binary(running.state)
        if program is None:
            raise UserError("there is no Grafana on this machine", hint="monitoring-manage status")
        home = [option for option in binaries.own_options("grafana", program) if option.startswith("--")]
        words = [str(program), "cli", *home]
    try:
        command.run([*words, *RESET], timeout=RESET_SECONDS, stdin=password + "\n", env=environment)
    except command.CommandFailed as error:
        known = engine.meaning(error.output) if running.runtime == "compose" else None
        if known is not None:
            raise known from error
        said = [line for line in error.output.splitlines() if line.strip()][-1:] or ["it says nothing"]
        raise UserError(
            f"Grafana did not take the password: {said[0]}", hint="monitoring-manage logs grafana"
        ) from error
