"""The containers of the server at a moment: each is one cycle of a seat of the timetable."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .scenario import Profile, Seat

CREATE_TO_START = 15
"""Seconds from the allocator's decision to the running process: a step of the day's lines, so that a container
that does not run yet never shows work."""


@dataclass(frozen=True)
class Job:
    """One container, from its creation to its removal. Times are seconds since the epoch.

    It exists in [created, removed), runs in [started, stopped) and holds its slot, where it holds one,
    in [created, removed).
    """

    seat: Seat
    number: int
    created: int

    @property
    def started(self) -> int:
        """When its process began."""
        return self.created + CREATE_TO_START

    @property
    def stopped(self) -> int:
        """When its process ends."""
        return self.created + self.seat.run

    @property
    def removed(self) -> int:
        """When the container disappears, and gives its slot back."""
        return self.stopped + self.seat.hold

    @cached_property
    def id(self) -> str:
        """The container id, 64 hexadecimal digits, new for every cycle."""
        return hashlib.sha256(f"ds01-demo/{self.seat.container}/{self.number}".encode()).hexdigest()

    @property
    def image_id(self) -> str:
        """The image's id in Docker's spelling."""
        return "sha256:" + hashlib.sha256(self.seat.image.encode()).hexdigest()

    @property
    def pid(self) -> int:
        """A process id above every kernel's limit (4194304), so that it can never be somebody's process."""
        return 5_000_000 + int(self.id[:5], 16)

    def running(self, time: float) -> bool:
        """Whether the container runs at `time`."""
        return self.started <= time < self.stopped


def jobs_between(profile: Profile, start: float, end: float) -> Iterator[Job]:
    """Every job that exists at some moment of [start, end], seat by seat, oldest first."""
    for seat in profile.seats:
        number = int((start - seat.offset - seat.run - seat.hold) // seat.cycle)
        while (created := seat.offset + number * seat.cycle) <= end:
            job = Job(seat, number, created)
            if job.removed > start:
                yield job
            number += 1


def jobs_at(profile: Profile, time: float) -> list[Job]:
    """The containers that exist at `time`, running or stopped, in the timetable's order."""
    return list(jobs_between(profile, time, time))
