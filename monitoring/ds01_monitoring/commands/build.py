"""`build`: the allocation exporter's image, for `exporter: {deployment: container}`."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from pathlib import Path

    from ds01_monitoring.cli import App

BUILD_SECONDS = 1800
PIP = ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_TRUSTED_HOST")
"""What the Dockerfile takes from the caller's environment; proxies Docker passes on by itself when they are named."""

PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")
NO_PACKAGE = re.compile(
    r"no matching distribution|could not fetch url|newconnectionerror|certificate_verify_failed",
    re.IGNORECASE,
)


@click.command()
@click.pass_obj
def build(app: App) -> None:
    """Build the allocation exporter's image under the name in `images.ds01_exporter`, from `images.python`."""
    from ds01_monitoring import paths  # noqa: PLC0415 - the parser of options need not wait for it.
    from ds01_monitoring.errors import UserError  # noqa: PLC0415
    from ds01_monitoring.screen import Screen  # noqa: PLC0415

    images, root = app.settings.images, paths.data_root()
    if not (root / "exporter" / "Dockerfile").is_file():
        raise UserError(
            "is missing: an image is built from the repository, not from an installed wheel",
            place=str(root / "exporter" / "Dockerfile"),
            hint="run it from a clone, or let images.ds01_exporter name an image of your own registry",
        )
    screen = Screen()
    with screen.step(f"building {images.ds01_exporter}") as step:
        make(root, images.ds01_exporter, images.python)
        step.result = f"built {images.ds01_exporter}"
    if app.settings.exporter.deployment != "container":
        screen.line("  it is used with `exporter: {deployment: container}` in monitoring.yaml")


def make(root: Path, image: str, base: str) -> None:
    """Build `image` from the clone at `root`.

    pip reaches its index over the host's network, as this machine does: a proxy or a mirror on loopback included.

    Raises:
        UserError: It cannot be built; says why.
    """
    from ds01_monitoring import command  # noqa: PLC0415
    from ds01_monitoring.errors import UserError  # noqa: PLC0415
    from ds01_monitoring.runtime import engine  # noqa: PLC0415

    passed = [name for name in (*PIP, *PROXIES, *map(str.lower, PROXIES)) if os.environ.get(name)]
    words = [
        "docker",
        "build",
        "--force-rm",
        "--network",
        "host",
        "--file",
        str(root / "exporter" / "Dockerfile"),
    ]
    words += [
        "--build-arg",
        f"PYTHON_IMAGE={base}",
        *(word for name in passed for word in ("--build-arg", name)),
    ]
    engine.check()
    try:
        command.run([*words, "--tag", image, str(root)], timeout=BUILD_SECONDS, env=engine.environment())
    except command.CommandFailed as error:
        said = [line.strip() for line in error.output.splitlines() if NO_PACKAGE.search(line)]
        if not said:
            raise engine.explain(error) from error
        raise UserError(
            f"pip could not get the exporter's packages: {said[-1]}",
            hint=f"is PyPI reachable? A mirror is named by {PIP[0]} in the environment",
        ) from error
