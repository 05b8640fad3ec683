"""The machine's GPU slots: from the driver, or from a file that `gpu-telemetry list --json` printed."""

from __future__ import annotations

import json
import os
import threading
from typing import TYPE_CHECKING, Protocol

from ds01_exporter.background import Ticker
from ds01_exporter.files import Signature, read_bounded, signature
from ds01_exporter.health import CollectorError, Health
from ds01_exporter.metrics import family
from gpu_telemetry.devices import NvmlUnavailable, Slot, Topology, TopologyError, read_topology

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from prometheus_client.core import Metric

REREAD_SECONDS = 30.0
"""How often the driver is asked: MIG may be reconfigured at any time."""

LIMIT_BYTES = 4 << 20

_MIN_PREFIX = len("GPU-12345678")


class SlotTable:
    """The slots of a machine, and their names by UUID."""

    def __init__(self, slots: tuple[Slot, ...] = ()) -> None:
        self.slots = slots
        self.by_name = {slot.name: slot for slot in slots}
        self._names = {(slot.mig_uuid or slot.uuid): slot.name for slot in slots}

    def name_of(self, mark: str, otherwise: Mapping[str, str]) -> str:
        """Return the slot that `mark` stands for: a slot name, or a UUID or the beginning of one.

        A UUID that the driver does not know is looked up in `otherwise`, and left as it is where that fails.
        """
        if mark in self.by_name:
            return mark
        name = self._names.get(mark) or otherwise.get(mark)
        if name is None and len(mark) >= _MIN_PREFIX and mark.startswith(("GPU-", "MIG-")):
            fits = [slot for uuid, slot in self._names.items() if uuid.startswith(mark)]
            name = fits[0] if len(fits) == 1 else None
        return name or mark


class TopologySource(Protocol):
    """Where the slots come from. `table` is None while they are not known; `version` changes with it."""

    health: Health
    table: SlotTable | None
    version: int

    def start(self) -> None:
        """Start threads, where it has any."""

    def stop(self) -> None:
        """Ask them to end."""

    def refresh(self) -> None:
        """What is to be done at a scrape."""


class TopologyFile:
    """Reads a file, again when it changes."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.health = Health("topology")
        self.table: SlotTable | None = None
        self.version = 0
        self._topology: Topology | None = None
        self._signature: Signature | None = None

    def start(self) -> None:
        """Nothing: it is read at a scrape."""

    def stop(self) -> None:
        """Nothing."""

    def refresh(self) -> None:
        """Read the file if it has changed."""
        with self.health.watch():
            try:
                self._read()
            except CollectorError:
                self._set(None)
                raise

    def _read(self) -> None:
        try:
            status = os.stat(self.path)  # noqa: PTH116 - called at every scrape
        except OSError as error:
            raise CollectorError(f"{self.path}: {error.strerror}") from error
        if self._signature is not None and signature(status) == self._signature:
            return
        content, status = read_bounded(self.path, LIMIT_BYTES)
        try:
            self._set(Topology.from_dict(json.loads(content)))
        except TopologyError as error:
            raise CollectorError(f"{self.path}: {error}") from error
        except (ValueError, RecursionError) as error:
            raise CollectorError(f"{self.path}: not valid JSON", str(error)) from error
        self._signature = signature(status)

    def _set(self, topology: Topology | None) -> None:
        self._signature = None
        if topology != self._topology:
            self._topology = topology
            self.table = None if topology is None else SlotTable(topology.slots())
            self.version += 1


class DriverTopology(Ticker):
    """Asks the driver through NVML, in the background."""

    def __init__(self) -> None:
        super().__init__("topology", REREAD_SECONDS)
        self.health = Health("topology")
        self.table: SlotTable | None = None
        self.version = 0
        self.first_reading = threading.Event()
        self._topology: Topology | None = None

    def refresh(self) -> None:
        """Nothing: a thread does it."""

    def tick(self) -> None:
        """Ask once."""
        with self.health.watch():
            try:
                self._set(read_topology())
            except NvmlUnavailable as error:
                self._set(None)
                raise CollectorError(f"the NVIDIA driver cannot be asked: {error}") from error
        self.first_reading.set()

    def _set(self, topology: Topology | None) -> None:
        if topology != self._topology:
            self._topology = topology
            self.table = None if topology is None else SlotTable(topology.slots())
            self.version += 1


def topology_families(table: SlotTable | None) -> Iterator[Metric]:
    """Yield a series for each slot, held or free."""
    slots = table.slots if table else ()
    yield family("ds01_gpu_slot_info", ((_names(slot), 1.0) for slot in slots))
    yield family(
        "ds01_gpu_slot_fraction",
        (((slot.name, slot.profile or ""), slot.fraction) for slot in slots if slot.fraction is not None),
    )


def _names(slot: Slot) -> tuple[str, ...]:
    instance = "" if slot.gpu_instance_id is None else str(slot.gpu_instance_id)
    return (slot.name, str(slot.gpu), slot.uuid, instance, slot.profile or "")
