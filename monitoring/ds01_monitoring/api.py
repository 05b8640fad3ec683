"""The control plane's way to ask Prometheus, Alertmanager and Grafana over HTTP."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from ds01_monitoring import secrets
from ds01_monitoring.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from requests import Response

    from ds01_monitoring.config import Settings
    from ds01_monitoring.deployment import Deployment

TIMEOUT = 10.0
"""Seconds; a server on the same machine that needs longer is in trouble."""

MOST_STEPS = 10_000
"""Of a query over a time: Prometheus refuses one of more than 11 000 (`queryRange` in web/api/v1/api.go)."""


class Server:
    """One HTTP server of the stack.

    Attributes:
        name: How messages call it.
        url: Its address without a path.
        auth: User and password, or None where no port asks for one.
    """

    def __init__(self, name: str, url: str, auth: tuple[str, str] | None = None) -> None:
        self.name = name
        self.url = url.rstrip("/")
        self.auth = auth

    def call(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, Any] | None = None,
        body: object = None,
        timeout: float = TIMEOUT,
    ) -> Any:
        """Send one request; `body` travels as JSON, and so does the answer (None where it is empty).

        Raises:
            UserError: The server is not reachable, refuses the password, or answers with an error.
        """
        answer = self._send(method, path, params=params, body=body, timeout=timeout)
        return answer.json() if answer.content.strip() else None

    def text(self, path: str, *, timeout: float = TIMEOUT) -> str:
        """The text of a page; raises as `call`."""
        return self._send("GET", path, params=None, body=None, timeout=timeout).text

    def _send(
        self, method: str, path: str, *, params: Mapping[str, Any] | None, body: object, timeout: float
    ) -> Response:
        import requests  # noqa: PLC0415 - 80 ms that commands without a server do not pay.

        place = f"{self.name} at {self.url}"
        try:
            answer = requests.request(
                method, self.url + path, params=params, json=body, auth=self.auth, timeout=timeout
            )
        except requests.ConnectionError as error:
            raise UserError(
                "does not answer",
                place=place,
                hint="monitoring-manage status says what runs; start it with monitoring-manage start",
            ) from error
        except requests.RequestException as error:
            raise UserError(
                str(error), place=place, hint="monitoring-manage logs shows what it is busy with"
            ) from error
        if answer.status_code == requests.codes.unauthorized:
            raise UserError(
                "refuses the password",
                place=place,
                hint="another stack runs on this port, or secrets/ was renewed: monitoring-manage restart",
            )
        if not answer.ok:
            raise UserError(f"answers {answer.status_code}: {_reason(answer.text)}", place=place)
        return answer


def _reason(text: str) -> str:
    """What a server says of an error, in one line: Prometheus' `error` field, else its first line."""
    import json  # noqa: PLC0415 - only for errors.

    try:
        said = json.loads(text)
    except ValueError:
        said = text
    if isinstance(said, dict):
        said = said.get("error") or said.get("message") or text
    return (str(said).strip().splitlines() or ["no reason given"])[0]


class Prometheus(Server):
    """Prometheus' HTTP API, version 1."""

    def query(
        self, expression: str, *, at: float | None = None, timeout: float = TIMEOUT
    ) -> list[dict[str, Any]]:
        """The instant vector (`metric`, `value`) of an expression, now or at a Unix time."""
        params = {"query": expression} | ({} if at is None else {"time": f"{at:.3f}"})
        data = self.call("GET", "/api/v1/query", params=params, timeout=timeout)["data"]
        result: list[dict[str, Any]] = data["result"]
        return result

    def query_range(
        self, expression: str, *, start: float, end: float, step: float, timeout: float = 60
    ) -> list[dict[str, Any]]:
        """The matrix (`metric`, `values`) of an expression between two Unix times, a point each `step` seconds.

        It is asked for in as many pieces as Prometheus wants; `timeout` is that of each.
        """
        matrix: dict[frozenset[tuple[str, str]], dict[str, Any]] = {}
        while start <= end:
            last = min(start + MOST_STEPS * step, end)
            params = {"query": expression, "start": f"{start:.3f}", "end": f"{last:.3f}", "step": f"{step:g}"}
            answer = self.call("GET", "/api/v1/query_range", params=params, timeout=timeout)
            for row in answer["data"]["result"]:
                known = matrix.setdefault(frozenset(row["metric"].items()), {**row, "values": []})
                known["values"] += row["values"]
            start = last + step
        return list(matrix.values())

    def label_values(self, name: str) -> list[str]:
        """The values of a label in all series that are kept."""
        values: list[str] = self.call("GET", f"/api/v1/label/{name}/values")["data"]
        return values


class Alertmanager(Server):
    """Alertmanager's HTTP API, version 2."""

    def alerts(self, **matchers: str) -> list[dict[str, Any]]:
        """The alerts that Alertmanager holds, silenced and inhibited ones included, by exact labels."""
        params = {"filter": [f"{name}={_quoted(value)}" for name, value in matchers.items()]}
        found: list[dict[str, Any]] = self.call("GET", "/api/v2/alerts", params=params)
        return found

    def status(self) -> dict[str, Any]:
        """What it says of itself."""
        found: dict[str, Any] = self.call("GET", "/api/v2/status")
        return found

    def configuration(self) -> dict[str, Any]:
        """What it runs with, which may be older than what was rendered; without secrets."""
        import yaml  # noqa: PLC0415 - only for this.

        found: dict[str, Any] = yaml.safe_load(self.status()["config"]["original"])
        return found

    def version(self) -> tuple[int, ...]:
        """Its version, such as `(0, 25, 0)`."""
        info = self.status()["versionInfo"]["version"]
        return tuple(int(part) for part in re.findall(r"\d+", info)[:3])

    def post_alerts(self, alerts: list[dict[str, Any]]) -> None:
        """Put alerts in, as Prometheus does."""
        self.call("POST", "/api/v2/alerts", body=alerts)

    def silences(self) -> list[dict[str, Any]]:
        """Every silence it remembers, expired ones included."""
        found: list[dict[str, Any]] = self.call("GET", "/api/v2/silences")
        return found

    def add_silence(self, silence: dict[str, Any]) -> str:
        """Create a silence and return its id."""
        return str(self.call("POST", "/api/v2/silences", body=silence)["silenceID"])

    def expire_silence(self, identifier: str) -> None:
        """End a silence now."""
        self.call("DELETE", f"/api/v2/silence/{identifier}")


def _quoted(value: str) -> str:
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'


def prometheus(deployment: Deployment) -> Prometheus:
    """The Prometheus of a stack that was started."""
    return Prometheus("Prometheus", f"http://{deployment.addresses['prometheus']}", _auth(deployment))


def alertmanager(deployment: Deployment) -> Alertmanager:
    """The Alertmanager of a stack that was started."""
    return Alertmanager("Alertmanager", f"http://{deployment.addresses['alertmanager']}", _auth(deployment))


def grafana(deployment: Deployment, settings: Settings) -> Server:
    """The Grafana of a stack that was started, as its administrator.

    Raises:
        UserError: None belongs to it, or its password cannot be read.
    """
    address = deployment.addresses.get("grafana")
    if address is None:
        raise UserError("is not installed", place="Grafana")
    password = _read(secrets.grafana_password_file(settings, deployment.state))
    return Server("Grafana", f"http://{address}", (settings.grafana.admin_user, password))


def _auth(deployment: Deployment) -> tuple[str, str] | None:
    password = deployment.password()
    return None if password is None else (secrets.USER, password)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except FileNotFoundError as error:
        raise UserError(
            "does not exist",
            place=str(path),
            hint="monitoring-manage start makes it; or name the right --state-dir",
        ) from error
    except OSError as error:
        raise UserError(
            f"cannot be read: {error.strerror}",
            place=str(path),
            hint="run this as the user who started the stack, or with sudo",
        ) from error
