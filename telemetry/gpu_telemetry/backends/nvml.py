"""Readings by NVML, in process; it comes back by itself after the driver was lost."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from gpu_telemetry.backends.nvml_device import DeviceLost, NvmlDevice
from gpu_telemetry.errors import NvmlUnavailable
from gpu_telemetry.inventory import scan
from gpu_telemetry.metrics import GpuMetrics, is_lost, lost
from gpu_telemetry.nvml import Nvml, NvmlError, unavailable
from gpu_telemetry.processes import ProcessTable
from gpu_telemetry.topology import Topology
from gpu_telemetry.xid import drain, register

if TYPE_CHECKING:
    from collections.abc import Callable

    from gpu_telemetry.topology import Gpu

_RESCAN_SECONDS = 30.0  # MIG devices are made and destroyed while we run.
_FIRST_WAIT_SECONDS, _LONGEST_WAIT_SECONDS = 1.0, 60.0


class NvmlBackend:
    """All GPUs and MIG devices by NVML.

    A card that stops answering keeps its row, all readings missing as `lost`. When the whole driver is lost the next
    calls raise, and NVML is initialised anew after 1 s, then 2, 4, … up to 60 s.

    Args:
        pcie_throughput: Where a card has no PCIe byte counters, measure for 20 ms in each direction at every sample.
        gpm: Read GPM's activity counters where the card has them.
        clock: A monotonic clock in seconds.
    """

    name = "nvml"
    simulated = False

    def __init__(
        self,
        *,
        pcie_throughput: bool = False,
        gpm: bool = True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.driver_version: str | None = None
        self._pcie_throughput = pcie_throughput
        self._gpm = gpm
        self._clock = clock
        self._nvml: Nvml | None = None
        self._devices: list[NvmlDevice] = []
        self._cards: dict[str, Gpu] = {}
        self._table = ProcessTable(clock=clock)
        self._events: Any = None
        self._event_gpus: dict[int | None, Gpu] = {}
        self._xids: dict[str, tuple[int, int]] = {}
        self._scanned_at = 0.0
        self._failure: NvmlUnavailable | None = None
        self._all_lost = False
        self._retry_at = 0.0
        self._wait = _FIRST_WAIT_SECONDS

    def collect(self) -> list[GpuMetrics]:
        """See `Backend.collect`."""
        if self._all_lost and self._clock() < self._retry_at:
            return [_lost_card(gpu, time.time()) for gpu in self._cards.values()]
        nvml = self._session()
        try:
            if self._clock() - self._scanned_at >= _RESCAN_SECONDS:
                self._scan(nvml)
            self._take_xids(nvml)
            metrics = self._read()
        except NvmlError as error:
            raise self._drop(unavailable(error.code, str(error))) from error
        cards = [each for each in metrics if each.parent_uuid is None]
        self._all_lost = bool(cards) and all(is_lost(each) for each in cards)
        if self._all_lost:
            # Every card gone at once is the driver's doing; a new session may find them again.
            self._drop(NvmlUnavailable("every GPU is lost", reason="lost", hint="dmesg | grep NVRM"))
        else:
            self._wait = _FIRST_WAIT_SECONDS
        return metrics

    def topology(self) -> Topology:
        """See `Backend.topology`."""
        nvml = self._session()
        try:
            self._scan(nvml)
        except NvmlError as error:
            raise self._drop(unavailable(error.code, str(error))) from error
        gpus = tuple(device.gpu for device in self._devices if device.mig is None)
        return Topology(gpus=gpus, driver_version=self.driver_version)

    def close(self) -> None:
        """See `Backend.close`."""
        nvml, events, devices = self._nvml, self._events, self._devices
        self._nvml, self._events, self._devices = None, None, []
        if nvml is None:
            return
        for device in devices:
            device.close()
        if events is not None:
            nvml.release("nvmlEventSetFree", events)
        nvml.close()

    def _session(self) -> Nvml:
        if self._nvml is not None:
            return self._nvml
        if self._failure is not None and self._clock() < self._retry_at:
            raise self._failure
        try:
            self._nvml = nvml = Nvml()
            self.driver_version = nvml.optional("nvmlSystemGetDriverVersion")
            self._scan(nvml)
            self._watch_xids(nvml)
        except NvmlUnavailable as error:
            self._drop(error)
            raise
        except NvmlError as error:
            raise self._drop(unavailable(error.code, str(error))) from error
        self._failure = None
        return nvml

    def _drop(self, failure: NvmlUnavailable) -> NvmlUnavailable:
        """End a session that is dead; the next is tried after a wait that doubles."""
        self.close()
        self._failure = failure
        self._retry_at = self._clock() + self._wait
        self._wait = min(self._wait * 2, _LONGEST_WAIT_SECONDS)
        return failure

    def _scan(self, nvml: Nvml) -> None:
        """Find devices anew; a device that is still the same keeps what was learned about it."""
        known = {device.uuid: device for device in self._devices}
        devices: list[NvmlDevice] = []
        for found in scan(nvml):
            uuid = found.mig.uuid if found.mig else found.gpu.uuid
            device = known.pop(uuid, None)
            if device is None:
                device = NvmlDevice(
                    nvml, found, self._table, gpm=self._gpm, pcie_throughput=self._pcie_throughput
                )
            device.renew(found)
            devices.append(device)
        for gone in known.values():
            gone.close()
        self._devices = devices
        self._cards |= {device.gpu.uuid: device.gpu for device in devices}
        self._scanned_at = self._clock()

    def _read(self) -> list[GpuMetrics]:
        now = time.time()
        metrics = [each for device in self._devices if (each := self._read_device(device, now)) is not None]
        present = {each.uuid for each in metrics}
        metrics += [_lost_card(gpu, now) for uuid, gpu in self._cards.items() if uuid not in present]
        return sorted(
            metrics, key=lambda each: (each.device_id, -1 if each.mig_index is None else each.mig_index)
        )

    def _read_device(self, device: NvmlDevice, now: float) -> GpuMetrics | None:
        try:
            return device.read(now, self._xids.get(device.uuid))
        except DeviceLost:
            self._scanned_at = float("-inf")
            # A MIG device that was destroyed is no loss; a card is.
            return None if device.mig else _lost_card(device.gpu, now)

    def _watch_xids(self, nvml: Nvml) -> None:
        self._xids = {}
        try:
            self._events = nvml.call("nvmlEventSetCreate")
            self._event_gpus = register(nvml, self._events)
        except NvmlError:
            self._event_gpus = {}  # `xid` is then missing on every card.
        self._xids = {gpu.uuid: (0, 0) for gpu in self._event_gpus.values()}

    def _take_xids(self, nvml: Nvml) -> None:
        if not self._event_gpus:
            return
        for event in drain(nvml, self._events, self._event_gpus, 0.0):
            if event.uuid is not None:
                self._xids[event.uuid] = (event.xid, self._xids[event.uuid][1] + 1)


def _lost_card(gpu: Gpu, now: float) -> GpuMetrics:
    identity = {
        "device_id": gpu.index,
        "uuid": gpu.uuid,
        "name": gpu.name,
        "pci_bus_id": gpu.pci_bus_id,
        "mig_enabled": gpu.mig_enabled,
        "timestamp": now,
    }
    return lost(identity, "lost")
