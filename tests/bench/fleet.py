"""What 125 servers with 8 sliced GPUs each show, and what the rules have recorded of them so far."""

import random
import re
from collections.abc import Iterator
from dataclasses import dataclass

from tests.bench.past import Past

HOSTS, GPUS, SLICES, ALLOCATIONS, USERS = 125, 8, 7, 2000, 400
CORES = 64
IDLE = 0.1
"""Share of the allocations that nobody uses."""
HOUR = 3600

DISKS = ("root", "home", "scratch")
DISK = 'device="/dev/mapper/{0}",fstype="ext4",mountpoint="/{0}"'

CARD = {
    "DCGM_FI_DEV_SM_CLOCK": 1410,
    "DCGM_FI_DEV_MEM_CLOCK": 1215,
    "DCGM_FI_DEV_MEMORY_TEMP": 60,
    "DCGM_FI_DEV_GPU_TEMP": 55,
    "DCGM_FI_DEV_POWER_USAGE": 250,
    "DCGM_FI_DEV_ENFORCED_POWER_LIMIT": 400,
    "DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION": 5e9,
    "DCGM_FI_DEV_PCIE_REPLAY_COUNTER": 0,
    "DCGM_FI_DEV_NVLINK_BANDWIDTH_TOTAL": 0,
    "DCGM_FI_DEV_XID_ERRORS": 0,
    "DCGM_FI_DEV_CLOCKS_EVENT_REASONS": 0,
    "DCGM_FI_DEV_ECC_SBE_VOL_TOTAL": 0,
    "DCGM_FI_DEV_ECC_DBE_VOL_TOTAL": 0,
    "DCGM_FI_DEV_UNCORRECTABLE_REMAPPED_ROWS": 0,
    "DCGM_FI_DEV_CORRECTABLE_REMAPPED_ROWS": 0,
    "DCGM_FI_DEV_ROW_REMAP_FAILURE": 0,
    "DCGM_FI_DEV_ROW_REMAP_PENDING": 0,
}
"""Readings of a card, which DCGM repeats in the row of each instance."""
INSTANCE = {
    "DCGM_FI_PROF_GR_ENGINE_ACTIVE": 0.8,
    "DCGM_FI_PROF_PIPE_TENSOR_ACTIVE": 0.4,
    "DCGM_FI_PROF_DRAM_ACTIVE": 0.4,
}
MEMORY = {"DCGM_FI_DEV_FB_USED": 3000, "DCGM_FI_DEV_FB_FREE": 2000}
SERVER = {
    "node_boot_time_seconds": 1,
    "node_load15": 20,
    "node_memory_MemAvailable_bytes": 6e11,
    "node_memory_MemTotal_bytes": 1e12,
    "node_pressure_memory_waiting_seconds_total": 1,
    'ds01_state_disk_bytes{type="free"}': 6e11,
    'ds01_state_disk_bytes{type="total"}': 1e12,
    "ds01_state_file_modified_timestamp_seconds": 1,
    "ds01_last_gpu_event_timestamp_seconds": 1,
    **{f'ds01_collector_success{{collector="{name}"}}': 1 for name in ("state", "docker", "events", "driver", "cgroup")},
    **{f'up{{job="{job}"}}': 1 for job in ("dcgm-exporter", "ds01-exporter", "node-exporter")},
    **{
        f"node_filesystem_{what}{{{DISK.format(mount)}}}": value
        for mount in DISKS
        for what, value in {"avail_bytes": 6e11, "size_bytes": 1e12, "readonly": 0, "files": 1e8, "files_free": 6e7}.items()
    },
    **{f'node_cpu_seconds_total{{cpu="{cpu}",mode="idle"}}': 1 for cpu in range(CORES)},
}  # fmt: skip


@dataclass(frozen=True)
class Slice:
    """One MIG instance, and the slot that it is to the allocator."""

    host: str
    gpu: int
    number: int
    busy: bool

    @property
    def card(self) -> str:
        """The labels of its card."""
        return f'host="{self.host}",gpu="{self.gpu}",UUID="GPU-{self.host[3:]:>08}-{self.gpu:04}-4c1f-9a75-50fe9885b74a"'

    @property
    def instance(self) -> str:
        """The labels of the instance."""
        return f'{self.card},GPU_I_ID="{self.number + 7}",GPU_I_PROFILE="1g.5gb"'

    @property
    def slot(self) -> str:
        """The labels of the slot."""
        return f'host="{self.host}",gpu_slot="{self.gpu}.{self.number}"'


class Fleet:
    """All of them."""

    def __init__(self) -> None:
        chosen = random.Random(2)
        held = chosen.sample(range(HOSTS * GPUS * SLICES), ALLOCATIONS)
        busy = {number for number in held if chosen.random() > IDLE}
        self.slices = [
            Slice(
                f"gpu{place // (GPUS * SLICES):03}",
                place // SLICES % GPUS,
                place % SLICES,
                busy=place in busy,
            )
            for place in range(HOSTS * GPUS * SLICES)
        ]
        self.hosts = sorted({one.host for one in self.slices})
        self.users = [
            f'host="{host}",user="user{number:03}"'
            for host, number in sorted({(self.slices[place].host, n % USERS) for n, place in enumerate(held)})
        ]
        self.holders = {
            f'{self.slices[place].slot},container="experiment-{n}._.1{n % USERS:03}",user="user{n % USERS:03}",interface="docker"': self.slices[place].busy
            for n, place in enumerate(held)
        }  # fmt: skip

    @property
    def idle_users(self) -> list[str]:
        """The users with an allocation that nobody uses."""
        place = re.compile(r'(host="[^"]*",).*(user="[^"]*")')
        return sorted(
            {"".join(place.match(labels).groups()) for labels, busy in self.holders.items() if not busy}
        )

    def pages(self) -> dict[str, bytes]:
        """What the exporters of each server print together, family by family."""
        slices: dict[str, list[Slice]] = {host: [] for host in self.hosts}
        for one in self.slices:
            slices[one.host].append(one)
        return {host: "".join(self._page(host, slices[host])).encode() for host in self.hosts}

    def _page(self, host: str, slices: list[Slice]) -> Iterator[str]:
        rows = [
            (f'{one.instance},device="nvidia{one.gpu}",modelName="NVIDIA A100-SXM4-40GB"', one)
            for one in slices
        ]
        for family, value in CARD.items():
            yield from (f"{family}{{{labels}}} {value}\n" for labels, _ in rows)
        for family, value in INSTANCE.items():
            yield from (f"{family}{{{labels}}} {value * one.busy}\n" for labels, one in rows)
        for family, value in MEMORY.items():
            yield from (f"{family}{{{labels}}} {value}\n" for labels, _ in rows)
        yield from (f"ds01_gpu_slot_info{{{one.slot},{_further(one.instance)}}} 1\n" for one in slices)
        yield from (
            f'ds01_gpu_slot_fraction{{{one.slot},GPU_I_PROFILE="1g.5gb"}} {1 / SLICES}\n' for one in slices
        )
        holders = [labels for labels in self.holders if labels.startswith(f'host="{host}",')]
        yield from (f"ds01_gpu_allocated{{{labels}}} 1\n" for labels in holders)
        yield from (f"ds01_gpu_allocated_since_timestamp_seconds{{{labels}}} 1\n" for labels in holders)
        for what, value in (("memory", 4e10), ("memory_limit", 6.4e10)):
            containers = [
                f'host="{host}",container={labels.partition(",container=")[2]}' for labels in holders
            ]
            yield from (f"ds01_container_{what}_bytes{{{labels}}} {value}\n" for labels in containers)
        for series, value in SERVER.items():
            name, _, labels = series.rstrip("}").partition("{")
            yield f'{name}{{host="{host}"{"," * bool(labels)}{labels}}} {value}\n'

    def recorded(self) -> Iterator[Past]:
        """What rules look back on, at its pace and as far as the default windows reach."""
        cards = sorted({one.card for one in self.slices})
        reasons = ("power_cap", "hw_slowdown", "sw_thermal", "hw_thermal", "hw_power_brake")
        disks = [f'host="{host}",{DISK.format(mount)}' for host in self.hosts for mount in DISKS]
        holders = list(self.holders)
        idle = {number for number, busy in enumerate(self.holders.values()) if not busy}
        named = [f"{one.slot},{_further(one.instance)}" for one in self.slices]
        yield Past("ds01:slot_utilization:ratio", named, 15, HOUR)
        yield Past("ds01:slot_utilization:each1m", [one.slot for one in self.slices], 60, HOUR)
        for name in ("temperature:celsius", "power:watts", "energy:joules"):
            yield Past(f"ds01:gpu_{name}", cards, 15, HOUR)
        flags = [f'{card},reason="{why}"' for card in cards for why in reasons]
        yield Past("ds01:gpu_throttled:bool", flags, 15, HOUR // 2, set(range(len(flags))))
        yield Past("ds01:allocation_utilization:ratio", holders, 15, HOUR // 2, idle)
        yield Past("ds01:allocation_utilization:each1m", holders, 60, 2 * HOUR, idle)
        for name in ("held", "used", "wasted"):
            yield Past(f"ds01:allocation_{name}:gpus", holders, 60, HOUR)
            yield Past(f"ds01:user_{name}:gpus", self.users, 60, HOUR)
        yield Past("ds01:user_power:watts", self.users, 60, HOUR)
        yield Past("ds01:user_utilization:ratio", self.users, 60, HOUR)
        profiles = [f'host="{host}",GPU_I_PROFILE="1g.5gb"' for host in self.hosts]
        yield Past("ds01:slots_held:count", profiles, 60, HOUR)
        yield Past("ds01:user_idle:count", self.idle_users, 120, 24 * HOUR)
        yield Past("ds01:disk_available:bytes", disks, 60, 6 * HOUR)
        hosts = [f'host="{host}"' for host in self.hosts]
        yield Past("ds01:host_boot:timestamp_seconds", hosts, 300, 7 * 24 * HOUR, range(len(hosts)))


def _further(labels: str) -> str:
    return labels.partition(",")[2]
