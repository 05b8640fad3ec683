"""Counts events of the last 24 hours: a window that slides, with a resolution of one second."""

from __future__ import annotations

import time
from array import array
from bisect import bisect_left
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

WINDOW_SECONDS = 24 * 3600

MAX_TYPES = 256
"""Event types beyond these are counted as `other`: whoever may write the log must not fill Prometheus."""

OVERFLOW_TYPE = "other"

_FUTURE_SECONDS = 300.0  # a stamp further ahead is not believed before its time has come
_COMPACT_FROM = 4096


def _changes_holders(event_type: str) -> bool:
    """Whether the allocator's state must be as new as the event; who was refused a GPU leaves it as it was."""
    return event_type.startswith("gpu.") and not event_type.startswith("gpu.reject")


class _Series:
    """The events of one type: how many in which second, in the order of time."""

    def __init__(self) -> None:
        self.seconds = array("q")
        self.counts = array("L")
        self.total = 0
        self._start = 0

    def add(self, second: int, count: int = 1) -> None:
        """Count events; mostly they come in the order of time, and then this costs the same for any number."""
        if self.seconds and second == self.seconds[-1]:
            self.counts[-1] += count
        elif not self.seconds or second > self.seconds[-1]:
            self.seconds.append(second)
            self.counts.append(count)
        else:
            place = bisect_left(self.seconds, second, self._start)
            if self.seconds[place] == second:
                self.counts[place] += count
            else:
                self.seconds.insert(place, second)
                self.counts.insert(place, count)
        self.total += count

    def forget_until(self, second: int) -> None:
        """Leave out what happened at `second` or before."""
        while self._start < len(self.seconds) and self.seconds[self._start] <= second:
            self.total -= self.counts[self._start]
            self._start += 1
        if self._start > _COMPACT_FROM and self._start * 2 > len(self.seconds):
            del self.seconds[: self._start]
            del self.counts[: self._start]
            self._start = 0


class EventWindow:
    """Counts events by type. Not safe for several threads without a lock around it."""

    def __init__(self, clock: Callable[[], float] | None = None) -> None:
        self.last_gpu_event: float | None = None
        self._clock = clock or time.time
        self._series: dict[str, _Series] = {}
        self._future: list[tuple[float, str]] = []

    def add(self, event_type: str, timestamp: float) -> bool:
        """Count an event; False if it is older than the window."""
        now = self._clock()
        if timestamp > now + _FUTURE_SECONDS:
            self._future.append((timestamp, event_type))
            del self._future[_COMPACT_FROM:]
            return True
        if _changes_holders(event_type) and timestamp > (self.last_gpu_event or float("-inf")):
            self.last_gpu_event = timestamp
        if timestamp <= now - WINDOW_SECONDS:
            return False
        if event_type not in self._series and len(self._series) >= MAX_TYPES:
            event_type = OVERFLOW_TYPE
        self._series.setdefault(event_type, _Series()).add(int(timestamp))
        return True

    def counts(self) -> dict[str, int]:
        """Return how many events of each type happened in the 24 hours until now."""
        now = self._clock()
        waiting, self._future = self._future, []
        for timestamp, event_type in waiting:  # those whose time has not come end up in the future again
            self.add(event_type, timestamp)
        for series in self._series.values():
            series.forget_until(int(now - WINDOW_SECONDS))
        self._series = {name: series for name, series in self._series.items() if series.total}
        return {name: series.total for name, series in self._series.items()}
