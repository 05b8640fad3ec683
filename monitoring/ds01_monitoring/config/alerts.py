"""Thresholds and windows of the alerts: one class per alert or pair of alerts, one line per figure."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from ds01_monitoring.config.types import Celsius, Duration, Ratio, Section

Audience = Literal["page", "mail", "digest", "dashboard"]
"""Who hears an alert: at once, by mail, once a week, nobody."""


class GpuWaste(Section):
    """A GPU or slice that is held and not used."""

    below: Ratio = 0.05
    window: Duration = "30m"
    coverage: Ratio = 0.8
    keep_firing_for: Duration = "10m"


class GpuTemperature(Section):
    """Degrees Celsius of the GPU's core."""

    warning: Celsius = 85
    warning_lasting: Duration = "5m"
    critical: Celsius = 90
    critical_lasting: Duration = "2m"


class Above(Section):
    """A share that is too large for too long."""

    above: Ratio = 0.95
    lasting: Duration = "10m"


class Below(Section):
    """A share that is too small for too long."""

    below: Ratio = 0.1
    lasting: Duration = "5m"


class Lasting(Section):
    """A state that has to last before somebody hears of it."""

    lasting: Duration = "5m"


class Down(Section):
    """A target that does not answer."""

    lasting: Duration = "2m"
    grace_after_boot: Duration = "10m"


class Alerts(Section):
    """Every threshold, by what it watches."""

    notify: dict[str, Audience] = Field(default_factory=dict)
    gpu_waste: GpuWaste = GpuWaste()
    gpu_temperature: GpuTemperature = GpuTemperature()
    gpu_memory: Above = Above()
    container_memory: Above = Above(above=0.9)
    exporter_down: Down = Down()
    state_disk: Below = Below()
