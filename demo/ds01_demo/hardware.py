"""The cards of the simulated server, as their driver would describe them.

Instance ids and sizes are those that an A100-SXM4-40GB gives: the 1g instances of a card are
numbered 7 to 14, the 2g ones 3 to 6, the 3g and 4g ones 1 and 2, whatever their order; the MIG
device index counts them from 0 in the order of their instance ids.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from functools import cached_property

DRIVER_VERSION = "550.54.15"
MODEL = "NVIDIA A100-SXM4-40GB"
MIB = 1024 * 1024
CARD_MEMORY_MIB = 40960
COMPUTE_SLICES = 7
POWER_LIMIT_WATTS = 400.0
_NAMESPACE = uuid.UUID("6ba7b812-9dad-11d1-80b4-00c04fd430c8")

# Profile -> (compute slices, memory in MiB, memory that an empty instance uses in MiB).
PROFILES = {"1g.5gb": (1, 4864, 6), "2g.10gb": (2, 9856, 13), "3g.20gb": (3, 19968, 19)}
_WHOLE_EMPTY_MIB = 4
_WHOLE_RESERVED_MIB = 625


@dataclass(frozen=True)
class Slot:
    """What the allocator gives away: a whole card or one MIG instance.

    `name` is the allocator's ("1", "2.0"); `instance_id` is the GPU instance id, None for a whole card.
    `memory_mib` is what used and free add up to, in MiB; `fraction` is the share of the card, 0 to 1.
    """

    name: str
    gpu: int
    uuid: str
    instance_id: int | None
    profile: str | None
    fraction: float
    memory_mib: int
    empty_mib: int

    @property
    def whole(self) -> bool:
        """Whether the slot is a card of its own."""
        return self.instance_id is None

    @property
    def device_index(self) -> int | None:
        """The MIG device index, the part of the name behind the dot; None for a whole card."""
        _, dot, index = self.name.partition(".")
        return int(index) if dot else None


@dataclass(frozen=True)
class Gpu:
    """One card. `instances` are (GPU instance id, profile) in the order of their ids; none = not in MIG mode."""

    index: int
    bus: int
    instances: tuple[tuple[int, str], ...] = field(default=())

    @property
    def uuid(self) -> str:
        """The card's UUID, always the same for the same index."""
        return f"GPU-{uuid.uuid5(_NAMESPACE, f'ds01-demo/gpu/{self.index}')}"

    @property
    def pci_bus_id(self) -> str:
        """The PCI address as NVML spells it: eight digits of domain, capitals."""
        return f"00000000:{self.bus:02X}:00.0"

    @property
    def reserved_mib(self) -> int:
        """Memory of a whole card that the driver keeps for itself, in MiB."""
        return _WHOLE_RESERVED_MIB

    @cached_property
    def slots(self) -> tuple[Slot, ...]:
        """The slots of this card: its instances in MIG mode, else the card itself."""
        if not self.instances:
            usable = CARD_MEMORY_MIB - _WHOLE_RESERVED_MIB
            return (Slot(str(self.index), self.index, self.uuid, None, None, 1.0, usable, _WHOLE_EMPTY_MIB),)
        return tuple(self._instance(n, *instance) for n, instance in enumerate(self.instances))

    def _instance(self, number: int, instance_id: int, profile: str) -> Slot:
        slices, memory, empty = PROFILES[profile]
        identity = f"MIG-{uuid.uuid5(_NAMESPACE, f'ds01-demo/gpu/{self.index}/gi/{instance_id}')}"
        name = f"{self.index}.{number}"
        return Slot(name, self.index, identity, instance_id, profile, slices / COMPUTE_SLICES, memory, empty)


# Two whole cards and two in MIG mode with different profiles; all four whole for a server without MIG.
MIXED = (
    Gpu(0, 0x07),
    Gpu(1, 0x0F),
    Gpu(2, 0x47, ((5, "2g.10gb"), (7, "1g.5gb"), (8, "1g.5gb"), (9, "1g.5gb"), (13, "1g.5gb"))),
    Gpu(3, 0x4E, ((2, "3g.20gb"), (3, "2g.10gb"), (9, "1g.5gb"))),
)
WHOLE = (Gpu(0, 0x07), Gpu(1, 0x0F), Gpu(2, 0x47), Gpu(3, 0x4E))


def topology(gpus: tuple[Gpu, ...]) -> dict[str, object]:
    """The cards in the form that `gpu-telemetry list --json` prints (schema gpu-telemetry/list/1)."""
    return {
        "schema": "gpu-telemetry/list/1",
        "simulated": True,
        "driver_version": DRIVER_VERSION,
        "gpus": [_gpu_entry(gpu) for gpu in gpus],
    }


def _gpu_entry(gpu: Gpu) -> dict[str, object]:
    return {
        "index": gpu.index,
        "uuid": gpu.uuid,
        "name": MODEL,
        "pci_bus_id": gpu.pci_bus_id,
        "memory_total_bytes": CARD_MEMORY_MIB * MIB,
        "compute_slices": COMPUTE_SLICES,
        "mig_enabled": bool(gpu.instances),
        "mig_devices": [_mig_entry(slot) for slot in gpu.slots if not slot.whole],
    }


def _mig_entry(slot: Slot) -> dict[str, object]:
    return {
        "index": slot.device_index,
        "uuid": slot.uuid,
        "gpu_instance_id": slot.instance_id,
        "compute_instance_id": 0,
        "profile": slot.profile,
        "compute_slices": PROFILES[slot.profile or ""][0],
        "memory_total_bytes": slot.memory_mib * MIB,
    }
