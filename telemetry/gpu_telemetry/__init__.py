"""Readings straight from the NVIDIA driver; the public names load on first use, so importing needs no GPU library."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gpu_telemetry.andon import AlertConfig, AndonSystem, GpuAlert
    from gpu_telemetry.backends.mock import MockGpuBackend
    from gpu_telemetry.callbacks import GpuMonitorCallback
    from gpu_telemetry.exporter import PrometheusExporter
    from gpu_telemetry.metrics import GpuMetrics
    from gpu_telemetry.monitor import GpuMonitor
    from gpu_telemetry.sparklines import sparkline

_HOME = {
    "AlertConfig": "andon",
    "AndonSystem": "andon",
    "GpuAlert": "andon",
    "GpuMetrics": "metrics",
    "GpuMonitor": "monitor",
    "GpuMonitorCallback": "callbacks",
    "MockGpuBackend": "backends.mock",
    "PrometheusExporter": "exporter",
    "sparkline": "sparklines",
}

__all__ = [
    "AlertConfig",
    "AndonSystem",
    "GpuAlert",
    "GpuMetrics",
    "GpuMonitor",
    "GpuMonitorCallback",
    "MockGpuBackend",
    "PrometheusExporter",
    "sparkline",
]


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found: object = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = found
    return found
