"""`build`: the allocation exporter's image, for `exporter: {deployment: container}`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from ds01_monitoring.cli import App

BUILD_SECONDS = 1800


@click.command()
@click.pass_obj
def build(app: App) -> None:
    """Build the allocation exporter's image under the name in `images.ds01_exporter`."""
    from ds01_monitoring import paths  # noqa: PLC0415 - the parser of options need not wait for it.
    from ds01_monitoring.errors import UserError  # noqa: PLC0415
    from ds01_monitoring.runtime import engine  # noqa: PLC0415
    from ds01_monitoring.screen import Screen  # noqa: PLC0415

    root, image = paths.data_root(), app.settings.images.ds01_exporter
    dockerfile = root / "exporter" / "Dockerfile"
    if not dockerfile.is_file():
        raise UserError(
            "is missing: an image is built from the repository, not from an installed wheel",
            place=str(dockerfile),
            hint="run it from a clone, or let images.ds01_exporter name an image of your own registry",
        )
    screen = Screen()
    with screen.step(f"building {image}") as step:
        engine.docker("build", "--file", str(dockerfile), "--tag", image, str(root), timeout=BUILD_SECONDS)
        step.result = f"built {image}"
    if app.settings.exporter.deployment != "container":
        screen.line("  it is used with `exporter: {deployment: container}` in monitoring.yaml")
