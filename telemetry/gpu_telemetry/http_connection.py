"""One client's connection to the HTTP server: requests that arrive in time, and their answers."""

from __future__ import annotations

import io
import logging
import time
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, Any, Protocol, cast
from urllib.parse import parse_qsl, urlsplit

if TYPE_CHECKING:
    import socket
    import threading
    from collections.abc import Mapping

REQUEST_SECONDS = 10.0
"""A whole request must have arrived within this time; an idle connection is closed after it."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Request:
    """What a handler may know about a request; header names are in lower case."""

    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]

    @property
    def accepts_gzip(self) -> bool:
        """Whether the client lists gzip in Accept-Encoding with a weight above zero."""
        for entry in self.headers.get("accept-encoding", "").lower().split(","):
            coding, _, weight = entry.partition(";")
            if coding.strip() in {"gzip", "*"}:
                return weight.replace(" ", "").rstrip(".0") != "q="
        return False


@dataclass(frozen=True)
class Response:
    """An answer; a body that is compressed already carries its Content-Encoding in `headers`."""

    body: bytes
    content_type: str = "text/plain; charset=utf-8"
    status: int = HTTPStatus.OK
    headers: Mapping[str, str] = field(default_factory=dict)


class Owner(Protocol):
    """What a connection needs of its server."""

    stopping: threading.Event

    def answer(self, request: Request) -> Response:
        """Return the response to a request; never raises."""

    def answering(self, connection: socket.socket, *, now: bool) -> None:
        """Note whether an answer is under way."""


class PatientReader(io.RawIOBase):
    """Reads a socket until `deadline` (monotonic seconds), however slowly the bytes trickle in."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self.deadline = time.monotonic() + REQUEST_SECONDS

    def readable(self) -> bool:
        """True: io asks."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Read what has arrived; TimeoutError once the deadline is over."""
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("the request took too long")
        self._connection.settimeout(left)
        return self._connection.recv_into(buffer)


class Connection(BaseHTTPRequestHandler):
    """One client's connection, which may carry several requests one after the other."""

    protocol_version = "HTTP/1.1"
    server_version = "ds01"
    sys_version = ""
    wbufsize = 64 * 1024  # the head and a short body leave in one packet

    def setup(self) -> None:
        """Open both directions."""
        self.connection = self.request
        self._raw = PatientReader(self.request)
        self.rfile = io.BufferedReader(self._raw)
        self.wfile = self.request.makefile("wb", self.wbufsize)

    def handle_one_request(self) -> None:
        """Give the next request its time, and handle it."""
        self._raw.deadline = time.monotonic() + REQUEST_SECONDS
        super().handle_one_request()

    def do_GET(self) -> None:
        """Answer a GET or HEAD request."""
        self.request.settimeout(REQUEST_SECONDS)
        url = urlsplit(self.path)
        headers = {name.lower(): value for name, value in self.headers.items()}
        if "content-length" in headers or "transfer-encoding" in headers:
            self.close_connection = True  # a body that nobody reads must not be taken for the next request
        owner = cast("Owner", self.server)
        owner.answering(self.request, now=True)
        response = owner.answer(
            Request(url.path, dict(parse_qsl(url.query, keep_blank_values=True)), headers)
        )
        if owner.stopping.is_set():
            self.close_connection = True
        self.send_response(response.status)
        self.send_header("Content-Type", response.content_type)
        self.send_header("Content-Length", str(len(response.body)))
        for name, value in response.headers.items():
            self.send_header(name, value)
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(response.body)
        self.wfile.flush()
        owner.answering(self.request, now=False)

    do_HEAD = do_GET  # noqa: N815 - the base class looks methods up by these names

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name that the base class gives it
        """Log at the level debug: a scrape is nothing to tell."""
        log.debug("%s: %s", self.client_address, format % args)
