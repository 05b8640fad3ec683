"""Tells a server in a container to read its configuration anew, without the Engine forgetting to restart it."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING

from ds01_monitoring.errors import UserError
from ds01_monitoring.runtime import engine

if TYPE_CHECKING:
    from ds01_monitoring.runtime.engine import Container

PROC = Path("/proc")


def hang_up(container: Container) -> None:
    """Send SIGHUP to a container's first process.

    Not by `docker kill`, whatever the signal: after it the Engine takes the container for one that a person
    stopped, and neither restarts it when it ends nor starts it with the machine (moby, daemon/kill.go).

    Raises:
        UserError: Neither is there a shell in the image, nor may this user signal the process.
    """
    try:
        engine.docker("exec", container.id, "/bin/sh", "-c", "kill -HUP 1")
    except UserError as error:
        if not _signal_from_here(container):
            raise UserError(
                f"{container.service} cannot be told to read its configuration: {error.problem}",
                hint=f"monitoring-manage restart {container.service}",
            ) from error


def _signal_from_here(container: Container) -> bool:
    """Signal the process from the host, where it is certain that the number means that process."""
    pid = int(container.state["Pid"])
    try:
        if pid <= 1 or container.id not in (PROC / str(pid) / "cgroup").read_text():
            return False
        os.kill(pid, signal.SIGHUP)
    except OSError:
        return False
    return True
