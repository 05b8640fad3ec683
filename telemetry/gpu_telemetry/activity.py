"""When a machine counts as busy: two thresholds and two times, so that it does not flap."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING

from gpu_telemetry.hold import Hold

if TYPE_CHECKING:
    from gpu_telemetry.metrics import GpuMetrics, Sample


@dataclass(frozen=True)
class Thresholds:
    """When activity begins and ends.

    Attributes:
        start_util: Percent; activity begins when any GPU or MIG device is at or above it ...
        start_seconds: ... for so many seconds.
        stop_util: Percent; activity ends when all of them are at or below it ...
        stop_seconds: ... for so many seconds.

    Raises ValueError when they contradict each other.
    """

    start_util: float = 20
    start_seconds: float = 5
    stop_util: float = 10
    stop_seconds: float = 15

    def __post_init__(self) -> None:
        if not 0 <= self.stop_util <= self.start_util <= 100:
            raise ValueError(
                f"0 <= stop-util <= start-util <= 100 does not hold for {self.stop_util:g} and {self.start_util:g}"
            )
        for seconds in (self.start_seconds, self.stop_seconds):
            if not 0 <= seconds < inf:
                raise ValueError(f"{seconds:g} seconds is no time that can pass")


class ActivityTrigger:
    """Follows samples; `active` says whether the machine is busy.

    Time is that of the samples' monotonic clock. A sample of which nothing is known starts and ends nothing;
    between the thresholds both times begin anew. A device that cannot tell its utilisation at all (a MIG
    device before Hopper, its card) takes no part.
    """

    def __init__(self, thresholds: Thresholds, *, active: bool = False) -> None:
        self._thresholds = thresholds
        self._busy = Hold()
        self._quiet = Hold()
        self.active = active

    def update(self, sample: Sample) -> bool:
        """Takes one sample; returns whether the machine is busy now."""
        limits = self._thresholds
        busy, quiet = _verdict([gpu for gpu in sample.gpus if _tells(gpu)], limits)
        busy_for = self._busy.update(busy, sample.monotonic)
        quiet_for = self._quiet.update(quiet, sample.monotonic)
        if busy and busy_for >= limits.start_seconds:
            self.active = True
        elif quiet and quiet_for >= limits.stop_seconds:
            self.active = False
        return self.active


def _verdict(gpus: list[GpuMetrics], limits: Thresholds) -> tuple[bool | None, bool | None]:
    """Whether any is busy, and whether all are quiet; None where an unknown one could decide it."""
    loads = [gpu.utilization_percent for gpu in gpus]
    known = [load for load in loads if load is not None]
    unsure = len(known) < len(loads) or not loads
    busy = any(load >= limits.start_util for load in known)
    quiet = all(load <= limits.stop_util for load in known)
    return (None if unsure and not busy else busy), (None if unsure and quiet else quiet)


def _tells(gpu: GpuMetrics) -> bool:
    return gpu.missing.get("utilization_percent") != "not_supported"
