"""What NVML says is installed: cards, and the MIG devices on them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from gpu_telemetry.nvml import DRIVER_LOST, INVALID_ARGUMENT, NOT_FOUND, Nvml, NvmlError, unavailable
from gpu_telemetry.topology import Gpu, MigDevice, Topology

_PROFILE = re.compile(r"\bMIG ((?:\d+c\.)?(\d+)g\.\d+gb\S*)$", re.IGNORECASE)

# NVIDIA MIG user guide, "Supported MIG Profiles": compute slices of the whole card, by words in its name.
_CARD_SLICES = (
    (re.compile(r"\bA30\b|\bRTX PRO 6000\b"), 4),
    (re.compile(r"\b(?:A100|A800|H100|H800|H200|H20|GH200|B200|GB200|B300|GB300)\b"), 7),
)

_MIB = 1024**2


@dataclass(frozen=True)
class Found:
    """A device and NVML's handle of it; `mig` and its handle are set for a MIG device."""

    gpu: Gpu
    handle: Any
    mig: MigDevice | None = None
    mig_handle: Any = None


def read_topology() -> Topology:
    """All GPUs and MIG devices of this machine, read now.

    Raises:
        NvmlUnavailable: No driver, no library, no permission, or the driver is lost.
    """
    with Nvml() as nvml:
        try:
            gpus = tuple(found.gpu for found in scan(nvml) if found.mig is None)
            return Topology(gpus=gpus, driver_version=nvml.optional("nvmlSystemGetDriverVersion"))
        except NvmlError as error:
            raise unavailable(error.code, str(error)) from error


def scan(nvml: Nvml) -> list[Found]:
    """Every GPU that answers, each followed by its MIG devices, by index.

    Raises:
        NvmlError: The whole driver is lost.
    """
    found: list[Found] = []
    for index in range(nvml.call("nvmlDeviceGetCount")):
        # A card that fell off the bus keeps its index and has no handle.
        handle = nvml.optional("nvmlDeviceGetHandleByIndex", index)
        uuid = nvml.optional("nvmlDeviceGetUUID", handle) if handle is not None else None
        if uuid is None:
            continue
        migs = _mig_devices(nvml, handle)
        gpu = _gpu(nvml, index, uuid, handle, tuple(mig for mig, _ in migs))
        found.append(Found(gpu, handle))
        found += [Found(gpu, handle, mig, mig_handle) for mig, mig_handle in migs]
    return found


def _gpu(nvml: Nvml, index: int, uuid: str, handle: object, migs: tuple[MigDevice, ...]) -> Gpu:
    name = nvml.optional("nvmlDeviceGetName", handle)
    mode = nvml.optional("nvmlDeviceGetMigMode", handle)
    memory = nvml.optional("nvmlDeviceGetMemoryInfo", handle)
    pci = nvml.optional("nvmlDeviceGetPciInfo", handle)
    return Gpu(
        index=index,
        uuid=uuid,
        name=name,
        pci_bus_id=_bus_id(pci),
        memory_total_bytes=None if memory is None else int(memory.total),
        compute_slices=None if mode is None else _card_slices(nvml, handle, name or ""),
        # A driver without MIG answers "not supported", which is a no.
        mig_enabled=_mig_mode(nvml, handle),
        mig_devices=migs,
    )


def _mig_mode(nvml: Nvml, handle: object) -> bool | None:
    try:
        return bool(nvml.call("nvmlDeviceGetMigMode", handle)[0])
    except NvmlError as error:
        if error.code in DRIVER_LOST:
            raise
        return False if error.reason == "not_supported" else None


def _bus_id(pci: Any) -> str | None:
    if pci is None:
        return None
    raw = pci.busId
    text: str = raw.decode("ascii", "replace") if isinstance(raw, bytes) else raw
    return text.upper()


def _card_slices(nvml: Nvml, handle: object, name: str) -> int | None:
    """Compute slices of the whole card: its largest GPU instance profile, else by its name."""
    slices = [
        int(profile.sliceCount)
        for number in range(int(getattr(nvml.library, "NVML_GPU_INSTANCE_PROFILE_COUNT", 0)))
        if (profile := nvml.optional("nvmlDeviceGetGpuInstanceProfileInfo", handle, number)) is not None
    ]
    if slices:
        return max(slices)
    return card_slices_by_name(name)


def card_slices_by_name(name: str) -> int | None:
    """Compute slices that MIG cuts a card of that name into; None for a card that is not known."""
    return next((count for pattern, count in _CARD_SLICES if pattern.search(name)), None)


def _mig_devices(nvml: Nvml, handle: object) -> list[tuple[MigDevice, Any]]:
    if not _mig_mode(nvml, handle):
        return []
    found = []
    for index in range(nvml.optional("nvmlDeviceGetMaxMigDeviceCount", handle) or 0):
        try:
            mig_handle = nvml.call("nvmlDeviceGetMigDeviceHandleByIndex", handle, index)
        except NvmlError as error:
            # MIG device indices have holes after one is destroyed.
            if error.code in {NOT_FOUND, INVALID_ARGUMENT}:
                continue
            if error.code in DRIVER_LOST:
                raise
            break
        uuid = nvml.optional("nvmlDeviceGetUUID", mig_handle)
        if uuid is not None:
            found.append((_mig_device(nvml, handle, index, uuid, mig_handle), mig_handle))
    return found


def _mig_device(nvml: Nvml, handle: object, index: int, uuid: str, mig_handle: object) -> MigDevice:
    attributes = nvml.optional("nvmlDeviceGetAttributes", mig_handle)
    memory = nvml.optional("nvmlDeviceGetMemoryInfo", mig_handle)
    profile, slices = _profile(nvml, handle, mig_handle, attributes)
    return MigDevice(
        index=index,
        uuid=uuid,
        gpu_instance_id=nvml.optional("nvmlDeviceGetGpuInstanceId", mig_handle),
        compute_instance_id=nvml.optional("nvmlDeviceGetComputeInstanceId", mig_handle),
        profile=profile,
        compute_slices=slices,
        memory_total_bytes=None if memory is None else int(memory.total),
    )


def _profile(
    nvml: Nvml, handle: object, mig_handle: object, attributes: Any
) -> tuple[str | None, int | None]:
    """The profile's name and its compute slices, from the attributes, else from the device's name.

    NVML names a MIG device "NVIDIA A100-SXM4-40GB MIG 1g.5gb" from driver 470 on.
    """
    named = _PROFILE.search(nvml.optional("nvmlDeviceGetName", mig_handle) or "")
    if attributes is None:
        return (named[1], slices_of(named[1])) if named else (None, None)
    slices = int(attributes.computeInstanceSliceCount)
    if named:
        return named[1], slices
    card = nvml.optional("nvmlDeviceGetMemoryInfo", handle)
    if card is None:
        return None, slices
    return _built_profile(attributes, int(card.total)), slices


def _built_profile(attributes: Any, card_bytes: int) -> str:
    """The name that nvidia-smi would print; the memory part is rounded as in NVIDIA's go-nvlib (GetMigMemorySizeGB)."""
    card_gb = -(-card_bytes // 1024**3)
    eighths = -(-int(attributes.memorySizeMB) * _MIB * 8 // card_bytes)
    instance, compute = int(attributes.gpuInstanceSliceCount), int(attributes.computeInstanceSliceCount)
    part = f"{compute}c." if compute != instance else ""
    return f"{part}{instance}g.{round(eighths * card_gb / 8)}gb"


def slices_of(profile: str) -> int | None:
    """Compute slices in a MIG profile's name: 1 for "1g.5gb", 1 for "1c.3g.20gb"; None if it is no such name."""
    match = re.match(r"(?:(\d+)c\.)?(\d+)g\.", profile)
    return int(match[1] or match[2]) if match else None
