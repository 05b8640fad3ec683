"""The allocator's event log, counted over the last 24 hours in the background."""

from __future__ import annotations

import json
import threading
import time
from typing import TYPE_CHECKING

from ds01_exporter.background import Ticker
from ds01_exporter.event_window import WINDOW_SECONDS, EventWindow
from ds01_exporter.health import Health
from ds01_exporter.log_follow import LogFollower
from ds01_exporter.metrics import family
from ds01_exporter.timestamps import parse_timestamp

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from prometheus_client.core import Metric

POLL_SECONDS = 1.0

_JUMP_SECONDS = 60.0  # the wall clock moved against the monotonic one: somebody set it

Reading = tuple[tuple[tuple[str, int], ...], int, "float | None"]


def parse_event(line: bytes) -> tuple[str, float] | None:
    """Return type and time of an event in either spelling; None if the line is no event."""
    try:
        document = json.loads(line.decode())
    except (ValueError, RecursionError):
        return None
    if not isinstance(document, dict):
        return None
    event_type = document.get("event_type", document.get("event"))
    timestamp = parse_timestamp(document.get("timestamp", document.get("ts")))
    if not isinstance(event_type, str) or not event_type or timestamp is None:
        return None
    return event_type, timestamp


def _when(line: bytes) -> float | None:
    event = parse_event(line)
    return None if event is None else event[1]


class Events(Ticker):
    """Follows the log at `path`."""

    def __init__(self, path: Path) -> None:
        super().__init__("events", POLL_SECONDS)
        self.health = Health("events")
        self.rejected = 0
        self._path = path
        self._lock = threading.Lock()
        self._window: EventWindow | None = None
        self._filling = EventWindow()
        self._follower = LogFollower(path, self._accept, _when)
        self._count_rejected = True
        self._clock_offset = time.time() - time.monotonic()

    def reading(self) -> Reading | None:
        """Return counts by type, rejected lines, and the time of the last gpu event.

        None until the past has been read back, and while the log cannot be read.
        """
        with self._lock:
            if self._window is None or not self.health.success:
                return None
            return (tuple(sorted(self._window.counts().items())), self.rejected, self._window.last_gpu_event)

    def tick(self) -> None:
        """Read what is new; everything again after the clock was set."""
        offset = time.time() - time.monotonic()
        if abs(offset - self._clock_offset) > _JUMP_SECONDS:
            self._window = None
            self._count_rejected = False
        self._clock_offset = offset
        with self.health.watch():
            if self._window is None:
                self._read_back()
            else:
                self._follower.poll()

    def _read_back(self) -> None:
        self._filling = EventWindow()
        self._follower.read_back(time.time() - WINDOW_SECONDS)
        self._window = self._filling
        self._count_rejected = True

    def _accept(self, line: bytes) -> None:
        if not line.strip():
            return
        event = parse_event(line)
        if event is None:
            self.rejected += self._count_rejected
            return
        with self._lock:
            self._filling.add(*event)


def events_families(reading: Reading | None) -> Iterator[Metric]:
    """Yield what the log says; nothing while it is not known."""
    counts, rejected, last_gpu_event = reading or ((), None, None)
    yield family("ds01_events_24h_total", (((event_type,), float(count)) for event_type, count in counts))
    yield family("ds01_event_lines_rejected_total", [] if rejected is None else [((), float(rejected))])
    yield family(
        "ds01_last_gpu_event_timestamp_seconds", [] if last_gpu_event is None else [((), last_gpu_event)]
    )
