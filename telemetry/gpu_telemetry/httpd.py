"""A small HTTP server for readings: several addresses, basic auth, gzip, bounded time and connections.

Shared by `gpu-telemetry export` and the allocation exporter. It serves `GET` and `HEAD` only; a handler is a
function from `Request` to `Response`, looked up by path. Loopback is not private on a shared machine, so a slow
client costs a thread for at most `REQUEST_SECONDS`, and a greedy one loses its idle connections to the others.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import gzip
import hmac
import logging
import selectors
import signal
import socket
import threading
import time
from typing import TYPE_CHECKING, Any, cast

from gpu_telemetry.http_connection import REQUEST_SECONDS, Connection, Request, Response

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

__all__ = [
    "MAX_CONNECTIONS",
    "REQUEST_SECONDS",
    "USER",
    "BindError",
    "PasswordFileError",
    "Request",
    "Response",
    "Server",
    "listen",
    "read_password",
]

MAX_CONNECTIONS = 64
"""Connections served at the same time; one more takes the place of the one that has been idle longest."""

STOP_SECONDS = 3.0
"""How long a server that ends waits for requests that are being answered."""

GZIP_FROM_BYTES = 1024
"""Shorter bodies are sent as they are: compressing them costs more than it saves."""

USER = "ds01"
"""The only user name; the password is the secret."""

_TAKE_OVER_SECONDS = 0.2

_IP_FREEBIND = 15  # linux/in.h; a name in Python's socket module only from 3.14
_IPV6_FREEBIND = 78  # linux/in6.h

log = logging.getLogger(__name__)


class BindError(Exception):
    """An address cannot be listened on; the message names it and says why."""


class PasswordFileError(Exception):
    """A password file cannot be used; the message names it and says why."""


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
    if not 0 <= port <= 65535:
        raise BindError(f"{port} is no port: 0 to 65535")  # getaddrinfo would take another one
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
        self._open: dict[socket.socket, bool] = {}  # the oldest first; whether an answer is under way
        self._lock = threading.Lock()
        self._signalled = False
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
                    if key.fileobj is self._wake:
                        self._wake.recv(64)
                    else:
                        self._accept(cast("socket.socket", key.fileobj))
        self._close()

    def stop(self) -> None:
        """End `serve_forever`; requests being answered get `STOP_SECONDS`. Safe in a signal handler."""
        self.stopping.set()
        with contextlib.suppress(OSError):  # it is being woken already, or has ended
            self._waker.send(b".")

    def stop_on_signals(self, *numbers: int) -> None:
        """Have each of these signals call `stop`; only for the main thread, which must be the one that serves.

        One that we were started to ignore (nohup, a shell's background job) stays ignored.

        A signal that arrives just before the wait for connections would not interrupt it, so the interpreter is
        told to wake it (`signal.set_wakeup_fd`).
        """
        self._signalled = True
        self._waker.setblocking(False)
        signal.set_wakeup_fd(self._waker.fileno(), warn_on_full_buffer=False)
        for number in numbers:
            if signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, lambda *_: self.stop())

    def answering(self, connection: socket.socket, *, now: bool) -> None:
        """Note whether an answer on `connection` is under way."""
        with self._lock:
            self._open.pop(connection, None)  # one that was used a moment ago is the last to lose its place
            self._open[connection] = now

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
        if not self._slots.acquire(blocking=False) and not self._take_over():
            with connection, contextlib.suppress(OSError):
                connection.send(
                    b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
                )
            return
        with self._lock:
            self._open[connection] = False
        try:
            threading.Thread(target=self._serve, args=(connection, address), name="http", daemon=True).start()
        except RuntimeError as error:  # the user's limit of processes is reached
            log.warning("a client was turned away: %s", error)
            self._forget(connection)

    def _take_over(self) -> bool:
        """End the connection that has waited longest without a request, and take its place."""
        with self._lock:
            idle = next((connection for connection, answering in self._open.items() if not answering), None)
            if idle is not None:
                with contextlib.suppress(OSError):
                    idle.shutdown(socket.SHUT_RDWR)
        return idle is not None and self._slots.acquire(timeout=_TAKE_OVER_SECONDS)

    def _serve(self, connection: socket.socket, address: object) -> None:
        try:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            Connection(connection, address, cast("Any", self))
        except OSError as error:  # the client went away or took too long
            log.debug("%s: %s", address, error)
        finally:
            self._forget(connection)

    def _forget(self, connection: socket.socket) -> None:
        with self._lock:
            self._open.pop(connection, None)
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
        if self._signalled:
            signal.set_wakeup_fd(-1)
        self._wake.close()
        self._waker.close()


def _compressed(response: Response, request: Request) -> Response:
    wanted = request.accepts_gzip and len(response.body) >= GZIP_FROM_BYTES
    if not wanted or "Content-Encoding" in response.headers:
        return response
    headers = {**response.headers, "Content-Encoding": "gzip", "Vary": "Accept-Encoding"}
    body = gzip.compress(response.body, compresslevel=1, mtime=0)
    return Response(body, response.content_type, response.status, headers)
