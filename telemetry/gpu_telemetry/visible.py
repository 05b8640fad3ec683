"""CUDA_VISIBLE_DEVICES, read as CUDA reads it, to show only what this process may use."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from gpu_telemetry.metrics import GpuMetrics

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gpu_telemetry.topology import Topology

VARIABLE = "CUDA_VISIBLE_DEVICES"


def visible_uuids(value: str, devices: Sequence[GpuMetrics]) -> tuple[str, ...]:
    """UUIDs of the devices that a value of the variable makes visible, in its order.

    As CUDA does (CUDA C++ Programming Guide, "CUDA Environment Variables"): entries are indices, or UUIDs or unique
    beginnings of them, or MIG UUIDs; the first invalid entry hides itself and everything after it; an empty value
    hides all; naming a device twice hides all. Indices are taken by PCI bus, NVML's order. A card in MIG mode stands
    for its first MIG device, the only one that CUDA gives to a process, and keeps its own row of board readings.
    """
    found: list[str] = []
    for entry in value.split(","):
        device = _find(entry.strip(), devices)
        if device is None:
            break
        if device.uuid in found:
            return ()
        found += [device.uuid, *_first_mig(device, devices)]
    return tuple(found)


def visible_part(value: str, topology: Topology) -> Topology:
    """What a value of the variable leaves of a machine; a card stays for a MIG device of it that is visible."""
    devices: list[GpuMetrics] = []
    for gpu in topology.gpus:
        devices.append(GpuMetrics(device_id=gpu.index, uuid=gpu.uuid))
        devices += [
            GpuMetrics(
                device_id=gpu.index,
                uuid=mig.uuid,
                parent_uuid=gpu.uuid,
                mig_index=mig.index,
                gpu_instance_id=mig.gpu_instance_id,
                compute_instance_id=mig.compute_instance_id,
            )
            for mig in gpu.mig_devices
        ]
    visible = visible_uuids(value, devices)
    cut = (
        replace(gpu, mig_devices=tuple(mig for mig in gpu.mig_devices if mig.uuid in visible))
        for gpu in topology.gpus
    )
    return replace(topology, gpus=tuple(gpu for gpu in cut if gpu.mig_devices or gpu.uuid in visible))


def _find(entry: str, devices: Sequence[GpuMetrics]) -> GpuMetrics | None:
    if entry.isascii() and entry.isdigit():
        return next(
            (each for each in devices if each.mig_index is None and each.device_id == int(entry)), None
        )
    if entry.startswith("MIG-GPU-"):
        return _find_by_instance(entry, devices)
    if not entry.startswith(("GPU-", "MIG-")):
        return None
    matches = [each for each in devices if each.uuid.startswith(entry)]
    return matches[0] if len(matches) == 1 else None


def _find_by_instance(entry: str, devices: Sequence[GpuMetrics]) -> GpuMetrics | None:
    """Drivers before 470 name a MIG device MIG-<card's UUID>/<GPU instance>/<compute instance>."""
    card, _, instances = entry.removeprefix("MIG-").partition("/")
    for each in devices:
        if each.parent_uuid == card and f"{each.gpu_instance_id}/{each.compute_instance_id}" == instances:
            return each
    return None


def _first_mig(device: GpuMetrics, devices: Sequence[GpuMetrics]) -> list[str]:
    return [each.uuid for each in devices if each.parent_uuid == device.uuid][:1]
