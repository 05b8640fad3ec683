"""Asking a server of the stack over HTTP, light enough for a health check that takes half a second."""

from __future__ import annotations

import base64
import http.client
import json
import re
from contextlib import closing
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from ds01_monitoring.secrets import USER

SAMPLE = re.compile(r"^(\w+)(?:\{(.*)\})? (\S+)(?: \S+)?$")
LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


class Unreachable(Exception):  # noqa: N818 - reads better where it is caught.
    """No answer: nobody listens, the time is over, or what came is no HTTP."""


@dataclass(frozen=True)
class Reply:
    """What a server answered.

    Attributes:
        status: The HTTP status code.
        text: The body.
        location: Where a redirect leads; empty without one.
    """

    status: int
    text: str
    location: str = ""

    def json(self) -> Any:
        """The body as JSON.

        Raises:
            Unreachable: It is none.
        """
        try:
            return json.loads(self.text)
        except ValueError as error:
            raise Unreachable(f"status {self.status}, and no JSON") from error

    def samples(self) -> list[tuple[str, dict[str, str], float]]:
        """The body as Prometheus' text format: name, labels and value of each sample; an error's page has none."""
        if self.status >= 400:
            return []
        found = (SAMPLE.match(line) for line in self.text.splitlines())
        return [(m[1], dict(LABEL.findall(m[2] or "")), float(m[3])) for m in found if m]


@dataclass(frozen=True)
class Client:
    """Asks servers on this machine, with the stack's password."""

    password: str | None
    timeout_seconds: float = 3.0

    def get(self, address: str, path: str, **query: str) -> Reply:
        """The answer to one GET, whatever its status.

        Raises:
            Unreachable: There is none; says why in a few words.
        """
        headers = {}
        if self.password is not None:
            token = base64.b64encode(f"{USER}:{self.password}".encode()).decode()
            headers["Authorization"] = f"Basic {token}"
        target = f"{path}?{urlencode(query)}" if query else path
        try:
            with closing(http.client.HTTPConnection(address, timeout=self.timeout_seconds)) as connection:
                connection.request("GET", target, headers=headers)
                answer = connection.getresponse()
                text = answer.read().decode(errors="replace")
                return Reply(answer.status, text, answer.getheader("Location", ""))
        except TimeoutError as error:
            raise Unreachable(f"no answer within {self.timeout_seconds:g} s") from error
        except ConnectionRefusedError as error:
            raise Unreachable("nobody listens there") from error
        except (OSError, http.client.HTTPException) as error:
            raise Unreachable(str(error) or type(error).__name__) from error
