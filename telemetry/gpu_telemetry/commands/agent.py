"""`gpu-telemetry agent`: the export server all the time, and recordings while there is something to record."""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from gpu_telemetry import autostart
from gpu_telemetry.activity import ActivityTrigger, Thresholds
from gpu_telemetry.agent import BEFORE_SECONDS, Agent, AllocationTrigger, Journal
from gpu_telemetry.allocations import SYSTEM_STATE, Allocations, default_state_dir
from gpu_telemetry.commands import add_backend_options, interval, monitor_of
from gpu_telemetry.commands.export import STOP_SIGNALS, add_server_options, exporter_of
from gpu_telemetry.commands.hook import add_state_option
from gpu_telemetry.commands.record import add_recording_options, recorder_of
from gpu_telemetry.errors import TelemetryError
from gpu_telemetry.exporter import LOOPBACK
from gpu_telemetry.instance import SingleInstance
from gpu_telemetry.latest import BackgroundSampler

if TYPE_CHECKING:
    import argparse

    from gpu_telemetry.agent import Trigger
    from gpu_telemetry.exporter import PrometheusExporter
    from gpu_telemetry.metrics import Sample

SYSTEM_OUT = Path("/var/log/gpu-telemetry")

# Option, variable, default, type, help. The variables are those of /etc/default/gpu-telemetry.
_THRESHOLDS = (
    ("--start-util", "GPU_TELEMETRY_START_UTIL", "20", "percent from which any GPU counts as busy"),
    (
        "--start-seconds",
        "GPU_TELEMETRY_START_SECONDS",
        "5",
        "seconds that it must be busy before recording begins",
    ),
    ("--stop-util", "GPU_TELEMETRY_STOP_UTIL", "10", "percent up to which all GPUs count as quiet"),
    ("--stop-seconds", "GPU_TELEMETRY_STOP_SECONDS", "15", "seconds that they must be quiet before it ends"),
)


def configure(parser: argparse.ArgumentParser) -> None:
    """See `gpu_telemetry.cli.Command`."""
    add_backend_options(parser)
    add_server_options(parser)
    add_state_option(parser)
    add_recording_options(parser)
    parser.set_defaults(
        port=_variable("GPU_TELEMETRY_PORT", "9118"),
        interval=_variable("GPU_TELEMETRY_INTERVAL", "1s"),
        password_file=os.environ.get("GPU_TELEMETRY_PASSWORD_FILE") or None,
    )
    parser.add_argument(
        "--on",
        choices=("activity", "allocations"),
        help="what to record: load on any GPU, or the time in which `gpu-telemetry hook` has told of an allocation "
        "(default: allocations where $GPU_TELEMETRY_AUTOSTART is true, else activity)",
    )
    for option, variable, default, text in _THRESHOLDS:
        parser.add_argument(
            option,
            type=float,
            default=_variable(variable, default),
            metavar="N",
            help=f"{text} (default: ${variable}, else {default})",
        )
    parser.add_argument(
        "--before",
        type=interval,
        default=BEFORE_SECONDS,
        metavar="TIME",
        help="how much of the time before a trigger is recorded too (default: 1m)",
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=os.environ.get("GPU_TELEMETRY_OUT") or None,
        metavar="DIR",
        help=f"folder of the recordings (default: $GPU_TELEMETRY_OUT, else {SYSTEM_OUT} for the system's agent, "
        "else recordings/ in the state directory)",
    )


def execute(options: argparse.Namespace) -> int:
    """Run until SIGTERM, SIGINT or SIGHUP; returns 0 then."""
    logging.getLogger("gpu_telemetry").setLevel(logging.DEBUG if options.debug else logging.INFO)
    state_dir = options.state_dir or default_state_dir()
    out = options.out or (SYSTEM_OUT if state_dir == SYSTEM_STATE else state_dir / "recordings")
    trigger = _trigger(options, state_dir)
    exporter = exporter_of(options)
    with SingleInstance(state_dir), monitor_of(options) as monitor:
        agent = Agent(
            trigger,
            lambda: recorder_of(options, out),
            Journal(state_dir),
            before_seconds=options.before,
        )

        def take(sample: Sample, seconds: float) -> None:
            exporter.latest.put(sample, seconds)
            agent.take(sample)

        _serve(options, exporter, BackgroundSampler(monitor, options.interval, take))
        agent.close()
    return 0


def _serve(options: argparse.Namespace, exporter: PrometheusExporter, sampler: BackgroundSampler) -> None:
    server = exporter.open()
    server.stop_on_signals(*STOP_SIGNALS)
    sampler.start()
    sys.stderr.write(f"serving on {', '.join(options.bind or LOOPBACK)} port {server.port}\n")
    server.serve_forever()
    sampler.stop()


def _trigger(options: argparse.Namespace, state_dir: Path) -> Trigger:
    follow = options.on or ("allocations" if autostart.wanted() else "activity")
    if follow == "allocations":
        return AllocationTrigger(Allocations(state_dir))
    try:
        limits = Thresholds(
            options.start_util, options.start_seconds, options.stop_util, options.stop_seconds
        )
    except ValueError as error:
        raise TelemetryError(f"the thresholds contradict each other: {error}", exit_code=2) from error
    return ActivityTrigger(limits)


def _variable(name: str, default: str) -> str:
    """What a variable says, as text: argparse converts and checks it as if it had been typed."""
    return os.environ.get(name) or default
