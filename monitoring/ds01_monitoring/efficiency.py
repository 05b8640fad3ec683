"""The efficiency report: GPU-hours held, used and wasted by users and slots, and waste by day, from the recorded series.

The figures are those of the dashboard DS01 Efficiency Report: shares of GPUs are recorded once a minute, so that sixty
samples of 1 are one GPU-hour. held = used + wasted + the time without telemetry.
"""

from __future__ import annotations

import datetime as dt
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ds01_monitoring.api import Prometheus

DAY = 86400
TIMEOUT = 60.0
LOOKS = 1000
"""How many moments of the time span are asked whether anything was recorded then, at most."""


@dataclass(frozen=True)
class Line:
    """What one user or slot stands for in the time of the report.

    Attributes:
        name: The user's name, or the slot with its server (`gpu01/1.0`).
        held_hours: GPU-hours held; one whole GPU for an hour is 1.
        used_hours: Of those, at or above the waste line; None without telemetry.
        wasted_hours: Of those, under the waste line; None without telemetry.
        energy_kwh: Energy of the share that was held; None where it is not known.
    """

    name: str
    held_hours: float
    used_hours: float | None = None
    wasted_hours: float | None = None
    energy_kwh: float | None = None

    @property
    def share_wasted(self) -> float | None:
        """Wasted out of what was measured, 0 to 1; None where nothing was."""
        if self.used_hours is None or self.wasted_hours is None or self.used_hours + self.wasted_hours == 0:
            return None
        return self.wasted_hours / (self.used_hours + self.wasted_hours)


@dataclass(frozen=True)
class Report:
    """The figures of a time span.

    Attributes:
        start: Its begin (UTC).
        end: Its end (UTC).
        users: The most wasteful first.
        slots: By name; empty in the report of one user.
        days: Hours used and wasted by day (UTC).
        recorded_from: When the record begins, where that is later than `start`; None where it is not, or not known.
        others: Who held something, where the one user asked for held nothing.
        recorded: Whether anything was recorded in this time.
    """

    start: dt.datetime
    end: dt.datetime
    users: list[Line]
    slots: list[Line]
    days: dict[dt.date, tuple[float, float]]
    recorded_from: dt.datetime | None = None
    others: tuple[str, ...] = ()
    recorded: bool = True


def read(server: Prometheus, *, now: float, since: int, user: str | None = None) -> Report:
    """Ask Prometheus for the last `since` seconds before the Unix time `now`; `user` narrows it to one person.

    Raises:
        UserError: Prometheus does not answer.
    """
    span = _Span(server, now, since, "" if user is None else f", user={quoted(user)}")
    users = span.lines("user", ("user",))
    slots = span.lines("allocation", ("host", "gpu_slot")) if user is None else []
    first = span.first_recorded()
    return Report(
        start=_moment(now - since),
        end=_moment(now),
        users=sorted(users, key=lambda line: (-(line.wasted_hours or 0), line.name)),
        slots=sorted(slots, key=lambda line: _natural(line.name)),
        days=span.days(),
        recorded_from=_moment(first) if first and first - (now - since) > span.step else None,
        others=() if users or user is None else _Span(server, now, since, "").holders(),
        recorded=first is not None,
    )


def _natural(name: str) -> list[tuple[int, str]]:
    """A key that puts slot 2 before slot 10."""
    return [(int(part), "") if part.isdecimal() else (0, part) for part in re.split(r"(\d+)", name)]


def quoted(text: str) -> str:
    """A PromQL string that stands for exactly this text."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


@dataclass(frozen=True)
class _Span:
    """The time of a report, and whom it is about (`wanted`: matchers to add)."""

    server: Prometheus
    now: float
    since: int
    wanted: str

    def lines(self, level: str, by: tuple[str, ...]) -> list[Line]:
        """A line for each value of the labels `by`."""
        hours = {
            what: self._sums(f"ds01:{level}_{what}:gpus", by, 1 / 60) for what in ("held", "used", "wasted")
        }
        energy = self._sums(f"ds01:{level}_power:watts", by, 1 / 60e3)
        return [
            Line(name, held, hours["used"].get(name), hours["wasted"].get(name), energy.get(name))
            for name, held in hours["held"].items()
        ]

    def days(self) -> dict[dt.date, tuple[float, float]]:
        """Used and wasted; a day is asked for at the midnight that ends it, and the first one counts from `since` on."""
        first, last = (self.now - self.since) // DAY, self.now // DAY
        found: dict[dt.date, tuple[float, float]] = {}
        for day in range(int(first), int(last) + 1):
            end = min((day + 1) * DAY, self.now)
            length = int(end - max(day * DAY, self.now - self.since))
            if length <= 0:
                continue
            hours = [self._total(f"ds01:user_{what}:gpus", length, end) for what in ("used", "wasted")]
            found[_moment(day * DAY).date()] = (hours[0], hours[1])
        return found if any(used or wasted for used, wasted in found.values()) else {}

    def holders(self) -> tuple[str, ...]:
        """Everybody who held something, by name."""
        return tuple(sorted(self._sums("ds01:user_held:gpus", ("user",), 1)))

    @property
    def step(self) -> int:
        """How far the moments lie apart that are asked whether anything was recorded then."""
        return max(60, self.since // LOOKS)

    def first_recorded(self) -> float | None:
        """The first such moment at which slots were recorded; None where they never were."""
        # The last one is now, so that a record that has just begun is found.
        start = self.now - self.since // self.step * self.step
        series = "group(ds01:slots_total:count)"
        found = self.server.query_range(series, start=start, end=self.now, step=self.step, timeout=TIMEOUT)
        return min((float(one["values"][0][0]) for one in found), default=None)

    def _sums(self, series: str, by: tuple[str, ...], factor: float) -> dict[str, float]:
        query = f"sum by ({', '.join(by)}) (sum_over_time({self._selector(series)}[{self.since}s]))"
        return {
            "/".join(one["metric"].get(label, "") for label in by): float(one["value"][1]) * factor
            for one in self.server.query(query, at=self.now, timeout=TIMEOUT)
        }

    def _total(self, series: str, seconds: int, end: float) -> float:
        query = f"sum(sum_over_time({self._selector(series)}[{seconds}s])) / 60"
        return sum(float(one["value"][1]) for one in self.server.query(query, at=end, timeout=TIMEOUT))

    def _selector(self, series: str) -> str:
        return f'{series}{{host!=""{self.wanted}}}'


def _moment(seconds: float) -> dt.datetime:
    return dt.datetime.fromtimestamp(seconds, dt.timezone.utc)
