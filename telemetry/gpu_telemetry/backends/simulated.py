"""Made-up GPUs that look alive, for trying things out without hardware; every outlet marks them as simulated."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING

from gpu_telemetry.metrics import READINGS, GpuMetrics, GpuProcess
from gpu_telemetry.topology import Gpu, MigDevice, Topology

if TYPE_CHECKING:
    from collections.abc import Callable

_GIB = 1024**3
_LIMIT_WATTS, _IDLE_WATTS = 400.0, 55.0
_NAME = "Simulated GPU"
_PROFILES = (
    ("3g.20gb", 3, 2, 20),
    ("2g.10gb", 2, 3, 10),
    ("1g.5gb", 1, 9, 5),
)  # profile, slices, GI id, GiB.


class SimulatedBackend:
    """GPUs under a load that comes and goes; the same time gives the same readings.

    The last card is in MIG mode when there is more than one.

    Args:
        gpus: How many cards.
        clock: Unix seconds; the load follows it.
    """

    name = "simulated"
    simulated = True
    driver_version = None

    def __init__(self, gpus: int = 2, *, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._gpus = tuple(_card(index, mig=index == gpus - 1 and gpus > 1) for index in range(gpus))

    def topology(self) -> Topology:
        """See `Backend.topology`."""
        return Topology(gpus=self._gpus, simulated=True)

    def collect(self) -> list[GpuMetrics]:
        """See `Backend.collect`."""
        now = self._clock()
        return [metrics for gpu in self._gpus for metrics in (_read(gpu, now), *_read_migs(gpu, now))]

    def close(self) -> None:
        """See `Backend.close`."""


def _card(index: int, *, mig: bool) -> Gpu:
    migs = tuple(
        MigDevice(
            at, f"MIG-51000000-0000-0000-{index:04d}-{at:012d}", instance, 0, profile, slices, gib * _GIB
        )
        for at, (profile, slices, instance, gib) in enumerate(_PROFILES)
    )
    return Gpu(
        index=index,
        uuid=f"GPU-51000000-0000-0000-0000-{index:012d}",
        name=_NAME,
        pci_bus_id=f"00000000:{index + 1:02X}:00.0",
        memory_total_bytes=40 * _GIB,
        compute_slices=7,
        mig_enabled=mig,
        mig_devices=migs if mig else (),
    )


def _load(seed: int, now: float) -> float:
    """A load of 0 to 1 that works for some minutes and rests for some."""
    period = 240.0 + 60.0 * (seed % 5)
    phase = (now / period + seed * 0.37) % 1.0
    if phase > 0.7:
        return 0.0
    return 0.6 + 0.35 * math.sin(now / 7.0 + seed)


def _read(gpu: Gpu, now: float) -> GpuMetrics:
    load = max(0.0, _load(gpu.index, now))
    used = int((0.02 + 0.7 * load) * (gpu.memory_total_bytes or 0))
    values: dict[str, object] = {
        "utilization_percent": None if gpu.mig_enabled else round(100 * load),
        "memory_utilization_percent": None if gpu.mig_enabled else round(60 * load),
        "memory_used_bytes": used,
        "memory_total_bytes": gpu.memory_total_bytes,
        "memory_free_bytes": (gpu.memory_total_bytes or 0) - used,
        "temperature_celsius": round(32 + 45 * load),
        "memory_temperature_celsius": round(34 + 50 * load),
        "power_watts": round(_IDLE_WATTS + (_LIMIT_WATTS - _IDLE_WATTS) * load, 1),
        "power_limit_watts": _LIMIT_WATTS,
        # At a mean load, so that the counter only grows.
        "energy_joules": round((now - 1.7e9) * 200.0, 1),
        "graphics_clock_mhz": 1410 if load else 210,
        "sm_clock_mhz": 1410 if load else 210,
        "memory_clock_mhz": 1215,
        "performance_state": 0 if load else 8,
        "throttle_mask": 0 if load else 1,
        "ecc_corrected_total": 0,
        "ecc_uncorrected_total": 0,
        "xid": 0,
        "xid_total": 0,
        "processes": (GpuProcess(pid=100000 + gpu.index, name="simulated", memory_used_bytes=used),)
        if load
        else (),
    }
    return _metrics(gpu, None, now, values)


def _read_migs(gpu: Gpu, now: float) -> list[GpuMetrics]:
    found = []
    for mig in gpu.mig_devices:
        load = max(0.0, _load(gpu.index * 10 + mig.index + 3, now))
        total = mig.memory_total_bytes or 0
        used = int((0.01 + 0.8 * load) * total)
        values: dict[str, object] = {
            "utilization_percent": round(100 * load, 1),
            "sm_active_percent": round(90 * load, 1),
            "tensor_active_percent": round(40 * load, 1),
            "dram_active_percent": round(50 * load, 1),
            "memory_used_bytes": used,
            "memory_total_bytes": total,
            "memory_free_bytes": total - used,
            "processes": (),
        }
        found.append(_metrics(gpu, mig, now, values))
    return found


def _metrics(gpu: Gpu, mig: MigDevice | None, now: float, values: dict[str, object]) -> GpuMetrics:
    known = {field: value for field, value in values.items() if value is not None}
    return GpuMetrics(
        device_id=gpu.index,
        uuid=mig.uuid if mig else gpu.uuid,
        name=gpu.name,
        parent_uuid=gpu.uuid if mig else None,
        mig_index=mig.index if mig else None,
        gpu_instance_id=mig.gpu_instance_id if mig else None,
        compute_instance_id=mig.compute_instance_id if mig else None,
        mig_profile=mig.profile if mig else None,
        mig_enabled=gpu.mig_enabled,
        pci_bus_id=gpu.pci_bus_id,
        timestamp=now,
        simulated=True,
        missing={field: "not_supported" for field in READINGS if field not in known},
        **known,  # type: ignore[arg-type]
    )
