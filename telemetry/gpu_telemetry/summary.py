"""What a recording says of each device: how busy, how full, how much energy, and where it has gaps."""

from __future__ import annotations

import math
from array import array
from dataclasses import dataclass, field
from itertools import pairwise
from statistics import median
from typing import TYPE_CHECKING, Any

from gpu_telemetry.reader import when

if TYPE_CHECKING:
    from collections.abc import Iterable

# A hole of more than this many usual intervals is a gap, as after a crash, when no line says so.
_GAP_INTERVALS = 2.5


@dataclass
class DeviceSummary:
    """One device over a recording. None is unknown: not one reading of it was there.

    Attributes:
        uuid: The device.
        slot: "0", or "0.1" for a MIG device.
        name: Product name of the card.
        job: The job's tag, or "".
        simulated: Whether the readings are made up.
        samples: Lines with this device.
        duration_seconds: From its first line to its last, gaps included.
        utilization_min_percent: Lowest utilisation, 0 to 100.
        utilization_mean_percent: Mean over its samples.
        utilization_p95_percent: 95th percentile, nearest rank.
        utilization_max_percent: Highest.
        memory_peak_bytes: Most framebuffer in use at a sample, all processes together.
        memory_total_bytes: Framebuffer.
        temperature_max_celsius: Highest core temperature.
        power_mean_watts: Mean board power.
        energy_joules: By the card's counter where it has one, else mean power times the time without gaps.
        energy_estimated: Whether it is the latter.
        gaps: Holes in the recording.
        gap_seconds: Their length together.
        missing: Reasons seen for a missing utilisation.
    """

    uuid: str
    slot: str
    name: str | None
    job: str
    simulated: bool
    samples: int = 0
    duration_seconds: float = 0.0
    utilization_min_percent: float | None = None
    utilization_mean_percent: float | None = None
    utilization_p95_percent: float | None = None
    utilization_max_percent: float | None = None
    memory_peak_bytes: float | None = None
    memory_total_bytes: float | None = None
    temperature_max_celsius: float | None = None
    power_mean_watts: float | None = None
    energy_joules: float | None = None
    energy_estimated: bool = False
    gaps: int = 0
    gap_seconds: float = 0.0
    missing: list[str] = field(default_factory=list)


class _Run:
    """One recording of one device, taken in line by line."""

    def __init__(self, first: dict[str, Any]) -> None:
        self.began = self.ended = when(first)
        self.elapsed = array("d")
        self.marked: dict[int, float] = {}
        self.energy_joules: float | None = None
        self._counter: float | None = None

    def add(self, row: dict[str, Any]) -> None:
        """Take in one line."""
        if row.get("gap_seconds", 0) > 0:
            self.marked[len(self.elapsed)] = row["gap_seconds"]
        self.elapsed.append(row.get("elapsed_seconds", 0.0))
        self.ended = when(row)
        if "energy_joules" in row:
            counter = float(row["energy_joules"])
            # The counter begins at 0 again when the driver is reloaded.
            gained = 0.0 if self._counter is None else counter - self._counter
            self.energy_joules = (self.energy_joules or 0.0) + (gained if gained >= 0 else counter)
            self._counter = counter

    def seconds(self) -> float:
        """From the first line to the last, by the recording's own monotonic clock."""
        return self.elapsed[-1] - self.elapsed[0]

    def gaps(self) -> list[float]:
        """Holes: those that the recorder marked, and steps that are much longer than usual."""
        steps = [later - earlier for earlier, later in pairwise(self.elapsed)]
        if not steps:
            return []
        usual = median(steps)
        # A machine that slept marks a gap that its monotonic clock does not show.
        return [
            max(step - usual, self.marked.get(at, 0.0))
            for at, step in enumerate(steps, 1)
            if at in self.marked or step > _GAP_INTERVALS * usual > 0
        ]


class _Device:
    """All recordings of one device."""

    def __init__(self, row: dict[str, Any]) -> None:
        self.summary = DeviceSummary(
            uuid=row["uuid"],
            slot=str(row.get("slot", "0")),
            name=row.get("name"),
            job=str(row.get("job", "")),
            simulated=False,
        )
        self._runs: dict[str, _Run] = {}
        self._utilization = array("d")
        self._power = (0, 0.0)
        self._missing: set[str] = set()

    def add(self, row: dict[str, Any]) -> None:
        """Take in one line."""
        summary = self.summary
        recording = str(row.get("recording", ""))
        if recording not in self._runs:
            self._runs[recording] = _Run(row)
        self._runs[recording].add(row)
        summary.samples += 1
        summary.simulated |= row.get("simulated") is True
        if "utilization_percent" in row:
            self._utilization.append(row["utilization_percent"])
        elif (reason := _missing(row)) is not None:
            self._missing.add(reason)
        if "power_watts" in row:
            self._power = (self._power[0] + 1, self._power[1] + row["power_watts"])
        summary.memory_peak_bytes = _larger(summary.memory_peak_bytes, row.get("memory_used_bytes"))
        summary.memory_total_bytes = _larger(summary.memory_total_bytes, row.get("memory_total_bytes"))
        summary.temperature_max_celsius = _larger(
            summary.temperature_max_celsius, row.get("temperature_celsius")
        )

    def finish(self) -> DeviceSummary:
        """The summary of all lines."""
        summary = self.summary
        runs = sorted(self._runs.values(), key=lambda run: run.began)
        # Between one recording and the next only the wall clock tells.
        between = [hole for one, two in pairwise(runs) if (hole := two.began - one.ended) > 0]
        inside = [gap for run in runs for gap in run.gaps()]
        summary.gaps, summary.gap_seconds = len(inside) + len(between), sum(inside) + sum(between)
        recorded = sum(run.seconds() for run in runs)
        summary.duration_seconds = recorded + sum(between)
        summary.missing = sorted(self._missing)
        self._utilizations()
        if self._power[0]:
            summary.power_mean_watts = self._power[1] / self._power[0]
        counted = [run.energy_joules for run in runs if run.energy_joules is not None]
        if len(counted) == len(runs):
            summary.energy_joules = sum(counted)
        elif summary.power_mean_watts is not None:
            summary.energy_joules = summary.power_mean_watts * (recorded - sum(inside))
            summary.energy_estimated = True
        return summary

    def _utilizations(self) -> None:
        if not self._utilization:
            return
        busy = sorted(self._utilization)
        summary = self.summary
        summary.utilization_min_percent, summary.utilization_max_percent = busy[0], busy[-1]
        summary.utilization_mean_percent = sum(busy) / len(busy)
        summary.utilization_p95_percent = busy[math.ceil(0.95 * len(busy)) - 1]


def summarise(recordings: Iterable[Iterable[dict[str, Any]]]) -> list[DeviceSummary]:
    """One summary per device, by slot; the parts of a rotated recording count as one.

    Args:
        recordings: Lines as `gpu_telemetry.reader.Recording` gives them, each file's in its order.
    """
    devices: dict[str, _Device] = {}
    for recording in recordings:
        for row in recording:
            if "uuid" not in row:
                continue
            if row["uuid"] not in devices:
                devices[row["uuid"]] = _Device(row)
            devices[row["uuid"]].add(row)
    found = [device.finish() for device in devices.values()]
    return sorted(found, key=lambda each: [int(part) for part in each.slot.split(".")])


def _larger(one: float | None, other: float | None) -> float | None:
    if one is None or other is None:
        return other if one is None else one
    return max(one, other)


def _missing(row: dict[str, Any]) -> str | None:
    """Why the utilisation is missing: CSV has "reason=name name|reason=name", JSON Lines a mapping of lists."""
    reasons = row.get("missing", {})
    if isinstance(reasons, str):
        pairs = (pair.partition("=") for pair in reasons.split("|"))
        reasons = {reason: names.split(" ") for reason, _, names in pairs}
    return next((reason for reason, names in reasons.items() if "utilization_percent" in names), None)
