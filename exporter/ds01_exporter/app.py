"""Wires the sources to the parts of a scrape."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

from ds01_exporter.allocation_families import ALLOCATION_METRICS, Rows, allocation_rows
from ds01_exporter.allocations import Sources, View, merge
from ds01_exporter.container_use import ContainerUse, use_families
from ds01_exporter.disk import Disk
from ds01_exporter.docker import TIMEOUT_SECONDS, Docker
from ds01_exporter.docker_watch import DockerWatch
from ds01_exporter.events import Events, events_families
from ds01_exporter.exposition import Encoded, GzipJoiner, Part, encode
from ds01_exporter.health import Health, health_families
from ds01_exporter.metadata import MetadataFolder
from ds01_exporter.metrics import family
from ds01_exporter.settings import Settings, package_version
from ds01_exporter.state_file import StateFile
from ds01_exporter.topology import DriverTopology, TopologyFile, topology_families
from ds01_exporter.xid import XidErrors, xid_families

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator, Mapping

    from prometheus_client.core import Metric
    from prometheus_client.registry import Collector

    from ds01_exporter.containers import Container

FIRST_WAIT_SECONDS = 0.5
"""How long `start` waits for Docker and the driver, so that the first scrape already has the right labels."""


class Exporter:
    """All collectors, and the exposition text that they make together."""

    def __init__(self, settings: Settings, *, process: Collector | None = None) -> None:
        """Wire the sources that the settings name; `process` adds what a program says of itself."""
        self._settings = settings
        self._process = process
        self._lock = threading.Lock()
        self._view: tuple[Hashable, View] = (None, View())
        self._rows: tuple[View | None, Mapping[str, Rows]] = (None, {})
        self._joiners = {False: GzipJoiner(), True: GzipJoiner()}
        self._health = Health("exposition")
        self.state = StateFile(settings.state_file) if settings.state_file else None
        self.metadata = (
            MetadataFolder(settings.state_dir / "container-metadata") if settings.state_dir else None
        )
        self.docker = DockerWatch(Docker(settings.docker_host)) if settings.docker_host else None
        self.topology: TopologyFile | DriverTopology | None = None
        self.xid: XidErrors | None = None
        if settings.topology == "nvml":
            self.topology, self.xid = DriverTopology(), XidErrors()
        elif settings.topology:
            self.topology = TopologyFile(Path(settings.topology))
        self.use = ContainerUse(settings.cgroup_root, self._sampled) if self.docker else None
        self.events = Events(settings.events_file) if settings.events_file else None
        self.disk = Disk(settings.state_dir) if settings.state_dir else None
        self._parts = self._make_parts()

    def start(self) -> None:
        """Start the background threads, and give the fast sources a moment to answer."""
        for one in (self.docker, self.topology, self.xid, self.events):
            if one is not None:
                one.start()
        deadline = time.monotonic() + FIRST_WAIT_SECONDS
        if self.docker is not None:
            self.docker.first_sync.wait(FIRST_WAIT_SECONDS)
        if isinstance(self.topology, DriverTopology):
            self.topology.first_reading.wait(max(deadline - time.monotonic(), 0.0))
        with self._lock:
            self._refresh()
        if self.use is not None:  # it samples the containers that the others name
            self.use.start()

    def stop(self) -> None:
        """Ask the background threads to end."""
        for one in (self.docker, self.topology, self.xid, self.events, self.use):
            if one is not None:
                one.stop()

    def scrape(self, *, openmetrics: bool = False, compress: bool = False) -> bytes:
        """Return the exposition text of this moment; with `compress` as one gzip stream."""
        with self._lock:
            self._refresh()
            pieces = self._pieces(openmetrics=openmetrics)
            if compress:
                return self._joiners[openmetrics].join(pieces)
            return b"".join(piece.text for piece in pieces)

    def _refresh(self) -> None:
        for one in (self.metadata, self.state, self.docker, self.topology, self.disk):
            if one is not None:
                one.refresh()

    def _pieces(self, *, openmetrics: bool) -> list[Encoded]:
        """Return the encoded parts; one that cannot be built is left out and makes the exposition fail."""
        pieces = []
        with self._health.watch():
            mistakes = []
            for part in self._parts:
                try:
                    pieces.append(part.encoded(openmetrics=openmetrics))
                except Exception as error:  # noqa: BLE001, PERF203 - the other parts are still worth having
                    mistakes.append(error)
            if mistakes:
                raise mistakes[0]
        pieces.append(encode(health_families(self._healths()), openmetrics=openmetrics))
        if openmetrics:
            pieces.append(Encoded(b"# EOF\n"))
        return pieces

    def _make_parts(self) -> list[Part]:
        """Return the parts, those that change rarely first: the joiner keeps their checksum."""
        parts = [
            Part(lambda: None, self._about),
            *(self._allocation_part(name) for name in ALLOCATION_METRICS),
        ]
        if self.topology is not None:
            topology = self.topology
            parts.append(Part(lambda: topology.version, lambda: topology_families(topology.table)))
        if self.xid is not None:
            xid = self.xid
            parts.append(Part(lambda: xid.version, lambda: xid_families(xid)))
        if self.use is not None:
            use = self.use
            parts.append(
                Part(
                    lambda: (use.version, tuple(self._current().managed.items())),
                    lambda: use_families(use.uses, self._current().managed),
                )
            )
        if self.events is not None:
            events = self.events
            parts.append(Part(events.reading, lambda: events_families(events.reading())))
        parts.append(Part(self._disk_key, self._disk))
        if self._process is not None:
            parts.append(Part(time.monotonic, self._process.collect))
        return parts

    def _allocation_part(self, name: str) -> Part:
        def rows() -> Rows:
            view = self._current()
            if self._rows[0] is not view:
                self._rows = (view, allocation_rows(view))
            return self._rows[1][name]

        return Part(rows, lambda: [family(name, rows())])

    def _view_key(self) -> Hashable:
        sources = (self.state, self.metadata, self.docker, self.topology)
        return tuple(one.version if one is not None else None for one in sources)

    def _current(self) -> View:
        """Return what the sources say together; merged again only when one of them has changed."""
        key = self._view_key()
        if self._view[0] != key:
            sources = Sources(
                state=self.state.state if self.state else None,
                containers=self.docker.containers if self.docker else None,
                metadata=self.metadata.by_container if self.metadata else {},
                slots=self.topology.table if self.topology else None,
            )
            self._view = (key, merge(sources, self._settings.mig_equivalents_per_gpu))
        return self._view[1]

    def _sampled(self) -> tuple[Container, ...] | None:
        """Return the running containers of the allocator; waits until Docker was asked for the first time."""
        if self.docker is not None:
            self.docker.first_sync.wait(TIMEOUT_SECONDS)
        containers = self.docker.containers if self.docker else None
        if containers is None:
            return None
        with self._lock:
            managed = self._current().managed
        return tuple(one for one in containers if one.id in managed)

    def _healths(self) -> list[Health]:
        sources = (self.state, self.docker, self.topology, self.xid, self.events, self.use, self.disk)
        return [*(one.health for one in sources if one is not None), self._health]

    def _about(self) -> Iterator[Metric]:
        yield family("ds01_exporter_info", [((package_version(), "slim"), 1.0)])

    def _disk_key(self) -> Hashable:
        return (self.disk.sizes if self.disk else (), self.state.modified if self.state else None)

    def _disk(self) -> Iterator[Metric]:
        sizes = self.disk.sizes if self.disk else ()
        yield family("ds01_state_disk_bytes", (((kind,), float(size)) for kind, size in sizes))
        modified = self.state.modified if self.state else None
        yield family(
            "ds01_state_file_modified_timestamp_seconds", [] if modified is None else [((), modified)]
        )
