"""A real alert, followed from Alertmanager to the server that takes it."""

from __future__ import annotations

import datetime as dt
import secrets
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from prometheus_client.parser import text_string_to_metric_families

from ds01_monitoring import nflog, silencing
from ds01_monitoring.errors import UserError
from ds01_monitoring.refusals import refusals

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from ds01_monitoring.api import Alertmanager

NAME = "DS01TestAlert"
LIFETIME = 600
"""Seconds after which Alertmanager forgets the alert, should we be killed before we end it."""

USER = "{{ .GroupLabels.user }}"
"""How the receiver of users' mail writes whom it is for (ds01_monitoring/mailing.py)."""

READS_LAST_WORD = (0, 28)
"""The version from which an answer to the text of a mail counts (`closeOnce` in notify/email/email.go)."""

NAMELESS = "this Alertmanager's log does not say of which alert"


@dataclass(frozen=True)
class Delivery:
    """What became of the alert at one of the receiver's integrations.

    Attributes:
        integration: `email`, `slack`, `msteamsv2` or `webhook`.
        to: Whom or what it reaches, for people.
        accepted: The server took it.
        seconds: Until it was taken or refused.
        refusal: The server's words, or what else went wrong; empty when accepted.
        doubt: Why this may be about another notification of the same time; empty when it is certain.
        remark: What "accepted" leaves open with this version of Alertmanager; empty when nothing.
    """

    integration: str
    to: str
    accepted: bool
    seconds: float
    refusal: str = ""
    doubt: str = ""
    remark: str = ""


def send(
    alertmanager: Alertmanager,
    host: str,
    read_log: Callable[[], str],
    notes: Path,
    *,
    severity: str,
    user: str = "",
    timeout: float = 60,
) -> list[Delivery]:
    """Raise an alert, wait for every integration of its receiver, and end the alert.

    Args:
        alertmanager: Where to put it.
        host: The label that tells whose alert it is.
        read_log: Alertmanager's newest log lines; the only place where a refusal stands.
        notes: Alertmanager's file `nflog`; the only place that says that this very alert was taken.
        severity: `critical`, `warning` or `info`.
        user: Route it as a waste alert of this user.
        timeout: Seconds to wait for an answer.

    Raises:
        UserError: Alertmanager cannot be reached, or nobody is configured to hear the alert.
    """
    mark = secrets.token_hex(4)
    labels = {"alertname": NAME, "severity": severity, "test": mark, "host": host}
    if user:
        labels |= {"notify": "user", "user": user}
    before = _accepted(alertmanager)
    begun, since = time.monotonic(), dt.datetime.now(dt.timezone.utc)
    alertmanager.post_alerts([_alert(labels, dt.timedelta(seconds=LIFETIME))])
    try:
        receiver = _receiver(alertmanager, mark, begun + timeout)
        configuration = alertmanager.configuration()
        waiting = destinations(configuration, receiver, user)
        if not waiting:
            raise _nobody(configuration, user)
        trial = _Trial(alertmanager, read_log, notes, mark, receiver, since, before, begun, timeout)
        deliveries = trial.follow(waiting)
        version = alertmanager.version()
        return [replace(delivery, remark=_remark(delivery, version)) for delivery in deliveries]
    finally:
        alertmanager.post_alerts([_alert(labels, dt.timedelta(0))])


def destinations(configuration: Mapping[str, Any], receiver: str, user: str) -> dict[str, str]:
    """What stands behind a receiver of the configuration that Alertmanager runs with: integration to address, for people."""
    found = next(one for one in configuration["receivers"] if one["name"] == receiver)
    named: dict[str, Callable[[Mapping[str, str]], str]] = {
        "email": lambda to: f"{to['to'].replace(USER, user)} by {to['smarthost']}",
        "slack": lambda to: f"Slack {to.get('channel', '')}".rstrip(),
        "msteamsv2": lambda _: "Microsoft Teams",
        "webhook": lambda to: f"the address in {to['url_file']}",
    }
    return {kind: name(to) for kind, name in named.items() for to in found.get(f"{kind}_configs", ())}


@dataclass(frozen=True)
class _Trial:
    """One test alert on its way."""

    alertmanager: Alertmanager
    read_log: Callable[[], str]
    notes: Path
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
        taken, unread = self._taken()
        refused = refusals(self.read_log(), self.mark, self.receiver, self.since)
        likely = _accepted(self.alertmanager)
        for name, to in waiting.items():
            one_more = likely.get(name, 0) > self.before.get(name, 0)
            if name in taken:
                yield Delivery(name, to, accepted=True, seconds=taken[name])
            elif name in refused:
                words, doubt = refused[name].words, "" if refused[name].certain else NAMELESS
                yield Delivery(name, to, accepted=False, seconds=seconds, refusal=words, doubt=doubt)
            elif one_more and (unread or seconds > self.timeout):
                doubt = unread or f"Alertmanager has not noted in {self.timeout:g} s what it was"
                yield Delivery(name, to, accepted=True, seconds=seconds, doubt=doubt)
            elif seconds > self.timeout:
                words = f"no answer within {self.timeout:g} s"
                yield Delivery(name, to, accepted=False, seconds=seconds, refusal=words)

    def _taken(self) -> tuple[dict[str, float], str]:
        """Seconds until each integration took this alert, by Alertmanager's notes; and why they cannot be read."""
        try:
            found = list(nflog.read(self.notes.read_bytes()))
        except FileNotFoundError:  # An Alertmanager that never sent anything has none yet.
            return {}, ""
        except (OSError, ValueError) as error:
            return {}, f"{self.notes} cannot be read: {getattr(error, 'strerror', None) or error}"
        own = [
            note for note in found if note.receiver == self.receiver and f'test="{self.mark}"' in note.group
        ]
        return {note.integration: max(0.0, note.at - self.since.timestamp()) for note in own}, ""


def _remark(delivery: Delivery, version: tuple[int, ...]) -> str:
    if not delivery.accepted or delivery.integration != "email" or version >= READS_LAST_WORD:
        return ""
    found, wanted = (".".join(map(str, part)) for part in (version, READS_LAST_WORD))
    return (
        f"Alertmanager {found} does not read the server's answer to the text of a mail, {wanted} does: "
        "see whether it arrives"
    )


def _alert(labels: Mapping[str, str], lasts: dt.timedelta) -> dict[str, object]:
    now = dt.datetime.now(dt.timezone.utc)
    words = "This is a test of the notifications: nothing is wrong."
    return {
        "labels": dict(labels),
        "annotations": {"summary": "Test alert", "description": words, "action": "Nothing."},
        "startsAt": now.isoformat(),
        "endsAt": (now + lasts).isoformat(),
    }


def _nobody(configuration: Mapping[str, Any], user: str) -> UserError:
    """Why there is nobody to follow it to."""
    if user:
        on = any(one["name"] == "admins-for-users" for one in configuration["receivers"])
        why = "named among the exceptions" if on else "mail to users is off"
        hint = "monitoring-manage reload puts a change in force"
        return UserError(f"{user} gets no mail: {why}", place="notify.users", hint=hint)
    hint = "set notify.mail (or slack, teams, webhook) in monitoring.yaml, then monitoring-manage reload"
    return UserError("nobody hears it: no receiver is set", place="notify", hint=hint)


def _receiver(alertmanager: Alertmanager, mark: str, deadline: float) -> str:
    """The receiver that Alertmanager routes the alert to.

    Raises:
        UserError: It does not show the alert, or a silence holds it back.
    """
    while True:
        for alert in alertmanager.alerts(test=mark):
            for identifier in alert["status"]["silencedBy"]:
                raise _held_back(alertmanager, identifier)
            return str(alert["receivers"][0]["name"])
        if time.monotonic() > deadline:
            raise UserError(
                "took the alert and does not show it",
                place=f"Alertmanager at {alertmanager.url}",
                hint="monitoring-manage logs alertmanager",
            )
        time.sleep(0.2)


def _held_back(alertmanager: Alertmanager, silence: str) -> UserError:
    reasons = [one.comment for one in silencing.in_force(alertmanager) if one.identifier == silence]
    return UserError(
        f"a silence holds the test back: {''.join(reasons)}",
        place=silence[:8],
        hint=f"monitoring-manage unsilence {silence[:8]}, or try again when it is over",
    )


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
