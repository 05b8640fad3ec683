"""Quiet hours, workdays and holidays, and the day of the digest: as Alertmanager's time intervals, and asked about a moment."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from ds01_monitoring.errors import UserError

if TYPE_CHECKING:
    from ds01_monitoring.config.notify import Digest, QuietHours

WEEK = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")


def is_quiet(quiet: QuietHours, moment: dt.datetime) -> bool:
    """Whether users get no mail at this (aware) moment.

    Raises:
        UserError: There is no such time zone.
    """
    try:
        zone = ZoneInfo(quiet.time_zone)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise UserError(
            f"there is no time zone {quiet.time_zone!r}",
            place="notify.quiet_hours.time_zone",
            hint="use a name like Europe/Berlin, or UTC",
        ) from error
    local = moment.astimezone(zone)
    if WEEK[local.weekday()] in quiet.days:
        return True
    if any(holiday.first <= local.date() <= holiday.last for holiday in quiet.holidays):
        return True
    if quiet.begin is None or quiet.end is None:
        return False
    clock = local.strftime("%H:%M")
    if quiet.begin <= quiet.end:
        return quiet.begin <= clock < quiet.end
    return clock >= quiet.begin or clock < quiet.end


def time_intervals(quiet: QuietHours) -> list[dict[str, Any]]:
    """The same as one Alertmanager time interval's parts (alertmanager docs, `time_interval`); empty = never quiet.

    Its date ranges stay within a year and a month, and its clock within a day, so that ranges over
    midnight and over a month's end are cut into parts.
    """
    parts: list[dict[str, Any]] = []
    if quiet.days:
        parts.append({"weekdays": list(quiet.days)})
    if quiet.begin is not None and quiet.end is not None:
        if quiet.begin <= quiet.end:
            spans = [(quiet.begin, quiet.end)]
        else:
            spans = [(quiet.begin, "24:00"), ("00:00", quiet.end)]
        parts += [
            {"times": [{"start_time": first, "end_time": last}]} for first, last in spans if first != last
        ]
    for holiday in quiet.holidays:
        parts += [_days(first, last) for first, last in _months(holiday.first, holiday.last)]
    return [{**part, "location": quiet.time_zone} for part in parts]


def digest_intervals(digest: Digest) -> list[dict[str, Any]]:
    """The rest of the digest's day as one Alertmanager time interval's parts."""
    times = [{"start_time": digest.begin, "end_time": "24:00"}]
    return [{"weekdays": [digest.day], "times": times, "location": digest.time_zone}]


def _months(first: dt.date, last: dt.date) -> list[tuple[dt.date, dt.date]]:
    """A range of days cut at the ends of months."""
    spans = []
    while first <= last:
        next_month = (first.replace(day=1) + dt.timedelta(days=32)).replace(day=1)
        spans.append((first, min(last, next_month - dt.timedelta(days=1))))
        first = next_month
    return spans


def _days(first: dt.date, last: dt.date) -> dict[str, Any]:
    return {
        "years": [str(first.year)],
        "months": [str(first.month)],
        "days_of_month": [f"{first.day}:{last.day}"],
    }
