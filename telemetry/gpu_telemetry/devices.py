"""Which GPUs and MIG instances this machine has: the door that ds01_exporter uses, and nothing else of this package."""

from __future__ import annotations

from gpu_telemetry.errors import NvmlUnavailable
from gpu_telemetry.inventory import read_topology
from gpu_telemetry.topology import SCHEMA, Gpu, MigDevice, Slot, Topology, TopologyError
from gpu_telemetry.xid import XidEvent, XidWatcher

__all__ = [
    "SCHEMA",
    "Gpu",
    "MigDevice",
    "NvmlUnavailable",
    "Slot",
    "Topology",
    "TopologyError",
    "XidEvent",
    "XidWatcher",
    "read_topology",
]
