"""dcgm-exporter's text: the families of its default counters file and of ours, with its labels and formats.

The text is that of an image between 4.6.0-4.8.3 and 4.8: the old field names, `hostname` in small letters.
In MIG mode every instance has a row with the card's UUID, physical readings are repeated on each, and the
driver's utilisation is absent.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from .hardware import DRIVER_VERSION, MODEL, POWER_LIMIT_WATTS, Gpu, Slot

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from .clock import Clock
    from .world import GpuReading, SlotReading, World

HOSTNAME = "gpu-demo"
_NVLINK_UNIT = (
    1_024_000  # DCGM's field reference: KiB/s divided by 1000, a rate in spite of the type "counter".
)
_XID_TEXTS = {
    0: "No Error",
    31: "GPU memory page fault",
    43: "GPU stopped processing",
}  # dcgm-exporter xid_errors.go.


@dataclass(frozen=True)
class Row:
    """All that one row of each family is made from. Counters are already paced."""

    gpu: GpuReading
    slot: SlotReading
    energy_millijoules: int
    thermal_violation_nanoseconds: int
    reserved_mib: int
    xid_counts: dict[int, int]


@dataclass(frozen=True)
class Family:
    """One DCGM field. `whole` fields have no row for a MIG instance.

    `read` gives the value of a row; where a field has several lines
    or labels of its own, `split` gives those labels and values instead.
    """

    name: str
    kind: str
    help: str
    read: Callable[[Row], int | float] = lambda _: 0
    whole: bool = False
    split: Callable[[Row], Iterable[tuple[dict[str, str], int | float]]] | None = None

    def samples(self, row: Row) -> Iterable[tuple[dict[str, str], int | float]]:
        """Labels of its own and value for each line of this field about `row`."""
        return [({}, self.read(row))] if self.split is None else self.split(row)


# fmt: off
FAMILIES = (
    Family("DCGM_FI_DEV_SM_CLOCK", "gauge", "SM clock frequency (in MHz).", lambda row: row.gpu.sm_clock_mhz),
    Family("DCGM_FI_DEV_MEM_CLOCK", "gauge", "Memory clock frequency (in MHz).", lambda _: 1215),
    Family("DCGM_FI_DEV_MEMORY_TEMP", "gauge", "Memory temperature (in C).", lambda row: round(row.gpu.memory_temperature_celsius)),
    Family("DCGM_FI_DEV_GPU_TEMP", "gauge", "GPU temperature (in C).", lambda row: round(row.gpu.temperature_celsius)),
    Family("DCGM_FI_DEV_POWER_USAGE", "gauge", "Power draw (in W).", lambda row: row.gpu.power_watts),
    Family("DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION", "counter", "Total energy consumption since boot (in mJ).", lambda row: row.energy_millijoules),
    Family("DCGM_FI_DEV_ENFORCED_POWER_LIMIT", "gauge", "Power limit that the driver enforces (in W).", lambda _: float(POWER_LIMIT_WATTS)),
    Family("DCGM_FI_DEV_PCIE_REPLAY_COUNTER", "counter", "Total number of PCIe retries.", lambda _: 0),
    Family("DCGM_FI_DEV_GPU_UTIL", "gauge", "GPU utilization (in %).", lambda row: round(100 * row.slot.utilization), whole=True),
    Family("DCGM_FI_DEV_MEM_COPY_UTIL", "gauge", "Memory utilization (in %).", lambda row: round(100 * row.slot.dram), whole=True),
    Family("DCGM_FI_DEV_ENC_UTIL", "gauge", "Encoder utilization (in %).", lambda _: 0, whole=True),
    Family("DCGM_FI_DEV_DEC_UTIL", "gauge", "Decoder utilization (in %).", lambda _: 0, whole=True),
    Family("DCGM_FI_DEV_XID_ERRORS", "gauge", "Value of the last XID error encountered.", split=lambda row: [({"err_code": str(row.gpu.xid), "err_msg": _XID_TEXTS[row.gpu.xid]}, row.gpu.xid)]),
    Family("DCGM_EXP_XID_ERRORS_TOTAL", "counter", "XID errors by code.", split=lambda row: [({"xid": str(code)}, count) for code, count in row.xid_counts.items()]),
    Family("DCGM_FI_DEV_CLOCKS_EVENT_REASONS", "gauge", "Current clock event reasons (bit mask).", lambda row: row.gpu.clock_reasons),
    Family("DCGM_FI_DEV_POWER_VIOLATION", "counter", "Throttling duration due to power constraints (in ns).", lambda _: 0),
    Family("DCGM_FI_DEV_THERMAL_VIOLATION", "counter", "Throttling duration due to thermal constraints (in ns).", lambda row: row.thermal_violation_nanoseconds),
    Family("DCGM_FI_DEV_FB_FREE", "gauge", "Framebuffer memory free (in MiB).", lambda row: row.slot.free_mib),
    Family("DCGM_FI_DEV_FB_USED", "gauge", "Framebuffer memory used (in MiB).", lambda row: row.slot.used_mib),
    Family("DCGM_FI_DEV_FB_RESERVED", "gauge", "Framebuffer memory reserved (in MiB).", lambda row: row.reserved_mib, whole=True),
    Family("DCGM_FI_DEV_ECC_SBE_VOL_TOTAL", "counter", "Total number of single-bit volatile ECC errors.", lambda _: 0),
    Family("DCGM_FI_DEV_ECC_DBE_VOL_TOTAL", "counter", "Total number of double-bit volatile ECC errors.", lambda _: 0),
    Family("DCGM_FI_DEV_ECC_SBE_AGG_TOTAL", "counter", "Total number of single-bit persistent ECC errors.", lambda _: 0),
    Family("DCGM_FI_DEV_ECC_DBE_AGG_TOTAL", "counter", "Total number of double-bit persistent ECC errors.", lambda _: 0),
    Family("DCGM_FI_DEV_NVLINK_BANDWIDTH_TOTAL", "counter", "Total number of NVLink bandwidth counters for all lanes.", lambda row: round(row.gpu.nvlink_bytes_per_second / _NVLINK_UNIT)),
    Family("DCGM_FI_DEV_VGPU_LICENSE_STATUS", "gauge", "vGPU License status", lambda _: 0, whole=True),
    Family("DCGM_FI_DEV_UNCORRECTABLE_REMAPPED_ROWS", "counter", "Number of remapped rows for uncorrectable errors", lambda _: 0),
    Family("DCGM_FI_DEV_CORRECTABLE_REMAPPED_ROWS", "counter", "Number of remapped rows for correctable errors", lambda _: 0),
    Family("DCGM_FI_DEV_ROW_REMAP_FAILURE", "gauge", "Whether remapping of rows has failed", lambda _: 0),
    Family("DCGM_FI_DEV_ROW_REMAP_PENDING", "gauge", "Whether a remapping of rows waits for a reset", lambda _: 0),
    Family("DCGM_FI_PROF_GR_ENGINE_ACTIVE", "gauge", "Ratio of time the graphics engine is active.", lambda row: float(row.slot.utilization)),
    Family("DCGM_FI_PROF_PIPE_TENSOR_ACTIVE", "gauge", "Ratio of cycles the tensor (HMMA) pipe is active.", lambda row: float(row.slot.tensor)),
    Family("DCGM_FI_PROF_DRAM_ACTIVE", "gauge", "Ratio of cycles the device memory interface is active sending or receiving data.", lambda row: float(row.slot.dram)),
    Family("DCGM_FI_PROF_PCIE_TX_BYTES", "gauge", "The rate of data transmitted over the PCIe bus - including both protocol headers and data payloads - in bytes per second.", lambda row: round(row.gpu.pcie_transmit_bytes_per_second), whole=True),
    Family("DCGM_FI_PROF_PCIE_RX_BYTES", "gauge", "The rate of data received over the PCIe bus - including both protocol headers and data payloads - in bytes per second.", lambda row: round(row.gpu.pcie_receive_bytes_per_second), whole=True),
    Family("DCGM_FI_PROF_NVLINK_TX_BYTES", "gauge", "The rate of data transmitted over NVLink, not including protocol headers, in bytes per second.", lambda row: round(row.gpu.nvlink_bytes_per_second), whole=True),
    Family("DCGM_FI_PROF_NVLINK_RX_BYTES", "gauge", "The rate of data received over NVLink, not including protocol headers, in bytes per second.", lambda row: round(row.gpu.nvlink_bytes_per_second), whole=True),
)
# fmt: on


def rows(world: World, time: float, clock: Clock) -> Iterator[tuple[Gpu, Slot, Row]]:
    """One row per whole card and per MIG instance at `time` (world time)."""
    for gpu in world.gpus:
        yield from ((gpu, slot, _row(world, gpu, slot, time, clock)) for slot in gpu.slots)


def _row(world: World, gpu: Gpu, slot: Slot, time: float, clock: Clock) -> Row:
    return Row(
        gpu=world.gpu(gpu.index, time),
        slot=world.slot(slot.name, time),
        energy_millijoules=int(1000 * clock.paced(lambda at: world.gpu(gpu.index, at).energy_joules, time)),
        thermal_violation_nanoseconds=int(
            1e9 * clock.paced(lambda at: world.gpu(gpu.index, at).thermal_violation_seconds, time)
        ),
        reserved_mib=gpu.reserved_mib,
        xid_counts=world.xid_counts(gpu.index, time),
    )


def text(world: World, time: float, clock: Clock) -> str:
    """The whole page at `time` (world time)."""
    found = [(_labels(gpu, slot), slot, row) for gpu, slot, row in rows(world, time, clock)]
    lines = []
    for family in FAMILIES:
        lines += [f"# HELP {family.name} {family.help}", f"# TYPE {family.name} {family.kind}"]
        lines += [
            f"{family.name}{{{labels}{_more(extra)}}} {number(value)}"
            for labels, slot, row in found
            if slot.whole or not family.whole
            for extra, value in family.samples(row)
        ]
    return "\n".join(lines) + "\n"


def number(value: float) -> str:
    """A value as dcgm-exporter prints it: six decimals for DCGM's doubles, whole numbers for its integers."""
    return str(value) if isinstance(value, int) else f"{value:.6f}"


def _labels(gpu: Gpu, slot: Slot) -> str:
    mig = f',GPU_I_PROFILE="{slot.profile}",GPU_I_ID="{slot.instance_id}"' if slot.profile else ""
    return (
        f'gpu="{gpu.index}",UUID="{gpu.uuid}",pci_bus_id="{gpu.pci_bus_id}",device="nvidia{gpu.index}",'
        f'modelName="{MODEL}"{mig},hostname="{HOSTNAME}",DCGM_FI_DRIVER_VERSION="{DRIVER_VERSION}"'
    )


def _more(labels: dict[str, str]) -> str:
    return "".join(f',{name}="{value}"' for name, value in labels.items())
