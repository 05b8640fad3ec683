"""The servers' programs that the native runtime needs: found, fetched, renewed."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ds01_monitoring.errors import UserError
from ds01_monitoring.runtime import packages
from ds01_monitoring.runtime.binaries import REQUIRED, find

if TYPE_CHECKING:
    from ds01_monitoring.runtime.base import Say


@dataclass(frozen=True)
class Programs:
    """The programs of this machine, and those unpacked into a folder for what it lacks."""

    folder: Path

    def path(self) -> str:
        """PATH of everything that runs here: our own commands, the caller's PATH, the folder's programs."""
        unpacked = sorted(self.folder.glob("*/usr/bin")) if self.folder.is_dir() else []
        own = Path(sys.executable).parent
        return os.pathsep.join(map(str, [own, os.environ.get("PATH", os.defpath), *unpacked, self.folder]))

    def missing(self) -> list[str]:
        """Programs that are needed and not here."""
        path = self.path()
        return [name for name in REQUIRED if find(name, path) is None]

    def fetch(self, say: Say) -> None:
        """Get what is missing from the distribution's packages.

        Raises:
            UserError: It cannot be had.
        """
        if self.missing():
            packages.fetch(packages.this_machines_suite(), self.folder, say=say)
        missing = self.missing()
        if missing:
            raise UserError(f"not found: {', '.join(missing)}", hint="install them so that PATH finds them")

    def update(self, say: Say) -> None:
        """Get newer packages for what was unpacked; programs from PATH are the system's business."""
        for mark in sorted(self.folder.glob("*/.packages")):
            packages.fetch(mark.parent.name, self.folder, update=True, say=say)
