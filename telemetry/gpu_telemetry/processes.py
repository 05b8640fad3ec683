"""Who a GPU process belongs to, from /proc: its program, its user, its container."""

from __future__ import annotations

import os
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


def parents(proc: Path = _PROC) -> dict[int, int]:
    """Parent of every process now, by pid."""
    found: dict[int, int] = {}
    for entry in os.listdir(proc):  # noqa: PTH208 - a Path for each of thousands of entries is the cost here.
        if not entry.isdigit():
            continue
        try:
            # The name in brackets may hold spaces and brackets itself; what follows the last one is fixed.
            after = (proc / entry / "stat").read_bytes().rpartition(b")")[2].split()
            found[int(entry)] = int(after[1])
        except (OSError, IndexError, ValueError):
            continue  # It ended meanwhile.
    return found


def descendants(root: int, parent_of: dict[int, int]) -> set[int]:
    """The process and everything that descends from it."""
    children: dict[int, list[int]] = {}
    for pid, parent in parent_of.items():
        children.setdefault(parent, []).append(pid)
    found: set[int] = set()
    pending = [root]
    while pending:
        pid = pending.pop()
        if pid not in found:
            found.add(pid)
            pending += children.get(pid, [])
    return found
