"""The simulated server at any moment: a pure function of the profile and the time.

History and the live demo ask the same questions of the same world, so they agree to the last digit, and a
test needs no clock. Times are seconds since the epoch.
"""

from __future__ import annotations

import bisect
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .hardware import MIB, POWER_LIMIT_WATTS, Gpu, Slot
from .jobs import Job, jobs_at
from .load import DAY, Noise
from .physics import GpuDay, SeatDay, SlotDay, gpu_day, seat_day, slot_day

if TYPE_CHECKING:
    from .scenario import Profile, Seat

_ENERGY_EPOCH = 1_700_000_000  # Where the energy counters of the demo stood at their base value.
_IDLE_CLOCK_MHZ = 210
_FULL_CLOCK_MHZ = 1410
_SLOWED_CLOCK_MHZ = 1155

# Bits of DCGM_FI_DEV_CLOCKS_EVENT_REASONS (nvml.h, nvmlClocksEventReasons).
_GPU_IDLE = 0x1
_SW_POWER_CAP = 0x4
_HW_SLOWDOWN = 0x8
_HW_THERMAL = 0x40


@dataclass(frozen=True)
class SlotReading:
    """A slot at a moment: ratios 0 to 1; used and free memory in whole MiB, together always the same."""

    utilization: float
    tensor: float
    dram: float
    used_mib: int
    free_mib: int


@dataclass(frozen=True)
class GpuReading:
    """A card at a moment. `clock_reasons` is NVML's bit mask; `xid` the last code, 0 for none."""

    temperature_celsius: float
    memory_temperature_celsius: float
    power_watts: float
    energy_joules: float
    sm_clock_mhz: int
    clock_reasons: int
    thermal_violation_seconds: float
    pcie_transmit_bytes_per_second: float
    pcie_receive_bytes_per_second: float
    nvlink_bytes_per_second: float
    xid: int


@dataclass(frozen=True)
class ContainerReading:
    """A running container at a moment: CPU time since its start in s, memory in bytes (cache not in resident)."""

    cpu_seconds: float
    resident_bytes: int
    cache_bytes: int


class World:
    """The server of one profile. Made in about half a second; every question after that is cheap."""

    def __init__(self, profile: Profile) -> None:
        self.profile = profile
        self.gpus: tuple[Gpu, ...] = profile.gpus
        self.slots: dict[str, Slot] = {slot.name: slot for gpu in profile.gpus for slot in gpu.slots}
        self._seats: dict[Seat, SeatDay] = {seat: seat_day(seat) for seat in profile.seats}
        self._slots: dict[str, SlotDay] = {
            name: slot_day(slot, self._on(name)) for name, slot in self.slots.items()
        }
        self._gpus: dict[int, GpuDay] = {
            gpu.index: gpu_day(profile, gpu, self._slots) for gpu in profile.gpus
        }
        self._noise = Noise("idle", 60)

    def _on(self, slot: str) -> list[tuple[Seat, SeatDay]]:
        return [(seat, day) for seat, day in self._seats.items() if seat.slot == slot]

    def jobs(self, time: float) -> list[Job]:
        """The containers that exist at `time`."""
        return jobs_at(self.profile, time)

    def holders(self, time: float) -> dict[str, list[Job]]:
        """Slot name to the containers that hold it at `time`, free slots included."""
        held: dict[str, list[Job]] = {name: [] for name in self.slots}
        for job in self.jobs(time):
            if job.seat.holds_slot:
                held[job.seat.slot].append(job)
        return held

    def slot(self, name: str, time: float) -> SlotReading:
        """The slot's readings at `time`."""
        day, slot = self._slots[name], self.slots[name]
        used = slot.empty_mib + round(day.memory.at(time))
        utilization = day.utilization.at(time)
        if not utilization and day.memory.at(time):
            # An open context alone gives traces of activity (seen on real idle instances).
            utilization = max(0.0, 6e-5 * self._noise.at(int(time)))
        return SlotReading(utilization, day.tensor.at(time), day.dram.at(time), used, slot.memory_mib - used)

    def gpu(self, index: int, time: float) -> GpuReading:
        """The card's readings at `time`."""
        day = self._gpus[index]
        power, temperature = day.power.at(time), day.temperature.at(time)
        traffic = day.traffic.at(time)
        slowed = bool(day.slowed.step_at(time))
        busy = any(self._slots[slot.name].memory.at(time) > 0 for slot in self.gpus[index].slots)
        linked = traffic if len(self.gpus[index].slots) == 1 else 0.0
        return GpuReading(
            temperature_celsius=temperature,
            memory_temperature_celsius=temperature + 2 + 6 * (power - 52) / 348,
            power_watts=power,
            energy_joules=5e8 + 1e7 * index + day.energy.between(_ENERGY_EPOCH, time),
            sm_clock_mhz=_SLOWED_CLOCK_MHZ if slowed else _FULL_CLOCK_MHZ if busy else _IDLE_CLOCK_MHZ,
            clock_reasons=_clock_reasons(power, slowed=slowed, busy=busy),
            thermal_violation_seconds=day.slowed_seconds.between(_ENERGY_EPOCH, time),
            pcie_transmit_bytes_per_second=5.6e5 + 3.3e8 * traffic,
            pcie_receive_bytes_per_second=1.2e6 + 9.8e8 * traffic,
            nvlink_bytes_per_second=2.1e9 * linked,
            xid=self._last_xid(index, time),
        )

    def xid_counts(self, index: int, time: float) -> dict[int, int]:
        """How often each XID code has come up on a card since the counters' base; codes that never did are absent."""
        days, second = divmod(time - _ENERGY_EPOCH // DAY * DAY, DAY)
        counts: dict[int, int] = {}
        for gpu, moment, code in self.profile.xids:
            if gpu == index:
                counts[code] = counts.get(code, 0) + int(days) + (moment <= second)
        return {code: count for code, count in counts.items() if count > 0}

    def _last_xid(self, index: int, time: float) -> int:
        codes = sorted((second, code) for gpu, second, code in self.profile.xids if gpu == index)
        if not codes:
            return 0
        return codes[bisect.bisect_right(codes, (int(time % DAY), 1 << 16)) - 1][1]

    def container(self, job: Job, time: float) -> ContainerReading:
        """What the job's processes have used at `time`, which lies in its running time."""
        day, age = self._seats[job.seat], max(0.0, time - job.started)
        return ContainerReading(
            cpu_seconds=max(0.0, day.cpu_seconds.between(job.started, time)),
            resident_bytes=round(job.seat.load.resident_mib(age) * MIB),
            cache_bytes=round(job.seat.load.cached_mib(age) * MIB),
        )

    def cores(self, job: Job, time: float) -> float:
        """Host cores that the job uses at `time`."""
        return self._seats[job.seat].cores.at(time)

    def cpu_seconds(self, start: float, end: float) -> float:
        """CPU time that all containers together use from `start` to `end`."""
        return sum(day.cpu_seconds.between(start, end) for day in self._seats.values())


def _clock_reasons(power_watts: float, *, slowed: bool, busy: bool) -> int:
    if not busy:
        return _GPU_IDLE
    reasons = _HW_SLOWDOWN | _HW_THERMAL if slowed else 0
    return reasons | (_SW_POWER_CAP if power_watts >= POWER_LIMIT_WATTS - 2 else 0)
