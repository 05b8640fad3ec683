"""`gpu-telemetry run`: a command, recorded for its whole life, with a summary however it ends."""

from __future__ import annotations

import argparse
import logging
import shlex
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from gpu_telemetry.commands import add_backend_options, monitor_of
from gpu_telemetry.commands.record import add_recording_options, recorder_of
from gpu_telemetry.commands.summary import render
from gpu_telemetry.errors import TelemetryError
from gpu_telemetry.host import HostReader
from gpu_telemetry.job import Job, MemoryOfTree
from gpu_telemetry.reader import Recording
from gpu_telemetry.rows import utc
from gpu_telemetry.runfile import RunFile
from gpu_telemetry.sampling import Stop, samples
from gpu_telemetry.summary import summarise
from gpu_telemetry.tables import duration, gibibytes

if TYPE_CHECKING:
    from gpu_telemetry.monitor import GpuMonitor
    from gpu_telemetry.recorder import Recorder

log = logging.getLogger(__name__)


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument(
        "--out", type=Path, default=Path("gpu-telemetry-runs"), metavar="DIR", help="default: ./%(default)s"
    )
    add_recording_options(parser)
    add_backend_options(parser)
    parser.add_argument(
        "arguments", nargs=argparse.REMAINDER, metavar="-- COMMAND", help="the command and its arguments"
    )


def execute(options: argparse.Namespace) -> int:
    """Run and record; returns the command's own exit code, 127 if there is no such command."""
    arguments = options.arguments[1:] if options.arguments[:1] == ["--"] else options.arguments
    if not arguments:
        raise TelemetryError("no command given", hint="gpu-telemetry run -- python train.py", exit_code=2)
    recorder = recorder_of(options, options.out)
    note = RunFile(recorder.recording, options.job, list(arguments), utc(time.time()))
    with monitor_of(options, host=HostReader()) as monitor:
        try:
            _record(monitor, recorder, options.interval, note)
        except TelemetryError as error:
            # As a shell does, so that a batch can tell it from the command's own failure.
            error.exit_code = note.exit_code = 127
            note.ended = utc(time.time())
            _write(recorder, note)
            raise
        finally:
            recorder.close()
    _conclude(recorder, note)
    return 1 if note.exit_code is None else note.exit_code


def _record(monitor: GpuMonitor, recorder: Recorder, interval_seconds: float, note: RunFile) -> None:
    stop = Stop()
    began = time.monotonic()
    job = Job(note.command, stop)
    tree = MemoryOfTree()
    for sample in samples(monitor, interval_seconds, stop):
        recorder.write(sample)
        tree.add(sample)
        note.simulated |= sample.simulated
    note.exit_code, note.signal = job.finish()
    recorder.write(monitor.sample())
    stop.close()
    note.ended, note.duration_seconds = utc(time.time()), round(time.monotonic() - began, 3)
    note.cuda_out_of_memory = job.out_of_memory
    note.processes, note.peak_memory_bytes = tree.processes(), tree.peak_bytes


def _write(recorder: Recorder, note: RunFile) -> Path | None:
    """Write the summary; None if it cannot be, which must not hide how the command ended."""
    try:
        return note.write(recorder.folder)
    except OSError as error:
        log.warning("cannot write the summary into %s: %s", recorder.folder, error.strerror)
        return None


def _conclude(recorder: Recorder, note: RunFile) -> None:
    """Write and print the summary; the command's exit code stays what it was, whatever goes wrong here."""
    summaries = summarise(Recording(path) for path in recorder.files())
    note.devices = [asdict(each) for each in summaries]
    note.dropped_samples = recorder.dropped_samples
    path = _write(recorder, note)
    ended = f"signal {note.signal}" if note.signal else f"exit code {note.exit_code}"
    lines = [
        f"gpu-telemetry: {shlex.join(note.command)}: {ended} after {duration(note.duration_seconds or 0.0)}",
        f"GPU memory of its processes: {_peak(note)}",
    ]
    if note.cuda_out_of_memory:
        lines.append(f"CUDA out of memory: {note.cuda_out_of_memory}")
    if note.simulated:
        lines.append("simulated readings, no hardware was asked")
    if path is not None:
        lines.append(f"summary: {path}")
    table = render(summaries) if summaries else "no GPU could be read\n"
    sys.stderr.write("\n".join(lines) + "\n" + table)


def _peak(note: RunFile) -> str:
    if note.peak_memory_bytes is None:
        return "unknown, none was seen on a GPU"
    return f"at most {gibibytes(note.peak_memory_bytes)} GiB at a sample"
