"""One GPU or MIG device read by NVML: a table of readings, each taken or missing on its own."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from gpu_telemetry.gpm import METRICS, GpmReader, supported
from gpu_telemetry.metrics import READINGS, GpuMetrics, GpuProcess
from gpu_telemetry.nvml import DRIVER_LOST, GPU_IS_LOST, NvmlError, reason_of

if TYPE_CHECKING:
    from gpu_telemetry.inventory import Found
    from gpu_telemetry.nvml import Nvml
    from gpu_telemetry.processes import ProcessTable

_MILLI = 0.001
_NO_INSTANCE = 0xFFFFFFFF
_KILO = 1000

# Field: NVML function, its arguments, factor to our unit.
_CALLS: tuple[tuple[str, str, tuple[int, ...], float], ...] = (
    ("temperature_celsius", "nvmlDeviceGetTemperature", (0,), 1),  # NVML_TEMPERATURE_GPU.
    ("power_watts", "nvmlDeviceGetPowerUsage", (), _MILLI),  # Milliwatts.
    ("power_limit_watts", "nvmlDeviceGetEnforcedPowerLimit", (), _MILLI),
    ("graphics_clock_mhz", "nvmlDeviceGetClockInfo", (0,), 1),
    ("sm_clock_mhz", "nvmlDeviceGetClockInfo", (1,), 1),
    ("memory_clock_mhz", "nvmlDeviceGetClockInfo", (2,), 1),
    ("performance_state", "nvmlDeviceGetPerformanceState", (), 1),
    ("fan_percent", "nvmlDeviceGetFanSpeed", (), 1),
    ("pcie_link_generation", "nvmlDeviceGetCurrPcieLinkGeneration", (), 1),
    ("pcie_link_width", "nvmlDeviceGetCurrPcieLinkWidth", (), 1),
    ("throttle_mask", "nvmlDeviceGetCurrentClocksThrottleReasons", (), 1),
)

# nvml.h, NVML_FI_DEV_…: one call reads them all.
_FIELDS: tuple[tuple[str, int, float], ...] = (
    ("ecc_corrected_total", 3, 1),  # ECC_SBE_VOL_TOTAL
    ("ecc_uncorrected_total", 4, 1),
    ("ecc_corrected_lifetime_total", 5, 1),  # ECC_SBE_AGG_TOTAL
    ("ecc_uncorrected_lifetime_total", 6, 1),
    ("memory_temperature_celsius", 82, 1),
    ("energy_joules", 83, _MILLI),  # Millijoules.
    ("pcie_replay_total", 94, 1),
    ("remapped_rows_corrected", 142, 1),
    ("remapped_rows_uncorrected", 143, 1),
    ("remapped_rows_pending", 144, 1),
    ("remapped_rows_failed", 145, 1),
    ("pcie_tx_bytes_per_second", 197, 1),  # PCIE_COUNT_TX_BYTES, a counter.
    ("pcie_rx_bytes_per_second", 198, 1),
)
_FIELD_IDS = [number for _, number, _ in _FIELDS]
_BOOLEAN = frozenset({"remapped_rows_pending", "remapped_rows_failed"})
_RATES = frozenset({"pcie_tx_bytes_per_second", "pcie_rx_bytes_per_second"})
_UNION = ("dVal", "uiVal", "ulVal", "ullVal", "sllVal", "siVal", "usVal")  # By nvmlValueType_t.
_PROCESS_LISTS = (
    ("compute", "nvmlDeviceGetComputeRunningProcesses"),
    ("graphics", "nvmlDeviceGetGraphicsRunningProcesses"),
    ("compute", "nvmlDeviceGetMPSComputeRunningProcesses"),
)
_MEMORY = ("memory_used_bytes", "memory_total_bytes", "memory_free_bytes", "memory_reserved_bytes")


class DeviceLost(Exception):  # noqa: N818 - never leaves this package.
    """The device answers nothing any more."""


class NvmlDevice:
    """A GPU or MIG device and what was learned about it; `renew` after each scan, `read` at each sample."""

    def __init__(
        self, nvml: Nvml, found: Found, table: ProcessTable, *, gpm: bool, pcie_throughput: bool
    ) -> None:
        self._nvml = nvml
        self._table = table
        self._pcie_throughput = pcie_throughput
        self._gpm = self._gpm_reader(found) if gpm and supported(nvml, found.handle) else None
        self._counters: dict[str, tuple[float, float]] = {}
        self._old_memory = False
        self._hopeless: dict[str, str] = {}
        self._hopeless_lists: set[str] = set()
        self.renew(found)

    def renew(self, found: Found) -> None:
        """Take a new handle, and ask again for what was not supported."""
        self.gpu, self.mig = found.gpu, found.mig
        self.uuid = found.mig.uuid if found.mig else found.gpu.uuid
        self._handle = found.mig_handle if found.mig else found.handle
        self._hopeless = {}
        self.identity: dict[str, Any] = {
            "device_id": found.gpu.index,
            "uuid": self.uuid,
            "name": found.gpu.name,
            "mig_enabled": found.gpu.mig_enabled,
            "pci_bus_id": found.gpu.pci_bus_id,
        }
        if found.mig:
            self.identity |= {
                "parent_uuid": found.gpu.uuid,
                "mig_index": found.mig.index,
                "gpu_instance_id": found.mig.gpu_instance_id,
                "compute_instance_id": found.mig.compute_instance_id,
                "mig_profile": found.mig.profile,
            }

    def close(self) -> None:
        """Give back what NVML holds for it."""
        if self._gpm is not None:
            self._gpm.close()

    def read(self, now: float, xid: tuple[int, int] | None) -> GpuMetrics:
        """Everything that can be read.

        Args:
            now: Unix seconds, its timestamp.
            xid: Last XID and how many so far; None where they cannot be watched.

        Raises:
            DeviceLost: It does not answer.
            NvmlError: The whole driver is lost.
        """
        values: dict[str, Any] = {}
        missing: dict[str, str] = dict(self._hopeless)
        self._memory(values, missing)
        if self.mig is None:
            self._board(values, missing)
            if xid is not None:
                values["xid"], values["xid_total"] = xid
        self._processes(values, missing)
        self._activity(values, missing)
        for field in READINGS:
            if field not in values and field not in missing:
                missing[field] = "not_supported"
        return GpuMetrics(**self.identity, timestamp=now, missing=missing, **values)

    def _refused(self, field: str, error: NvmlError, missing: dict[str, str]) -> None:
        if error.code in DRIVER_LOST:
            raise error
        # A destroyed MIG device answers "invalid argument" or "not found" to everything.
        if error.code == GPU_IS_LOST or error.reason == "lost" or (self.mig and error.code in {2, 6}):
            raise DeviceLost from error
        missing[field] = error.reason
        if error.reason == "not_supported":
            self._hopeless[field] = error.reason

    def _memory(self, values: dict[str, Any], missing: dict[str, str]) -> None:
        # Version 2 leaves the driver's own reserve out of `used`, as nvidia-smi does.
        version = () if self._old_memory else (self._nvml.library.nvmlMemory_v2,)
        try:
            memory = self._nvml.call("nvmlDeviceGetMemoryInfo", self._handle, *version)
        except NvmlError as error:
            if version and error.reason == "not_supported":
                self._old_memory = True
                self._memory(values, missing)
                return
            for field in _MEMORY:
                self._refused(field, error, missing)
            return
        values["memory_used_bytes"] = int(memory.used)
        values["memory_total_bytes"] = int(memory.total)
        values["memory_free_bytes"] = int(memory.free)
        if version:
            values["memory_reserved_bytes"] = int(memory.reserved)

    def _board(self, values: dict[str, Any], missing: dict[str, str]) -> None:
        for field, function, arguments, factor in _CALLS:
            if field in self._hopeless:
                continue
            try:
                raw = self._nvml.call(function, self._handle, *arguments)
            except NvmlError as error:
                self._refused(field, error, missing)
            else:
                values[field] = raw if factor == 1 else raw * factor
        self._utilization(values, missing)
        self._field_values(values, missing)

    def _utilization(self, values: dict[str, Any], missing: dict[str, str]) -> None:
        both = ("utilization_percent", "memory_utilization_percent")
        if both[0] not in self._hopeless:
            try:
                rates = self._nvml.call("nvmlDeviceGetUtilizationRates", self._handle)
                values[both[0]], values[both[1]] = float(rates.gpu), float(rates.memory)
            except NvmlError as error:
                for field in both:
                    self._refused(field, error, missing)
        for name in ("encoder", "decoder"):
            field = f"{name}_utilization_percent"
            if field in self._hopeless:
                continue
            try:
                # [utilisation, sampling period in µs]
                values[field] = float(
                    self._nvml.call(f"nvmlDeviceGet{name.title()}Utilization", self._handle)[0]
                )
            except NvmlError as error:
                self._refused(field, error, missing)

    def _field_values(self, values: dict[str, Any], missing: dict[str, str]) -> None:
        try:
            answers = self._nvml.call("nvmlDeviceGetFieldValues", self._handle, _FIELD_IDS)
        except NvmlError as error:
            for field, _, _ in _FIELDS:
                self._refused(field, error, missing)
            return
        for (field, _, factor), answer in zip(_FIELDS, answers, strict=True):
            if answer.nvmlReturn:
                missing[field] = reason_of(answer.nvmlReturn)
                continue
            raw = getattr(answer.value, _UNION[answer.valueType])
            if field in _RATES:
                self._rate(field, float(raw), values, missing)
            else:
                values[field] = bool(raw) if field in _BOOLEAN else raw if factor == 1 else raw * factor
        for direction, field in enumerate(("pcie_tx_bytes_per_second", "pcie_rx_bytes_per_second")):
            if missing.get(field) == "not_supported":
                self._measured_rate(direction, field, values, missing)

    def _rate(self, field: str, counter: float, values: dict[str, Any], missing: dict[str, str]) -> None:
        now = time.monotonic()
        last = self._counters.get(field)
        self._counters[field] = (now, counter)
        if last is None or counter < last[1] or now <= last[0]:
            missing[field] = "no_data"
        else:
            values[field] = (counter - last[1]) / (now - last[0])

    def _measured_rate(
        self, direction: int, field: str, values: dict[str, Any], missing: dict[str, str]
    ) -> None:
        if not self._pcie_throughput:
            missing[field] = "not_sampled"
            return
        try:
            # NVML_PCIE_UTIL_TX_BYTES is 0, RX 1; in KB/s over 20 ms.
            kilobytes = self._nvml.call("nvmlDeviceGetPcieThroughput", self._handle, direction)
        except NvmlError as error:
            self._refused(field, error, missing)
        else:
            values[field] = float(kilobytes * _KILO)
            del missing[field]

    def _processes(self, values: dict[str, Any], missing: dict[str, str]) -> None:
        found: dict[int, GpuProcess] = {}
        for kind, function in _PROCESS_LISTS:
            if function in self._hopeless_lists:
                continue
            try:
                listed = self._nvml.call(function, self._handle)
            except NvmlError as error:
                # A card without graphics or MPS has no such list; the first, of compute, decides.
                if function == _PROCESS_LISTS[0][1]:
                    self._refused("processes", error, missing)
                    return
                self._hopeless_lists.add(function)
                continue
            for each in listed:
                found.setdefault(each.pid, self._process(each, kind))
        values["processes"] = tuple(found.values())

    def _process(self, listed: Any, kind: str) -> GpuProcess:
        owner = self._table.owner(listed.pid)
        instance = getattr(listed, "gpuInstanceId", _NO_INSTANCE)
        return GpuProcess(
            pid=listed.pid,
            kind=kind,
            name=owner.name,
            user=owner.user,
            container=owner.container,
            memory_used_bytes=listed.usedGpuMemory,
            gpu_instance_id=None if instance == _NO_INSTANCE else instance,
        )

    def _gpm_reader(self, found: Found) -> GpmReader:
        if found.mig is not None:
            return GpmReader(self._nvml, found.handle, found.mig.gpu_instance_id, tuple(METRICS))
        # A whole card's utilisation is the driver's own reading.
        fields = tuple(field for field in METRICS if field != "utilization_percent")
        return GpmReader(self._nvml, found.handle, None, fields)

    def _activity(self, values: dict[str, Any], missing: dict[str, str]) -> None:
        if self._gpm is None or "sm_active_percent" in self._hopeless:
            return
        try:
            active, reasons = self._gpm.read()
        except NvmlError as error:
            for field in self._gpm.fields:
                self._refused(field, error, missing)
            return
        values |= active
        missing |= reasons
