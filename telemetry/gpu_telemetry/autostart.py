"""Makes sure that an agent runs when the first GPU is allocated."""

from __future__ import annotations

import logging
import os
import shutil
import sys
import time
from typing import TYPE_CHECKING

from gpu_telemetry import command
from gpu_telemetry.errors import TelemetryError
from gpu_telemetry.instance import SingleInstance

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

log = logging.getLogger(__name__)

VARIABLE = "GPU_TELEMETRY_AUTOSTART"
UNIT = "gpu-telemetry.service"
SYSTEMCTL_SECONDS = 30
START_SECONDS = 30

TRUE = frozenset({"1", "true", "yes", "on"})
FALSE = frozenset({"", "0", "false", "no", "off"})


def wanted(environ: Mapping[str, str] | None = None) -> bool:
    """What $GPU_TELEMETRY_AUTOSTART says; false where it is not set. Raises TelemetryError if it is neither."""
    value = (os.environ if environ is None else environ).get(VARIABLE, "")
    if value.strip().lower() in TRUE:
        return True
    if value.strip().lower() in FALSE:
        return False
    raise TelemetryError(
        f"{VARIABLE}={value!r} is neither true nor false", hint="use true or false", exit_code=2
    )


def ensure_agent(state_dir: Path) -> str:
    """Starts an agent that follows allocations, unless one runs; returns how: `running`, `systemd` or `process`.

    The unit is preferred; where it is not installed or does not start, a process of its own does the work.

    Raises TelemetryError when neither can be started.
    """
    if SingleInstance(state_dir).holder() is not None:
        return "running"
    if _start_unit():
        return "systemd"
    _start_process(state_dir)
    return "process"


def _start_unit() -> bool:
    if shutil.which("systemctl") is None:
        return False
    known = command.run(["systemctl", "cat", UNIT], timeout_seconds=SYSTEMCTL_SECONDS)
    if known.code != 0:
        return False
    started = command.run(["systemctl", "start", UNIT], timeout_seconds=SYSTEMCTL_SECONDS)
    if started.code != 0:
        log.warning("%s does not start, an agent is started beside it: %s", UNIT, started.errors.strip())
    return started.code == 0


def _start_process(state_dir: Path) -> None:
    arguments = [
        sys.executable,
        "-m",
        "gpu_telemetry",
        "agent",
        "--on",
        "allocations",
        "--state-dir",
        str(state_dir),
    ]
    log_path = state_dir / "agent.log"
    try:
        with log_path.open("ab") as output:
            child = command.spawn(
                arguments, stdin=command.NULL, stdout=output, stderr=output, start_new_session=True, cwd="/"
            )
    except OSError as error:
        raise TelemetryError(f"{log_path}: {error.strerror}", hint="choose another --state-dir") from error
    deadline = time.monotonic() + START_SECONDS
    while SingleInstance(state_dir).holder() is None:
        if child.poll() is not None:
            raise TelemetryError(
                f"the agent ended with {child.returncode}", hint=f"its output is in {log_path}"
            )
        if time.monotonic() > deadline:
            raise TelemetryError(
                f"the agent has not begun after {START_SECONDS} s", hint=f"its output is in {log_path}"
            )
        time.sleep(0.05)
