"""What a day of the timetable does to the cards: load becomes power, power becomes heat, heat throttles.

Temperatures follow power with a time constant of a minute, as a heat sink does; a card that gets too hot
slows down, which lowers its power again. The figures are those of an A100-SXM4 in a cool room.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from .hardware import POWER_LIMIT_WATTS, Gpu, Slot
from .jobs import CREATE_TO_START
from .lines import POINTS, STEP, Integral, Line
from .load import DAY, Noise

if TYPE_CHECKING:
    from .scenario import Profile, Seat

_IDLE_WATTS = 52.0
_CONTEXT_WATTS = 13.0
_ROOM_CELSIUS = 27.0
_CELSIUS_PER_WATT = 0.128
_HEAT_SECONDS = 60.0
_SLOWDOWN_CELSIUS = 91.5
_RECOVERED_CELSIUS = 90.2
_SLOWED_POWER = 0.93


@dataclass(frozen=True)
class SeatDay:
    """One seat over the day: demand for its slot (0 to 1), GPU memory (MiB), host cores and their integral."""

    utilization: Line
    memory: Line
    cores: Line
    cpu_seconds: Integral


@dataclass(frozen=True)
class SlotDay:
    """One slot over the day: ratios 0 to 1, memory that programs hold in MiB."""

    utilization: Line
    tensor: Line
    dram: Line
    memory: Line


@dataclass(frozen=True)
class GpuDay:
    """One card over the day. Watts, joules, °C; `slowed` is 1 while heat slows the card down."""

    power: Line
    energy: Integral
    temperature: Line
    slowed: Line
    slowed_seconds: Integral
    traffic: Line


def seat_day(seat: Seat) -> SeatDay:
    """What the seat's containers do in the course of a day."""
    jitter, drift = Noise(f"{seat.container}/jitter", 20), Noise(f"{seat.container}/drift", 240)
    utilization, memory, cores = [], [], []
    for second in range(0, DAY, STEP):
        age = (second - seat.offset) % seat.cycle - CREATE_TO_START
        if not 0 < age < seat.run - CREATE_TO_START:
            utilization.append(0.0)
            memory.append(0.0)
            cores.append(0.0)
            continue
        demand = min(0.998, seat.load.utilization(age, jitter.at(second), drift.at(second)))
        utilization.append(demand)
        memory.append(seat.load.memory(age, drift.at(second)))
        cores.append(seat.load.cpu(demand))
    line = Line(cores)
    return SeatDay(Line(utilization), Line(memory), line, Integral(line))


def slot_day(slot: Slot, seats: list[tuple[Seat, SeatDay]]) -> SlotDay:
    """The slot's readings from everything that runs on it."""
    room = slot.memory_mib - slot.empty_mib
    used = [(seat.load, day) for seat, day in seats]
    utilization = [min(0.998, sum(day.utilization[n] for _, day in used)) for n in range(POINTS)]
    tensor = [min(0.95, sum(load.tensor * day.utilization[n] for load, day in used)) for n in range(POINTS)]
    dram = [min(0.95, sum(load.dram * day.utilization[n] for load, day in used)) for n in range(POINTS)]
    memory = [min(room, sum(day.memory[n] for _, day in used)) for n in range(POINTS)]
    return SlotDay(Line(utilization), Line(tensor), Line(dram), Line(memory))


def gpu_day(profile: Profile, gpu: Gpu, slots: dict[str, SlotDay]) -> GpuDay:
    """The card's readings from those of its slots."""
    days = [(slot.fraction, slots[slot.name]) for slot in gpu.slots]
    demand = [_demand_watts(days, n) for n in range(POINTS)]
    resistance = [_CELSIUS_PER_WATT * _blocked(profile, gpu, n * STEP) for n in range(POINTS)]
    power, temperature, slowed = _heat(demand, resistance)
    traffic = Line(sum(share * day.utilization[n] for share, day in days) for n in range(POINTS))
    power_line, slowed_line = Line(power), Line(slowed)
    return GpuDay(
        power_line,
        Integral(power_line),
        Line(temperature),
        slowed_line,
        Integral(slowed_line),
        traffic,
    )


def _demand_watts(days: list[tuple[float, SlotDay]], point: int) -> float:
    context = _CONTEXT_WATTS if any(day.memory[point] > 0 for _, day in days) else 0.0
    work = sum(share * (0.8 * day.utilization[point] + 0.5 * day.tensor[point]) for share, day in days)
    return min(POWER_LIMIT_WATTS, _IDLE_WATTS + context + 300 * work)


def _blocked(profile: Profile, gpu: Gpu, second: int) -> float:
    for index, start, length, factor in profile.hot:
        if index == gpu.index and start <= second < start + length:
            return factor
    return 1.0


def _heat(demand: list[float], resistance: list[float]) -> tuple[list[float], list[float], list[float]]:
    """Power (W), temperature (°C) and slowdown (0 or 1) at every point; the first day only warms up."""
    power, temperature, slowed = [0.0] * POINTS, [0.0] * POINTS, [0.0] * POINTS
    celsius, slow = _ROOM_CELSIUS, False
    for _ in range(2):
        for point in range(POINTS):
            watts = demand[point] * (_SLOWED_POWER if slow else 1.0)
            target = _ROOM_CELSIUS + resistance[point] * watts
            celsius += (target - celsius) * STEP / (_HEAT_SECONDS + STEP)
            slow = celsius >= (_RECOVERED_CELSIUS if slow else _SLOWDOWN_CELSIUS)
            power[point], temperature[point], slowed[point] = watts, celsius, float(slow)
    return power, temperature, slowed
