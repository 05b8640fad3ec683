"""What happens on the server in a span of time, and the lines that the allocator's tools log about it.

The event log of a real server holds two spellings side by side: its allocator writes `ts` and `event`, with
numbers where a value looks like one (slot "2.1" becomes 2.1); its newer tools write `timestamp` and `event_type`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import TYPE_CHECKING

from .jobs import Job, jobs_between
from .load import DAY
from .scenario import HOUR, Profile

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .clock import Clock

_REJECTED_EVERY = 3 * HOUR
_REJECTED_AT = 71 * 60


@dataclass(frozen=True)
class Transition:
    """A container that is `created`, `started`, `stopped` or `removed` at `time` (world time)."""

    time: int
    what: str
    job: Job


def transitions(profile: Profile, start: float, end: float) -> list[Transition]:
    """Everything that happens to containers in (start, end], in order."""
    found = [
        Transition(time, what, job)
        for job in jobs_between(profile, start - 1, end)
        for time, what in (
            (job.created, "created"),
            (job.started, "started"),
            (job.stopped, "stopped"),
            (job.removed, "removed"),
        )
        if start < time <= end
    ]
    return sorted(found, key=lambda one: one.time)


@dataclass(frozen=True)
class LogLine:
    """One line of the event log, without its line end; `kind` is the type of the event, `gpu` says that the allocator's books are written too."""

    time: float
    kind: str
    text: str
    gpu: bool


def log_lines(profile: Profile, start: float, end: float, clock: Clock) -> list[LogLine]:
    """The event log's lines of (start, end] in order, with timestamps as the wall clock shows them."""
    found = [line for one in transitions(profile, start, end) for line in _lines_of(one, clock)]
    found += [
        _allocator(time, "gpu.rejected", clock, user="elif", reason="no whole GPU is free")
        for time in _every(_REJECTED_EVERY, _REJECTED_AT, start, end)
    ]
    found += [
        _tool(time, "health.check", clock, None, {"status": "ok"}) for time in _every(HOUR, 0, start, end)
    ]
    return sorted(found, key=lambda line: line.time)


def _every(period: int, offset: int, start: float, end: float) -> Iterator[int]:
    time = offset + (int(start - offset) // period) * period
    while time <= end:
        if time > start:
            yield time
        time += period


def _lines_of(one: Transition, clock: Clock) -> Iterator[LogLine]:
    seat = one.job.seat
    if not seat.managed:
        return
    if seat.holds_slot and one.what in {"created", "removed"}:
        event = "gpu.allocated" if one.what == "created" else "gpu.released"
        slot = json.loads(seat.slot)
        yield _allocator(one.time, event, clock, user=seat.user, container=seat.container, gpu=slot)
    verb = {"created": "create", "started": "start", "stopped": "stop", "removed": "remove"}[one.what]
    yield _tool(
        one.time, f"container.{verb}", clock, seat.user, {"container": seat.container, "image": seat.image}
    )


def _allocator(time: float, event: str, clock: Clock, **values: object) -> LogLine:
    text = json.dumps({"ts": utc(clock.to_wall(time)), "event": event, **values})
    return LogLine(time, event, text, gpu=True)


def _tool(time: float, event: str, clock: Clock, user: str | None, details: dict[str, str]) -> LogLine:
    moment = datetime.fromtimestamp(clock.to_wall(time), timezone.utc)
    line: dict[str, object] = {
        "timestamp": moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        "event_type": event,
        "schema_version": "1",
    }
    if user is not None:
        line["user"] = user
    line |= {"source": "ds01-tools", "details": details}
    return LogLine(time, event, json.dumps(line, separators=(",", ":")), gpu=False)


def utc(wall: float) -> str:
    """A moment as the allocator writes it: UTC to the second, with a Z."""
    return datetime.fromtimestamp(wall, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def local(wall: float) -> str:
    """A moment as container-metadata holds it: local time without a zone."""
    return datetime.fromtimestamp(wall).isoformat()  # noqa: DTZ006 - what the real allocator writes.


LOG_REACHES_BACK = DAY + HOUR
"""Seconds of past events that a fresh log holds: a little more than the exporter's window."""
