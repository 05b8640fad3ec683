"""The one door to other programs."""

from __future__ import annotations

import logging
import shlex
import subprocess  # noqa: TID251 - this module is the door.
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gpu_telemetry.errors import TelemetryError

if TYPE_CHECKING:
    from collections.abc import Sequence

log = logging.getLogger(__name__)

NULL = subprocess.DEVNULL
PIPE = subprocess.PIPE
Process = subprocess.Popen[bytes]


@dataclass(frozen=True)
class Answer:
    """What a program printed.

    Attributes:
        code: Its exit code; None if it was killed because its time was up.
        output: Standard output.
        errors: Standard error.
    """

    code: int | None
    output: str
    errors: str


class ProgramMissing(TelemetryError):  # noqa: N818 - reads better where it is caught.
    """There is no such program, or the system does not start it."""


def run(arguments: Sequence[str], *, timeout_seconds: float) -> Answer:
    """Run a program to its end; one that takes too long is killed.

    Raises:
        ProgramMissing: There is no such program, or the system does not start it.
    """
    log.debug("run: %s", shlex.join(arguments))
    try:
        done = subprocess.run(  # noqa: S603 - a list of arguments, no shell.
            list(arguments),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout_seconds,
            check=False,
        )
    except OSError as error:
        raise ProgramMissing(f"cannot run {arguments[0]}: {error.strerror}") from error
    except subprocess.TimeoutExpired:
        return Answer(None, "", "")
    return Answer(done.returncode, done.stdout, done.stderr)


def spawn(arguments: Sequence[str], **options: Any) -> Process:
    """Start a program and return at once; options are `subprocess.Popen`'s.

    Raises:
        ProgramMissing: There is no such program, or the system does not start it.
    """
    log.debug("spawn: %s", shlex.join(arguments))
    try:
        return subprocess.Popen(list(arguments), **options)  # noqa: S603
    except OSError as error:
        raise ProgramMissing(f"cannot run {arguments[0]}: {error.strerror}") from error
