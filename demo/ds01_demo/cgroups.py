"""The cgroup tree of the running containers: version 2, as the systemd driver lays it out.

A container lies in `docker-<id>.scope` below its parent slice; systemd nests a slice with dashes in its name
into the slices that its parts name (systemd.slice(5)).
"""

from __future__ import annotations

import shutil
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from .hardware import MIB

if TYPE_CHECKING:
    from .clock import Clock
    from .jobs import Job
    from .world import ContainerReading, World

_CONTROLLERS = "cpuset cpu io memory hugetlb pids rdma misc\n"
_PERIOD_MICROSECONDS = 100_000  # the kernel's default, which Docker keeps


def parent_slice(job: Job) -> str:
    """The container's HostConfig.CgroupParent: a slice per user for what the allocator started, else empty."""
    return f"ds01-research-{job.seat.user}.slice" if job.seat.managed else ""


def scope_path(job: Job) -> PurePosixPath:
    """The container's cgroup, relative to the root of the hierarchy."""
    parent = parent_slice(job) or "system.slice"
    parts = parent.removesuffix(".slice").split("-")
    nested = ["-".join(parts[: n + 1]) + ".slice" for n in range(len(parts))]
    return PurePosixPath(*nested, f"docker-{job.id}.scope")


class CgroupTree:
    """Writes the tree below `root` for the containers that run."""

    def __init__(self, root: Path, world: World, clock: Clock) -> None:
        self._root = root
        self._world = world
        self._clock = clock
        self._present: set[Path] = set()

    def update(self, time: float) -> None:
        """Bring the tree to `time` (world time): new scopes, gone scopes, all readings."""
        controllers = self._root / "cgroup.controllers"
        if not controllers.exists():
            controllers.write_text(_CONTROLLERS, encoding="ascii")
        running = {self._root / scope_path(job): job for job in self._world.jobs(time) if job.running(time)}
        for gone in self._present - running.keys():
            shutil.rmtree(gone)
        for path, job in running.items():
            path.mkdir(parents=True, exist_ok=True)
            reading = self._world.container(job, time)
            usage = self._clock.paced(lambda at, job=job: self._world.container(job, at).cpu_seconds, time)  # type: ignore[misc]
            for name, text in _scope_files(job, reading, usage).items():
                fresh = path / f".{name}.new"
                fresh.write_text(text, encoding="ascii")
                fresh.replace(path / name)
        self._present = set(running)


def _scope_files(job: Job, reading: ContainerReading, cpu_seconds: float) -> dict[str, str]:
    usage = int(cpu_seconds * 1_000_000)
    system = usage // 9
    limit = job.seat.memory_limit_mib * MIB
    cache = min(reading.cache_bytes, limit - reading.resident_bytes) if limit else reading.cache_bytes
    stat = {
        "anon": reading.resident_bytes * 97 // 100,
        "file": cache + reading.resident_bytes * 2 // 100,
        "kernel": reading.resident_bytes // 100,
        "inactive_anon": reading.resident_bytes * 97 // 100,
        "active_anon": 0,
        "inactive_file": cache,
        "active_file": reading.resident_bytes * 2 // 100,
    }
    return {
        "cgroup.procs": f"{job.pid}\n",
        "cpu.stat": f"usage_usec {usage}\nuser_usec {usage - system}\nsystem_usec {system}\nnr_periods 0\nnr_throttled 0\nthrottled_usec 0\n",
        "cpu.max": f"{int(job.seat.cpu_limit * _PERIOD_MICROSECONDS) or 'max'} {_PERIOD_MICROSECONDS}\n",
        "memory.current": f"{reading.resident_bytes + cache}\n",
        "memory.stat": "".join(f"{key} {value}\n" for key, value in stat.items()),
        "memory.max": f"{limit or 'max'}\n",
        "memory.events": "low 0\nhigh 0\nmax 0\noom 0\noom_kill 0\noom_group_kill 0\n",
    }
