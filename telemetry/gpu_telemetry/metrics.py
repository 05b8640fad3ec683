"""One sample as plain values: what was read of each GPU and of the host, and why the rest is missing.

A value that could not be had is None, and `missing` says why under the field's name: `not_supported` (the card or
driver has no such reading), `no_permission`, `lost` (the card or driver does not answer), `timeout`, `no_data` (it
needs a second sample, or the driver has none yet), `not_sampled` (switched off) or `error`. It is never 0.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gpu_telemetry.errors import BackendUnavailable

# nvml.h, nvmlClocksEventReasons: bit and name as nvidia-smi spells it.
THROTTLE_REASONS = {
    0x001: "gpu_idle",
    0x002: "applications_clocks_setting",
    0x004: "sw_power_cap",
    0x008: "hw_slowdown",
    0x010: "sync_boost",
    0x020: "sw_thermal_slowdown",
    0x040: "hw_thermal_slowdown",
    0x080: "hw_power_brake_slowdown",
    0x100: "display_clock_setting",
}
THERMAL_REASONS = frozenset({"sw_thermal_slowdown", "hw_thermal_slowdown"})


@dataclass(frozen=True, kw_only=True, slots=True)
class GpuProcess:
    """A process that holds memory or a context on a GPU.

    Attributes:
        pid: Process id as the driver sees it: the host's.
        kind: "compute" or "graphics".
        name: Its program, or None if unknown.
        user: Login name, else numeric uid, of its owner; None if it cannot be looked up.
        container: Id (64 hex digits) of the container it runs in; None outside one, or unknown.
        memory_used_bytes: GPU memory it holds, in bytes; None if the driver does not say.
        gpu_instance_id: The MIG GPU instance it runs on; None on a whole GPU.
    """

    pid: int
    kind: str = "compute"
    name: str | None = None
    user: str | None = None
    container: str | None = None
    memory_used_bytes: int | None = None
    gpu_instance_id: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class GpuMetrics:
    """What was read of one GPU or MIG device at one moment. None is unknown; `missing` says why.

    Attributes:
        device_id: Index of the physical GPU.
        uuid: "GPU-…", or "MIG-…" for a MIG device: the key.
        name: Product name of the card.
        parent_uuid: The card's UUID for a MIG device, None for a card.
        mig_index: Index of the MIG device on its card; None for a card.
        gpu_instance_id: GPU instance of a MIG device, DCGM's GPU_I_ID; None for a card.
        compute_instance_id: Compute instance of a MIG device; None for a card.
        mig_profile: "1g.5gb"; None for a card.
        mig_enabled: Whether the card is in MIG mode.
        pci_bus_id: "00000000:07:00.0".
        timestamp: Unix seconds when it was read.
        simulated: True where no hardware was asked.
        utilization_percent: Share of the driver's last window (1/6 to 1 s) with a kernel running, 0 to 100; on a MIG
            device its graphics engine's activity since the previous sample (GPM, Hopper and later).
        memory_utilization_percent: Share of that window with memory being read or written, 0 to 100.
        encoder_utilization_percent: Video encoder, 0 to 100.
        decoder_utilization_percent: Video decoder, 0 to 100.
        sm_active_percent: Share of SMs busy since the previous sample (GPM), 0 to 100.
        tensor_active_percent: Share of time with tensor pipes active since the previous sample (GPM), 0 to 100.
        dram_active_percent: DRAM bandwidth used of the maximum since the previous sample (GPM), 0 to 100.
        memory_used_bytes: Framebuffer allocated, in bytes, the driver's own reserve left out where it says so.
        memory_total_bytes: Framebuffer, in bytes.
        memory_free_bytes: Framebuffer free, in bytes.
        memory_reserved_bytes: Framebuffer kept by the driver, in bytes.
        temperature_celsius: GPU core, in °C.
        memory_temperature_celsius: HBM, in °C.
        power_watts: Board power, in watts; the average over 1 s on Ampere and later.
        power_limit_watts: Enforced limit, in watts.
        energy_joules: Counter since the driver was loaded, in joules.
        graphics_clock_mhz: In MHz.
        sm_clock_mhz: In MHz.
        memory_clock_mhz: In MHz.
        performance_state: 0 (highest) to 15.
        fan_percent: Of the maximum; may pass 100. None on passively cooled cards.
        pcie_link_generation: Now; it falls while idle.
        pcie_link_width: Lanes, now.
        pcie_tx_bytes_per_second: Sent by the GPU; by counters since the previous sample, else over 20 ms.
        pcie_rx_bytes_per_second: Received by the GPU, likewise.
        pcie_replay_total: PCIe replays since the driver was loaded.
        throttle_mask: Bits of `THROTTLE_REASONS` in force now.
        ecc_corrected_total: Since the driver was loaded (volatile).
        ecc_uncorrected_total: Since the driver was loaded (volatile).
        ecc_corrected_lifetime_total: Over the card's life (aggregate).
        ecc_uncorrected_lifetime_total: Over the card's life (aggregate).
        remapped_rows_corrected: Rows remapped after corrected errors.
        remapped_rows_uncorrected: Rows remapped after uncorrected errors.
        remapped_rows_pending: Whether a remapping waits for a reset.
        remapped_rows_failed: Whether a remapping has failed: the card needs replacing.
        xid: The last XID error since we began to watch; 0 is none. None where XID errors cannot be watched.
        xid_total: XID errors since we began to watch.
        processes: Processes on it; () is none, None is unknown.
        missing: Reason by field name, for every reading that is None.
    """

    device_id: int
    uuid: str
    name: str | None = None
    parent_uuid: str | None = None
    mig_index: int | None = None
    gpu_instance_id: int | None = None
    compute_instance_id: int | None = None
    mig_profile: str | None = None
    mig_enabled: bool | None = None
    pci_bus_id: str | None = None
    timestamp: float = 0.0
    simulated: bool = False
    utilization_percent: float | None = None
    memory_utilization_percent: float | None = None
    encoder_utilization_percent: float | None = None
    decoder_utilization_percent: float | None = None
    sm_active_percent: float | None = None
    tensor_active_percent: float | None = None
    dram_active_percent: float | None = None
    memory_used_bytes: int | None = None
    memory_total_bytes: int | None = None
    memory_free_bytes: int | None = None
    memory_reserved_bytes: int | None = None
    temperature_celsius: float | None = None
    memory_temperature_celsius: float | None = None
    power_watts: float | None = None
    power_limit_watts: float | None = None
    energy_joules: float | None = None
    graphics_clock_mhz: float | None = None
    sm_clock_mhz: float | None = None
    memory_clock_mhz: float | None = None
    performance_state: int | None = None
    fan_percent: float | None = None
    pcie_link_generation: int | None = None
    pcie_link_width: int | None = None
    pcie_tx_bytes_per_second: float | None = None
    pcie_rx_bytes_per_second: float | None = None
    pcie_replay_total: int | None = None
    throttle_mask: int | None = None
    ecc_corrected_total: int | None = None
    ecc_uncorrected_total: int | None = None
    ecc_corrected_lifetime_total: int | None = None
    ecc_uncorrected_lifetime_total: int | None = None
    remapped_rows_corrected: int | None = None
    remapped_rows_uncorrected: int | None = None
    remapped_rows_pending: bool | None = None
    remapped_rows_failed: bool | None = None
    xid: int | None = None
    xid_total: int | None = None
    processes: tuple[GpuProcess, ...] | None = None
    missing: Mapping[str, str] = field(default_factory=dict)

    @property
    def slot(self) -> str:
        """The allocator's name for it: "1" for a card, "1.0" for a MIG device."""
        return str(self.device_id) if self.mig_index is None else f"{self.device_id}.{self.mig_index}"

    @property
    def throttle_reasons(self) -> tuple[str, ...] | None:
        """Why the clocks are held down now, in nvidia-smi's words; () is nothing, None is unknown."""
        if self.throttle_mask is None:
            return None
        return tuple(name for bit, name in THROTTLE_REASONS.items() if self.throttle_mask & bit)

    def memory_percent(self) -> float | None:
        """Framebuffer used of the total, 0 to 100; None if either is unknown."""
        return _percent(self.memory_used_bytes, self.memory_total_bytes)

    def power_percent(self) -> float | None:
        """Power of the enforced limit, may pass 100 for moments; None if either is unknown."""
        return _percent(self.power_watts, self.power_limit_watts)

    def thermal_throttling(self) -> bool | None:
        """Whether the driver holds the clocks down for heat now; None if it does not say."""
        reasons = self.throttle_reasons
        return None if reasons is None else not THERMAL_REASONS.isdisjoint(reasons)


_IDENTITY_COUNT = 12  # device_id to simulated.
IDENTITY: tuple[str, ...] = tuple(each.name for each in fields(GpuMetrics))[:_IDENTITY_COUNT]
READINGS: tuple[str, ...] = tuple(each.name for each in fields(GpuMetrics))[_IDENTITY_COUNT:-1]


def lost(identity: Mapping[str, Any], reason: str) -> GpuMetrics:
    """The metrics of a device of which nothing can be read, for one reason."""
    return GpuMetrics(**identity, missing=dict.fromkeys(READINGS, reason))


def is_lost(metrics: GpuMetrics) -> bool:
    """Whether the device answers nothing at all any more."""
    return len(metrics.missing) == len(READINGS) and set(metrics.missing.values()) == {"lost"}


def _percent(part: float | None, whole: float | None) -> float | None:
    if part is None or not whole:
        return None
    return part / whole * 100


@dataclass(frozen=True, kw_only=True, slots=True)
class HostTemperature:
    """One hwmon temperature.

    Attributes:
        chip: The driver's name: "coretemp", "k10temp", "nvme".
        label: The sensor's label, else its number as "temp1".
        celsius: In °C.
    """

    chip: str
    label: str
    celsius: float


@dataclass(frozen=True, kw_only=True, slots=True)
class HostMetrics:
    """What was read of the machine around the GPUs.

    Attributes:
        cpu_power_watts: Power of each CPU package since the previous sample, by RAPL's name ("package-0"): an
            estimate of the CPU's, in watts. None where `missing` has the name.
        cpu_energy_joules: Energy of each package since the first sample, in joules.
        temperatures: Every hwmon temperature.
        missing: Reason by name: "rapl", "hwmon", or a package's name.
    """

    cpu_power_watts: Mapping[str, float | None] = field(default_factory=dict)
    cpu_energy_joules: Mapping[str, float | None] = field(default_factory=dict)
    temperatures: tuple[HostTemperature, ...] = ()
    missing: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class Sample:
    """All devices at one moment.

    Attributes:
        timestamp: Unix seconds (wall clock, may be set back).
        monotonic: Seconds of the monotonic clock, for ages and intervals.
        gpus: One per GPU and MIG device, by slot; empty where `error` is set.
        host: The machine, or None if not asked for.
        backend: "nvml", "smi", "mock" or "simulated".
        simulated: True where no hardware was asked.
        driver_version: "550.54.15", or None if unknown.
        gap_seconds: Time before this sample in which samples are missing, in seconds; 0 is none.
        error: Why nothing could be read; None if something could.
    """

    timestamp: float
    monotonic: float
    gpus: tuple[GpuMetrics, ...] = ()
    host: HostMetrics | None = None
    backend: str = ""
    simulated: bool = False
    driver_version: str | None = None
    gap_seconds: float = 0.0
    error: BackendUnavailable | None = None
