"""The two doors of the simulated server: dcgm-exporter's page on TCP, the Docker Engine on a unix socket."""

from __future__ import annotations

import base64
import hmac
import json
import logging
import re
import select
import socket
import socketserver
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, urlsplit

from .bodies import API_VERSION
from .engine import Engine, EngineError, Query, check_api_version
from .errors import DemoError

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable
    from pathlib import Path

    from .clock import Clock

USER = "ds01"
_LONGEST_SOCKET_PATH = 107  # unix(7): sun_path holds 108 bytes, the last is 0.
_EVENT_POLL = 0.25

log = logging.getLogger(__name__)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 60

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it so.
        log.debug("%s", format % args)

    def _send(self, status: int, body: bytes, kind: str, **headers: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


class _Quiet(socketserver.BaseServer):
    def handle_error(self, request: object, client_address: object) -> None:  # noqa: ARG002 - the interface.
        """A client that went away is no error of the server; anything else is logged with its traceback."""
        log.debug("request from %s failed", client_address, exc_info=True)  # noqa: LOG014 - called from a handler.


class MetricsServer(_Quiet, ThreadingHTTPServer):
    """Serves `page()` at /metrics, to `USER` with `password` only where one is given."""

    daemon_threads = True

    def __init__(self, address: tuple[str, int], page: Callable[[], str], password: str | None) -> None:
        self.page = page
        self.password = password
        try:
            super().__init__(address, _MetricsHandler)
        except OSError as error:
            host, port = address
            raise DemoError(
                f"{host}:{port}: {error.strerror}", hint="choose another --dcgm-bind or --dcgm-port"
            ) from error


class _MetricsHandler(_Handler):
    server: MetricsServer

    def do_GET(self) -> None:
        if not self._allowed():
            challenge = 'Basic realm="dcgm-exporter"'
            self._send(401, b"Unauthorized\n", "text/plain; charset=utf-8", WWW_Authenticate=challenge)
            return
        path = urlsplit(self.path).path
        if path == "/metrics":
            self._send(200, self.server.page().encode(), "text/plain; version=0.0.4; charset=utf-8")
        elif path == "/health":
            self._send(200, b"OK", "text/plain; charset=utf-8")
        elif path == "/":
            index = b'<html><body><h1>GPU Exporter (simulated)</h1><p><a href="./metrics">Metrics</a></p></body></html>'
            self._send(200, index, "text/html; charset=utf-8")
        else:
            self._send(404, b"404 page not found\n", "text/plain; charset=utf-8")

    do_HEAD = do_GET  # noqa: N815 - the base class names it so.

    def _allowed(self) -> bool:
        if self.server.password is None:
            return True
        expected = b"Basic " + base64.b64encode(f"{USER}:{self.server.password}".encode())
        return hmac.compare_digest(self.headers.get("Authorization", "").encode(), expected)


class EngineServer(_Quiet, socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    """Answers for `engine` on the unix socket `path`; `stopping` ends the event streams."""

    daemon_threads = True

    def __init__(self, path: Path, engine: Engine, clock: Clock, stopping: threading.Event) -> None:
        self.engine = engine
        self.clock = clock
        self.stopping = stopping
        if len(str(path)) > _LONGEST_SOCKET_PATH:
            raise DemoError(f"{path}: too long for a unix socket", hint="give a shorter --dir")
        path.unlink(missing_ok=True)
        super().__init__(str(path), _EngineHandler)
        path.chmod(0o660)


class _EngineHandler(_Handler):
    server: EngineServer

    def do_GET(self) -> None:
        try:
            self._answer()
        except EngineError as error:
            self._json(error.status, {"message": str(error)})

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_POST(self) -> None:
        self._json(403, {"message": "the simulated Engine only answers questions"})

    do_DELETE = do_PUT = do_POST  # noqa: N815

    def _answer(self) -> None:
        url = urlsplit(self.path)
        path = url.path
        if prefixed := re.match(r"/v(\d+\.\d+)(/.*)", path):
            check_api_version(prefixed[1])
            path = prefixed[2]
        query = Query(dict(parse_qsl(url.query)))
        if path == "/_ping":
            self._send(200, b"OK", "text/plain; charset=utf-8", Api_Version=API_VERSION, Ostype="linux")
        elif path == "/events":
            self._stream(query)
        else:
            self._json(200, self.server.engine.answer(path, query, self.server.clock.now()))

    def _json(self, status: int, body: object) -> None:
        text = json.dumps(body, separators=(",", ":")) + "\n"
        self._send(status, text.encode(), "application/json", Api_Version=API_VERSION, Ostype="linux")

    def _stream(self, query: Query) -> None:
        clock, engine = self.server.clock, self.server.engine
        seen = _moment(query, "since", clock)
        until = _moment(query, "until", clock)
        last = clock.now() if seen is None else seen
        engine.events(query, last, last)  # Filters are refused before the stream begins.
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        while True:
            now = clock.now() if until is None else min(clock.now(), until)
            for event in engine.events(query, last, now):
                self._chunk(json.dumps(event, separators=(",", ":")) + "\n")
            last = max(last, now)
            if self.server.stopping.is_set() or (until is not None and now >= until) or self._gone():
                break
        self._chunk("")
        self.close_connection = True

    def _chunk(self, text: str) -> None:
        self.wfile.write(f"{len(text.encode()):x}\r\n{text}\r\n".encode())
        self.wfile.flush()

    def _gone(self) -> bool:
        """Wait a moment; whether the client has closed its end."""
        readable, _, _ = select.select([self.connection], [], [], _EVENT_POLL)
        return bool(readable) and not self.connection.recv(1, socket.MSG_PEEK)


def _moment(query: Query, name: str, clock: Clock) -> float | None:
    value = query.values.get(name)
    if value is None:
        return None
    try:
        return clock.world(float(value))
    except ValueError as error:
        raise EngineError(400, f"invalid value for {name}: {value}") from error
