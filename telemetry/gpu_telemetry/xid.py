"""XID errors, as the driver reports them: waiting for events costs nothing while there are none."""

from __future__ import annotations

import ctypes
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gpu_telemetry.inventory import scan
from gpu_telemetry.nvml import DRIVER_LOST, TIMEOUT, Nvml, NvmlError, unavailable

if TYPE_CHECKING:
    from typing_extensions import Self

    from gpu_telemetry.topology import Gpu

_NO_INSTANCE = 0xFFFFFFFF  # nvml.h: the event belongs to no GPU instance.


@dataclass(frozen=True)
class XidEvent:
    """One XID error.

    Attributes:
        gpu: Index of the physical GPU; None if NVML reports a device that was not there at the start.
        uuid: Its UUID, or None as above.
        xid: NVIDIA's number: 43 is a program's fault, 79 a card that fell off the bus.
        timestamp: Unix seconds when it was taken from the driver.
        gpu_instance_id: The GPU instance it happened in; None for the whole GPU.
    """

    gpu: int | None
    uuid: str | None
    xid: int
    timestamp: float
    gpu_instance_id: int | None = None


class XidWatcher:
    """Hands out XID errors from the moment it is entered; earlier ones are in the kernel's log only.

    Raises:
        NvmlUnavailable: On entering, NVML cannot be used, or no GPU reports XID errors.
    """

    def __init__(self) -> None:
        self._nvml: Nvml | None = None
        self._events: Any = None
        self._gpus: dict[int | None, Gpu] = {}

    def __enter__(self) -> Self:
        nvml = Nvml()
        try:
            self._events = nvml.call("nvmlEventSetCreate")
            self._gpus = register(nvml, self._events)
        except NvmlError as error:
            nvml.close()
            raise unavailable(error.code, str(error)) from error
        self._nvml = nvml
        return self

    def __exit__(self, *_: object) -> None:
        if self._nvml is not None:
            self._nvml.release("nvmlEventSetFree", self._events)
            self._nvml.close()
            self._nvml = None

    def wait(self, timeout_seconds: float) -> list[XidEvent]:
        """The XID errors since the last call: waits for the first, then takes what else is there.

        Args:
            timeout_seconds: How long to wait for the first; 0 only looks.

        Raises:
            NvmlUnavailable: The driver is lost; enter a new watcher once it is back.
        """
        if self._nvml is None:
            raise RuntimeError("XidWatcher is used outside its `with` block")
        try:
            return drain(self._nvml, self._events, self._gpus, timeout_seconds)
        except NvmlError as error:
            raise unavailable(error.code, str(error)) from error


def register(nvml: Nvml, events: object) -> dict[int | None, Gpu]:
    """Ask for XID events of every GPU that has them; returns the GPUs by the address in their handle.

    Raises:
        NvmlError: The driver is lost, or no GPU reports XID errors.
    """
    kind = int(nvml.library.nvmlEventTypeXidCriticalError)
    gpus: dict[int | None, Gpu] = {}
    refusal: NvmlError | None = None
    for found in scan(nvml):
        if found.mig is not None:
            continue
        try:
            nvml.call("nvmlDeviceRegisterEvents", found.handle, kind, events)
        except NvmlError as error:
            if error.code in DRIVER_LOST:
                raise
            refusal = error
            continue
        gpus[_address(found.handle)] = found.gpu
    if not gpus and refusal is not None:
        raise refusal
    return gpus


def drain(nvml: Nvml, events: object, gpus: dict[int | None, Gpu], timeout_seconds: float) -> list[XidEvent]:
    """All events that are there, waiting up to `timeout_seconds` for the first.

    Raises:
        NvmlError: Waiting failed for another reason than the time being up.
    """
    taken: list[XidEvent] = []
    wait_ms = round(timeout_seconds * 1000)
    while True:
        try:
            data = nvml.call("nvmlEventSetWait", events, wait_ms)
        except NvmlError as error:
            # What was taken is handed out first; a lost driver says so again on the next call.
            if error.code == TIMEOUT or taken:
                return taken
            raise
        gpu = gpus.get(_address(data.device))
        taken.append(
            XidEvent(
                gpu=None if gpu is None else gpu.index,
                uuid=None if gpu is None else gpu.uuid,
                xid=int(data.eventData),
                timestamp=time.time(),
                gpu_instance_id=None if data.gpuInstanceId == _NO_INSTANCE else int(data.gpuInstanceId),
            ),
        )
        wait_ms = 0


def _address(handle: object) -> int | None:
    # A lost card answers no question about itself, so events are matched by the handle's address.
    return ctypes.cast(handle, ctypes.c_void_p).value  # type: ignore[arg-type]
