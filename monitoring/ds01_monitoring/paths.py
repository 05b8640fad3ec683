"""Where things lie: what ships with the program, and the one state directory."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

_HERE = Path(__file__).resolve().parent


def data_root() -> Path:
    """The folder that holds config/, prometheus/, alertmanager/ and grafana/: the clone, or the wheel's copy."""
    packaged = _HERE / "_data"
    return packaged if packaged.is_dir() else _HERE.parents[1]


def default_state_dir(env: Mapping[str, str] = os.environ) -> Path:
    """`/var/lib/ds01-monitoring` for root, `$XDG_STATE_HOME/ds01-monitoring` for everybody else."""
    if os.geteuid() == 0:
        return Path("/var/lib/ds01-monitoring")
    home = env.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    return Path(home) / "ds01-monitoring"


@dataclass(frozen=True)
class StateDir:
    """Everything that the stack writes lies below `root`."""

    root: Path

    @property
    def rendered(self) -> Path:
        """Versions of the generated configuration; containers mount this folder."""
        return self.root / "rendered"

    @property
    def current(self) -> Path:
        """A relative link inside `rendered` to the version in force."""
        return self.rendered / "current"

    @property
    def data(self) -> Path:
        """What the servers store."""
        return self.root / "data"

    @property
    def logs(self) -> Path:
        """What the processes print; the native runtime only."""
        return self.root / "logs"

    @property
    def secrets(self) -> Path:
        """Passwords, each a file with mode 0600."""
        return self.root / "secrets"

    @property
    def bin(self) -> Path:
        """Programs that were fetched for the native runtime."""
        return self.root / "bin"

    @property
    def run(self) -> Path:
        """Sockets and pid files."""
        return self.root / "run"

    @property
    def demo(self) -> StateDir:
        """The demo's own state directory."""
        return StateDir(self.root / "demo")
