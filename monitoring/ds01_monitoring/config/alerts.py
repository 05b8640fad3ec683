"""Thresholds and windows of the alerts: one class per alert or group of alerts, one line per figure."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from ds01_monitoring.config.types import Celsius, Duration, Ratio, Section, Trend, Window

Audience = Literal["page", "mail", "digest", "dashboard"]
"""Who hears an alert: at once, by mail, once a week, nobody."""

Xid = Annotated[int, Field(gt=0, lt=1000)]
"""A code of NVIDIA's XID catalogue."""

OF_PROGRAMS = (13, 31, 43, 45)
"""Codes that a program causes itself: an illegal access, a page fault, a stopped and a cleaned-up channel (NVIDIA's catalogue)."""


class GpuWaste(Section):
    """A GPU or slice that is held and not used: the 95th percentile of its utilisation over `window` is `below`.

    Attributes:
        coverage: Share of the window for which both the allocation and its telemetry must be there.
        parked_above: Share of the memory from which on the text says that memory is held, not that the GPU is empty.
    """

    below: Ratio = 0.05
    window: Window = "30m"
    coverage: Ratio = 0.8
    keep_firing_for: Duration = "10m"
    parked_above: Ratio = 0.05


class GpuTemperature(Section):
    """Degrees Celsius of the GPU's core."""

    warning: Celsius = 85
    warning_lasting: Duration = "5m"
    critical: Celsius = 90
    critical_lasting: Duration = "2m"

    @model_validator(mode="after")
    def _critical_is_hotter(self) -> GpuTemperature:
        if self.critical <= self.warning:
            raise ValueError(f"critical ({self.critical:g}) must be above warning ({self.warning:g})")
        return self


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


class DiskFilling(Section):
    """A file system with less than `below` free that will be full `within`, or `inodes_below` inodes free."""

    below: Ratio = 0.2
    within: Duration = "24h"
    trend: Trend = "6h"
    inodes_below: Ratio = 0.05
    lasting: Duration = "10m"


class HostMemory(Section):
    """Share of time that processes wait for memory (PSI); on kernels without PSI, share of memory available."""

    waiting_above: Ratio = 0.1
    available_below: Ratio = 0.1
    lasting: Duration = "10m"


class HostLoad(Section):
    """15-minute load divided by the number of cores."""

    above: float = Field(default=2.0, gt=0, allow_inf_nan=False)
    lasting: Duration = "10m"


class Frozen(Section):
    """An energy counter that stands still."""

    window: Window = "10m"


class Throttling(Section):
    """Share of the window for which the reason was given."""

    above: Ratio = 0.2
    window: Window = "10m"


class XidCodes(Section):
    """XID codes of the hardware; those that a program causes itself (13, 31, 43, 45) belong in neither list.

    Attributes:
        hold: For how long a critical code is remembered unless the machine reboots.
        remember: For how long a warning lasts after the error.
    """

    critical: list[Xid] = Field(default=[48, 62, 64, 74, 79, 95, 119, 120, 140], min_length=1)
    warning: list[Xid] = Field(default=[94], min_length=1)
    hold: Window = "7d"
    remember: Window = "1h"

    @model_validator(mode="after")
    def _codes_are_of_the_hardware_and_in_one_list(self) -> XidCodes:
        for code in OF_PROGRAMS:
            if code in self.critical or code in self.warning:
                raise ValueError(
                    f"{code} is a code that programs cause themselves; it belongs in neither list"
                )
        for code in self.critical:
            if code in self.warning:
                raise ValueError(f"{code} is in both lists")
        return self


class CapacityLow(Section):
    """No free slot while more than this share of the held ones is idle."""

    idle_above: Ratio = 0.25
    lasting: Duration = "15m"


class UnallocatedUse(Section):
    """Mean utilisation over the window of a slot that nobody holds."""

    above: Ratio = 0.05
    window: Window = "15m"


class StateStale(Section):
    """Seconds by which the last GPU event is newer than the state file."""

    newer_by: Duration = "5m"
    lasting: Duration = "2m"


class NotificationsFailing(Section):
    """Share of the requests to a receiver that fail; after `watchdog_after` of it the watchdog falls silent.

    `lasting` is longer than `window`: what a server refuses for a moment and takes a minute later is in the window for as long.
    """

    above: Ratio = 0.1
    window: Window = "15m"
    lasting: Duration = "25m"
    watchdog_after: Window = "30m"


class Alerts(Section):
    """Every threshold, by what it watches."""

    notify: dict[str, Audience] = Field(default_factory=dict)
    gpu_waste: GpuWaste = GpuWaste()
    gpu_temperature: GpuTemperature = GpuTemperature()
    gpu_memory: Above = Above()
    gpu_metrics_frozen: Frozen = Frozen()
    gpu_missing: Lasting = Lasting(lasting="3m")
    gpu_throttling: Throttling = Throttling()
    gpu_power_limit: Throttling = Throttling(above=0.8, window="30m")
    xid: XidCodes = XidCodes()
    container_memory: Above = Above(above=0.9)
    exporter_down: Down = Down()
    service_down: Down = Down(lasting="5m")
    host_down: Lasting = Lasting()
    dcgm_no_data: Lasting = Lasting(lasting="3m")
    state_disk: Below = Below()
    disk_filling: DiskFilling = DiskFilling()
    host_memory: HostMemory = HostMemory()
    host_load: HostLoad = HostLoad()
    capacity_low: CapacityLow = CapacityLow()
    gpu_unallocated_use: UnallocatedUse = UnallocatedUse()
    unmanaged_container: Lasting = Lasting(lasting="15m")
    allocation_conflict: Lasting = Lasting(lasting="15m")
    mig_mapping: Lasting = Lasting(lasting="15m")
    allocation_state_stale: StateStale = StateStale()
    allocation_without_telemetry: Lasting = Lasting(lasting="15m")
    collector_failing: Lasting = Lasting(lasting="10m")
    monitoring_fault: Lasting = Lasting()
    notifications_failing: NotificationsFailing = NotificationsFailing()
