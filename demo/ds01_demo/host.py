"""The main series of node_exporter for the simulated host: a calm server of 32 cores and 512 GiB."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .allocations import Sample
from .hardware import MIB
from .load import DAY

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .world import World

CORES = 32
_MEMORY = 512 * 1024 * MIB
_BOOT = 11 * DAY  # Seconds that the host had been up when a day began.
_DISKS = (
    ("/dev/nvme0n1p2", "/", 470e9, 310e9, 0.4e9),
    ("/dev/nvme1n1p1", "/data", 7.6e12, 3.9e12, 20e9),
)


def samples(world: World, time: int) -> Iterator[Sample]:
    """All series at `time`. Containers make up all load but a quarter core."""
    boot = time // (30 * DAY) * 30 * DAY - _BOOT
    readings = [(job, world.container(job, time)) for job in world.jobs(time) if job.running(time)]
    busy = 0.25 + sum(world.cores(job, time) for job, _ in readings)
    yield Sample("node_boot_time_seconds", {}, boot)
    yield Sample("node_time_seconds", {}, time)
    yield Sample("node_load1", {}, busy)
    yield Sample("node_load5", {}, busy)
    yield Sample("node_load15", {}, busy)
    used = 6e9 + sum(reading.resident_bytes for _, reading in readings)
    cached = sum(reading.cache_bytes for _, reading in readings)
    yield Sample("node_memory_MemTotal_bytes", {}, _MEMORY)
    yield Sample("node_memory_MemFree_bytes", {}, _MEMORY - used - cached)
    yield Sample("node_memory_MemAvailable_bytes", {}, _MEMORY - used)
    yield Sample("node_memory_Cached_bytes", {}, cached)
    yield Sample("node_memory_Buffers_bytes", {}, 2e8)
    yield from _cpus(world, time, boot)
    yield from _disks(time)
    for kind in ("cpu", "memory", "io"):
        yield Sample(f"node_pressure_{kind}_waiting_seconds_total", {}, 0.002 * (time - boot))
    yield Sample("node_network_receive_bytes_total", {"device": "eno1"}, 2.4e6 * (time - boot))
    yield Sample("node_network_transmit_bytes_total", {"device": "eno1"}, 9e5 * (time - boot))


def _cpus(world: World, time: int, boot: int) -> Iterator[Sample]:
    used = world.cpu_seconds(boot, time) / CORES
    for cpu in range(CORES):
        for mode, seconds in (
            ("user", 0.88 * used),
            ("system", 0.12 * used + 0.004 * (time - boot)),
            ("idle", 0.996 * (time - boot) - used),
        ):
            yield Sample("node_cpu_seconds_total", {"cpu": str(cpu), "mode": mode}, seconds)


def _disks(time: int) -> Iterator[Sample]:
    for device, mountpoint, size, free, swing in _DISKS:
        labels = {"device": device, "fstype": "ext4", "mountpoint": mountpoint}
        available = free - swing * abs(2 * (time % DAY) / DAY - 1)
        yield Sample("node_filesystem_size_bytes", labels, size)
        yield Sample("node_filesystem_free_bytes", labels, available + 0.05 * size)
        yield Sample("node_filesystem_avail_bytes", labels, available)
        yield Sample("node_filesystem_files", labels, 3.1e7)
        yield Sample("node_filesystem_files_free", labels, 2.8e7)
        yield Sample("node_filesystem_readonly", labels, 0)
