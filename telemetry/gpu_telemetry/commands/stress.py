"""`gpu-telemetry stress`: a load on one GPU, to see dashboards and alerts move."""

from __future__ import annotations

import os
import sys
from argparse import ArgumentTypeError
from typing import TYPE_CHECKING

from gpu_telemetry.errors import TelemetryError
from gpu_telemetry.monitor import GpuMonitor
from gpu_telemetry.sampling import stop_on_signals
from gpu_telemetry.stress import find_engine, stress
from gpu_telemetry.units import age
from gpu_telemetry.visible import VARIABLE

if TYPE_CHECKING:
    import argparse

    from gpu_telemetry.topology import Slot


def configure(parser: argparse.ArgumentParser) -> None:
    """See `gpu_telemetry.cli.Command`."""
    parser.add_argument(
        "--gpu",
        required=True,
        metavar="N",
        help="the GPU by its index, or a MIG device as 1.0, as in `gpu-telemetry list`",
    )
    parser.add_argument(
        "--duration", type=age, default=60.0, metavar="TIME", help="for how long (default: 60s)"
    )
    parser.add_argument(
        "--load", type=_percent, default=100.0, metavar="PERCENT", help="1 to 100 (default: 100)"
    )
    parser.add_argument(
        "--memory",
        type=_share,
        metavar="SHARE",
        help="share of its memory to be in use, 0 to 1 (default: as little as possible)",
    )
    parser.add_argument("--force", action="store_true", help="even if somebody else is using this GPU")


def execute(options: argparse.Namespace) -> int:
    """Keep the GPU busy; returns 0. Exits with 3 where neither PyTorch nor CuPy is installed."""
    with GpuMonitor() as monitor:
        slot = _slot(monitor, options.gpu)
        if not options.force:
            _refuse_if_used(monitor, slot)
    # CUDA counts its devices in another order than NVML; the UUID says which one is meant.
    os.environ[VARIABLE] = slot.mig_uuid or slot.uuid
    engine = find_engine()
    with stop_on_signals() as stop:
        sys.stderr.write(
            f"{engine.name} keeps GPU {slot.name} busy for {options.duration:g} s; Ctrl-C ends it\n"
        )
        outcome = stress(
            engine,
            seconds=options.duration,
            load_percent=options.load,
            memory_share=options.memory,
            stop=stop,
        )
    sys.stdout.write(
        f"GPU {slot.name}: {outcome.seconds:.1f} s, busy {outcome.busy_percent:.0f} % of the time, "
        f"{outcome.memory_bytes / 2**20:.0f} MiB held\n"
    )
    return 0


def _slot(monitor: GpuMonitor, name: str) -> Slot:
    slots = {slot.name: slot for slot in monitor.topology().slots()}
    if name not in slots:
        known = ", ".join(slots) or "none"
        limit = f", as {VARIABLE} says" if VARIABLE in os.environ else ""
        raise TelemetryError(f"there is no GPU {name!r}", hint=f"known here: {known}{limit}", exit_code=2)
    return slots[name]


def _refuse_if_used(monitor: GpuMonitor, slot: Slot) -> None:
    wanted = slot.mig_uuid or slot.uuid
    processes = next((gpu.processes for gpu in monitor.collect_metrics() if gpu.uuid == wanted), None)
    if processes is None:
        raise TelemetryError(
            f"who uses GPU {slot.name} cannot be read", hint="--force, if you know that nobody does"
        )
    if processes:
        users = ", ".join(sorted({f"{each.user or 'somebody'} (process {each.pid})" for each in processes}))
        raise TelemetryError(
            f"GPU {slot.name} is used by {users}", hint="--force, to disturb them all the same"
        )


def _percent(text: str) -> float:
    value = float(text)
    if not 1 <= value <= 100:
        raise ArgumentTypeError(f"{text} is not between 1 and 100")
    return value


def _share(text: str) -> float:
    value = float(text)
    if not 0 <= value <= 1:
        raise ArgumentTypeError(f"{text} is not between 0 and 1")
    return value
