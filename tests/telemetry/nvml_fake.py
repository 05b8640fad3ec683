"""A libnvidia-ml.so.1 in Python: nvidia-ml-py's own code runs above it, with its real structures and return codes.

Loaded as a module by tests, and by `fake_site/sitecustomize.py` in programs that tests start. The driver's state is a
JSON file, read again when it changes, so that a driver can be lost and come back under a running program. A negative
number in the state is an NVML return code (-15: GPU is lost); what is not in the state is not supported.
"""

# ruff: noqa: N802 - C functions keep the names that NVML gives them.

from __future__ import annotations

import ctypes
import json
from copy import deepcopy
from pathlib import Path
from typing import Any

import pynvml  # noqa: TID251 - the fake stands below it.

OK, INVALID, NOT_SUPPORTED, NOT_FOUND, INSUFFICIENT_SIZE = 0, 2, 3, 6, 7
TIMEOUT, LOST, NOT_LOADED = 10, 15, 9
MIB = 1024**2

_SCALARS = {
    "nvmlDeviceGetTemperature",
    "nvmlDeviceGetPowerUsage",
    "nvmlDeviceGetEnforcedPowerLimit",
    "nvmlDeviceGetPerformanceState",
    "nvmlDeviceGetFanSpeed",
    "nvmlDeviceGetCurrPcieLinkGeneration",
    "nvmlDeviceGetCurrPcieLinkWidth",
    "nvmlDeviceGetCurrentClocksThrottleReasons",
    "nvmlDeviceGetGpuInstanceId",
    "nvmlDeviceGetComputeInstanceId",
    "nvmlDeviceGetMaxMigDeviceCount",
    "nvmlDeviceGetPcieThroughput",
}
_PROCESS_LISTS = {
    "nvmlDeviceGetComputeRunningProcesses_v3": "compute",
    "nvmlDeviceGetGraphicsRunningProcesses_v3": "graphics",
    "nvmlDeviceGetMPSComputeRunningProcesses_v3": "mps",
}


def card(index: int, **changes: Any) -> dict[str, Any]:
    """An A100-like card under load; `changes` replace single values of its state."""
    state: dict[str, Any] = {
        "uuid": f"GPU-a1000000-0000-4000-8000-{index:012d}",
        "name": "NVIDIA A100-SXM4-40GB",
        "bus": f"00000000:{index + 1:02X}:00.0",
        "mig_mode": 0,
        "nvmlDeviceGetMaxMigDeviceCount": 7,
        "total": 40960 * MIB,
        "used": 8192 * MIB,
        "reserved": 512 * MIB,
        "utilization": [87, 41],
        "encoder": 0,
        "decoder": 0,
        "clocks": [1410, 1410, 1215],
        "nvmlDeviceGetTemperature": 61,
        "nvmlDeviceGetPowerUsage": 250_500,
        "nvmlDeviceGetEnforcedPowerLimit": 400_000,
        "nvmlDeviceGetPerformanceState": 0,
        "nvmlDeviceGetCurrPcieLinkGeneration": 4,
        "nvmlDeviceGetCurrPcieLinkWidth": 16,
        "nvmlDeviceGetCurrentClocksThrottleReasons": 0x4,
        "fields": {
            "3": 0,
            "4": 0,
            "5": 2,
            "6": 0,
            "82": 58,
            "83": 1_000_500,
            "94": 0,
            "142": 0,
            "143": 0,
            "144": 0,
            "145": 0,
        },
        "compute": [{"pid": 4_000_001, "memory": 7000 * MIB}],
        "graphics": [],
        "migs": [],
        "xids": [],
    }
    return state | changes


def mig(
    card_index: int, index: int, instance: int, profile: str, slices: int, mib: int, **changes: Any
) -> dict[str, Any]:
    """A MIG device; `instance` is its GPU instance id."""
    state: dict[str, Any] = {
        "uuid": f"MIG-a1000000-0000-4000-{card_index:04d}-{index:012d}",
        "index": index,
        "name": f"NVIDIA A100-SXM4-40GB MIG {profile}",
        "slices": slices,
        "total": mib * MIB,
        "used": 17 * MIB,
        "reserved": 0,
        "nvmlDeviceGetGpuInstanceId": instance,
        "nvmlDeviceGetComputeInstanceId": 0,
        "compute": [],
    }
    return state | changes


def driver(*cards: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """A driver's state with these cards."""
    return {"version": "550.54.15", "error": 0, "cards": list(cards)} | changes


class FakeNvml:
    """What ctypes.CDLL("libnvidia-ml.so.1") would be: attributes are C functions that return nvmlReturn_t."""

    def __init__(self, state: dict[str, Any] | Path) -> None:
        self._file = state if isinstance(state, Path) else None
        self._seen: tuple[int, int] | None = None
        self.state: dict[str, Any] = {} if isinstance(state, Path) else deepcopy(state)
        self._gpm_samples = 0
        self.initialised = 0
        self.calls: dict[str, int] = {}
        self._functions: dict[str, Any] = {}
        self.refresh()

    def refresh(self) -> None:
        """Take the state from the file if it has changed."""
        if self._file is None:
            return
        stat = self._file.stat()
        if self._seen != (stat.st_mtime_ns, stat.st_ino):
            self._seen = (stat.st_mtime_ns, stat.st_ino)
            self.state = json.loads(self._file.read_text())

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("nvml"):
            raise AttributeError(name)
        if name in self.__dict__["state"].get("without", []):
            raise AttributeError(name)
        return self._functions.setdefault(name, _Function(self, name))

    def device(self, handle: Any) -> dict[str, Any] | None:
        """The card or MIG device behind a handle: 0x1000 + card, or 0x10000 * (card + 1) + MIG index."""
        address = ctypes.cast(handle, ctypes.c_void_p).value or 0
        cards = self.state["cards"]
        if address >= 0x10000:
            index, at = divmod(address, 0x10000)
            migs = cards[index - 1]["migs"] if index <= len(cards) else []
            return next((each for each in migs if each["index"] == at), None)
        index = address - 0x1000
        return cards[index] if 0 <= index < len(cards) else None

    def call(self, name: str, arguments: tuple[Any, ...]) -> int:
        """One C function."""
        self.refresh()
        self.calls[name] = self.calls.get(name, 0) + 1
        if name in self.state.get("hang", []):
            if self._file:
                self._file.with_suffix(".hung").touch()
            _hang()
        if self.state["error"] and name != "nvmlShutdown":
            return int(self.state["error"])
        if name == "nvmlInitWithFlags":
            self.initialised += 1
            return OK
        if name == "nvmlShutdown":
            self.initialised -= 1
            return OK
        if not self.initialised:
            return 1
        if name.startswith("nvmlDevice"):
            return self._on_device(name, arguments)
        method = getattr(type(self), f"_{name}", None)
        return method(self, *arguments) if method else NOT_SUPPORTED

    def _on_device(self, name: str, arguments: tuple[Any, ...]) -> int:  # noqa: PLR0911 - a table of cases.
        if name == "nvmlDeviceGetCount_v2":
            return _put(arguments[0], len(self.state["cards"]))
        if name == "nvmlDeviceGetHandleByIndex_v2":
            index = arguments[0].value
            found = self.state["cards"][index]
            if found.get("lost"):
                return LOST
            return _point(arguments[1], 0x1000 + index)
        device = self.device(arguments[0])
        if device is None:
            return INVALID
        if device.get("lost"):
            return LOST
        if name in _SCALARS:
            return _put(arguments[-1], device.get(name, -NOT_SUPPORTED))
        if name in _PROCESS_LISTS:
            return self._list(device.get(_PROCESS_LISTS[name], -NOT_SUPPORTED), arguments[1], arguments[2])
        method = getattr(type(self), f"_{name}", None)
        return method(self, device, *arguments) if method else NOT_SUPPORTED

    def _list(self, processes: Any, count: Any, array: Any) -> int:
        if isinstance(processes, int):
            return -processes
        if not processes:
            return _put(count, 0)
        if array is None:
            _put(count, len(processes))
            return INSUFFICIENT_SIZE
        for at, process in enumerate(processes):
            array[at].pid = process["pid"]
            unknown = pynvml.NVML_VALUE_NOT_AVAILABLE_ulonglong.value
            array[at].usedGpuMemory = unknown if process["memory"] is None else process["memory"]
            array[at].gpuInstanceId = process.get("instance", 0xFFFFFFFF)
        return _put(count, len(processes))

    def _nvmlSystemGetDriverVersion(self, buffer: Any, _size: Any) -> int:
        buffer.value = self.state["version"].encode()
        return OK

    def _nvmlDeviceGetUUID(self, device: dict[str, Any], _handle: Any, buffer: Any, _size: Any) -> int:
        buffer.value = device["uuid"].encode()
        return OK

    def _nvmlDeviceGetName(self, device: dict[str, Any], _handle: Any, buffer: Any, _size: Any) -> int:
        # A name may be given as hexadecimal bytes, to be no valid text.
        buffer.value = (
            bytes.fromhex(device["name_bytes"]) if "name_bytes" in device else device["name"].encode()
        )
        return OK

    def _nvmlDeviceGetPciInfo_v3(self, device: dict[str, Any], _handle: Any, info: Any) -> int:
        info._obj.busId = device["bus"].encode()
        return OK

    def _nvmlDeviceGetMigMode(self, device: dict[str, Any], _handle: Any, current: Any, pending: Any) -> int:
        return _put(current, device.get("mig_mode", -NOT_SUPPORTED)) or _put(pending, device["mig_mode"])

    def _nvmlDeviceGetMigDeviceHandleByIndex(
        self, device: dict[str, Any], handle: Any, index: Any, mig_: Any
    ) -> int:
        if not any(each["index"] == index.value for each in device["migs"]):
            return NOT_FOUND
        at = (ctypes.cast(handle, ctypes.c_void_p).value or 0) - 0x1000
        return _point(mig_, 0x10000 * (at + 1) + index.value)

    def _nvmlDeviceGetGpuInstanceProfileInfoV(
        self, device: dict[str, Any], _handle: Any, number: int, info: Any
    ) -> int:
        slices = device.get("profiles", {}).get(str(number))
        if slices is None:
            return NOT_SUPPORTED
        info._obj.sliceCount = slices
        return OK

    def _nvmlDeviceGetAttributes_v2(self, device: dict[str, Any], _handle: Any, attributes: Any) -> int:
        if "slices" not in device:
            return NOT_SUPPORTED
        attributes._obj.gpuInstanceSliceCount = device.get("instance_slices", device["slices"])
        attributes._obj.computeInstanceSliceCount = device["slices"]
        attributes._obj.memorySizeMB = device["total"] // MIB
        return OK

    def _nvmlDeviceGetMemoryInfo(self, device: dict[str, Any], _handle: Any, memory: Any) -> int:
        return self._memory(device, memory, 0)

    def _nvmlDeviceGetMemoryInfo_v2(self, device: dict[str, Any], _handle: Any, memory: Any) -> int:
        if device.get("reserved", -NOT_SUPPORTED) < 0:
            return NOT_SUPPORTED
        memory._obj.reserved = device["reserved"]
        return self._memory(device, memory, device["reserved"])

    def _memory(self, device: dict[str, Any], memory: Any, reserved: int) -> int:
        if device["total"] < 0:
            return int(-device["total"])
        memory._obj.total, memory._obj.used = device["total"], device["used"]
        memory._obj.free = device["total"] - device["used"] - reserved
        return OK

    def _nvmlDeviceGetUtilizationRates(self, device: dict[str, Any], _handle: Any, rates: Any) -> int:
        found = device.get("utilization", -NOT_SUPPORTED)
        if isinstance(found, int):
            return -found
        rates._obj.gpu, rates._obj.memory = found
        return OK

    def _nvmlDeviceGetEncoderUtilization(
        self, device: dict[str, Any], _handle: Any, percent: Any, period: Any
    ) -> int:
        _put(period, 167_000)
        return _put(percent, device.get("encoder", -NOT_SUPPORTED))

    def _nvmlDeviceGetDecoderUtilization(
        self, device: dict[str, Any], _handle: Any, percent: Any, period: Any
    ) -> int:
        _put(period, 167_000)
        return _put(percent, device.get("decoder", -NOT_SUPPORTED))

    def _nvmlDeviceGetClockInfo(self, device: dict[str, Any], _handle: Any, kind: Any, clock: Any) -> int:
        found = device.get("clocks", -NOT_SUPPORTED)
        return -found if isinstance(found, int) else _put(clock, found[kind.value])

    def _nvmlDeviceGetFieldValues(
        self, device: dict[str, Any], _handle: Any, _count: Any, values: Any
    ) -> int:
        fields = device.get("fields", {})
        for answer in values._obj:
            raw = fields.get(str(answer.fieldId), -NOT_SUPPORTED)
            answer.nvmlReturn = -raw if raw < 0 else OK
            answer.valueType = 3
            answer.value.ullVal = max(raw, 0)
        return OK

    def _nvmlEventSetCreate(self, events: Any) -> int:
        return _point(events, 0x500)

    def _nvmlEventSetFree(self, _events: Any) -> int:
        return OK

    def _nvmlDeviceRegisterEvents(
        self, device: dict[str, Any], _handle: Any, _kinds: Any, _events: Any
    ) -> int:
        return int(device.get("events_error", OK))

    def _nvmlEventSetWait_v2(self, _events: Any, data: Any, _timeout: Any) -> int:
        for index, found in enumerate(self.state["cards"]):
            if found["xids"]:
                event = data._obj
                _point(data, 0x1000 + index)
                event.eventType, event.eventData = 8, found["xids"].pop(0)
                event.gpuInstanceId = 0xFFFFFFFF
                return OK
        return TIMEOUT

    def _nvmlGpmQueryDeviceSupport(self, handle: Any, support: Any) -> int:
        device = self.device(handle)
        support._obj.isSupportedDevice = int(bool(device and device.get("gpm")))
        return OK

    def _nvmlGpmSampleAlloc(self, sample: Any) -> int:
        self._gpm_samples += 1
        return _point(sample, 0x9000 + self._gpm_samples)

    def _nvmlGpmSampleFree(self, _sample: Any) -> int:
        self._gpm_samples -= 1
        return OK

    def _nvmlGpmSampleGet(self, handle: Any, _sample: Any) -> int:
        self._gpm_of = (self.device(handle) or {}).get("gpm", {}).get("card", {})
        return OK

    def _nvmlGpmMigSampleGet(self, handle: Any, instance: int, _sample: Any) -> int:
        self._gpm_of = (self.device(handle) or {}).get("gpm", {}).get(str(instance), {})
        return OK

    def _nvmlGpmMetricsGet(self, request: Any) -> int:
        for metric in request._obj.metrics[: request._obj.numMetrics]:
            raw = self._gpm_of.get(str(metric.metricId), -NOT_SUPPORTED)
            metric.nvmlReturn = int(-raw) if raw < 0 else OK
            metric.value = max(raw, 0.0)
        return OK


class _Function:
    """A C function of the library; ctypes lets callers set `restype` on it."""

    restype: Any = None

    def __init__(self, library: FakeNvml, name: str) -> None:
        self._library = library
        self._name = name

    def __call__(self, *arguments: Any) -> int:
        return self._library.call(self._name, arguments)


def _hang() -> None:
    """Never return from C, whatever signals come, as a call into a driver that is stuck."""
    library = ctypes.CDLL(None)
    mutex = ctypes.create_string_buffer(64)
    library.pthread_mutex_lock(mutex)
    library.pthread_mutex_lock(mutex)


def _put(reference: Any, value: int) -> int:
    if value < 0:
        return -value
    reference._obj.value = value
    return OK


def _point(reference: Any, address: int) -> int:
    ctypes.c_void_p.from_buffer(reference._obj).value = address
    return OK


def install(state: dict[str, Any] | Path) -> FakeNvml:
    """Put a fake library below nvidia-ml-py."""
    fake = FakeNvml(state)
    pynvml._nvmlGetFunctionPointer_cache.clear()
    pynvml.nvmlLib = fake
    return fake


def uninstall() -> None:
    """Take it away again; nvidia-ml-py will look for the real one."""
    pynvml._nvmlGetFunctionPointer_cache.clear()
    pynvml.nvmlLib = None
