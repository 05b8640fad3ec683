"""One agent per host, without a lock that somebody else could hold."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

from gpu_telemetry.errors import TelemetryError

if TYPE_CHECKING:
    from typing_extensions import Self

SERVICE_RUN = Path("/run/gpu-telemetry")
"""Where the service writes who it is (RuntimeDirectory= of its unit); everybody may read it."""


class AlreadyRunning(TelemetryError):  # noqa: N818 - reads better where it is caught.
    """Another agent samples this host."""


class SingleInstance:
    """Holds the place of the one agent while it runs.

    Two places are looked at: a lock in the agent's own state directory, which nobody else can take, and the
    service's file in /run, which names it to everybody by process id and start time. So a user cannot run a
    second agent beside the service, and cannot keep the service from starting either.

    Raises AlreadyRunning on entering when another agent runs.
    """

    def __init__(self, state_dir: Path, *, run_dir: Path = SERVICE_RUN) -> None:
        self._lock_path = state_dir / "agent.lock"
        self._public = run_dir / "agent.json"
        self._lock: int | None = None

    def __enter__(self) -> Self:
        other = self.holder()
        if other is not None:
            raise AlreadyRunning(
                f"an agent already samples this host, as process {other}", hint=f"stop it first: kill {other}"
            )
        self._lock = self._take()
        with contextlib.suppress(FileNotFoundError, PermissionError):  # only the service has this folder
            self._public.write_text(json.dumps({"pid": os.getpid(), "started": started(os.getpid())}))
        return self

    def __exit__(self, *_: object) -> None:
        if _named(self._public) == os.getpid():
            with contextlib.suppress(OSError):
                self._public.unlink()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def holder(self) -> int | None:
        """The process id of the agent that runs now; None if none does. A file left by a crash does not count."""
        for path in (self._public, self._lock_path):
            pid = _named(path)
            if pid is not None and pid != os.getpid():
                return pid
        return None

    def _take(self) -> int:
        try:
            self._lock_path.parent.mkdir(parents=True, exist_ok=True, mode=0o750)
            lock = os.open(self._lock_path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o640)
        except OSError as error:
            raise TelemetryError(
                f"{self._lock_path}: {error.strerror}", hint="choose another --state-dir"
            ) from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(lock)
            raise AlreadyRunning(f"another agent holds {self._lock_path}", hint="stop it first") from error
        os.ftruncate(lock, 0)
        os.write(lock, json.dumps({"pid": os.getpid(), "started": started(os.getpid())}).encode())
        return lock


def started(pid: int) -> int | None:
    """When a process began, in clock ticks since boot; None if there is none. Tells a recycled id apart."""
    try:
        # proc(5): field 22, counted after the name, which may hold spaces and brackets itself.
        return int(Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[19])
    except (OSError, ValueError, IndexError):
        return None


def _named(path: Path) -> int | None:
    """The process that a file names, if it still is that process."""
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        pid, begun = int(stored["pid"]), int(stored["started"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return pid if started(pid) == begun else None
