"""XID errors, as the driver reports them."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from ds01_exporter.health import CollectorError, Health
from ds01_exporter.metrics import family
from gpu_telemetry.devices import NvmlUnavailable, XidEvent, XidWatcher

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prometheus_client.core import Metric

WAIT_SECONDS = 5.0
RETRY_SECONDS = 60.0

Key = tuple[str, str, str]


class XidErrors:
    """Counts XID errors by (gpu, UUID, xid) in a thread of its own; `version` changes with each."""

    def __init__(self) -> None:
        self.health = Health("xid")
        self.version = 0
        self.counts: dict[Key, int] = {}
        self.last: dict[Key, float] = {}
        self._stopping = threading.Event()

    def start(self) -> None:
        """Start the thread that waits for errors."""
        threading.Thread(target=self._run, name="xid", daemon=True).start()

    def stop(self) -> None:
        """Ask the thread to end."""
        self._stopping.set()

    def add(self, event: XidEvent) -> None:
        """Count one error; the labels of a GPU that the driver did not name are empty."""
        key = ("" if event.gpu is None else str(event.gpu), event.uuid or "", str(event.xid))
        self.last = self.last | {key: event.timestamp}
        self.counts = self.counts | {key: self.counts.get(key, 0) + 1}
        self.version += 1

    def _run(self) -> None:
        while not self._stopping.is_set():
            with self.health.watch():
                try:
                    self._watch()
                except NvmlUnavailable as error:
                    raise CollectorError(f"no XID errors can be had: {error}") from error
            self._stopping.wait(RETRY_SECONDS)

    def _watch(self) -> None:
        with XidWatcher() as watcher:
            while not self._stopping.is_set():
                self.health.succeeded(0.0)
                for event in watcher.wait(WAIT_SECONDS):
                    self.add(event)


def xid_families(errors: XidErrors) -> Iterator[Metric]:
    """Yield the number of each kind of error, and when it last came."""
    yield family("ds01_gpu_xid_errors_total", ((key, float(count)) for key, count in errors.counts.items()))
    yield family("ds01_gpu_xid_last_timestamp_seconds", errors.last.items())
