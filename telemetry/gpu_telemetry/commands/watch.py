"""`gpu-telemetry watch`: all devices in the terminal, with the last minute of each drawn."""

from __future__ import annotations

import shutil
import sys
import time
from collections import deque
from contextlib import contextmanager
from typing import TYPE_CHECKING

from gpu_telemetry.commands import add_backend_options, interval, monitor_of
from gpu_telemetry.host import HostReader
from gpu_telemetry.rows import utc
from gpu_telemetry.sampling import samples, stop_on_signals
from gpu_telemetry.sparklines import sparkline
from gpu_telemetry.tables import UNKNOWN, gibibytes, number, table

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterator

    from gpu_telemetry.metrics import GpuMetrics, HostMetrics, Sample
    from gpu_telemetry.monitor import GpuMonitor

_LEAST_WIDTH, _MOST_WIDTH = 6, 30
_OTHER_COLUMNS = 90  # What all but the two lines of history take.
_SETTLE_SECONDS = 0.2
_HEAD = ("device", "util %", "mem GiB", "of", "°C", "W", "of", "util", "mem", "throttled by", "users")
_CLEAR = "\x1b[H\x1b[J"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    parser.add_argument("--once", action="store_true", help="print one view and end")
    parser.add_argument(
        "--interval", type=interval, default="1s", help="time between samples (default: %(default)s)"
    )
    add_backend_options(parser)


def execute(options: argparse.Namespace) -> int:
    """Show it; with --once, 1 if nothing can be read."""
    view = View()
    with monitor_of(options, host=HostReader(at_most_every_seconds=_SETTLE_SECONDS / 2)) as monitor:
        if options.once:
            sample = settled(monitor)
            sys.stdout.write(view.draw(sample))
            return 1 if sample.error else 0
        with stop_on_signals() as stop, _screen() as show:
            for sample in samples(monitor, options.interval, stop):
                show(view.draw(sample))
    return 0


def settled(monitor: GpuMonitor) -> Sample:
    """A sample with the readings that need one before it: GPM's activity, RAPL's power."""
    sample = monitor.sample()
    pending = any("no_data" in each.missing.values() for each in sample.gpus)
    if pending or (sample.host is not None and "no_data" in sample.host.missing.values()):
        time.sleep(_SETTLE_SECONDS)
        sample = monitor.sample()
    return sample


class View:
    """The text of a sample, with what was seen before."""

    def __init__(self) -> None:
        free = (shutil.get_terminal_size().columns - _OTHER_COLUMNS) // 2
        self._width = max(_LEAST_WIDTH, min(free, _MOST_WIDTH))
        self._utilization: dict[str, deque[float | None]] = {}
        self._memory: dict[str, deque[float | None]] = {}

    def draw(self, sample: Sample) -> str:
        """All devices and the host; why, where nothing can be read."""
        mark = " · SIMULATED, no hardware was asked" if sample.simulated else ""
        lines = [
            f"{utc(sample.timestamp)} · {sample.backend} · driver {sample.driver_version or UNKNOWN}{mark}\n"
        ]
        if sample.error is not None:
            lines.append(f"nothing can be read: {sample.error.problem}\n")
            if sample.error.hint:
                lines.append(f"  hint: {sample.error.hint}\n")
        elif not sample.gpus:
            lines.append("no device is visible (CUDA_VISIBLE_DEVICES)\n")
        else:
            lines.append(table(_HEAD, [self._cells(each) for each in sample.gpus]))
        return "".join(lines) + _host(sample.host)

    def _cells(self, gpu: GpuMetrics) -> tuple[str, ...]:
        busy = self._utilization.setdefault(gpu.uuid, deque(maxlen=self._width))
        full = self._memory.setdefault(gpu.uuid, deque(maxlen=self._width))
        busy.append(gpu.utilization_percent)
        full.append(gpu.memory_percent())
        return (
            f"{gpu.slot} {gpu.mig_profile or gpu.name or gpu.uuid}",
            number(gpu.utilization_percent) if gpu.utilization_percent is not None else _reason(gpu),
            gibibytes(gpu.memory_used_bytes),
            gibibytes(gpu.memory_total_bytes),
            number(gpu.temperature_celsius),
            number(gpu.power_watts),
            number(gpu.power_limit_watts),
            sparkline(busy),
            sparkline(full),
            _throttle(gpu),
            _users(gpu),
        )


def _reason(gpu: GpuMetrics) -> str:
    return gpu.missing.get("utilization_percent", UNKNOWN).replace("_", " ")


def _throttle(gpu: GpuMetrics) -> str:
    """What holds the clocks down; idleness is no complaint."""
    if gpu.throttle_reasons is None:
        return UNKNOWN
    return ", ".join(reason for reason in gpu.throttle_reasons if reason != "gpu_idle") or "nothing"


def _users(gpu: GpuMetrics) -> str:
    if gpu.processes is None:
        return UNKNOWN
    return ", ".join(sorted({each.user or f"pid {each.pid}" for each in gpu.processes})) or "nobody"


def _host(host: HostMetrics | None) -> str:
    if host is None:
        return ""
    power = ", ".join(f"{name} {number(watts, 0, ' W')}" for name, watts in host.cpu_power_watts.items())
    # The hottest sensor of each chip says enough for a glance.
    hottest: dict[str, float] = {}
    for each in host.temperatures:
        hottest[each.chip] = max(each.celsius, hottest.get(each.chip, each.celsius))
    heat = ", ".join(f"{chip} {celsius:.0f} °C" for chip, celsius in hottest.items())
    found = " · ".join(part for part in (power, heat) if part)
    return f"host: {found}\n" if found else ""


@contextmanager
def _screen() -> Iterator[Callable[[str], None]]:
    """Where views are shown: rich's live screen, else a terminal that is cleared, else one after the other."""
    if not sys.stdout.isatty():
        yield _print
        return
    try:
        from rich.live import Live  # noqa: PLC0415 - only this view needs it, and it can do without.
        from rich.text import Text  # noqa: PLC0415
    except ImportError:
        yield lambda text: _print(_CLEAR + text)
        return
    with Live(screen=True, auto_refresh=False) as live:
        yield lambda text: live.update(Text(text, no_wrap=True), refresh=True)


def _print(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()
