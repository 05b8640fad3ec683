"""Which process is which: a process is known by its pid together with the moment it started.

A pid alone may belong to a stranger by the time somebody acts on it.
"""

from __future__ import annotations

import json
import os
import select
import signal
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

PROC = Path("/proc")
STARTS_KEPT = 20


@dataclass(frozen=True)
class Process:
    """One process of the stack, as recorded when it started.

    Attributes:
        name: The service.
        pid: Its process id, meaningless without the next two.
        start_ticks: When it started, in clock ticks since boot (field 22 of /proc/<pid>/stat).
        boot_id: The boot that the two above belong to.
        environment: Digest of the settings that it was started with.
        starts: Unix times of its last starts, the newest last; a service that crashes has many.
    """

    name: str
    pid: int
    start_ticks: int
    boot_id: str
    environment: str = ""
    starts: list[float] = field(default_factory=list)

    def alive(self) -> bool:
        """Whether exactly this process still runs."""
        return self.boot_id == boot_id() and start_ticks(self.pid) == self.start_ticks

    def started(self) -> float:
        """Unix time of its start, in seconds; meaningful while it lives."""
        age = time.clock_gettime(time.CLOCK_BOOTTIME) - self.start_ticks / os.sysconf("SC_CLK_TCK")
        return time.time() - age


def boot_id() -> str:
    """The kernel's name for the present boot."""
    return (PROC / "sys/kernel/random/boot_id").read_text().strip()


def start_ticks(pid: int) -> int | None:
    """When the process started, in clock ticks since boot; None where it has ended (a zombie has)."""
    stat = _stat(PROC / str(pid))
    return int(stat[19]) if stat else None


def _stat(folder: Path) -> list[str] | None:
    """The fields of a living process from its state on; see proc(5)."""
    try:
        text = (folder / "stat").read_text(errors="replace")
    except OSError:
        return None
    # The second field is the program's name in parentheses and may hold anything.
    rest = text.rpartition(")")[2].split()
    return None if rest[0] in {"Z", "X"} else rest


def this_process(name: str, *, environment: str = "", starts: Iterable[float] = ()) -> Process:
    """A record of the process that asks."""
    ticks = start_ticks(os.getpid())
    if ticks is None:
        raise RuntimeError("/proc does not show this process")
    return Process(name, os.getpid(), ticks, boot_id(), environment, [*starts][-STARTS_KEPT:])


def record_file(run: Path, name: str) -> Path:
    """Where the record of a service lies."""
    return run / f"{name}.json"


def write(run: Path, process: Process) -> None:
    """Record a process so that nobody ever reads half of it."""
    target = record_file(run, process.name)
    draft = target.with_suffix(f".{os.getpid()}")
    draft.write_text(json.dumps(asdict(process)))
    draft.replace(target)


def read(run: Path, name: str) -> Process | None:
    """The record of a service; None where there is none, or none that can be trusted."""
    try:
        values = json.loads(record_file(run, name).read_text())
        return Process(**{item.name: values[item.name] for item in fields(Process)})
    except (OSError, ValueError, KeyError, TypeError):
        return None


def read_all(run: Path) -> list[Process]:
    """Every recorded process, dead or alive."""
    found = (read(run, file.stem) for file in sorted(run.glob("*.json")))
    return [process for process in found if process is not None]


def forget(run: Path, name: str) -> None:
    """Remove the record, so that the next start counts as the first."""
    record_file(run, name).unlink(missing_ok=True)


def end(processes: Iterable[Process], *, grace_seconds: float) -> list[Process]:
    """Ask processes and what they started in their group to end, wait, and kill those that do not.

    Returns:
        Those that had to be killed.

    Raises:
        PermissionError: One belongs to another user.
    """
    held = [(process, handle) for process in processes if (handle := _handle(process)) is not None]
    try:
        for process, handle in held:
            _send(process, handle, signal.SIGTERM)
        deadline = time.monotonic() + grace_seconds
        stubborn = [(process, handle) for process, handle in held if not _ended(process, handle, deadline)]
        for process, handle in stubborn:
            _send(process, handle, signal.SIGKILL)
        for process, handle in stubborn:
            _ended(process, handle, time.monotonic() + 10)
        return [process for process, _ in stubborn]
    finally:
        for _, handle in held:
            os.close(handle)


def _handle(process: Process) -> int | None:
    """A descriptor that stays with this process even when its pid is given away."""
    try:
        handle = os.pidfd_open(process.pid)
    except (ProcessLookupError, OSError):
        return None
    if process.alive():
        return handle
    os.close(handle)
    return None


def _send(process: Process, handle: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        signal.pidfd_send_signal(handle, number)
    # Every service leads a group. As long as the group has members, nobody else gets its number.
    with suppress(ProcessLookupError):
        if _members(process.pid):
            os.killpg(process.pid, number)


def _ended(process: Process, handle: int, deadline: float) -> bool:
    """Whether the process, and then its group, ended in time."""
    if not select.select([handle], [], [], max(0.0, deadline - time.monotonic()))[0]:
        return False
    while _members(process.pid):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def _members(group: int) -> list[int]:
    """The living processes of a process group that its leader started."""
    stats = ((int(folder.name), _stat(folder)) for folder in PROC.glob("[0-9]*"))
    return [pid for pid, stat in stats if stat and int(stat[2]) == group and pid != group]
