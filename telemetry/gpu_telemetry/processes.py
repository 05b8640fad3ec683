"""Who a GPU process belongs to, from /proc: its program, its user, its container."""

from __future__ import annotations

import pwd
import re
import time
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_PROC = Path("/proc")
# Docker, containerd, podman and Kubernetes all put the container's 64 hex digits into the cgroup's path.
_CONTAINER = re.compile(r"[0-9a-f]{64}")
_KEEP_SECONDS = 10.0


@dataclass(frozen=True)
class Owner:
    """What /proc says of a process; None is unknown.

    Attributes:
        name: Its command name, at most 15 characters.
        user: Login name, else numeric uid.
        container: Id of its container, 64 hex digits; None outside one.
    """

    name: str | None = None
    user: str | None = None
    container: str | None = None


class ProcessTable:
    """Owners of processes, kept for some seconds: a training job's do not change, and its pid is asked ten times a second.

    Args:
        proc: Where procfs is mounted.
        clock: A monotonic clock in seconds.
    """

    def __init__(self, proc: Path = _PROC, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._proc = proc
        self._clock = clock
        self._known: dict[int, tuple[float, Owner]] = {}

    def owner(self, pid: int) -> Owner:
        """The owner of a process; all unknown if it has gone or belongs to another pid namespace."""
        now = self._clock()
        known = self._known.get(pid)
        if known is not None and now - known[0] < _KEEP_SECONDS:
            return known[1]
        if len(self._known) > 1000:
            self._known.clear()
        owner = _read(self._proc / str(pid))
        self._known[pid] = (now, owner)
        return owner


def _read(directory: Path) -> Owner:
    try:
        uid = directory.stat().st_uid
        name = (directory / "comm").read_text(errors="replace").strip()
        container = _CONTAINER.search((directory / "cgroup").read_text(errors="replace"))
    except OSError:
        return Owner()
    return Owner(name=name or None, user=_login(uid), container=container[0] if container else None)


@lru_cache(maxsize=256)
def _login(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


class ProcessTree:
    """Everything that descends from one process, asked pid by pid: a shared server has thousands of others.

    Args:
        root: The process at the top; it is not in the tree itself.
        proc: Where procfs is mounted.
    """

    def __init__(self, root: int, proc: Path = _PROC) -> None:
        self._root = root
        self._proc = proc
        self._known: dict[int, tuple[int, bool]] = {}

    def __contains__(self, pid: int) -> bool:
        found = self._stat(pid)
        known = self._known.get(pid)
        if found is None:
            # It ended since the driver listed it; what it was then still holds.
            return known is not None and known[1]
        parent, started = found
        # The same pid with another start is another process.
        if known is None or known[0] != started:
            self._known[pid] = known = (started, self._descends(parent))
        return known[1]

    def _descends(self, pid: int) -> bool:
        while pid > 1:
            if pid == self._root:
                return True
            found = self._stat(pid)
            if found is None:
                return False
            pid = found[0]
        return False

    def _stat(self, pid: int) -> tuple[int, int] | None:
        """Parent and start time (clock ticks since boot); None if there is no such process."""
        try:
            # The name in brackets may hold spaces and brackets itself; what follows the last one is fixed.
            after = (self._proc / str(pid) / "stat").read_bytes().rpartition(b")")[2].split()
            return int(after[1]), int(after[19])
        except (OSError, IndexError, ValueError):
            return None
