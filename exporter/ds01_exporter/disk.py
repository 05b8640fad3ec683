"""The file system that holds the allocator's state directory."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from ds01_exporter.health import CollectorError, Health

if TYPE_CHECKING:
    from pathlib import Path


class Disk:
    """Publishes `sizes` in bytes by type: used, free (available to users) and total; empty where unknown."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.health = Health("disk")
        self.sizes: tuple[tuple[str, int], ...] = ()

    def refresh(self) -> None:
        """Ask the file system."""
        self.sizes = ()
        with self.health.watch():
            try:
                found = os.statvfs(self.folder)
            except OSError as error:
                raise CollectorError(f"{self.folder}: {error.strerror}") from error
            self.sizes = (
                ("used", (found.f_blocks - found.f_bfree) * found.f_frsize),
                ("free", found.f_bavail * found.f_frsize),
                ("total", found.f_blocks * found.f_frsize),
            )
