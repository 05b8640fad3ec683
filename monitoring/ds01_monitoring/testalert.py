"""A real alert, followed from Alertmanager to the server that takes it."""

from __future__ import annotations

import datetime as dt
import json
import re
import secrets
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from prometheus_client.parser import text_string_to_metric_families

from ds01_monitoring.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from ds01_monitoring.api import Alertmanager
    from ds01_monitoring.config import Settings

NAME = "DS01TestAlert"
LIFETIME = 600
"""Seconds after which Alertmanager forgets the alert, should we be killed before we end it."""

_ERROR = re.compile(r' err="((?:[^"\\]|\\.)*)"')
_FIELD = re.compile(r"\b(ts|receiver|integration)=(\S+)")


@dataclass(frozen=True)
class Delivery:
    """What became of the alert at one of the receiver's integrations.

    Attributes:
        integration: `email`, `slack`, `msteamsv2` or `webhook`.
        to: Whom or what it reaches, for people.
        accepted: The server took it.
        seconds: Until it was taken or refused.
        refusal: The server's words, or what else went wrong; empty when accepted.
    """

    integration: str
    to: str
    accepted: bool
    seconds: float
    refusal: str = ""


def send(
    alertmanager: Alertmanager,
    settings: Settings,
    read_log: Callable[[], str],
    *,
    severity: str,
    user: str = "",
    timeout: float = 60,
) -> list[Delivery]:
    """Raise an alert, wait for every integration of its receiver, and end the alert.

    Args:
        alertmanager: Where to put it.
        settings: What Alertmanager runs with; says who is behind a receiver.
        read_log: Alertmanager's newest log lines; the only place where a refusal stands.
        severity: `critical`, `warning` or `info`.
        user: Route it as a waste alert of this user.
        timeout: Seconds to wait for an answer.

    Raises:
        UserError: Alertmanager cannot be reached, or nobody is configured to hear the alert.
    """
    mark = secrets.token_hex(4)
    labels = {"alertname": NAME, "severity": severity, "test": mark, "host": settings.site.host}
    if user:
        labels |= {"notify": "user", "user": user}
    before = _accepted(alertmanager)
    begun, since = time.monotonic(), dt.datetime.now(dt.timezone.utc).replace(microsecond=0)
    alertmanager.post_alerts([_alert(labels, dt.timedelta(seconds=LIFETIME))])
    try:
        receiver = _receiver(alertmanager, mark, begun + timeout)
        waiting = destinations(settings, receiver, user)
        if not waiting:
            raise UserError(
                f"nobody hears it: receiver {receiver} has no address",
                place="notify",
                hint="set notify.mail (or slack, teams, webhook) in monitoring.yaml, then monitoring-manage reload",
            )
        return _Trial(alertmanager, read_log, mark, receiver, since, before, begun, timeout).follow(waiting)
    finally:
        alertmanager.post_alerts([_alert(labels, dt.timedelta(0))])


def destinations(settings: Settings, receiver: str, user: str) -> dict[str, str]:
    """What stands behind a receiver: integration to address, for people."""
    notify = settings.notify
    if receiver == "nobody":
        return {}
    if receiver.startswith("user"):
        address = notify.users.addresses.get(user, f"{user}@{notify.users.domain}")
        return {"email": f"{address} by {notify.mail.smarthost}"} if notify.mail else {}
    found = {}
    if notify.mail:
        found["email"] = f"{', '.join(notify.mail.to)} by {notify.mail.smarthost}"
    if notify.slack:
        found["slack"] = f"Slack {notify.slack.channel}".rstrip()
    if notify.teams:
        found["msteamsv2"] = "Microsoft Teams"
    if notify.webhook:
        found["webhook"] = f"the address in {notify.webhook.url_file}"
    return found


def refusals(log: str, mark: str, receiver: str, since: dt.datetime) -> dict[str, str]:
    """The newest refusal by integration, from log lines about the alert with this mark.

    Alertmanager writes `… receiver=admins integration=email[0] aggrGroup=… err="…"`, where the group holds
    the mark; 0.25 names no group, so that the receiver and the time have to do. The server's words stand in
    `err` alone.
    """
    found: dict[str, str] = {}
    for line in log.splitlines():
        error = _ERROR.search(line)
        fields = dict(_FIELD.findall(line))
        ours = mark in line or (
            "aggrGroup=" not in line and fields.get("receiver") == receiver and _after(fields, since)
        )
        if ours and error and "integration" in fields:
            found[fields["integration"].partition("[")[0]] = json.loads(f'"{error[1]}"', strict=False)
    return found


def _after(fields: Mapping[str, str], since: dt.datetime) -> bool:
    try:
        return dt.datetime.fromisoformat(fields.get("ts", "").replace("Z", "+00:00")) >= since
    except ValueError:
        return False


@dataclass(frozen=True)
class _Trial:
    """One test alert on its way."""

    alertmanager: Alertmanager
    read_log: Callable[[], str]
    mark: str
    receiver: str
    since: dt.datetime
    before: Mapping[str, float]
    begun: float
    timeout: float

    def follow(self, waiting: Mapping[str, str]) -> list[Delivery]:
        """Wait until each integration has accepted or refused, or time is up."""
        done: dict[str, Delivery] = {}
        while True:
            for seen in self._look({name: to for name, to in waiting.items() if name not in done}):
                done[seen.integration] = seen
            if len(done) == len(waiting):
                return [done[name] for name in waiting]
            time.sleep(0.2)

    def _look(self, waiting: Mapping[str, str]) -> Iterator[Delivery]:
        seconds = time.monotonic() - self.begun
        accepted = _accepted(self.alertmanager)
        refused = refusals(self.read_log(), self.mark, self.receiver, self.since)
        for name, to in waiting.items():
            if name in refused:
                yield Delivery(name, to, accepted=False, seconds=seconds, refusal=refused[name])
            elif accepted.get(name, 0) > self.before.get(name, 0):
                yield Delivery(name, to, accepted=True, seconds=seconds)
            elif seconds > self.timeout:
                words = f"no answer within {self.timeout:g} s"
                yield Delivery(name, to, accepted=False, seconds=seconds, refusal=words)


def _alert(labels: Mapping[str, str], lasts: dt.timedelta) -> dict[str, object]:
    now = dt.datetime.now(dt.timezone.utc)
    words = "This is a test of the notifications: nothing is wrong."
    return {
        "labels": dict(labels),
        "annotations": {"summary": "Test alert", "description": words, "action": "Nothing."},
        "startsAt": now.isoformat(),
        "endsAt": (now + lasts).isoformat(),
    }


def _receiver(alertmanager: Alertmanager, mark: str, deadline: float) -> str:
    """The receiver that Alertmanager routes the alert to."""
    while True:
        for alert in alertmanager.alerts(test=mark):
            return str(alert["receivers"][0]["name"])
        if time.monotonic() > deadline:
            raise UserError(
                "took the alert and does not show it",
                place=f"Alertmanager at {alertmanager.url}",
                hint="monitoring-manage logs alertmanager",
            )
        time.sleep(0.2)


def _accepted(alertmanager: Alertmanager) -> dict[str, float]:
    """Notifications that servers took, by integration: the requests minus those that failed.

    `alertmanager_notifications_total` also counts what is still being tried again.
    """
    requests: dict[str, float] = {}
    for family in text_string_to_metric_families(alertmanager.text("/metrics")):
        sign = {"alertmanager_notification_requests": 1, "alertmanager_notification_requests_failed": -1}.get(
            family.name, 0
        )
        for sample in family.samples if sign else ():
            integration = sample.labels["integration"]
            requests[integration] = requests.get(integration, 0) + sign * sample.value
    return requests
