"""The demo's time: real time, or faster than that from the moment the demo started.

Before the start both are the same, so that history ends where the live world begins.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True)
class Clock:
    """Wall time to world time, both in seconds since the epoch. `speed` 1 is real time, 60 an hour in a minute."""

    speed: float = 1.0
    wall: Callable[[], float] = time.time
    start: float = field(default=0.0)

    def now(self) -> float:
        """The world's time now."""
        return self.world(self.wall())

    def world(self, wall: float) -> float:
        """The world's time at the wall time `wall`."""
        return wall if wall <= self.start else self.start + (wall - self.start) * self.speed

    def to_wall(self, world: float) -> float:
        """When, on the wall, the world shows `world`: what timestamps say."""
        return world if world <= self.start else self.start + (world - self.start) / self.speed

    def paced(self, counter: Callable[[float], float], world: float) -> float:
        """A counter's value at `world` that grows by its true rate per second of wall time.

        Without this a demo at speed 60 would show sixty times the power in its energy counter.
        """
        if world <= self.start or self.speed == 1:
            return counter(world)
        before = counter(self.start)
        return before + (counter(world) - before) / self.speed
