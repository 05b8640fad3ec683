"""Made-up GPUs for tests, built device by device."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from gpu_telemetry.errors import BackendUnavailable
from gpu_telemetry.metrics import READINGS, THROTTLE_REASONS, GpuMetrics
from gpu_telemetry.topology import Gpu, Topology

if TYPE_CHECKING:
    from typing_extensions import Self

    from gpu_telemetry.metrics import GpuProcess

_BITS = {name: bit for bit, name in THROTTLE_REASONS.items()}


class MockGpuBackend:
    """GPUs that read what they were told to; every `with_…` speaks of the device added last.

    `MockGpuBackend().with_device(0, "Mock GPU 0").with_temperature(75)` has one GPU of which only the temperature is
    known. Its readings are marked simulated.
    """

    name = "mock"
    simulated = True
    driver_version = None

    def __init__(self) -> None:
        self._devices: list[dict[str, Any]] = []
        self._failure: BackendUnavailable | None = None

    def with_device(self, device_id: int, name: str, *, uuid: str | None = None) -> Self:
        """Add a GPU; its UUID is made from its index unless given."""
        made = f"GPU-00000000-0000-0000-0000-{device_id:012d}"
        self._devices.append({"device_id": device_id, "name": name, "uuid": uuid or made, "missing": {}})
        return self

    def with_reading(self, field: str, value: object, *, reason: str = "not_supported") -> Self:
        """Set any field of `GpuMetrics`; None makes it missing for `reason`.

        Raises:
            ValueError: There is no such field, or no device yet.
        """
        if field not in READINGS:
            raise ValueError(f"GpuMetrics has no reading {field!r}; known: {', '.join(READINGS)}")
        if not self._devices:
            raise ValueError("add a device first: with_device(0, 'Mock GPU 0')")
        device = self._devices[-1]
        device[field] = value
        device["missing"].pop(field, None)
        if value is None:
            device["missing"][field] = reason
        return self

    def with_temperature(self, celsius: float | None) -> Self:
        """Core temperature, in °C."""
        return self.with_reading("temperature_celsius", celsius)

    def with_utilization(self, percent: float | None) -> Self:
        """GPU utilisation, 0 to 100."""
        return self.with_reading("utilization_percent", percent)

    def with_memory(self, used_bytes: int | None, total_bytes: int | None) -> Self:
        """Framebuffer used and in total, in bytes."""
        free = None if used_bytes is None or total_bytes is None else total_bytes - used_bytes
        self.with_reading("memory_used_bytes", used_bytes).with_reading("memory_total_bytes", total_bytes)
        return self.with_reading("memory_free_bytes", free)

    def with_power(self, watts: float | None, limit_watts: float | None) -> Self:
        """Board power and its enforced limit, in watts."""
        return self.with_reading("power_watts", watts).with_reading("power_limit_watts", limit_watts)

    def with_clocks(self, graphics_mhz: float | None, memory_mhz: float | None) -> Self:
        """Graphics (and SM) clock and memory clock, in MHz."""
        self.with_reading("graphics_clock_mhz", graphics_mhz).with_reading("sm_clock_mhz", graphics_mhz)
        return self.with_reading("memory_clock_mhz", memory_mhz)

    def with_throttle_reasons(self, *reasons: str) -> Self:
        """The reasons in force, by nvidia-smi's names; none is "not throttled".

        Raises:
            ValueError: A reason is unknown.
        """
        unknown = [reason for reason in reasons if reason not in _BITS]
        if unknown:
            raise ValueError(f"unknown throttle reason {unknown[0]!r}; known: {', '.join(_BITS)}")
        return self.with_reading("throttle_mask", sum(_BITS[reason] for reason in set(reasons)))

    def with_processes(self, *processes: GpuProcess) -> Self:
        """The processes on it; none is "no process"."""
        return self.with_reading("processes", processes)

    def with_failure(self, reason: str | None) -> Self:
        """From now on nothing can be read, for that reason; None ends it."""
        self._failure = (
            None if reason is None else BackendUnavailable("the mock was told to fail", reason=reason)
        )
        return self

    def collect_metrics(self) -> list[GpuMetrics]:
        """What each device reads, as of now.

        Raises:
            BackendUnavailable: After `with_failure`.
        """
        if self._failure is not None:
            raise self._failure
        now = time.time()
        return [
            GpuMetrics(
                **{
                    **device,
                    "timestamp": now,
                    "simulated": True,
                    "missing": {field: "not_supported" for field in READINGS if device.get(field) is None}
                    | device["missing"],
                },
            )
            for device in self._devices
        ]

    def collect(self) -> list[GpuMetrics]:
        """See `Backend.collect`."""
        return self.collect_metrics()

    def topology(self) -> Topology:
        """See `Backend.topology`."""
        return Topology(
            gpus=tuple(
                Gpu(
                    index=metrics.device_id,
                    uuid=metrics.uuid,
                    name=metrics.name,
                    memory_total_bytes=metrics.memory_total_bytes,
                    mig_enabled=False,
                )
                for metrics in self.collect_metrics()
            ),
            simulated=True,
        )

    def close(self) -> None:
        """See `Backend.close`."""
