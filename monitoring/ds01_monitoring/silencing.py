"""Silences in Alertmanager: made, listed, ended."""

from __future__ import annotations

import datetime as dt
import getpass
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ds01_monitoring.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from ds01_monitoring.api import Alertmanager

MAINTENANCE = "maintenance: "
"""How the comment of a silence begins that `maintenance start` made."""

HEARTBEAT = "DS01Watchdog"
HEARD_ALWAYS = (HEARTBEAT, "DS01TestAlert")
"""What no silence of a whole host is about: outside, the heartbeat's end is an alarm, and a test is asked for."""


@dataclass(frozen=True)
class Silence:
    """One silence that is in force or about to be.

    Attributes:
        identifier: Alertmanager's id of it.
        matchers: Label name to value, as in `alertname="DS01GPUWaste"`.
        comment: The reason that was given.
        author: Who made it.
        ends: When it expires by itself.
    """

    identifier: str
    matchers: tuple[str, ...]
    comment: str
    author: str
    ends: dt.datetime

    def left(self, now: dt.datetime) -> dt.timedelta:
        """How long it still lasts, whole minutes."""
        return dt.timedelta(minutes=max(0, int((self.ends - now).total_seconds() // 60)))


def make(
    alertmanager: Alertmanager,
    labels: Mapping[str, str],
    *,
    seconds: int,
    reason: str,
) -> tuple[str, Silence | None]:
    """Silence what carries all of `labels` for `seconds`; of a whole host all but HEARD_ALWAYS.

    Returns:
        The silence's id, and the silence of the very same that it takes the place of.
    """
    now = dt.datetime.now(dt.timezone.utc)
    matchers: list[dict[str, object]] = [
        {"name": name, "value": value, "isRegex": False, "isEqual": True} for name, value in labels.items()
    ]
    if _whole_host(labels):
        spared = "|".join(HEARD_ALWAYS)
        matchers.append({"name": "alertname", "value": spared, "isRegex": True, "isEqual": False})
    same = {_matcher(matcher) for matcher in matchers}
    earlier = next(
        (
            one
            for one in in_force(alertmanager)
            if set(one.matchers) == same and _maintains(one.comment) == _maintains(reason)
        ),
        None,
    )
    identifier = alertmanager.add_silence(
        {
            **({"id": earlier.identifier} if earlier else {}),
            "matchers": matchers,
            "startsAt": now.isoformat(),
            "endsAt": (now + dt.timedelta(seconds=seconds)).isoformat(),
            "createdBy": _author(),
            "comment": reason,
        }
    )
    return identifier, earlier


def in_force(alertmanager: Alertmanager) -> list[Silence]:
    """The silences that have not expired, those that end first at the top."""
    found = [_read(entry) for entry in alertmanager.silences() if entry["status"]["state"] != "expired"]
    return sorted(found, key=lambda silence: silence.ends)


def end(alertmanager: Alertmanager, prefix: str) -> Silence:
    """End the one silence whose id begins with `prefix`.

    Raises:
        UserError: None does, or several do.
    """
    found = [
        silence for silence in in_force(alertmanager) if prefix and silence.identifier.startswith(prefix)
    ]
    if len(found) != 1:
        problem = "no silence in force has an id that begins so" if not found else "several silences begin so"
        raise UserError(problem, place=prefix or "(empty)", hint="monitoring-manage silences lists them")
    alertmanager.expire_silence(found[0].identifier)
    return found[0]


def hit(alerts: Iterable[Mapping[str, Any]], labels: Mapping[str, str]) -> int:
    """How many of the alerts a silence of `labels` hides."""
    spared = HEARD_ALWAYS if _whole_host(labels) else ()
    return sum(
        all(alert["labels"].get(name) == value for name, value in labels.items())
        and alert["labels"]["alertname"] not in spared
        for alert in alerts
    )


def _whole_host(labels: Mapping[str, str]) -> bool:
    return set(labels) == {"host"}


def _maintains(comment: str) -> bool:
    return comment.startswith(MAINTENANCE)


def _read(entry: Mapping[str, Any]) -> Silence:
    return Silence(
        identifier=entry["id"],
        matchers=tuple(_matcher(matcher) for matcher in entry["matchers"]),
        comment=entry["comment"],
        author=entry["createdBy"],
        ends=dt.datetime.fromisoformat(entry["endsAt"].replace("Z", "+00:00")),
    )


def _matcher(matcher: Mapping[str, Any]) -> str:
    sign = (
        ("=~" if matcher["isRegex"] else "=")
        if matcher.get("isEqual", True)
        else ("!~" if matcher["isRegex"] else "!=")
    )
    return f'{matcher["name"]}{sign}"{matcher["value"]}"'


def _author() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return "monitoring-manage"
