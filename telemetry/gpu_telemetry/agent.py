"""The agent: samples all the time, serves the last sample, and records while there is something to record."""

from __future__ import annotations

import json
import logging
import time
from collections import deque
from typing import TYPE_CHECKING, Protocol

from gpu_telemetry.errors import TelemetryError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from gpu_telemetry.allocations import Allocations
    from gpu_telemetry.metrics import Sample

log = logging.getLogger(__name__)

BEFORE_SECONDS = 60.0
"""How much of the time before a trigger is recorded too."""

RETRY_SECONDS = 30.0
"""After how long a recording that could not be begun is tried again."""


class Writer(Protocol):
    """A recording."""

    def write(self, sample: Sample) -> object:
        """Adds one sample; what the disk does not take is its own to deal with."""

    def close(self) -> None:
        """Ends it."""


class Trigger(Protocol):
    """Says whether to record."""

    active: bool

    def update(self, sample: Sample) -> bool:
        """Takes one sample; returns whether to record now."""


class AllocationTrigger:
    """Records from the first open allocation until none is left.

    What cannot be read changes nothing, and is logged once.
    """

    def __init__(self, allocations: Allocations, *, active: bool = False) -> None:
        self._allocations = allocations
        self._complaint = ""
        self.active = active

    def update(self, sample: Sample) -> bool:  # noqa: ARG002 - what a trigger is given.
        """Looks whether an allocation is open."""
        try:
            self.active = self._allocations.any()
        except TelemetryError as error:
            if error.problem != self._complaint:
                log.warning("the allocations cannot be read: %s", error.problem)
            self._complaint = error.problem
        else:
            self._complaint = ""
        return self.active


class Journal:
    """Remembers over a crash whether a recording was open."""

    def __init__(self, state_dir: Path) -> None:
        self._path = state_dir / "agent.json"

    def was_recording(self) -> bool:
        """Whether the last agent ended without closing its recording."""
        try:
            stored = json.loads(self._path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return False
        except (OSError, ValueError) as error:
            log.warning("%s cannot be read, so nothing is adopted: %s", self._path, error)
            return False
        return isinstance(stored, dict) and stored.get("recording") is True

    def note(self, *, recording: bool) -> None:
        """Writes down that a recording has begun or ended."""
        fresh = self._path.with_suffix(".new")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            fresh.write_text(json.dumps({"recording": recording, "at": time.time()}), encoding="utf-8")
            fresh.replace(self._path)
        except OSError as error:
            # The recording itself matters more than being able to adopt it later.
            log.warning("%s cannot be written: %s", self._path, error)


class Agent:
    """Decides with each sample whether it is recorded.

    Args:
        trigger: Says when to record.
        open_recording: Makes a new recording; may raise TelemetryError or OSError, then it is tried again later.
        journal: Where a crash leaves word of an open recording.
        before_seconds: How much of the time before a trigger is recorded too, in seconds.
    """

    def __init__(
        self,
        trigger: Trigger,
        open_recording: Callable[[], Writer],
        journal: Journal,
        *,
        before_seconds: float = BEFORE_SECONDS,
    ) -> None:
        self._trigger = trigger
        self._open_recording = open_recording
        self._journal = journal
        self._before_seconds = before_seconds
        self._before: deque[Sample] = deque()
        self._recording: Writer | None = None
        self._retry_at = float("-inf")
        self._noted = journal.was_recording()
        if self._noted:
            log.warning("the last agent ended in the middle of a recording; it goes on in a new file")
            trigger.active = True

    @property
    def recording(self) -> bool:
        """Whether samples are being recorded."""
        return self._recording is not None

    def take(self, sample: Sample) -> None:
        """Takes the next sample: records it, or keeps it for the minute before the next trigger."""
        wanted = self._trigger.update(sample)
        self._before.append(sample)
        while self._before[0].monotonic < sample.monotonic - self._before_seconds:
            self._before.popleft()
        if not wanted:
            self._end()
        elif sample.monotonic >= self._retry_at:
            self._record(sample)

    def close(self) -> None:
        """Ends the recording, and forgets what was kept."""
        self._end()
        self._before.clear()

    def _record(self, sample: Sample) -> None:
        """Writes everything that is kept: one sample, or at a beginning the minute before as well."""
        try:
            if self._recording is None:
                self._recording = self._open_recording()
                self._note(recording=True)
                log.info("recording begins, with %d samples of the time before", len(self._before) - 1)
            while self._before:
                self._recording.write(self._before[0])
                self._before.popleft()
        except (OSError, TelemetryError) as error:
            # Serving goes on, and so does keeping the last minute.
            log.warning("cannot record, it is tried again in %g s: %s", RETRY_SECONDS, error)
            self._retry_at = sample.monotonic + RETRY_SECONDS
            self._abandon()

    def _end(self) -> None:
        if self._recording is not None:
            self._abandon()
            self._before.clear()
            log.info("recording ends")
        if self._noted:
            self._note(recording=False)

    def _note(self, *, recording: bool) -> None:
        self._journal.note(recording=recording)
        self._noted = recording

    def _abandon(self) -> None:
        recording, self._recording = self._recording, None
        if recording is None:
            return
        try:
            recording.close()
        except (OSError, TelemetryError) as error:
            log.warning("the recording could not be closed: %s", error)
