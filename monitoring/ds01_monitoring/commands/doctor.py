"""`doctor`: one text file for somebody who is to help."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from ds01_monitoring.cli import App


@click.command()
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False, allow_dash=True),
    help="Where to; - prints it. A file in this folder by default.",
)
@click.pass_obj
def doctor(app: App, out: Path | None) -> None:
    """Collect versions, configuration, checks, logs and GPU facts into a text file, and name likely causes."""
    from ds01_monitoring.doctor.report import make  # noqa: PLC0415 - the parser of options need not wait for it.

    text, causes = make(app.config, app.state)
    if out == Path("-"):
        click.echo(text)
        return
    for cause in causes:
        click.echo(f"{cause.situation}: {cause.evidence}\n  next: {cause.remedy}")
    target = out or Path(f"ds01-doctor-{time.strftime('%Y%m%d-%H%M%S')}.txt")
    handle = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "w", encoding="utf-8") as stream:
        stream.write(text)
    click.echo(f"wrote {target}: read it before you pass it on; user and container names are in it")
