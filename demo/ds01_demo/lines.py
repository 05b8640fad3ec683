"""Quantities over a day that repeats: lines through fixed points in time, and their integrals."""

from __future__ import annotations

import math
from array import array
from typing import TYPE_CHECKING

from .load import DAY

if TYPE_CHECKING:
    from collections.abc import Iterable

STEP = 15
"""Seconds from one point of the day to the next."""

POINTS = DAY // STEP


class Line:
    """A quantity given at every `STEP` of the day, straight in between; a day joins onto the next."""

    def __init__(self, values: Iterable[float]) -> None:
        self._values = array("d", values)
        if len(self._values) != POINTS:
            raise ValueError(f"{len(self._values)} points, want {POINTS}")

    def __getitem__(self, point: int) -> float:
        return self._values[point % POINTS]

    def at(self, time: float) -> float:
        """The value at `time` (s since the epoch)."""
        point, rest = divmod(time % DAY, STEP)
        left, right = self[int(point)], self[int(point) + 1]
        return left + (right - left) * rest / STEP

    def step_at(self, time: float) -> float:
        """The value of the last point at or before `time`: for states, which have no in-between."""
        return self[int(time % DAY // STEP)]


class Integral:
    """The exact integral of a line over time: never falls while the line is not negative."""

    def __init__(self, line: Line, scale: float = 1.0) -> None:
        self._line = line
        self._scale = scale
        self._sums = array("d", [0.0])
        for point in range(POINTS):
            self._sums.append(self._sums[-1] + (line[point] + line[point + 1]) / 2 * STEP)

    def at(self, time: float) -> float:
        """The integral from the epoch to `time`, in the line's unit times seconds times the scale."""
        days, second = divmod(time, DAY)
        point, rest = divmod(second, STEP)
        left, right = self._line[int(point)], self._line[int(point) + 1]
        partial = left * rest + (right - left) * rest * rest / (2 * STEP)
        return self._scale * math.fsum((days * self._sums[-1], self._sums[int(point)], partial))

    def between(self, start: float, end: float) -> float:
        """The integral from `start` to `end`."""
        return self.at(end) - self.at(start)
