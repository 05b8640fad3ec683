"""`silence`, `silences`, `unsilence`, `ack` and `maintenance`: who is not to be told, until when, and why."""

from __future__ import annotations

import datetime as dt
import difflib
from typing import TYPE_CHECKING

import click

from ds01_monitoring import api, deployment, marks, rules, silencing
from ds01_monitoring.check.alerts import suggest
from ds01_monitoring.errors import UserError
from ds01_monitoring.named import NAME
from ds01_monitoring.spans import SILENCE

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ds01_monitoring.cli import App
    from ds01_monitoring.deployment import Deployment
    from ds01_monitoring.silencing import Silence


def _words(_: click.Context, __: click.Parameter, reason: str) -> str:
    if not reason.strip():
        raise click.BadParameter("say why in a few words")
    return reason


@click.command()
@click.option("--alert", type=NAME, help="Only this alert, for example DS01GPUWaste.")
@click.option("--user", type=NAME, help="Only what concerns this user.")
@click.option(
    "--gpu", type=NAME, help="Only this GPU (its index, as nvidia-smi shows it) or slot (like 1.0)."
)
@click.option("--host", type=NAME, help="Only this host.")
@click.option(
    "--for", "seconds", type=SILENCE, required=True, help="How long, for example 2d; it ends by itself."
)
@click.option("--reason", required=True, callback=_words, help="Why; shown to everybody who looks.")
@click.pass_obj
def silence(  # noqa: PLR0917 - click calls it with names.
    app: App,
    alert: str | None,
    user: str | None,
    gpu: str | None,
    host: str | None,
    seconds: int,
    reason: str,
) -> None:
    """Tell nobody about some alerts for a while."""
    labels = {
        name: value for name, value in {"alertname": alert, "user": user, "host": host}.items() if value
    }
    if gpu:
        labels["gpu_slot" if "." in gpu else "gpu"] = gpu
    if not labels:
        raise click.UsageError(
            "say what to silence: --alert, --user, --gpu or --host (several narrow it down)"
        )
    found = deployment.one(app.state, demo=False)
    if alert:
        _known(alert, found)
    server = api.alertmanager(found)
    matching = silencing.hit(server.alerts(), labels)
    identifier, earlier = silencing.make(server, labels, seconds=seconds, reason=reason)
    what = ", ".join(f'{name}="{value}"' for name, value in labels.items())
    click.echo(f"Silenced {what} until {_until(seconds)} (id {identifier[:8]}){_instead(earlier)}.")
    if alert == silencing.HEARTBEAT:
        click.echo(
            "It is the heartbeat: the service of notify.heartbeat hears nothing until then, and raises the alarm."
        )
    _doubt(found, labels)
    click.echo(f"{matching} alert{'s' if matching != 1 else ''} match{'' if matching != 1 else 'es'} it now.")
    click.echo(f"End it sooner: monitoring-manage unsilence {identifier[:8]}")


@click.command()
@click.pass_obj
def silences(app: App) -> None:
    """List the silences in force: what, until when, by whom, why."""
    found = silencing.in_force(api.alertmanager(deployment.one(app.state, demo=False)))
    if not found:
        click.echo("No silence is in force.")
        return
    from rich.console import Console  # noqa: PLC0415 - 60 ms that only a table needs.
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    now = dt.datetime.now(dt.timezone.utc)
    table = Table("id", box=None, pad_edge=False)
    for heading in ("what", "ends in", "by", "why"):
        table.add_column(heading, overflow="fold")
    for entry in found:
        left = str(entry.left(now)).removesuffix(":00")
        # Text, because a reason is a foreign string and rich would read its markup.
        table.add_row(
            *(
                Text(cell)
                for cell in (
                    entry.identifier[:8],
                    ", ".join(entry.matchers),
                    left,
                    entry.author,
                    entry.comment,
                )
            )
        )
    Console().print(table)


@click.command()
@click.argument("identifier", metavar="ID")
@click.pass_obj
def unsilence(app: App, identifier: str) -> None:
    """End a silence now; ID is the beginning of its id, as `silences` shows it."""
    ended = silencing.end(api.alertmanager(deployment.one(app.state, demo=False)), identifier)
    click.echo(f"Ended the silence of {', '.join(ended.matchers)}.")


@click.command()
@click.argument("alert", metavar="ALERT")
@click.option("--gpu", type=NAME, help="Only on this GPU (its index) or slot (like 1.0).")
@click.option(
    "--for", "seconds", type=SILENCE, default="7d", show_default=True, help="How long to be quiet about it."
)
@click.option(
    "--reason",
    default="acknowledged",
    show_default=True,
    callback=_words,
    help="Shown to everybody who looks.",
)
@click.pass_obj
def ack(app: App, alert: str, gpu: str | None, seconds: int, reason: str) -> None:
    """Acknowledge ALERT: each alert of that name that fires now is silenced, and no other.

    A new one, on another GPU or with another XID code, is heard.
    """
    if alert == silencing.HEARTBEAT:
        raise UserError(
            "always fires: it is the heartbeat, whose end is an alarm outside",
            place=alert,
            hint=f"to stop it all the same, pause the outside service, then monitoring-manage silence --alert {alert}",
            exit_code=2,
        )
    found = deployment.one(app.state, demo=False)
    _known(alert, found)
    server = api.alertmanager(found)
    firing = [entry["labels"] for entry in server.alerts(alertname=alert)]
    if gpu:
        firing = [labels for labels in firing if gpu in (labels.get("gpu"), labels.get("gpu_slot"))]
    if not firing:
        raise UserError(
            "does not fire",
            place=alert + (f" on {gpu}" if gpu else ""),
            hint="what fires is on the Andon board and in monitoring-manage status --watch",
        )
    for labels in firing:
        identifier, _ = silencing.make(server, labels, seconds=seconds, reason=reason)
        shown = " ".join(
            f"{name}={labels[name]}"
            for name in ("host", "gpu", "gpu_slot", "user", "xid")
            if labels.get(name)
        )
        click.echo(
            f"Acknowledged {alert} {shown}".rstrip() + f" until {_until(seconds)} (id {identifier[:8]})."
        )


@click.group()
def maintenance() -> None:
    """Work on the host: nobody is told, the dashboards show it."""


@maintenance.command("start")
@click.option(
    "--for", "seconds", type=SILENCE, required=True, help="How long, for example 2h; it ends by itself."
)
@click.option("--reason", required=True, callback=_words, help="What is being done.")
@click.pass_obj
def maintenance_start(app: App, seconds: int, reason: str) -> None:
    """Silence the host and mark the time on the dashboards."""
    found = deployment.one(app.state, demo=False)
    server, host = api.alertmanager(found), found.host
    identifier, earlier = silencing.make(
        server, {"host": host}, seconds=seconds, reason=silencing.MAINTENANCE + reason
    )
    click.echo(
        f"Maintenance of {host} until {_until(seconds)} (id {identifier[:8]}){_instead(earlier)}: nobody is told."
    )
    _annotate(app, lambda server: marks.begin(server, seconds=seconds, text=f"{host}: {reason}"))
    click.echo("Done sooner? monitoring-manage maintenance end")


@maintenance.command("end")
@click.pass_obj
def maintenance_end(app: App) -> None:
    """End the maintenance now: alerts are heard again."""
    server = api.alertmanager(deployment.one(app.state, demo=False))
    running = [
        entry for entry in silencing.in_force(server) if entry.comment.startswith(silencing.MAINTENANCE)
    ]
    if not running:
        raise UserError("no maintenance is under way", hint="monitoring-manage silences lists other silences")
    for entry in running:
        server.expire_silence(entry.identifier)
        click.echo(f"Ended: {entry.comment}")
    _annotate(app, marks.end)


def _known(alert: str, found: Deployment) -> None:
    """Refuse the name of an alert that no rule in force has: such a silence would never hide anything."""
    names = rules.alert_names(found.state.current)
    if names and alert not in names:
        raise UserError("there is no such alert", place=alert, hint=suggest(alert, names))


def _doubt(found: Deployment, labels: Mapping[str, str]) -> None:
    """Tell of a user, host or GPU that no series knows: probably mistyped, and then nothing is hidden."""
    for name, value in labels.items():
        if name == "alertname":
            continue
        try:
            known = set(api.prometheus(found).label_values(name))
        except UserError as error:
            click.echo(f"Whether there is such a {name} is unknown: {error.place} {error.problem}")
            continue
        if value not in known:
            close = difflib.get_close_matches(value, known, n=1)
            meant = f"did you mean {close[0]}?" if close else f"known: {', '.join(sorted(known)) or 'none'}"
            click.echo(f'No series has {name}="{value}": mistyped? ({meant})')


def _instead(earlier: Silence | None) -> str:
    return f", in place of {earlier.identifier[:8]} ({earlier.comment})" if earlier else ""


def _annotate(app: App, mark: Callable[[api.Server], None]) -> None:
    try:
        mark(api.grafana(deployment.one(app.state, demo=False), app.settings))
    except UserError as error:
        click.echo(f"The dashboards are not marked: {error.place} {error.problem}")


def _until(seconds: int) -> str:
    return (dt.datetime.now().astimezone() + dt.timedelta(seconds=seconds)).strftime("%Y-%m-%d %H:%M %Z")
