"""GPM, NVML's profiling counters on Hopper and later: the only utilisation that a MIG instance has."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from gpu_telemetry.nvml import reason_of

if TYPE_CHECKING:
    from gpu_telemetry.nvml import Nvml

# nvml.h, nvmlGpmMetricId_t; all are percentages over the time between two samples.
METRICS = {
    "utilization_percent": 1,  # NVML_GPM_METRIC_GRAPHICS_UTIL
    "sm_active_percent": 2,  # NVML_GPM_METRIC_SM_UTIL
    "tensor_active_percent": 5,  # NVML_GPM_METRIC_ANY_TENSOR_UTIL
    "dram_active_percent": 10,  # NVML_GPM_METRIC_DRAM_BW_UTIL
}
_VERSION = 1


def supported(nvml: Nvml, handle: object) -> bool:
    """Whether the card has GPM.

    Raises:
        NvmlError: The whole driver is lost.
    """
    answer = nvml.optional("nvmlGpmQueryDeviceSupport", handle)
    return answer is not None and bool(answer.isSupportedDevice)


class GpmReader:
    """Activity of one card, or of one GPU instance of it, between two calls of `read`.

    Args:
        nvml: An open session.
        handle: NVML's handle of the card, of a MIG device too.
        gpu_instance_id: The GPU instance, or None for the whole card.
        fields: Which of `METRICS` are wanted.
    """

    def __init__(
        self, nvml: Nvml, handle: object, gpu_instance_id: int | None, fields: tuple[str, ...]
    ) -> None:
        self._nvml = nvml
        self._handle = handle
        self._gpu_instance_id = gpu_instance_id
        self.fields = fields
        self._previous: Any = None
        self._spare: Any = None
        self._request = nvml.library.c_nvmlGpmMetricsGet_t()
        self._request.version = _VERSION
        self._request.numMetrics = len(fields)
        for at, field in enumerate(fields):
            self._request.metrics[at].metricId = METRICS[field]

    def read(self) -> tuple[dict[str, float], dict[str, str]]:
        """Percentages by field name since the last call, and the reasons of those that are missing.

        The first call has nothing to compare with: its reasons are all `no_data`.

        Raises:
            NvmlError: No sample can be taken.
        """
        sample = self._spare or self._nvml.call("nvmlGpmSampleAlloc")
        self._spare = sample
        if self._gpu_instance_id is None:
            self._nvml.call("nvmlGpmSampleGet", self._handle, sample)
        else:
            self._nvml.call("nvmlGpmMigSampleGet", self._handle, self._gpu_instance_id, sample)
        self._spare, self._previous, previous = self._previous, sample, self._previous
        if previous is None:
            return {}, dict.fromkeys(self.fields, "no_data")
        self._request.sample1, self._request.sample2 = previous, sample
        self._nvml.call("nvmlGpmMetricsGet", self._request)
        return self._answers()

    def _answers(self) -> tuple[dict[str, float], dict[str, str]]:
        values: dict[str, float] = {}
        missing: dict[str, str] = {}
        for at, field in enumerate(self.fields):
            metric = self._request.metrics[at]
            if metric.nvmlReturn:
                missing[field] = reason_of(int(metric.nvmlReturn))
            elif math.isfinite(metric.value):
                values[field] = float(metric.value)
            else:
                missing[field] = "no_data"
        return values, missing

    def close(self) -> None:
        """Give the samples back to NVML."""
        for sample in (self._previous, self._spare):
            if sample is not None:
                self._nvml.release("nvmlGpmSampleFree", sample)
        self._previous = self._spare = None
