"""`render` and `check`: the configuration as files, without touching what runs."""

from __future__ import annotations

import shutil
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ds01_monitoring.check import Finding
    from ds01_monitoring.cli import App

_runtime = click.option("--runtime", type=click.Choice(["compose", "native"]), help="For which runtime.")
_hardware = click.option(
    "--hardware", type=click.Choice(["dcgm", "nvml", "none"]), help="Which source of GPU metrics there is."
)


@click.command()
@click.option(
    "--out", type=click.Path(path_type=Path, file_okay=False), help="Write there, and put nothing in force."
)
@_runtime
@_hardware
@click.option("--no-check", is_flag=True, help="With --out: write without looking at it.")
@click.pass_obj
def render(app: App, out: Path | None, runtime: str | None, hardware: str | None, no_check: bool) -> None:
    """Write the configuration files, check them, and put them in force for the next start or reload."""
    from ds01_monitoring.check import check as look  # noqa: PLC0415 - the parser of options need not wait for it.
    from ds01_monitoring.commands.backtest import before_enabling  # noqa: PLC0415
    from ds01_monitoring.deploy import deploy  # noqa: PLC0415
    from ds01_monitoring.render import render as write  # noqa: PLC0415

    if no_check and out is None:
        raise click.UsageError("--no-check needs --out: nothing unchecked is put in force")
    if out is None:
        before_enabling(app.settings, app.state)
        tree, findings = deploy(
            app.settings, app.state, tools_required=False, runtime=runtime, hardware=hardware
        )
    else:
        tree = write(app.settings, app.state, runtime=runtime, hardware=hardware, out=out.absolute())
        findings = [] if no_check else look(tree)
    click.echo(
        f"{tree.path}: {len(tree.sources)} files for {tree.context.runtime}, hardware {tree.context.hardware}"
    )
    _tell(findings)


@click.command()
@_runtime
@_hardware
@click.pass_obj
def check(app: App, runtime: str | None, hardware: str | None) -> None:
    """Look at the configuration, the templates and the secrets; change nothing."""
    from ds01_monitoring.check import check as look  # noqa: PLC0415
    from ds01_monitoring.render import render as write  # noqa: PLC0415

    with ExitStack() as cleanup:
        folder = tempfile.mkdtemp(prefix="ds01-check-")
        cleanup.callback(shutil.rmtree, folder)
        out = Path(folder) / "tree"
        tree = write(app.settings, app.state, runtime=runtime, hardware=hardware, out=out)
        findings = look(tree)
        if any(folder in str(finding) for finding in findings):
            cleanup.pop_all()  # Who reads that is going to look there.
    _tell(findings)
    click.echo(f"ok: {len(tree.sources)} files for {tree.context.runtime}, hardware {tree.context.hardware}")


def _tell(findings: Sequence[Finding]) -> None:
    """Print the findings; errors end the command with exit code 2."""
    for finding in findings:
        click.echo(str(finding), err=True)
    errors = sum(finding.level == "error" for finding in findings)
    if errors:
        click.echo(f"{errors} error{'s' if errors > 1 else ''}", err=True)
        raise click.exceptions.Exit(2)
