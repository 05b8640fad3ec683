"""The readings under the names, labels and units of dcgm-exporter up to 4.8, so that its rules and dashboards work."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gpu_telemetry.exposition import Family, labels

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from gpu_telemetry.metrics import GpuMetrics, Sample

MIB = 1024 * 1024

BOARD = "board"
"""What a card has once, however it is sliced."""
SLOT = "slot"
"""What a whole card or a MIG instance has of its own."""
INSTANCE = "instance"
"""What only a MIG instance shows."""


@dataclass(frozen=True)
class Row:
    """One DCGM field: which reading it is, in what unit, and of what."""

    name: str
    kind: str
    help: str
    value: Callable[[GpuMetrics], float | None]
    scope: str = BOARD


def _read(name: str, factor: float = 1) -> Callable[[GpuMetrics], float | None]:
    def value(gpu: GpuMetrics) -> float | None:
        reading: float | None = getattr(gpu, name)
        return None if reading is None else reading * factor

    return value


# Field names and units: DCGM's field reference, as in dcgm-exporter's default-counters.csv. A card has the
# driver's utilisation, an instance only what the profiling counters (GPM) say.
ROWS = (
    Row("DCGM_FI_DEV_GPU_UTIL", "gauge", "GPU utilisation by the driver (in %).", _read("utilization_percent")),
    Row("DCGM_FI_DEV_MEM_COPY_UTIL", "gauge", "Memory interface utilisation by the driver (in %).", _read("memory_utilization_percent")),
    Row("DCGM_FI_DEV_ENC_UTIL", "gauge", "Encoder utilisation (in %).", _read("encoder_utilization_percent")),
    Row("DCGM_FI_DEV_DEC_UTIL", "gauge", "Decoder utilisation (in %).", _read("decoder_utilization_percent")),
    Row("DCGM_FI_PROF_GR_ENGINE_ACTIVE", "gauge", "Share of time in which the graphics engine was active (0 to 1).", _read("utilization_percent", 0.01), INSTANCE),
    Row("DCGM_FI_PROF_SM_ACTIVE", "gauge", "Share of SMs that were active (0 to 1).", _read("sm_active_percent", 0.01), SLOT),
    Row("DCGM_FI_PROF_PIPE_TENSOR_ACTIVE", "gauge", "Share of cycles in which the tensor pipe was active (0 to 1).", _read("tensor_active_percent", 0.01), SLOT),
    Row("DCGM_FI_PROF_DRAM_ACTIVE", "gauge", "Share of cycles in which the memory interface was active (0 to 1).", _read("dram_active_percent", 0.01), SLOT),
    Row("DCGM_FI_DEV_FB_TOTAL", "gauge", "Memory in total (in MiB).", _read("memory_total_bytes", 1 / MIB), SLOT),
    Row("DCGM_FI_DEV_FB_USED", "gauge", "Memory used (in MiB).", _read("memory_used_bytes", 1 / MIB), SLOT),
    Row("DCGM_FI_DEV_FB_FREE", "gauge", "Memory free (in MiB).", _read("memory_free_bytes", 1 / MIB), SLOT),
    Row("DCGM_FI_DEV_FB_RESERVED", "gauge", "Memory kept by the driver (in MiB).", _read("memory_reserved_bytes", 1 / MIB), SLOT),
    Row("DCGM_FI_DEV_GPU_TEMP", "gauge", "GPU temperature (in C).", _read("temperature_celsius")),
    Row("DCGM_FI_DEV_MEMORY_TEMP", "gauge", "Memory temperature (in C).", _read("memory_temperature_celsius")),
    Row("DCGM_FI_DEV_POWER_USAGE", "gauge", "Power draw (in W).", _read("power_watts")),
    Row("DCGM_FI_DEV_ENFORCED_POWER_LIMIT", "gauge", "Power limit in force (in W).", _read("power_limit_watts")),
    Row("DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION", "counter", "Energy since the driver was loaded (in mJ).", _read("energy_joules", 1000)),
    Row("DCGM_FI_DEV_SM_CLOCK", "gauge", "SM clock (in MHz).", _read("sm_clock_mhz")),
    Row("DCGM_FI_DEV_MEM_CLOCK", "gauge", "Memory clock (in MHz).", _read("memory_clock_mhz")),
    Row("DCGM_FI_DEV_PSTATE", "gauge", "Performance state (0 is the highest).", _read("performance_state")),
    Row("DCGM_FI_DEV_FAN_SPEED", "gauge", "Fan speed (in %).", _read("fan_percent")),
    Row("DCGM_FI_DEV_CLOCKS_EVENT_REASONS", "gauge", "Bit mask of the reasons for which clocks are lowered.", _read("throttle_mask")),
    Row("DCGM_FI_DEV_PCIE_LINK_GEN", "gauge", "PCIe generation in use.", _read("pcie_link_generation")),
    Row("DCGM_FI_DEV_PCIE_LINK_WIDTH", "gauge", "PCIe lanes in use.", _read("pcie_link_width")),
    Row("DCGM_FI_PROF_PCIE_TX_BYTES", "gauge", "Rate of data sent over PCIe with protocol (in bytes per second).", _read("pcie_tx_bytes_per_second")),
    Row("DCGM_FI_PROF_PCIE_RX_BYTES", "gauge", "Rate of data received over PCIe with protocol (in bytes per second).", _read("pcie_rx_bytes_per_second")),
    Row("DCGM_FI_DEV_PCIE_REPLAY_COUNTER", "counter", "PCIe retries.", _read("pcie_replay_total")),
    Row("DCGM_FI_DEV_XID_ERRORS", "gauge", "Code of the last XID error.", _read("xid")),
    Row("DCGM_FI_DEV_ECC_SBE_VOL_TOTAL", "counter", "Single-bit ECC errors since the last reset.", _read("ecc_corrected_total")),
    Row("DCGM_FI_DEV_ECC_DBE_VOL_TOTAL", "counter", "Double-bit ECC errors since the last reset.", _read("ecc_uncorrected_total")),
    Row("DCGM_FI_DEV_ECC_SBE_AGG_TOTAL", "counter", "Single-bit ECC errors in the card's life.", _read("ecc_corrected_lifetime_total")),
    Row("DCGM_FI_DEV_ECC_DBE_AGG_TOTAL", "counter", "Double-bit ECC errors in the card's life.", _read("ecc_uncorrected_lifetime_total")),
    Row("DCGM_FI_DEV_CORRECTABLE_REMAPPED_ROWS", "counter", "Rows remapped for correctable errors.", _read("remapped_rows_corrected")),
    Row("DCGM_FI_DEV_UNCORRECTABLE_REMAPPED_ROWS", "counter", "Rows remapped for uncorrectable errors.", _read("remapped_rows_uncorrected")),
    Row("DCGM_FI_DEV_ROW_REMAP_PENDING", "gauge", "Whether a remapping waits for a reset of the GPU.", _read("remapped_rows_pending")),
    Row("DCGM_FI_DEV_ROW_REMAP_FAILURE", "gauge", "Whether remapping of rows has failed.", _read("remapped_rows_failed")),
)  # fmt: skip


def families(sample: Sample) -> list[Family]:
    """Every DCGM field that can be read of any device; what cannot be read is absent.

    A card with MIG instances has rows of its own for what belongs to the board, and its instances have the rows
    for what they own (memory, activity): UUID is always the card's, as with dcgm-exporter.
    """
    devices = _devices(sample)
    found = []
    for row in ROWS:
        samples = [
            (labelled, value)
            for gpu, labelled, scopes in devices
            if row.scope in scopes and (value := row.value(gpu)) is not None
        ]
        found.append(Family(row.name, row.kind, row.help, samples))
    return found


def _devices(sample: Sample) -> list[tuple[GpuMetrics, str, frozenset[str]]]:
    """Each device that is shown, its labels, and the scopes whose rows it has."""
    host = socket.gethostname()
    cards = {gpu.uuid: gpu for gpu in sample.gpus if gpu.parent_uuid is None}
    instances = _instances(sample.gpus)
    sliced = {gpu.parent_uuid for gpu in instances}
    # What an instance has of its own, a sliced card does not show: its memory would be counted twice.
    whole, rest, slice_ = frozenset({BOARD, SLOT}), frozenset({BOARD}), frozenset({SLOT, INSTANCE})
    return [
        *(
            (gpu, _labels(gpu, gpu, sample, host), rest if gpu.uuid in sliced else whole)
            for gpu in cards.values()
        ),
        *(
            (gpu, _labels(gpu, cards.get(gpu.parent_uuid or "", gpu), sample, host), slice_)
            for gpu in instances
        ),
    ]


def _instances(gpus: Iterable[GpuMetrics]) -> list[GpuMetrics]:
    """One MIG device for each GPU instance: DCGM's labels do not tell its compute instances apart."""
    first: dict[tuple[str, int], GpuMetrics] = {}
    for gpu in gpus:
        if gpu.parent_uuid is not None and gpu.gpu_instance_id is not None:
            first.setdefault((gpu.parent_uuid, gpu.gpu_instance_id), gpu)
    return list(first.values())


def _labels(gpu: GpuMetrics, card: GpuMetrics, sample: Sample, host: str) -> str:
    instance = None if gpu.gpu_instance_id is None else str(gpu.gpu_instance_id)
    return labels(
        {
            "gpu": str(gpu.device_id),
            "UUID": gpu.parent_uuid or gpu.uuid,
            "pci_bus_id": card.pci_bus_id,
            "device": f"nvidia{gpu.device_id}",
            "modelName": card.name,
            "GPU_I_PROFILE": gpu.mig_profile,
            "GPU_I_ID": instance,
            "Hostname": host,
            "DCGM_FI_DRIVER_VERSION": sample.driver_version,
        }
    )
