"""The door to the Docker Engine's HTTP API, over its socket."""

from __future__ import annotations

import contextlib
import json
import socket
from http.client import HTTPConnection, HTTPException, HTTPResponse
from typing import TYPE_CHECKING, cast
from urllib.parse import quote, urlsplit

from ds01_exporter.health import CollectorError

if TYPE_CHECKING:
    from collections.abc import Iterator

TIMEOUT_SECONDS = 10.0
"""An Engine that does not answer within this time counts as hung."""

LIMIT_BYTES = 64 << 20

_CHANGES = ["create", "start", "die", "destroy", "rename", "pause", "unpause"]
_MAX_LINE_BYTES = 1 << 20


class DockerError(CollectorError):
    """The Engine cannot be asked, or its answer is of no use."""


class DockerHostError(Exception):
    """A DOCKER_HOST that this exporter cannot use; the message says what it can."""


class _UnixConnection(HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("docker", timeout=TIMEOUT_SECONDS)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class Docker:
    """Asks the Engine at `host`, which is `unix:///path` or `tcp://address:port`.

    Raises:
        DockerHostError: `host` is neither.
    """

    def __init__(self, host: str) -> None:
        self.host = host
        try:
            url = urlsplit(host)
            usable = (url.scheme == "unix" and url.path) or (
                url.scheme == "tcp" and url.hostname and url.port != 0
            )
        except ValueError:  # a port that is no number
            usable = ""
        if not usable:
            raise DockerHostError(
                f"{host!r} is not an address of a Docker Engine: unix:///path or tcp://address:port"
            )
        self._url = url
        self._stream: socket.socket | None = None

    def containers(self) -> list[object]:
        """Return the entries of `GET /containers/json`, running and stopped ones.

        Raises:
            DockerError: the Engine does not answer, or not with a list.
        """
        found = self._get("/containers/json?all=1")
        if not isinstance(found, list):
            raise DockerError(f"{self.host}: the answer is not a list of containers")
        return found

    def inspect(self, container_id: str) -> object:
        """Return the answer of `GET /containers/<id>/json`; None if there is no such container any more.

        Raises:
            DockerError: the Engine does not answer.
        """
        return self._get(f"/containers/{quote(container_id, safe='')}/json", missing_is_none=True)

    def changes(self) -> Iterator[None]:
        """Yield once when the stream of events is open, then whenever a container comes, goes or changes.

        Ends when the Engine closes the stream, or `close` is called.

        Raises:
            DockerError: the Engine does not answer.
        """
        filters = quote(json.dumps({"type": ["container"], "event": _CHANGES}))
        connection = self._connection()
        try:
            connection.connect()
            self._stream = stream = cast(
                "socket.socket", connection.sock
            )  # the answer may take it away from there
            response = self._open(connection, f"/events?filters={filters}")
            stream.settimeout(None)  # nothing may happen for days; the resync notices a hung Engine
            yield
            while response.readline(_MAX_LINE_BYTES):
                yield
            response.close()
        except (OSError, HTTPException, ValueError) as error:
            raise self._unusable(error) from error
        finally:
            self._stream = None
            connection.close()

    def close(self) -> None:
        """End `changes`, which another thread is waiting in."""
        stream = self._stream
        if stream is not None:
            with contextlib.suppress(OSError):  # it has ended by itself
                stream.shutdown(socket.SHUT_RDWR)

    def _get(self, path: str, *, missing_is_none: bool = False) -> object:
        connection = self._connection()
        try:
            response = self._open(connection, path, accept=(200, 404) if missing_is_none else (200,))
            if response.status == 404:
                return None
            body = response.read(LIMIT_BYTES + 1)
            if len(body) > LIMIT_BYTES:
                raise DockerError(f"{self.host}: an answer is larger than {LIMIT_BYTES >> 20} MiB")
            return cast("object", json.loads(body))
        except (OSError, HTTPException, ValueError, RecursionError) as error:
            raise self._unusable(error) from error
        finally:
            connection.close()

    def _open(self, connection: HTTPConnection, path: str, accept: tuple[int, ...] = (200,)) -> HTTPResponse:
        connection.request("GET", path)
        response = connection.getresponse()
        if response.status not in accept:
            raise DockerError(f"{self.host}: answers {response.status} {response.reason}")
        return response

    def _connection(self) -> HTTPConnection:
        if self._url.scheme == "unix":
            return _UnixConnection(self._url.path)
        return HTTPConnection(self._url.hostname or "", self._url.port or 2375, timeout=TIMEOUT_SECONDS)

    def _unusable(self, error: Exception) -> DockerError:
        if isinstance(error, TimeoutError):
            return DockerError(f"{self.host}: no answer within {TIMEOUT_SECONDS:.0f} s")
        if isinstance(error, OSError):
            return DockerError(f"{self.host}: {error.strerror or error}")
        return DockerError(f"{self.host}: the answer cannot be understood", str(error))
