"""The sampler's front: one backend, filtered by CUDA_VISIBLE_DEVICES, read on demand."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from gpu_telemetry import backends
from gpu_telemetry.errors import BackendUnavailable
from gpu_telemetry.metrics import Sample
from gpu_telemetry.visible import VARIABLE, visible_part, visible_uuids

if TYPE_CHECKING:
    from collections.abc import Mapping

    from typing_extensions import Self

    from gpu_telemetry.backends import Backend
    from gpu_telemetry.host import HostReader
    from gpu_telemetry.metrics import GpuMetrics
    from gpu_telemetry.topology import Topology


class GpuMonitor:
    """Reads all GPUs and MIG devices that this process may see.

    Making one touches no hardware, so it works without a driver; the readings then raise.

    Args:
        backend: A backend, or the name of one: "auto" (the default), "nvml", "smi", "simulated".
        environ: Where CUDA_VISIBLE_DEVICES is looked up; the process's own by default, {} to see every device.
        host: Also reads the host's RAPL and hwmon in `sample`.

    Raises:
        TelemetryError: There is no backend of that name.
    """

    def __init__(
        self,
        backend: Backend | str | None = None,
        *,
        environ: Mapping[str, str] | None = None,
        host: HostReader | None = None,
    ) -> None:
        self._backend = (
            backends.create(backend or "auto") if backend is None or isinstance(backend, str) else backend
        )
        self._visible = (os.environ if environ is None else environ).get(VARIABLE)
        self._host = host

    @property
    def backend_name(self) -> str:
        """The backend that answers: "nvml", "smi", "mock" or "simulated"."""
        return self._backend.name

    @property
    def simulated(self) -> bool:
        """Whether the readings are made up."""
        return self._backend.simulated

    def collect_metrics(self) -> list[GpuMetrics]:
        """Read every visible device now, cards before their MIG devices.

        Raises:
            BackendUnavailable: Nothing can be read now: no driver, no permission. Calling again later tries again.
        """
        metrics = self._backend.collect()
        if self._visible is None:
            return metrics
        visible = visible_uuids(self._visible, metrics)
        return [each for each in metrics if each.uuid in visible]

    def topology(self) -> Topology:
        """The cards and MIG devices that this process may see; a card stays for a MIG device of it that is seen.

        Raises:
            BackendUnavailable: Nothing can be read now.
        """
        topology = self._backend.topology()
        return topology if self._visible is None else visible_part(self._visible, topology)

    def sample(self) -> Sample:
        """Everything at this moment; where the GPUs cannot be read, `error` says why and `gpus` is empty."""
        gpus: list[GpuMetrics] = []
        error: BackendUnavailable | None = None
        try:
            gpus = self.collect_metrics()
        except BackendUnavailable as refused:
            error = refused
        return Sample(
            timestamp=time.time(),
            monotonic=time.monotonic(),
            gpus=tuple(gpus),
            host=None if self._host is None else self._host.read(),
            backend=self.backend_name,
            simulated=self.simulated,
            driver_version=None if error else self._backend.driver_version,
            error=error,
        )

    def close(self) -> None:
        """Let go of the driver."""
        self._backend.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
