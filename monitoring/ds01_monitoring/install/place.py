"""Where an installation goes: this machine, or a folder that becomes the root of one."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

HOME = Path("/opt/ds01-monitoring")
CONFIG = Path("/etc/ds01-monitoring")
STATE = Path("/var/lib/ds01-monitoring")
LOGS = Path("/var/log/ds01-monitoring")
UNITS = Path("/etc/systemd/system")
COMMANDS = Path("/usr/local/bin")
USER = "ds01-monitoring"
SYSTEMD_RUNS = Path("/run/systemd/system")


@dataclass(frozen=True)
class Place:
    """A root directory.

    Attributes:
        root: `/`, or the folder that `--root` names: then only files are written, no user is made and
            no service is told.
    """

    root: Path = Path("/")

    def at(self, path: Path) -> Path:
        """Where an absolute path of the installed machine lies now."""
        return self.root / path.relative_to("/")

    @property
    def this_machine(self) -> bool:
        """Whether this is the running machine."""
        return self.root == Path("/")

    @property
    def systemd(self) -> bool:
        """Whether a systemd is there to be told."""
        return self.this_machine and SYSTEMD_RUNS.is_dir()


@dataclass(frozen=True)
class Step:
    """One change; `--dry-run` prints the text, everything else also does it."""

    text: str
    act: Callable[[], None]


def owner(place: Place, path: Path, user: str | None) -> None:
    """Give a path to a user and the group of that name, on this machine only; None = root."""
    if place.this_machine and os.geteuid() == 0:
        import pwd  # noqa: PLC0415 - the user may have been made a moment ago.

        entry = pwd.getpwnam(user or "root")
        os.chown(path, entry.pw_uid, entry.pw_gid, follow_symlinks=False)
