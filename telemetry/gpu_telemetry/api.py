"""The REST answer: the last sample as JSON, in the shape that the API has always documented."""

from __future__ import annotations

import json
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gpu_telemetry.latest import State
    from gpu_telemetry.metrics import GpuMetrics

PATH = "/api/v1/monitoring/gpu-metrics"
MIB = 1024 * 1024

PLACEHOLDER: dict[str, Any] = {
    "id": "gpu-0",
    "name": "Simulated GPU",
    "uuid": "GPU-00000000-0000-0000-0000-000000000000",
    "utilization": 0,
    "memory_utilization": 0,
    "memory": {"total": 16384, "used": 0, "free": 16384},
    "temperature": 0,
    "power_usage": 0.0,
    "clock_speeds": {"graphics": 0, "memory": 0},
    "simulated": True,
}
"""What `--placeholders` shows where nothing can be read: for working on a client without a GPU."""


def document(state: State, *, placeholders: bool = False, now: datetime | None = None) -> bytes:
    """The answer to `GET /api/v1/monitoring/gpu-metrics` as JSON.

    GPUs are shown only from a sample that is recent and could be read; else the list is empty, or holds one
    placeholder marked as simulated where `placeholders` asks for it.
    """
    sample, fresh = state.sample, state.fresh
    moment = (
        datetime.fromtimestamp(sample.timestamp, tz=timezone.utc)
        if sample
        else now or datetime.now(tz=timezone.utc)
    )
    gpus = [_gpu(gpu) for gpu in fresh.gpus if gpu.parent_uuid is None] if fresh else []
    invented = placeholders and state.status == "nvml_unavailable"
    answer: dict[str, Any] = {
        "timestamp": utc(moment),
        "status": state.status,
        "sample_age_seconds": None if state.age_seconds is None else round(state.age_seconds, 3),
        "gpus": [PLACEHOLDER] if invented else gpus,
    }
    if sample is not None and sample.error is not None:
        answer["reason"] = sample.error.reason
    if invented or (fresh and fresh.simulated):
        answer["simulated"] = True
    return json.dumps(answer, separators=(",", ":")).encode()


def utc(moment: datetime) -> str:
    """The moment as `2025-03-04T23:02:50.123456Z`."""
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")


def _gpu(gpu: GpuMetrics) -> dict[str, Any]:
    """One card; null is unknown, memory is in MiB, clocks in MHz, power in watts, the rest in percent and °C."""
    shown: dict[str, Any] = {
        "id": f"gpu-{gpu.device_id}",
        "name": gpu.name,
        "uuid": gpu.uuid,
        "utilization": _whole(gpu.utilization_percent),
        "memory_utilization": _whole(gpu.memory_utilization_percent),
        "memory": {
            "total": _mib(gpu.memory_total_bytes),
            "used": _mib(gpu.memory_used_bytes),
            "free": _mib(gpu.memory_free_bytes),
        },
        "temperature": _whole(gpu.temperature_celsius),
        "power_usage": None if gpu.power_watts is None else round(gpu.power_watts, 3),
        "clock_speeds": {"graphics": _whole(gpu.graphics_clock_mhz), "memory": _whole(gpu.memory_clock_mhz)},
    }
    if gpu.simulated:
        shown["simulated"] = True
    return shown


def _mib(value: int | None) -> int | None:
    return None if value is None else value // MIB


def _whole(value: float | None) -> int | None:
    return None if value is None else round(value)
