"""The list of containers, kept up to date in the background: by the Engine's events, and by a periodic resync."""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING

from ds01_exporter.background import Ticker
from ds01_exporter.containers import Container, Details, read_container, read_details
from ds01_exporter.docker import DockerError
from ds01_exporter.health import CollectorError, Health

if TYPE_CHECKING:
    from ds01_exporter.docker import Docker

RESYNC_SECONDS = 30.0
"""How often the list is read when no event says so: events can be lost, an Engine can hang."""

KEEP_SECONDS = 60.0
"""How long the last list stands in while the Engine does not answer: a restart of the daemon takes less."""

INSPECT_AGAIN_SECONDS = 300.0
"""When a container that could not be inspected is asked again."""

_SETTLE_SECONDS = 0.1  # `docker run` makes several events, and one list call serves them all
_MIN_PAUSE_SECONDS = 0.5
_RECONNECT_SECONDS = (1.0, 2.0, 5.0, 10.0, 30.0)

log = logging.getLogger("ds01_exporter")


class DockerWatch(Ticker):
    """Publishes `containers`, the monitoring's own left out.

    `containers` is None until the Engine has answered, and again when it has not for `KEEP_SECONDS`; `version`
    changes with it.
    """

    def __init__(self, docker: Docker) -> None:
        super().__init__("docker", RESYNC_SECONDS)
        self.health = Health("docker")
        self.containers: tuple[Container, ...] | None = None
        self.version = 0
        self.first_sync = threading.Event()
        self._docker = docker
        self._details: dict[str, Details] = {}
        self._ask_again: dict[str, float] = {}
        self._answered_at = time.monotonic()

    def start(self) -> None:
        """Start the thread that lists, and the one that listens for events."""
        super().start()
        threading.Thread(target=self._listen, name="docker-events", daemon=True).start()

    def stop(self) -> None:
        """Ask both threads to end."""
        super().stop()
        self._docker.close()

    def refresh(self) -> None:
        """Let go of a list that is too old to be told."""
        if self.containers is not None and time.monotonic() - self._answered_at > KEEP_SECONDS:
            self._publish(None)

    def tick(self) -> None:
        """Read the list once."""
        with self.health.watch():
            self._publish(self._list())
            self._answered_at = time.monotonic()
        self.first_sync.set()
        self.pause(_MIN_PAUSE_SECONDS)

    def _list(self) -> tuple[Container, ...]:
        entries = self._docker.containers()
        ids = [
            entry["Id"] for entry in entries if isinstance(entry, dict) and isinstance(entry.get("Id"), str)
        ]
        self._details = {one: self._details[one] for one in ids if one in self._details}
        self._ask_again = {one: self._ask_again[one] for one in ids if one in self._ask_again}
        found = []
        for entry in entries:
            plain = read_container(entry, None)
            if plain is None:
                raise CollectorError(f"{self._docker.host}: an entry of the list has no id")
            if not plain.of_monitoring:
                container = read_container(entry, self._details_of(plain.id))
                found.append(container or plain)
        return tuple(found)

    def _details_of(self, container_id: str) -> Details | None:
        if container_id not in self._details and time.monotonic() >= self._ask_again.get(container_id, 0.0):
            try:
                document = self._docker.inspect(container_id)
            except DockerError as error:  # one container that hangs must not hide the others
                log.warning("docker: container %s cannot be inspected: %s", container_id[:12], error.problem)
                self._ask_again[container_id] = time.monotonic() + INSPECT_AGAIN_SECONDS
                return None
            if document is not None:
                self._details[container_id] = read_details(document)
        return self._details.get(container_id)

    def _publish(self, containers: tuple[Container, ...] | None) -> None:
        if containers != self.containers:
            self.containers = containers
            self.version += 1

    def _listen(self) -> None:
        failures = 0
        while not self.stopping:
            try:
                for _ in self._docker.changes():
                    failures = 0
                    self.pause(_SETTLE_SECONDS)
                    self.wake()
            except DockerError as error:
                log.debug("docker events: %s", error.problem)  # the list call reports what is wrong
            self.pause(_RECONNECT_SECONDS[min(failures, len(_RECONNECT_SECONDS) - 1)])
            failures += 1
