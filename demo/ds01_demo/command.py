"""The demo's one door to other programs."""

from __future__ import annotations

import logging
import shlex
import subprocess  # noqa: TID251 - this module is the door.
from typing import TYPE_CHECKING

from .errors import DemoError

if TYPE_CHECKING:
    from collections.abc import Sequence

log = logging.getLogger(__name__)

Process = subprocess.Popen[bytes]


def run(args: Sequence[str], *, timeout: float) -> str:
    """Run a program to its end; its output, standard error included. Raises DemoError when it fails."""
    log.debug("run: %s", shlex.join(args))
    try:
        done = subprocess.run(  # noqa: S603 - a list of arguments, no shell.
            list(args),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise DemoError(f"{args[0]}: {error}") from error
    if done.returncode:
        last = done.stdout.strip().splitlines()[-1:] or ["(it printed nothing)"]
        raise DemoError(f"{shlex.join(args)} ended with {done.returncode}: {last[0]}")
    return done.stdout


def spawn(args: Sequence[str]) -> Process:
    """Start a program whose output nobody reads. Raises DemoError when there is none."""
    log.debug("spawn: %s", shlex.join(args))
    try:
        return subprocess.Popen(  # noqa: S603
            list(args), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
    except OSError as error:
        raise DemoError(f"{args[0]}: {error}") from error
