"""What mail to users would have been sent, told from the recorded series."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ds01_monitoring.config import duration_seconds
from ds01_monitoring.mailing import user_mail
from ds01_monitoring.quiet import is_quiet

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from ds01_monitoring.api import Prometheus
    from ds01_monitoring.config import Settings
    from ds01_monitoring.config.notify import Users
    from ds01_monitoring.mailing import UserMail

STEP = 300
"""Seconds between two looks at the past; a mail is never more urgent than that."""

BACK_WITHIN = 1800
"""Seconds after a mail within which work that begins again was not the mail's doing."""


@dataclass(frozen=True)
class Mail:
    """One mail that would have been sent.

    Attributes:
        host: Where the GPU is.
        user: Whose GPU it is.
        at: When, Unix time.
        back: Whether one of the slots that it is about was at work again within BACK_WITHIN.
        to_user: Whether the user would have got it; the administrators otherwise.
    """

    host: str
    user: str
    at: float
    back: bool
    to_user: bool


def replay(
    prometheus: Prometheus, settings: Settings, *, now: float, since: int, below: float, window: str
) -> list[Mail]:
    """The mails of the last `since` seconds, had the waste line been `below` (0..1) and the time `window`.

    Quiet hours, exceptions and the limit of one mail per `at_most_every` count as they are configured.
    """
    start, end = now - since, now
    idle = _by_user(
        prometheus.query_range(_idle(settings, below, window), start=start, end=end, step=STEP, timeout=120)
    )
    busy = _by_user(
        prometheus.query_range(
            f"max by (host, user, gpu_slot) (max_over_time(ds01:allocation_utilization:ratio[{STEP}s])) >= {below}",
            start=start,
            end=end,
            step=STEP,
            timeout=120,
        )
    )
    routes = _in_earnest(settings.notify.users)
    mails: list[Mail] = []
    for (host, user), looks in sorted(idle.items()):
        route = routes.route(user)
        if route is None or route.mails_user:
            to_user = route is not None
            mails += _send(host, user, looks, busy.get((host, user), {}), settings, to_user=to_user)
    return mails


def recorded_since(prometheus: Prometheus, *, now: float, since: int) -> float | None:
    """When the record begins within the last `since` seconds (Unix time, to STEP); None where there is none."""
    found = prometheus.query_range(
        "group(ds01:allocation_utilization:ratio)", start=now - since, end=now, step=STEP, timeout=120
    )
    return min((float(row["values"][0][0]) for row in found), default=None)


def _in_earnest(users: Users) -> UserMail:
    """The users' mail as it would be, switched on. Where no address is configured yet, there will be a domain."""
    domain = users.domain or ("" if users.addresses else "example.org")
    return user_mail(users.model_copy(update={"enabled": True, "dry_run": False, "domain": domain}))


def _idle(settings: Settings, below: float, window: str) -> str:
    """PromQL: what users hold, and have held idle for the whole window."""
    series = "ds01:allocation_utilization:ratio"
    wanted = settings.alerts.gpu_waste.coverage * duration_seconds(window) / 60
    return (
        f"max by (host, user, gpu_slot) ((quantile_over_time(0.95, {series}[{window}]) < {below})"
        f" and (count_over_time({series}[{window}:1m]) >= {wanted:g}) and {series})"
    )


Looks = dict[float, set[str]]
"""Slots by time, Unix seconds, in its order."""


def _by_user(matrix: Iterable[Mapping[str, Any]]) -> dict[tuple[str, str], Looks]:
    found: dict[tuple[str, str], Looks] = {}
    for row in matrix:
        labels = row["metric"]
        looks = found.setdefault((labels.get("host", ""), labels.get("user", "")), {})
        for at, _ in row["values"]:
            looks.setdefault(float(at), set()).add(labels["gpu_slot"])
    return {who: dict(sorted(looks.items())) for who, looks in found.items()}


def _send(host: str, user: str, idle: Looks, busy: Looks, settings: Settings, *, to_user: bool) -> list[Mail]:
    pause = duration_seconds(settings.notify.users.at_most_every)
    mails: list[Mail] = []
    for at, slots in idle.items():
        moment = dt.datetime.fromtimestamp(at, dt.timezone.utc)
        quiet = is_quiet(settings.notify.quiet_hours, moment)
        if (mails and at < mails[-1].at + pause) or (to_user and quiet):
            continue
        back = any(slots & working for time, working in busy.items() if at < time <= at + BACK_WITHIN)
        mails.append(Mail(host, user, at, back, to_user))
    return mails
