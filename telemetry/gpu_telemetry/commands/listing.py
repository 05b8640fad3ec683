"""`gpu-telemetry list`: the GPUs and MIG devices that are there, for people and for schedulers."""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING

from gpu_telemetry import backends
from gpu_telemetry.commands import add_all_devices_option
from gpu_telemetry.monitor import GpuMonitor
from gpu_telemetry.tables import UNKNOWN, gibibytes, table
from gpu_telemetry.visible import VARIABLE

if TYPE_CHECKING:
    import argparse

    from gpu_telemetry.topology import Topology

_HEAD = ("slot", "name", "profile", "GI", "GiB", "share", "UUID")


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument("--json", action="store_true", help="a document of schema gpu-telemetry/list/1")
    parser.add_argument(
        "--backend", choices=backends.NAMES, default="auto", help="where to ask (default: %(default)s)"
    )
    add_all_devices_option(parser)


def execute(options: argparse.Namespace) -> int:
    """Print them; no driver is an error, so that nobody takes it for a machine without GPUs."""
    with GpuMonitor(options.backend, environ={} if options.all_devices else None) as monitor:
        topology = monitor.topology()
    if not topology.gpus and not options.all_devices and os.environ.get(VARIABLE) is not None:
        sys.stderr.write(f"{VARIABLE}={os.environ[VARIABLE]!r} leaves no device; --all-devices shows them\n")
    if options.json:
        sys.stdout.write(json.dumps(topology.to_dict(), indent=2) + "\n")
    else:
        sys.stdout.write(_text(topology))
    return 0


def _text(topology: Topology) -> str:
    rows = []
    for gpu in topology.gpus:
        mode = "MIG" if gpu.mig_enabled else UNKNOWN
        rows.append(
            (
                str(gpu.index),
                gpu.name or UNKNOWN,
                mode,
                UNKNOWN,
                gibibytes(gpu.memory_total_bytes),
                UNKNOWN if gpu.mig_enabled else "1",
                gpu.uuid,
            )
        )
        slots = {slot.mig_uuid: slot for slot in topology.slots()}
        for mig in gpu.mig_devices:
            slot = slots[mig.uuid]
            share = UNKNOWN if slot.fraction is None else f"{mig.compute_slices}/{gpu.compute_slices}"
            instance = UNKNOWN if mig.gpu_instance_id is None else str(mig.gpu_instance_id)
            rows.append(
                (
                    slot.name,
                    "",
                    mig.profile or UNKNOWN,
                    instance,
                    gibibytes(mig.memory_total_bytes),
                    share,
                    mig.uuid,
                )
            )
    remark = "simulated, no hardware was asked\n" if topology.simulated else ""
    return f"{remark}driver {topology.driver_version or UNKNOWN}\n{table(_HEAD, rows)}"
