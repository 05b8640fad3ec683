"""CUDA_VISIBLE_DEVICES as a filter."""

from __future__ import annotations

import pytest

from gpu_telemetry import GpuMonitor
from gpu_telemetry.backends.simulated import SimulatedBackend
from gpu_telemetry.metrics import GpuMetrics
from gpu_telemetry.visible import visible_uuids

DEVICES = [
    GpuMetrics(device_id=0, uuid="GPU-aa11"),
    GpuMetrics(device_id=1, uuid="GPU-aa22"),
    GpuMetrics(device_id=2, uuid="GPU-bb33"),
    GpuMetrics(
        device_id=2,
        uuid="MIG-cc44",
        parent_uuid="GPU-bb33",
        mig_index=0,
        gpu_instance_id=7,
        compute_instance_id=0,
    ),
    GpuMetrics(
        device_id=2,
        uuid="MIG-cc55",
        parent_uuid="GPU-bb33",
        mig_index=1,
        gpu_instance_id=9,
        compute_instance_id=0,
    ),
]


@pytest.mark.parametrize(
    ("value", "uuids"),
    [
        ("0", ["GPU-aa11"]),
        ("1,0", ["GPU-aa22", "GPU-aa11"]),
        (" 1 , 0 ", ["GPU-aa22", "GPU-aa11"]),
        ("GPU-aa2", ["GPU-aa22"]),
        ("GPU-aa", []),
        ("GPU-aa11,GPU-zz,GPU-aa22", ["GPU-aa11"]),
        ("0,7,1", ["GPU-aa11"]),
        ("0,-1,1", ["GPU-aa11"]),
        ("-1", []),
        ("", []),
        ("NoDevFiles", []),
        ("0,0", []),
        ("2", ["GPU-bb33", "MIG-cc44"]),
        ("MIG-cc55", ["MIG-cc55"]),
        ("MIG-GPU-bb33/9/0", ["MIG-cc55"]),
        ("MIG-GPU-bb33/5/0", []),
    ],
)
def test_entries_are_read_as_cuda_reads_them(value: str, uuids: list[str]) -> None:
    """Indices, unique beginnings of UUIDs, MIG UUIDs; the first invalid entry ends the list."""
    assert list(visible_uuids(value, DEVICES)) == uuids


def test_the_monitor_shows_only_visible_devices() -> None:
    """The process's own variable filters by default, and {} shows every device."""
    backend = SimulatedBackend(3)
    seen = GpuMonitor(backend, environ={"CUDA_VISIBLE_DEVICES": "1"}).collect_metrics()
    assert [each.device_id for each in seen] == [1]
    assert len(GpuMonitor(backend, environ={}).collect_metrics()) == 6
    assert GpuMonitor(backend, environ={"CUDA_VISIBLE_DEVICES": ""}).collect_metrics() == []
