"""The readings under plain names, `NAME_gpu_temperature_celsius{device="0"}`, for a program's own dashboards."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from gpu_telemetry.exposition import Family, labels

if TYPE_CHECKING:
    from gpu_telemetry.latest import State
    from gpu_telemetry.metrics import GpuMetrics, Sample

_PREFIX = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")

# Reading, name after the prefix, type, help; the unit is in the name.
ROWS = (
    ("temperature_celsius", "gpu_temperature_celsius", "gauge", "GPU temperature."),
    ("memory_temperature_celsius", "gpu_memory_temperature_celsius", "gauge", "Memory temperature."),
    ("utilization_percent", "gpu_utilization_percent", "gauge", "Time with a kernel running, 0 to 100."),
    ("memory_utilization_percent", "gpu_memory_utilization_percent", "gauge", "Time with memory being read or written, 0 to 100."),
    ("memory_used_bytes", "gpu_memory_used_bytes", "gauge", "Memory used."),
    ("memory_total_bytes", "gpu_memory_total_bytes", "gauge", "Memory in total."),
    ("power_watts", "gpu_power_watts", "gauge", "Power draw of the board."),
    ("power_limit_watts", "gpu_power_limit_watts", "gauge", "Power limit in force."),
    ("energy_joules", "gpu_energy_joules_total", "counter", "Energy since the driver was loaded."),
    ("sm_clock_mhz", "gpu_sm_clock_mhz", "gauge", "SM clock."),
    ("memory_clock_mhz", "gpu_memory_clock_mhz", "gauge", "Memory clock."),
    ("fan_percent", "gpu_fan_percent", "gauge", "Fan speed of its maximum."),
)  # fmt: skip


def check_prefix(prefix: str) -> str:
    """The prefix itself. Raises ValueError when a metric's name cannot begin with it."""
    if not _PREFIX.fullmatch(prefix):
        raise ValueError(
            f"{prefix!r} cannot begin the name of a metric: letters, digits and _ only, no digit first"
        )
    return prefix


def families(prefix: str, sample: Sample) -> list[Family]:
    """Every reading of every device; `device` is the index of a card ("0"), or of a MIG device ("0.1")."""
    return [
        Family(
            f"{prefix}_{name}", kind, text, [_sample(gpu, value) for gpu, value in _values(sample, reading)]
        )
        for reading, name, kind, text in ROWS
    ]


def own_families(prefix: str, state: State) -> list[Family]:
    """How the sampling itself fares, whether or not anything can be read."""
    rows = (
        ("up", "Whether the last sample could be read and is recent.", float(state.status == "ok")),
        (
            "simulated",
            "Whether the readings are made up.",
            float(bool(state.sample and state.sample.simulated)),
        ),
        ("sample_age_seconds", "Age of the last sample.", state.age_seconds),
        ("last_success_timestamp_seconds", "When a sample was last read.", state.last_success),
    )
    return [
        Family(f"{prefix}_{name}", "gauge", text, [("", value)])
        for name, text, value in rows
        if value is not None
    ]


def _values(sample: Sample, reading: str) -> list[tuple[GpuMetrics, float]]:
    pairs = ((gpu, getattr(gpu, reading)) for gpu in sample.gpus)
    return [(gpu, value) for gpu, value in pairs if value is not None]


def _sample(gpu: GpuMetrics, value: float) -> tuple[str, float]:
    return labels({"device": gpu.slot}), value
