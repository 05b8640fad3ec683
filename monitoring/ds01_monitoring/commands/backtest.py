"""`backtest`: what mail to users would have been sent."""

from __future__ import annotations

import datetime as dt
import time
from collections import Counter
from typing import TYPE_CHECKING

import click

from ds01_monitoring import api, deployment
from ds01_monitoring import stack as stacks
from ds01_monitoring.backtest import STEP, recorded_since, replay
from ds01_monitoring.config import duration_seconds
from ds01_monitoring.errors import UserError
from ds01_monitoring.spans import SPAN, WINDOW

if TYPE_CHECKING:
    from pathlib import Path

    from ds01_monitoring.api import Prometheus
    from ds01_monitoring.backtest import Mail
    from ds01_monitoring.cli import App
    from ds01_monitoring.config import Settings
    from ds01_monitoring.paths import StateDir


@click.command()
@click.option("--since", type=SPAN, default="7d", show_default=True, help="How far to look back.")
@click.option(
    "--below", type=click.FloatRange(0, 1), help="The waste line, 0 to 1; the configured one by default."
)
@click.option("--window", type=WINDOW, help="How long a GPU must be idle; notify.users.after by default.")
@click.pass_obj
def backtest(app: App, since: int, below: float | None, window: int | None) -> None:
    """Tell from the recorded series what mail to users a setting would have sent.

    Nothing is sent. A user whose GPU was at work again within 30 minutes would have been mailed for nothing.
    """
    found = deployment.one(app.state, demo=False)
    settings = stacks.again(app.settings, found, app.state).context.settings
    line = settings.alerts.gpu_waste.below if below is None else below
    span = f"{window}s" if window else settings.notify.users.after
    tell(api.prometheus(found), settings, since=since, below=line, window=span)


def before_enabling(settings: Settings, state: StateDir, *, demo: bool = False) -> None:
    """Where this configuration is the first to mail users, tell what that would have been in the last week."""
    users = settings.notify.users
    if not users.enabled or demo or users_are_mailed(state.current, dry_run=users.dry_run):
        return
    if users_are_mailed(state.current, dry_run=True):
        click.echo("notify.users.dry_run is off now. Had it been off:")
    else:
        click.echo("notify.users is new. Had it been on:")
    try:
        server = api.prometheus(deployment.one(state, demo=False))
        week, line = duration_seconds("7d"), settings.alerts.gpu_waste.below
        tell(server, settings, since=week, below=line, window=users.after)
    except UserError as error:
        click.echo(f"  unknown: {error.place} {error.problem}".rstrip())


def tell(prometheus: Prometheus, settings: Settings, *, since: int, below: float, window: str) -> None:
    """Print what would have been sent, for as much of the time as was recorded."""
    now, needed = time.time(), duration_seconds(window)
    begin = recorded_since(prometheus, now=now, since=since)
    if begin is None:
        raise UserError(
            "nothing was recorded in that time, so nothing can be told",
            place="backtest",
            hint="monitoring-manage status shows whether allocations and readings arrive",
        )
    first = recorded_since(prometheus, now=now, since=since + needed)
    if first is None or now - first + 2 * STEP < needed:
        raise UserError(
            f"recorded for {_span(int(now - begin))}, which is less than a GPU must be idle ({_span(needed)})",
            place="backtest",
            hint="try a shorter --window, or wait until more is recorded",
        )
    if begin > now - since + 2 * STEP:
        when = dt.datetime.fromtimestamp(begin).astimezone()
        click.echo(f"Recorded only since {when:%Y-%m-%d %H:%M %Z}.")
        since = max(int(now - begin), STEP)
    mails = replay(prometheus, settings, now=now, since=since, below=below, window=window)
    show(mails, since=since, below=below, window=needed)


def users_are_mailed(rendered: Path, *, dry_run: bool = False) -> bool:
    """Whether the configuration in this rendered tree has receivers of users' mail; with `dry_run`, or has the dry run's."""
    file = rendered / "alertmanager" / "alertmanager.yml"
    receiver = "name: admins-for-users" if dry_run else '"ds01.user.text"'
    return file.exists() and receiver in file.read_text(encoding="utf-8")


def show(mails: list[Mail], *, since: int, below: float, window: int) -> None:
    """Print the summary and a line per user."""
    told = [mail for mail in mails if mail.to_user]
    users = Counter((mail.host, mail.user) for mail in told)
    back = Counter((mail.host, mail.user) for mail in told if mail.back)
    click.echo(
        f"In the last {_span(since)}, with the line at {below:.3g} for {_span(window)}: "
        f"{len(told)} mail{'s' * (len(told) != 1)} to {len(users)} user{'s' * (len(users) != 1)}; "
        f"{sum(back.values())} went back to work within 30 min."
    )
    for (host, user), count in users.most_common():
        click.echo(f"  {user} on {host}: {count}, back at work by themselves after {back[host, user]}")
    if unknown := sorted({mail.user for mail in mails if not mail.to_user}):
        names = ", ".join(map(repr, unknown))
        click.echo(f"  to the administrators: {len(mails) - len(told)}, as no address is known for {names}")


def _span(seconds: int) -> str:
    """A time for people, in the largest unit of which it has two."""
    for unit, length in (("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.3g} {unit}"
    return f"{seconds} s"
