"""The last sample, taken in the background, and how old it is."""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from gpu_telemetry.sampling import Stop, ticks

if TYPE_CHECKING:
    from collections.abc import Callable

    from gpu_telemetry.metrics import Sample
    from gpu_telemetry.monitor import GpuMonitor

log = logging.getLogger(__name__)

STALE_AFTER_INTERVALS = 3

STOP_SECONDS = 2.0
"""How long the end of a sampler waits for a read."""


@dataclass(frozen=True)
class State:
    """What is known now.

    Attributes:
        status: `ok`; `starting` before the first sample; `nvml_unavailable` when nothing could be read;
            `stale` when the last sample is too old to be shown.
        sample: The last sample, of whatever status; None while starting.
        age_seconds: Seconds since that sample; None while starting.
        duration_seconds: How long it took to read, in seconds; None while starting.
        last_success: Unix seconds of the last sample that could be read; None before the first.
    """

    status: str
    sample: Sample | None = None
    age_seconds: float | None = None
    duration_seconds: float | None = None
    last_success: float | None = None

    @property
    def fresh(self) -> Sample | None:
        """The sample where it may be shown as the present; None where its readings are no longer, or not, known."""
        return self.sample if self.status == "ok" else None


class Latest:
    """Holds the last sample for those who serve it. May be used from several threads.

    Args:
        stale_after_secs: Age in seconds from which a sample is not shown any more.
        clock: Monotonic seconds, the clock of `Sample.monotonic`.
    """

    def __init__(self, stale_after_secs: float, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.stale_after_secs = stale_after_secs
        self._clock = clock
        self._held: tuple[Sample, float, float | None] | None = None

    def put(self, sample: Sample, duration_seconds: float = 0.0) -> None:
        """Takes a new sample, and how many seconds reading it took."""
        before = self._held[2] if self._held else None
        succeeded = before if sample.error else sample.timestamp
        self._held = sample, duration_seconds, succeeded

    def state(self) -> State:
        """What is known at this moment."""
        if self._held is None:
            return State("starting")
        sample, duration, succeeded = self._held
        age = max(self._clock() - sample.monotonic, 0.0)
        status = "nvml_unavailable" if sample.error else "ok"
        if age > self.stale_after_secs:
            status = "stale"
        return State(status, sample, age, duration, succeeded)


class BackgroundSampler:
    """Samples a monitor at an interval, in a thread, and hands each sample on.

    Args:
        monitor: What is sampled.
        interval_secs: Seconds between two samples; what a slow read misses is not made up for.
        sink: Takes each sample and the seconds that reading it took, for example `Latest.put`.
    """

    def __init__(
        self, monitor: GpuMonitor, interval_secs: float, sink: Callable[[Sample, float], object]
    ) -> None:
        self._monitor = monitor
        self._interval = interval_secs
        self._sink = sink
        self._stop = Stop()
        self._thread = threading.Thread(target=self._run, name="sampler", daemon=True)

    def start(self) -> None:
        """Begins; the first sample is taken at once."""
        self._thread.start()

    def stop(self) -> None:
        """Ends; a read that hangs in the driver is left behind."""
        self._stop.request()
        self._thread.join(STOP_SECONDS)
        if not self._thread.is_alive():
            self._stop.close()

    def _run(self) -> None:
        for gap in ticks(self._interval, self._stop):
            self._take(gap)

    def _take(self, gap: float) -> None:
        try:
            begun = time.monotonic()
            sample = self._monitor.sample()
            taken = time.monotonic() - begun
            self._sink(replace(sample, gap_seconds=gap) if gap else sample, taken)
        except Exception:
            # The last sample grows old and is then shown as such; the next try may succeed.
            log.exception("the GPUs could not be sampled")
