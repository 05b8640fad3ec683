"""`mailbox`: the mail that the demo sent."""

from __future__ import annotations

import email
import email.policy
from typing import TYPE_CHECKING

import click

from ds01_monitoring import demo
from ds01_monitoring.errors import UserError

if TYPE_CHECKING:
    from email.message import EmailMessage
    from pathlib import Path

    from ds01_monitoring.cli import App


@click.command()
@click.argument("number", type=click.IntRange(min=1), required=False)
@click.pass_obj
def mailbox(app: App, number: int | None) -> None:
    """List the mail that the demo's Alertmanager sent, or show mail NUMBER; nothing left this machine."""
    folder = demo.folder(app.state.demo) / "mailbox"
    files = sorted(folder.glob("*.eml"))
    if not folder.is_dir():
        raise UserError("there is no demo", place=str(folder), hint="monitoring-manage start --demo")
    if not files:
        click.echo(
            "No mail yet. The first one about an idle GPU comes within three minutes of the demo's start."
        )
    elif number is None:
        for position, file in enumerate(files, start=1):
            mail = _read(file)
            click.echo(f"{position:>3}  {mail['date']}  to {_recipients(mail)}: {mail['subject']}")
        click.echo("Read one: monitoring-manage mailbox NUMBER")
    elif number > len(files):
        raise UserError(
            f"there are {len(files)} mails", place=str(number), hint="monitoring-manage mailbox lists them"
        )
    else:
        _show(_read(files[number - 1]))


def _show(mail: EmailMessage) -> None:
    for name in ("date", "from", "subject"):
        click.echo(f"{name.title()}: {mail[name]}")
    click.echo(f"To: {_recipients(mail)}\n")
    body = mail.get_body(("plain",))
    click.echo("" if body is None else body.get_content())


def _recipients(mail: EmailMessage) -> str:
    return ", ".join(str(to) for to in mail.get_all("x-envelope-to", []))


def _read(file: Path) -> EmailMessage:
    return email.message_from_bytes(file.read_bytes(), policy=email.policy.default)
