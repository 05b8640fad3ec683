"""The shape of this machine's GPUs: cards, MIG devices, and the slots that an allocator gives out."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from gpu_telemetry.errors import TelemetryError

if TYPE_CHECKING:
    from collections.abc import Mapping

SCHEMA = "gpu-telemetry/list/1"


class TopologyError(TelemetryError):
    """A topology document that is not one."""

    def __init__(self, problem: str) -> None:
        super().__init__(problem, hint="write it with: gpu-telemetry list --json", exit_code=2)


@dataclass(frozen=True)
class MigDevice:
    """A MIG device: a compute instance inside a GPU instance. None is unknown.

    Attributes:
        index: Its index on the GPU, as in CUDA and `nvidia-smi -L`; not the GPU instance id.
        uuid: "MIG-…".
        gpu_instance_id: GI id, what DCGM calls GPU_I_ID.
        compute_instance_id: CI id inside that GPU instance.
        profile: "1g.5gb", "1c.3g.20gb", "1g.10gb+me".
        compute_slices: Compute slices that it owns, 1 to 7.
        memory_total_bytes: Framebuffer that it sees, in bytes.
    """

    index: int
    uuid: str
    gpu_instance_id: int | None = None
    compute_instance_id: int | None = None
    profile: str | None = None
    compute_slices: int | None = None
    memory_total_bytes: int | None = None


@dataclass(frozen=True)
class Gpu:
    """A physical GPU. None is unknown.

    Attributes:
        index: NVML's index, by PCI bus; not necessarily CUDA's.
        uuid: "GPU-…", the key to everything else.
        name: Product name.
        pci_bus_id: "00000000:07:00.0".
        memory_total_bytes: Framebuffer of the whole card, in bytes.
        compute_slices: Slices that MIG cuts this card into (7 on A100 and H100, 4 on A30); None without MIG.
        mig_enabled: Whether it is in MIG mode now; None where that cannot be read.
        mig_devices: Its MIG devices by index; empty outside MIG mode.
    """

    index: int
    uuid: str
    name: str | None = None
    pci_bus_id: str | None = None
    memory_total_bytes: int | None = None
    compute_slices: int | None = None
    mig_enabled: bool | None = None
    mig_devices: tuple[MigDevice, ...] = ()


@dataclass(frozen=True)
class Slot:
    """What an allocator gives out: a whole GPU, or a MIG device.

    Attributes:
        name: "<gpu index>" or "<gpu index>.<MIG device index>".
        gpu: Index of the physical GPU.
        uuid: UUID of the physical GPU.
        mig_uuid: UUID of the MIG device; None for a whole GPU.
        gpu_instance_id: Its GPU instance; None for a whole GPU, or unknown.
        profile: Its MIG profile; None for a whole GPU, or unknown.
        fraction: Its compute slices over those of the card, 0 to 1; a whole GPU is 1; None if unknown.
    """

    name: str
    gpu: int
    uuid: str
    mig_uuid: str | None = None
    gpu_instance_id: int | None = None
    profile: str | None = None
    fraction: float | None = 1.0


@dataclass(frozen=True)
class Topology:
    """All GPUs of a machine, as `gpu-telemetry list --json` prints them.

    Attributes:
        gpus: By index.
        driver_version: "550.54.15", or None if unknown.
        simulated: True where no real hardware was asked.
    """

    gpus: tuple[Gpu, ...] = ()
    driver_version: str | None = None
    simulated: bool = False

    def slots(self) -> tuple[Slot, ...]:
        """Every slot; a GPU in MIG mode has none of its own, only its MIG devices."""
        return tuple(slot for gpu in self.gpus for slot in _slots_of(gpu))

    def to_dict(self) -> dict[str, Any]:
        """The document of schema gpu-telemetry/list/1, ready for `json.dumps`."""
        return {
            "schema": SCHEMA,
            "simulated": self.simulated,
            "driver_version": self.driver_version,
            "gpus": [
                asdict(gpu) | {"mig_devices": [asdict(mig) for mig in gpu.mig_devices]} for gpu in self.gpus
            ],
        }

    @classmethod
    def from_dict(cls, document: object) -> Topology:
        """The topology that a document describes; keys that are not known are left alone.

        Raises:
            TopologyError: It is no such document, or a value has the wrong type.
        """
        root = _mapping(document, "the document")
        if root.get("schema") != SCHEMA:
            raise TopologyError(f"schema is {root.get('schema')!r}, not {SCHEMA!r}")
        return cls(
            gpus=tuple(
                _gpu(_mapping(gpu, f"gpus[{at}]"), f"gpus[{at}]")
                for at, gpu in enumerate(_list(root, "gpus", "the document"))
            ),
            driver_version=_get(root, "driver_version", str, "the document"),
            simulated=_get(root, "simulated", bool, "the document") or False,
        )


def _slots_of(gpu: Gpu) -> tuple[Slot, ...]:
    if not gpu.mig_enabled:
        return (Slot(str(gpu.index), gpu.index, gpu.uuid),)
    return tuple(
        Slot(
            name=f"{gpu.index}.{mig.index}",
            gpu=gpu.index,
            uuid=gpu.uuid,
            mig_uuid=mig.uuid,
            gpu_instance_id=mig.gpu_instance_id,
            profile=mig.profile,
            fraction=mig.compute_slices / gpu.compute_slices
            if mig.compute_slices and gpu.compute_slices
            else None,
        )
        for mig in gpu.mig_devices
    )


def _gpu(values: Mapping[str, Any], at: str) -> Gpu:
    migs = _list(values, "mig_devices", at)
    return Gpu(
        index=_need(values, "index", int, at),
        uuid=_need(values, "uuid", str, at),
        name=_get(values, "name", str, at),
        pci_bus_id=_get(values, "pci_bus_id", str, at),
        memory_total_bytes=_get(values, "memory_total_bytes", int, at),
        compute_slices=_get(values, "compute_slices", int, at),
        mig_enabled=_get(values, "mig_enabled", bool, at),
        mig_devices=tuple(
            _mig(_mapping(mig, f"{at}.mig_devices[{number}]"), f"{at}.mig_devices[{number}]")
            for number, mig in enumerate(migs)
        ),
    )


def _mig(values: Mapping[str, Any], at: str) -> MigDevice:
    return MigDevice(
        index=_need(values, "index", int, at),
        uuid=_need(values, "uuid", str, at),
        gpu_instance_id=_get(values, "gpu_instance_id", int, at),
        compute_instance_id=_get(values, "compute_instance_id", int, at),
        profile=_get(values, "profile", str, at),
        compute_slices=_get(values, "compute_slices", int, at),
        memory_total_bytes=_get(values, "memory_total_bytes", int, at),
    )


def _mapping(value: object, at: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise TopologyError(f"{at} is {type(value).__name__}, not an object")
    return value


def _list(values: Mapping[str, Any], key: str, at: str) -> list[Any]:
    found = values.get(key)
    if found is None:
        return []
    if not isinstance(found, list):
        raise TopologyError(f"{key} of {at} is {type(found).__name__}, not a list")
    return found


def _get(values: Mapping[str, Any], key: str, kind: type, at: str) -> Any:
    found = values.get(key)
    # bool is an int to isinstance, and true is no index.
    if found is not None and (not isinstance(found, kind) or (kind is int and isinstance(found, bool))):
        raise TopologyError(f"{key} of {at} is {found!r}, not {kind.__name__} or null")
    return found


def _need(values: Mapping[str, Any], key: str, kind: type, at: str) -> Any:
    found = _get(values, key, kind, at)
    if found is None:
        raise TopologyError(f"{key} of {at} is missing")
    return found
