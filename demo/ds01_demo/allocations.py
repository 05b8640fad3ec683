"""What the allocation exporter would have said about the world at a moment: its main series.

Names and meanings are the exporter's own; a test compares them with what the real one says of the same world.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter, defaultdict
from functools import cache
from importlib.metadata import version
from typing import TYPE_CHECKING, NamedTuple

from .clock import Clock
from .happenings import log_lines
from .hardware import MIB
from .load import DAY

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .jobs import Job
    from .scenario import Profile
    from .world import World

_MIG_EQUIVALENTS = 4
_DISK_TOTAL = 1_920_000_000_000
_COLLECTORS = ("state", "docker", "topology", "events", "container_use", "disk", "exposition")
_INTERFACES = ("orchestration", "atomic", "docker", "other")
_CONFLICTS = ("no_container", "no_entry", "unknown_slot", "two_owners")


class Sample(NamedTuple):
    """One series at one moment. Labels are in the order in which they are written."""

    name: str
    labels: dict[str, str]
    value: float


@cache
def _version() -> str:
    return version("ds01-monitoring")


def interface(job: Job) -> str:
    """The interface that the exporter finds for the container."""
    return {
        "orchestration": "orchestration",
        "atomic": "atomic",
        "devcontainer": "other",
        "jupyter": "other",
    }.get(job.seat.kind, "docker")


class EventWindow:
    """The event log of a span of time, asked for the 24 hours before any moment of it."""

    def __init__(self, profile: Profile, start: int, end: int) -> None:
        self._times: dict[str, list[float]] = defaultdict(list)
        self._gpu_times: list[float] = []
        for line in log_lines(profile, start - DAY, end, Clock()):
            self._times[line.kind].append(line.time)
            if line.gpu:
                self._gpu_times.append(line.time)

    def counts(self, time: int) -> dict[str, int]:
        """Events by type in the 24 hours up to `time`."""
        found = {
            kind: bisect_right(times, time) - bisect_right(times, time - DAY)
            for kind, times in self._times.items()
        }
        return {kind: count for kind, count in sorted(found.items()) if count}

    def last_gpu(self, time: int) -> float:
        """When the last event about a GPU happened."""
        return self._gpu_times[bisect_right(self._gpu_times, time) - 1]


def samples(world: World, time: int, log: EventWindow) -> Iterator[Sample]:
    """All series at `time`."""
    jobs = [job for job in world.jobs(time) if job.seat.kind != "monitoring"]
    yield Sample("ds01_exporter_info", {"type": "slim", "version": _version()}, 1)
    yield from _allocations(world, time)
    yield from _slots(world)
    yield from _containers(world, jobs, time)
    yield from _users(world, jobs, time)
    yield from _state(time, log)


def _allocations(world: World, time: int) -> Iterator[Sample]:
    for slot, holders in world.holders(time).items():
        for job in holders:
            labels = {
                "gpu_slot": slot,
                "container": job.seat.container,
                "user": job.seat.user,
                "interface": interface(job),
            }
            yield Sample("ds01_gpu_allocated", labels, 1)
            yield Sample("ds01_gpu_allocated_since_timestamp_seconds", labels, job.created)
    for kind in _CONFLICTS:
        yield Sample("ds01_allocation_conflicts", {"kind": kind}, 0)


def _slots(world: World) -> Iterator[Sample]:
    for gpu in world.gpus:
        for slot in gpu.slots:
            labels = {"gpu_slot": slot.name, "gpu": str(gpu.index), "UUID": gpu.uuid}
            profile = {"GPU_I_PROFILE": slot.profile} if slot.profile else {}
            instance = {"GPU_I_ID": str(slot.instance_id)} if slot.profile else {}
            yield Sample("ds01_gpu_slot_info", labels | instance | profile, 1)
            yield Sample("ds01_gpu_slot_fraction", {"gpu_slot": slot.name, **profile}, slot.fraction)


def _containers(world: World, jobs: list[Job], time: int) -> Iterator[Sample]:
    counts = Counter((interface(job), job.running(time)) for job in jobs)
    for kind in _INTERFACES:
        for status, running in (("running", True), ("stopped", False)):
            yield Sample(
                "ds01_containers_total", {"status": status, "interface": kind}, counts[kind, running]
            )
    for job in jobs:
        if job.seat.kind == "unmanaged":
            outsider = {"container": job.seat.container, "user": job.seat.user}
            outsider["running"] = "true" if job.running(time) else "false"
            yield Sample("ds01_unmanaged_gpu_container", outsider, 1)
        elif job.seat.managed and job.running(time):
            labels = {"container": job.seat.container, "user": job.seat.user, "interface": interface(job)}
            reading = world.container(job, time)
            yield Sample("ds01_container_cpu_seconds_total", labels, reading.cpu_seconds)
            yield Sample("ds01_container_memory_bytes", labels, reading.resident_bytes)
            yield Sample("ds01_container_oom_kills_total", labels, 0)
            if job.seat.cpu_limit:
                yield Sample("ds01_container_cpu_limit_cores", labels, job.seat.cpu_limit)
            if job.seat.memory_limit_mib:
                yield Sample("ds01_container_memory_limit_bytes", labels, job.seat.memory_limit_mib * MIB)


def _users(world: World, jobs: list[Job], time: int) -> Iterator[Sample]:
    held: Counter[str] = Counter()
    for slot, holders in world.holders(time).items():
        for job in holders:
            held[job.seat.user] += _MIG_EQUIVALENTS if world.slots[slot].whole else 1
    for user, equivalents in held.items():
        yield Sample("ds01_user_mig_allocated", {"user": user}, equivalents)
    running = Counter(job.seat.user for job in jobs if job.seat.managed and job.running(time))
    for user, count in running.items():
        yield Sample("ds01_user_containers_count", {"user": user}, count)


def _state(time: int, log: EventWindow) -> Iterator[Sample]:
    for kind, count in log.counts(time).items():
        yield Sample("ds01_events_24h_total", {"event_type": kind}, count)
    last = log.last_gpu(time)
    yield Sample("ds01_last_gpu_event_timestamp_seconds", {}, last)
    yield Sample("ds01_state_file_modified_timestamp_seconds", {}, last)
    yield Sample("ds01_event_lines_rejected_total", {}, 0)
    used = 7.1e11 + 2e9 * (time % DAY) / DAY
    for kind, value in (("used", used), ("free", _DISK_TOTAL * 0.95 - used), ("total", _DISK_TOTAL)):
        yield Sample("ds01_state_disk_bytes", {"type": kind}, value)
    for collector in _COLLECTORS:
        yield Sample("ds01_collector_success", {"collector": collector}, 1)
        yield Sample("ds01_collector_last_success_timestamp_seconds", {"collector": collector}, time)
        yield Sample("ds01_collector_duration_seconds", {"collector": collector}, 0.0015)
