"""A small HTTP server for readings: several addresses, basic auth, gzip, bounded time and connections.

Shared by `gpu-telemetry export` and the allocation exporter. It serves `GET` and `HEAD` only; a handler is a
function from `Request` to `Response`, looked up by path. Loopback is not private on a shared machine, so a slow
or greedy client costs at most `MAX_CONNECTIONS` threads for `REQUEST_SECONDS` each.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import gzip
import hmac
import io
import logging
import selectors
import socket
import threading
import time
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import parse_qsl, urlsplit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

MAX_CONNECTIONS = 64
"""Connections served at the same time; one more is answered 503 and closed."""

REQUEST_SECONDS = 10.0
"""A whole request must have arrived within this time; an idle connection is closed after it."""

STOP_SECONDS = 3.0
"""How long a server that ends waits for requests that are being answered."""

GZIP_FROM_BYTES = 1024
"""Shorter bodies are sent as they are: compressing them costs more than it saves."""

USER = "ds01"
"""The only user name; the password is the secret."""

_IP_FREEBIND = 15  # linux/in.h; a name in Python's socket module only from 3.14
_IPV6_FREEBIND = 78  # linux/in6.h

log = logging.getLogger(__name__)


class BindError(Exception):
    """An address cannot be listened on; the message names it and says why."""


class PasswordFileError(Exception):
    """A password file cannot be used; the message names it and says why."""


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


def read_password(path: Path) -> str:
    """Return the password in the first line of `path`.

    Raises:
        PasswordFileError: the file cannot be read, or its first line is empty.
    """
    try:
        password = path.read_text(encoding="utf-8").partition("\n")[0].rstrip("\r")
    except (OSError, UnicodeError) as error:
        raise PasswordFileError(f"{path}: the password cannot be read: {error}") from error
    if not password:
        raise PasswordFileError(f"{path}: the first line is empty, a password is expected there")
    return password


def listen(address: str, port: int) -> socket.socket:
    """Open a listening socket on `address` (an IP address or a host name); `port` 0 means any free one.

    An IP address that no interface has yet is bound all the same (IP_FREEBIND), so that a server may listen on
    a container bridge before the bridge exists.

    Raises:
        BindError: the address is not one, may not be used, or the port is taken.
    """
    try:
        family, _, _, _, target = socket.getaddrinfo(address, port, type=socket.SOCK_STREAM)[0]
    except (OSError, UnicodeError) as error:
        raise BindError(f"cannot listen on {address!r}: no such address ({error})") from error
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            listener.setsockopt(socket.IPPROTO_IPV6, _IPV6_FREEBIND, 1)
        else:
            listener.setsockopt(socket.IPPROTO_IP, _IP_FREEBIND, 1)
        listener.bind(target)
        listener.listen(128)
        listener.setblocking(False)  # a client may be gone again between select and accept
    except OSError as error:
        listener.close()
        raise BindError(f"cannot listen on {address} port {port}: {error.strerror}") from error
    return listener


class Server:
    """Listens on every address of `bind`, and serves `routes` (path to handler) until stopped.

    `port` 0 takes any free port, the same one on each address. With `password`, every path asks for it and for
    the user name `ds01`.

    Raises:
        BindError: an address cannot be listened on; none is left open then.
    """

    def __init__(
        self,
        routes: Mapping[str, Callable[[Request], Response]],
        *,
        bind: Iterable[str],
        port: int,
        password: str | None = None,
        realm: str = "DS01 Monitoring",
    ) -> None:
        self._routes = dict(routes)
        self._credentials = f"{USER}:{password}".encode() if password is not None else None
        self._realm = realm
        self._slots = threading.BoundedSemaphore(MAX_CONNECTIONS)
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self.stopping = threading.Event()
        with contextlib.ExitStack() as opened:
            self._listeners: list[socket.socket] = []
            for address in bind:
                self._listeners.append(opened.enter_context(listen(address, port)))
                port = self.port
            opened.pop_all()
        self._wake, self._waker = socket.socketpair()

    @property
    def port(self) -> int:
        """The port that is really listened on."""
        return int(self._listeners[0].getsockname()[1])

    def serve_forever(self) -> None:
        """Accept connections until `stop` is called; a thread of its own serves each."""
        with selectors.DefaultSelector() as selector:
            for listener in (*self._listeners, self._wake):
                selector.register(listener, selectors.EVENT_READ)
            while not self.stopping.is_set():
                for key, _ in selector.select():
                    if key.fileobj is not self._wake:
                        self._accept(cast("socket.socket", key.fileobj))
        self._close()

    def stop(self) -> None:
        """End `serve_forever`; requests being answered get `STOP_SECONDS`. Safe in a signal handler."""
        self.stopping.set()
        self._waker.send(b".")

    def answer(self, request: Request) -> Response:
        """Return the response to `request`; a handler's exception is logged and becomes a bare 500."""
        if not self._authorised(request.headers.get("authorization", "")):
            challenge = {"WWW-Authenticate": f'Basic realm="{self._realm}", charset="UTF-8"'}
            return Response(b"401: a name and a password are needed\n", status=401, headers=challenge)
        handler = self._routes.get(request.path)
        if handler is None:
            return Response(b"404: there is no such page\n", status=404)
        try:
            return _compressed(handler(request), request)
        except Exception:
            log.exception("the page %s failed", request.path)
            return Response(b"500: the log of this server says why\n", status=500)

    def _authorised(self, header: str) -> bool:
        if self._credentials is None:
            return True
        scheme, _, encoded = header.partition(" ")
        try:
            given = base64.b64decode(encoded.strip(), validate=True)
        except (binascii.Error, ValueError):
            return False
        return scheme.lower() == "basic" and hmac.compare_digest(given, self._credentials)

    def _accept(self, listener: socket.socket) -> None:
        try:
            connection, address = listener.accept()
        except OSError as error:  # the client is gone again, or no file descriptor is left
            log.debug("accept: %s", error)
            self.stopping.wait(0.01)
            return
        if not self._slots.acquire(blocking=False):
            with connection, contextlib.suppress(OSError):
                connection.send(
                    b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
                )
            return
        with self._lock:
            self._open.add(connection)
        try:
            threading.Thread(target=self._serve, args=(connection, address), name="http", daemon=True).start()
        except RuntimeError as error:  # the user's limit of processes is reached
            log.warning("a client was turned away: %s", error)
            self._forget(connection)

    def _serve(self, connection: socket.socket, address: object) -> None:
        try:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            _Connection(connection, address, cast("Any", self))
        except OSError as error:  # the client went away or took too long
            log.debug("%s: %s", address, error)
        finally:
            self._forget(connection)

    def _forget(self, connection: socket.socket) -> None:
        with self._lock:
            self._open.discard(connection)
        connection.close()
        self._slots.release()

    def _close(self) -> None:
        for listener in self._listeners:
            listener.close()
        with self._lock:
            for connection in self._open:  # an idle one ends at once, an answer is still written
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RD)
        deadline = time.monotonic() + STOP_SECONDS
        while self._open and time.monotonic() < deadline:
            time.sleep(0.01)
        self._wake.close()
        self._waker.close()


def _compressed(response: Response, request: Request) -> Response:
    wanted = request.accepts_gzip and len(response.body) >= GZIP_FROM_BYTES
    if not wanted or "Content-Encoding" in response.headers:
        return response
    headers = {**response.headers, "Content-Encoding": "gzip", "Vary": "Accept-Encoding"}
    body = gzip.compress(response.body, compresslevel=1, mtime=0)
    return Response(body, response.content_type, response.status, headers)


class _PatientReader(io.RawIOBase):
    """Reads a socket until `deadline` (monotonic seconds), however slowly the bytes trickle in."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self.deadline = time.monotonic() + REQUEST_SECONDS

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("the request took too long")
        self._connection.settimeout(left)
        return self._connection.recv_into(buffer)


class _Connection(BaseHTTPRequestHandler):
    """One client's connection, which may carry several requests one after the other."""

    protocol_version = "HTTP/1.1"
    server_version = "ds01"
    sys_version = ""
    wbufsize = 64 * 1024  # the head and a short body leave in one packet

    def setup(self) -> None:
        self.connection = self.request
        self._raw = _PatientReader(self.request)
        self.rfile = io.BufferedReader(self._raw)
        self.wfile = self.request.makefile("wb", self.wbufsize)

    def handle_one_request(self) -> None:
        self._raw.deadline = time.monotonic() + REQUEST_SECONDS
        super().handle_one_request()

    def do_GET(self) -> None:
        self.request.settimeout(REQUEST_SECONDS)
        url = urlsplit(self.path)
        headers = {name.lower(): value for name, value in self.headers.items()}
        if "content-length" in headers or "transfer-encoding" in headers:
            self.close_connection = True  # a body that nobody reads must not be taken for the next request
        owner = cast("Server", self.server)
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

    do_HEAD = do_GET  # noqa: N815 - the base class looks methods up by these names

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name that the base class gives it
        log.debug("%s: %s", self.client_address, format % args)
