"""`gpu-telemetry hook`: what an allocator calls when it gives out a GPU and when it takes it back."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from gpu_telemetry import autostart
from gpu_telemetry.allocations import Allocations, default_state_dir

if TYPE_CHECKING:
    import argparse


def configure(parser: argparse.ArgumentParser) -> None:
    """See `gpu_telemetry.cli.Command`."""
    add_state_option(parser)
    events = parser.add_subparsers(dest="event", required=True, metavar="EVENT")
    allocated = events.add_parser("allocated", help="an allocation begins", allow_abbrev=False)
    allocated.add_argument("--id", required=True, help="what identifies it; the same when it is released")
    allocated.add_argument(
        "--gpu", action="append", default=[], metavar="UUID", help="what it holds; several times"
    )
    released = events.add_parser("released", help="an allocation is over", allow_abbrev=False)
    which = released.add_mutually_exclusive_group(required=True)
    which.add_argument("--id", help="the id with which it was allocated")
    which.add_argument(
        "--all", action="store_true", help="every allocation, for example when the allocator starts anew"
    )
    events.add_parser("status", help="the open allocations, as JSON", allow_abbrev=False)


def add_state_option(parser: argparse.ArgumentParser) -> None:
    """The option that hook and agent share."""
    parser.add_argument(
        "--state-dir",
        type=Path,
        metavar="DIR",
        help="where allocations are counted (default: $GPU_TELEMETRY_STATE, else /var/lib/gpu-telemetry, else ~/.local/state/gpu-telemetry)",
    )


def execute(options: argparse.Namespace) -> int:
    """Count, and start the agent where $GPU_TELEMETRY_AUTOSTART asks for it; returns 0."""
    state_dir = options.state_dir or default_state_dir()
    allocations = Allocations(state_dir)
    if options.event == "status":
        opened = [{"id": each.id, "since": each.since, "gpus": each.gpus} for each in allocations.open()]
        sys.stdout.write(json.dumps({"allocations": opened}) + "\n")
        return 0
    if options.event == "released":
        if options.all:
            allocations.clear()
        else:
            allocations.release(options.id)
        return 0
    start = autostart.wanted()
    allocations.add(options.id, tuple(options.gpu))
    if start:
        autostart.ensure_agent(state_dir)
    return 0
