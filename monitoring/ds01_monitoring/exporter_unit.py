"""The exporter where systemd runs it: started, and restarted when its settings changed."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

from ds01_monitoring import command
from ds01_monitoring.errors import UserError

if TYPE_CHECKING:
    from ds01_monitoring.paths import StateDir
    from ds01_monitoring.runtime.base import Say

UNIT = "ds01-exporter.service"
FILE = Path("/etc/systemd/system") / UNIT
SYSTEMD_RUNS = Path("/run/systemd/system")
INSTALLED_STATE = Path("/var/lib/ds01-monitoring")
MARK = "ds01-exporter.settings"
SECONDS = 60


def apply(state: StateDir, say: Say) -> None:
    """Let the unit run with the rendered settings; what runs with them already is not disturbed.

    The unit reads the settings of the installed state directory only, so another one is nothing to it.

    Raises:
        UserError: It is not installed, or does not start, or only root may restart it.
    """
    if not FILE.exists():
        raise UserError(
            "is systemd, and the unit is not installed",
            place="exporter.deployment",
            hint="sudo monitoring-manage install, or exporter: {deployment: process}",
            exit_code=2,
        )
    if state.root != INSTALLED_STATE or not SYSTEMD_RUNS.is_dir():
        return
    settings = hashlib.sha256((state.current / "exporter.env").read_bytes()).hexdigest()
    mark = state.run / MARK
    active = (
        command.run(["systemctl", "is-active", "--quiet", UNIT], timeout=SECONDS, check=False).returncode == 0
    )
    if active and mark.is_file() and mark.read_text() == settings:
        return
    if os.geteuid() != 0:
        raise UserError(f"only root can restart {UNIT}", hint=f"sudo systemctl restart {UNIT}")
    say(f"restarting {UNIT}")
    command.run(["systemctl", "restart", UNIT], timeout=SECONDS)
    state.run.mkdir(parents=True, exist_ok=True)
    mark.write_text(settings)
