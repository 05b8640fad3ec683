"""What a recording says of each device: how busy, how full, how much energy, and where it has gaps."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from itertools import pairwise
from statistics import median
from typing import TYPE_CHECKING, Any

from gpu_telemetry.reader import when

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from gpu_telemetry.reader import Recording

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


def summarise(recordings: Sequence[Recording]) -> list[DeviceSummary]:
    """One summary per device, by slot; the parts of a rotated recording count as one."""
    rows = [row for recording in recordings for row in recording.rows]
    devices: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        if "uuid" in row:
            devices.setdefault(row["uuid"], []).append(row)
    found = [_device(uuid, device_rows) for uuid, device_rows in devices.items()]
    return sorted(found, key=lambda each: [int(part) for part in each.slot.split(".")])


def _device(uuid: str, rows: list[dict[str, Any]]) -> DeviceSummary:
    rows = sorted(rows, key=lambda row: (row.get("recording", ""), row.get("elapsed_seconds", 0.0)))
    runs = _runs(rows)
    gaps = [gap for run in runs for gap in _gaps(run)] + _between(runs)
    summary = DeviceSummary(
        uuid=uuid,
        slot=str(rows[-1].get("slot", "0")),
        name=rows[-1].get("name"),
        job=str(rows[-1].get("job", "")),
        simulated=any(row.get("simulated") is True for row in rows),
        samples=len(rows),
        gaps=len(gaps),
        gap_seconds=sum(gaps),
        missing=sorted({reason for row in rows if (reason := _missing(row)) is not None}),
    )
    summary.duration_seconds = sum(_span(run) for run in runs) + sum(_between(runs))
    _fill(summary, rows)
    _energy(summary, runs)
    return summary


def _runs(rows: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """The lines by recording, in the order in which the recordings began."""
    runs: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        runs.setdefault(str(row.get("recording", "")), []).append(row)
    return sorted(runs.values(), key=lambda run: when(run[0]))


def _span(run: list[dict[str, Any]]) -> float:
    return float(run[-1]["elapsed_seconds"] - run[0]["elapsed_seconds"])


def _gaps(run: list[dict[str, Any]]) -> list[float]:
    """Holes within one recording, by its own monotonic clock."""
    steps = [b["elapsed_seconds"] - a["elapsed_seconds"] for a, b in pairwise(run)]
    if not steps:
        return []
    usual = median(steps)
    marked = [row.get("gap_seconds", 0) > 0 for row in run[1:]]
    return [
        step - usual
        for step, mark in zip(steps, marked, strict=True)
        if mark or step > _GAP_INTERVALS * usual > 0
    ]


def _between(runs: list[list[dict[str, Any]]]) -> list[float]:
    """Time between one recording and the next, by the wall clock, the only one that they share."""
    holes = (when(later[0]) - when(earlier[-1]) for earlier, later in pairwise(runs))
    return [hole for hole in holes if hole > 0]


def _missing(row: dict[str, Any]) -> str | None:
    """Why the utilisation is missing: CSV has "reason=name name|reason=name", JSON Lines a mapping of lists."""
    reasons = row.get("missing", {})
    if isinstance(reasons, str):
        pairs = (pair.partition("=") for pair in reasons.split("|"))
        reasons = {reason: names.split(" ") for reason, _, names in pairs}
    return next((reason for reason, names in reasons.items() if "utilization_percent" in names), None)


def _fill(summary: DeviceSummary, rows: list[dict[str, Any]]) -> None:
    busy = sorted(_numbers(rows, "utilization_percent"))
    if busy:
        summary.utilization_min_percent, summary.utilization_max_percent = busy[0], busy[-1]
        summary.utilization_mean_percent = sum(busy) / len(busy)
        summary.utilization_p95_percent = busy[math.ceil(0.95 * len(busy)) - 1]
    power = list(_numbers(rows, "power_watts"))
    summary.power_mean_watts = sum(power) / len(power) if power else None
    summary.memory_peak_bytes = max(_numbers(rows, "memory_used_bytes"), default=None)
    summary.memory_total_bytes = max(_numbers(rows, "memory_total_bytes"), default=None)
    summary.temperature_max_celsius = max(_numbers(rows, "temperature_celsius"), default=None)


def _energy(summary: DeviceSummary, runs: list[list[dict[str, Any]]]) -> None:
    counted = [joules for run in runs if (joules := _counted(run)) is not None]
    if len(counted) == len(runs):
        summary.energy_joules = sum(counted)
    elif summary.power_mean_watts is not None:
        recorded = sum(_span(run) - sum(_gaps(run)) for run in runs)
        summary.energy_joules, summary.energy_estimated = summary.power_mean_watts * recorded, True


def _counted(run: list[dict[str, Any]]) -> float | None:
    """Joules by the card's counter, which begins at 0 again when the driver is reloaded."""
    counter = list(_numbers(run, "energy_joules"))
    if not counter:
        return None
    return sum(later - earlier if later >= earlier else later for earlier, later in pairwise(counter))


def _numbers(rows: Iterable[dict[str, Any]], name: str) -> Iterable[float]:
    return (float(row[name]) for row in rows if name in row)
