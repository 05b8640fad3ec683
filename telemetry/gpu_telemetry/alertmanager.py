"""Posts Andon's alerts to an Alertmanager, from a thread of its own."""

from __future__ import annotations

import base64
import json
import logging
import socket
import threading
import urllib.request
from datetime import datetime, timedelta, timezone
from http.client import HTTPException
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gpu_telemetry.alerts import CRITICAL, GpuAlert
from gpu_telemetry.httpd import USER, read_password

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gpu_telemetry.andon import AndonSystem

log = logging.getLogger(__name__)

API = "/api/v2/alerts"

Key = tuple[str, int, str | None]


class AlertmanagerPoster:
    """Sends the alerts of an `AndonSystem` while they last, and once more when they are over.

    Alertmanager forgets an alert that is not repeated, so an alert of a process that died ends by itself
    after four times `resend_secs`. What cannot be sent is logged once and tried again; nothing is raised.

    Args:
        url: Where Alertmanager is, for example http://127.0.0.1:9093.
        password_file: File with the password of the user ds01, where it asks for one.
        labels: More labels for every alert; `host` is this machine's name unless given here.
        resend_secs: Seconds between two posts of an alert that lasts.
        timeout_secs: Seconds for one post.

    Raises ValueError when the URL is not http or https, and PasswordFileError for a file without password.
    """

    def __init__(
        self,
        url: str,
        *,
        password_file: str | Path | None = None,
        labels: Mapping[str, str] | None = None,
        resend_secs: float = 60,
        timeout_secs: float = 5,
    ) -> None:
        if not url.startswith(("http://", "https://")):
            raise ValueError(f"the address of Alertmanager must start with http:// or https://, not {url!r}")
        self._url = url.rstrip("/") + API
        self._password = read_password(Path(password_file)) if password_file is not None else None
        self._labels = {"host": socket.gethostname(), **(labels or {})}
        self._resend = resend_secs
        self._timeout = timeout_secs
        self._andon: AndonSystem | None = None
        self._over: dict[Key, GpuAlert] = {}
        self._posted: dict[Key, dict[str, str]] = {}
        self._changed = threading.Event()
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None
        self.last_error: str | None = None

    def attach(self, andon: AndonSystem) -> AlertmanagerPoster:
        """Follows this system from now on."""
        self._andon = andon
        self._closing.clear()
        andon.on_alert(lambda _alert: self._changed.set())
        andon.on_resolved(self._remember)
        self._thread = threading.Thread(target=self._run, name="alertmanager", daemon=True)
        self._thread.start()
        return self

    def close(self) -> None:
        """Sends what is left, once, and ends."""
        self._closing.set()
        self._changed.set()
        if self._thread is not None:
            self._thread.join(self._timeout * 2)

    def post(self) -> bool:
        """Sends everything that is firing or just over; returns whether Alertmanager took it."""
        active = {_key(alert): alert for alert in (self._andon.active if self._andon else ())}
        over = {key: alert for key, alert in dict(self._over).items() if key not in active}
        body = [
            document for key, alert in {**active, **over}.items() for document in self._documents(key, alert)
        ]
        if body and not self._send(body):
            return False
        for key, alert in over.items():
            self._posted.pop(key, None)
            if self._over.get(key) is alert:
                del self._over[key]
        self._posted.update({key: self._labels_of(alert) for key, alert in active.items()})
        return True

    def _remember(self, alert: GpuAlert) -> None:
        self._over[_key(alert)] = alert
        self._changed.set()

    def _run(self) -> None:
        closing = False
        while not closing:
            self._changed.wait(self._resend)
            self._changed.clear()
            closing = self._closing.is_set()
            self.post()

    def _documents(self, key: Key, alert: GpuAlert) -> list[dict[str, Any]]:
        """The alert, and before it the end of itself under the labels that it had before it grew worse."""
        now = datetime.now(tz=timezone.utc)
        labels, before = self._labels_of(alert), self._posted.get(key)
        document = {
            "labels": labels,
            "annotations": {"summary": alert.message(), "score": str(alert.severity())},
            "startsAt": _rfc3339(alert.started_at or now),
            "endsAt": _rfc3339(alert.resolved_at or now + timedelta(seconds=4 * self._resend)),
        }
        if before is None or before == labels:
            return [document]
        return [document | {"labels": before, "endsAt": _rfc3339(now)}, document]

    def _labels_of(self, alert: GpuAlert) -> dict[str, str]:
        labels = {
            **self._labels,
            "alertname": f"DS01Andon{alert.kind}",
            "severity": "critical" if alert.severity() >= CRITICAL else "warning",
            "gpu": str(alert.device),
        }
        if alert.slot:
            labels["gpu_slot"] = alert.slot
        if alert.uuid:
            labels["UUID"] = alert.uuid
        if alert.simulated:
            labels["simulated"] = "true"
        return labels

    def _send(self, body: list[dict[str, Any]]) -> bool:
        headers = {"Content-Type": "application/json"}
        if self._password is not None:
            headers["Authorization"] = (
                "Basic " + base64.b64encode(f"{USER}:{self._password}".encode()).decode()
            )
        request = urllib.request.Request(self._url, json.dumps(body).encode(), headers)  # noqa: S310 - http(s), see __init__.
        try:
            with urllib.request.urlopen(request, timeout=self._timeout):  # noqa: S310 - the same.
                pass
        except (OSError, HTTPException) as error:
            if str(error) != self.last_error:
                log.warning("alerts cannot be posted to %s: %s", self._url, error)
            self.last_error = str(error)
            return False
        self.last_error = None
        return True


def _key(alert: GpuAlert) -> Key:
    return alert.kind, alert.device, alert.uuid


def _rfc3339(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")
