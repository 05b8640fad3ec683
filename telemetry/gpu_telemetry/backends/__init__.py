"""Where readings come from: NVML, nvidia-smi, or made up; each answers the same three questions."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Protocol, TypeVar

from gpu_telemetry.errors import BackendUnavailable, TelemetryError

if TYPE_CHECKING:
    from collections.abc import Callable

    from gpu_telemetry.metrics import GpuMetrics
    from gpu_telemetry.topology import Topology

_T = TypeVar("_T")

NAMES = ("auto", "nvml", "smi", "simulated")


class Backend(Protocol):
    """A source of readings.

    Attributes:
        name: "nvml", "smi", "mock" or "simulated".
        simulated: True where no hardware is asked; every outlet marks it.
        driver_version: As of the last `collect`; None if unknown.
    """

    @property
    def name(self) -> str: ...  # noqa: D102 - see the class.
    @property
    def simulated(self) -> bool: ...  # noqa: D102
    @property
    def driver_version(self) -> str | None: ...  # noqa: D102

    def collect(self) -> list[GpuMetrics]:
        """Read every GPU and MIG device now, cards before their MIG devices.

        Raises:
            BackendUnavailable: Nothing can be read now; a later call tries again.
        """

    def topology(self) -> Topology:
        """The cards and MIG devices that are there now.

        Raises:
            BackendUnavailable: Nothing can be read now; a later call tries again.
        """

    def close(self) -> None:
        """Let go of the driver."""


def create(name: str, *, pcie_throughput: bool = False) -> Backend:
    """The backend of that name.

    Args:
        name: "auto" (NVML where it answers, else nvidia-smi), "nvml", "smi" or "simulated".
        pcie_throughput: By NVML, measure the PCIe rates of cards without byte counters: 40 ms for each sample of each.

    Raises:
        TelemetryError: There is no such backend.
    """
    # Each is imported where it is chosen: a simulated GPU needs no NVML.
    if name == "auto":
        return AutoBackend(pcie_throughput=pcie_throughput)
    if name == "nvml":
        from gpu_telemetry.backends.nvml import NvmlBackend  # noqa: PLC0415

        return NvmlBackend(pcie_throughput=pcie_throughput)
    if name == "smi":
        from gpu_telemetry.backends.smi import SmiBackend  # noqa: PLC0415

        return SmiBackend()
    if name == "simulated":
        from gpu_telemetry.backends.simulated import SimulatedBackend  # noqa: PLC0415

        return SimulatedBackend()
    raise TelemetryError(f"unknown backend {name!r}", hint=f"choose from {', '.join(NAMES)}", exit_code=2)


class AutoBackend:
    """NVML where it answers, else nvidia-smi; the first that answers is kept.

    While neither does, both are asked again after 1 s, then 2, 4, … up to 60 s: nvidia-smi takes long to fail.

    Args:
        pcie_throughput: See `create`.
        clock: A monotonic clock in seconds.
    """

    simulated = False

    def __init__(self, *, pcie_throughput: bool = False, clock: Callable[[], float] = time.monotonic) -> None:
        self._candidates = [create("nvml", pcie_throughput=pcie_throughput), create("smi")]
        self._chosen: Backend | None = None
        self._clock = clock
        self._refusal: BackendUnavailable | None = None
        self._retry_at = 0.0
        self._wait_seconds = 1.0

    @property
    def name(self) -> str:
        """The name of the backend that answers; "nvml" until one does."""
        return (self._chosen or self._candidates[0]).name

    @property
    def driver_version(self) -> str | None:
        """The driver's version as of the last `collect`; None if unknown."""
        return None if self._chosen is None else self._chosen.driver_version

    def collect(self) -> list[GpuMetrics]:
        """See `Backend.collect`."""
        if self._chosen is not None:
            return self._chosen.collect()
        return self._first(lambda backend: backend.collect())

    def topology(self) -> Topology:
        """See `Backend.topology`."""
        if self._chosen is not None:
            return self._chosen.topology()
        return self._first(lambda backend: backend.topology())

    def close(self) -> None:
        """See `Backend.close`."""
        for backend in self._candidates:
            backend.close()

    def _first(self, ask: Callable[[Backend], _T]) -> _T:
        if self._refusal is not None and self._clock() < self._retry_at:
            raise self._refusal
        refusals: list[BackendUnavailable] = []
        for backend in self._candidates:
            try:
                answer = ask(backend)
            except BackendUnavailable as error:
                refusals.append(error)
                continue
            self._chosen = backend
            return answer
        # NVML's words: nvidia-smi asks the same library, and may only be missing.
        self._refusal = refusals[0]
        self._retry_at = self._clock() + self._wait_seconds
        self._wait_seconds = min(self._wait_seconds * 2, 60.0)
        raise self._refusal
