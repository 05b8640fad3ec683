"""The commands `monitoring-manage` and `monitoring-status`; the one module that prints errors."""

from __future__ import annotations

import difflib
import importlib
import logging
import shlex
import sys
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ds01_monitoring.errors import UserError
from ds01_monitoring.paths import StateDir, default_state_dir

if TYPE_CHECKING:
    from ds01_monitoring.config import Settings

COMMANDS = {
    "ack": "silence:ack",
    "backtest": "backtest:backtest",
    "backup": "backup:backup",
    "build": "build:build",
    "check": "render:check",
    "doctor": "doctor:doctor",
    "grafana-password": "grafana_password:grafana_password",
    "install": "install:install",
    "inventory": "inventory:inventory",
    "logs": "logs:logs",
    "mailbox": "mailbox:mailbox",
    "maintenance": "silence:maintenance",
    "reload": "reload:reload",
    "render": "render:render",
    "report": "report:report",
    "restart": "restart:restart",
    "restore": "backup:restore",
    "silence": "silence:silence",
    "silences": "silence:silences",
    "start": "start:start",
    "status": "status:status",
    "stop": "stop:stop",
    "test-alert": "test_alert:test_alert",
    "uninstall": "install:uninstall",
    "unsilence": "silence:unsilence",
    "update": "restart:update",
}
"""Command name to `module:function` in ds01_monitoring.commands; a module is imported when its command is used."""


@dataclass
class App:
    """What every command gets: the global options, and what follows from them when it is asked for."""

    config: Path | None = None
    state_dir: Path | None = None
    debug: bool = False

    @cached_property
    def settings(self) -> Settings:
        """The configuration in force."""
        from ds01_monitoring.config import load_settings  # noqa: PLC0415 - pydantic is not for every command.

        return load_settings(self.config)

    @cached_property
    def state(self) -> StateDir:
        """The state directory in force, absolute."""
        return StateDir((self.state_dir or default_state_dir()).absolute())

    def options(self) -> str:
        """The global options as they were given, for messages that name a next command."""
        given = (("--config", self.config), ("--state-dir", self.state_dir))
        return "".join(f" {option} {shlex.quote(str(value))}" for option, value in given if value)


def _store(context: click.Context, parameter: click.Parameter, value: Any) -> None:
    app = context.ensure_object(App)
    if value is not None and parameter.name is not None:
        setattr(app, parameter.name, value)
    if parameter.name == "debug" and value:
        logging.basicConfig(level=logging.DEBUG, format="%(levelname)s %(name)s: %(message)s")


def _global_options() -> list[click.Parameter]:
    file = click.Path(path_type=Path)
    return [
        click.Option(
            ["--config"], type=file, callback=_store, expose_value=False, help="The site's monitoring.yaml."
        ),
        click.Option(
            ["--state-dir"], type=file, callback=_store, expose_value=False, help="Where everything is kept."
        ),
        click.Option(
            ["--debug"],
            is_flag=True,
            callback=_store,
            expose_value=False,
            help="Show tracebacks and commands.",
        ),
    ]


class _Friendly(click.Command):
    """Prints what went wrong as place, problem and hint; a traceback only with --debug."""

    def main(self, *args: Any, **extra: Any) -> Any:
        app = extra.get("obj") or App()
        extra["obj"] = app
        try:
            return super().main(*args, **extra)
        except Exception as error:
            if app.debug:
                raise
            click.echo(_describe(error), err=True)
            sys.exit(error.exit_code if isinstance(error, UserError) else 1)


def _describe(error: Exception) -> str:
    if isinstance(error, UserError):
        return f"error: {error}"
    if isinstance(error, OSError) and error.strerror:
        place = f"{error.filename}: " if error.filename else ""
        return f"error: {place}{error.strerror}\n  hint: check the permissions and the space there, or choose another --state-dir"
    return (
        f"error: {type(error).__name__}: {error}\n  hint: run it again with --debug and report what it prints"
    )


class _Manage(_Friendly, click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's interface.
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        return _load(cmd_name) if cmd_name in COMMANDS else None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        close = difflib.get_close_matches(args[0], COMMANDS, n=1) if args else []
        if close and args[0] not in COMMANDS:
            ctx.fail(f"No such command '{args[0]}'; did you mean {close[0]}?")
        return super().resolve_command(ctx, args)


def _load(name: str) -> click.Command:
    module, _, function = COMMANDS[name].partition(":")
    command = getattr(importlib.import_module(f"ds01_monitoring.commands.{module}"), function)
    if not isinstance(command, click.Command):
        raise TypeError(f"{COMMANDS[name]} is no click command")
    return command


manage = _Manage(
    "monitoring-manage",
    params=_global_options(),
    help="Run DS01 Monitoring: Prometheus, Alertmanager, Grafana and the exporters of this server.",
)


def status() -> None:
    """Run `monitoring-status`: `monitoring-manage status` under a name of its own."""
    command = _load("status")
    _Friendly(
        "monitoring-status",
        params=[*_global_options(), *command.params],
        callback=command.callback,
        help=command.help,
    ).main(prog_name="monitoring-status")
