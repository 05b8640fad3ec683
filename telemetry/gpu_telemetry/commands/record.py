"""`gpu-telemetry record`: readings into files, until it is told to stop."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from gpu_telemetry.commands import add_backend_options, interval, monitor_of
from gpu_telemetry.host import HostReader
from gpu_telemetry.recorder import Limits, Recorder
from gpu_telemetry.rows import FORMATS
from gpu_telemetry.sampling import samples, stop_on_signals
from gpu_telemetry.units import age, size

if TYPE_CHECKING:
    import argparse

DEFAULTS = Limits()


def add_recording_options(parser: argparse.ArgumentParser) -> None:
    """Options that say how files are written; `run` and `agent` have them too."""
    parser.add_argument("--format", choices=FORMATS, default="csv", help="default: %(default)s")
    parser.add_argument(
        "--interval",
        type=interval,
        default="1s",
        help="time between samples: 100ms, 1s, 1m (default: %(default)s)",
    )
    parser.add_argument(
        "--rotate-size",
        type=size,
        default=DEFAULTS.rotate_bytes,
        help="end and compress a file at this size (default: 64MiB)",
    )
    parser.add_argument(
        "--rotate-age", type=age, default=DEFAULTS.rotate_seconds, help="… or at this age (default: 24h)"
    )
    parser.add_argument(
        "--keep-size",
        type=size,
        default=DEFAULTS.keep_bytes,
        help="delete the oldest files above this size of all (default: 2GiB)",
    )
    parser.add_argument(
        "--keep-age",
        type=age,
        default=DEFAULTS.keep_seconds,
        help="delete files older than this (default: 30d)",
    )
    parser.add_argument("--job", default="", help="a tag that every line carries")


def recorder_of(options: argparse.Namespace, folder: Path) -> Recorder:
    """The recorder that the options of `add_recording_options` ask for."""
    limits = Limits(
        rotate_bytes=options.rotate_size,
        rotate_seconds=options.rotate_age,
        keep_bytes=options.keep_size,
        keep_seconds=options.keep_age,
    )
    return Recorder(folder, options.format, limits=limits, interval_seconds=options.interval, job=options.job)


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="the folder that files are written to"
    )
    add_recording_options(parser)
    parser.add_argument("--duration", type=age, help="end after this time (default: never)")
    add_backend_options(parser)


def execute(options: argparse.Namespace) -> int:
    """Record; 1 if the disk refused samples."""
    with monitor_of(options, host=HostReader()) as monitor, stop_on_signals() as stop:
        recorder = recorder_of(options, options.out)
        sys.stderr.write(f"recording into {recorder.path}\n")
        try:
            first = None
            for sample in samples(monitor, options.interval, stop):
                first = sample.monotonic if first is None else first
                recorder.write(sample)
                if (
                    options.duration is not None
                    and sample.monotonic - first + options.interval > options.duration
                ):
                    break
        finally:
            recorder.close()
    if recorder.dropped_samples:
        sys.stderr.write(f"error: {recorder.dropped_samples} samples could not be written to {options.out}\n")
        return 1
    return 0
