"""Sampling at fixed instants: no drift, no dependence on the wall clock, and a missed instant is said."""

from __future__ import annotations

import os
import select
import signal
import time
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from gpu_telemetry.metrics import Sample
    from gpu_telemetry.monitor import GpuMonitor


def boot_clock() -> float:
    """Seconds since boot, time asleep included: a laptop's suspend is a gap too."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Stop:
    """A request to stop that a signal handler can make at any moment, and that ends a wait at once.

    A `threading.Event` set by a handler can meet its own lock; a byte in a pipe cannot.
    """

    def __init__(self) -> None:
        self._read, self._write = os.pipe()
        self.requested = False
        self.signal: int | None = None

    def request(self, number: int | None = None, _frame: object = None) -> None:
        """Ask for the end; fits `signal.signal`."""
        self.signal = number
        if not self.requested:
            self.requested = True
            os.write(self._write, b"x")

    def wait(self, seconds: float) -> bool:
        """Wait, at most that long; True once the end was asked for."""
        if seconds > 0 and not self.requested:
            select.select([self._read], [], [], seconds)
        return self.requested

    def close(self) -> None:
        """Give the pipe back."""
        os.close(self._read)
        os.close(self._write)


@contextmanager
def stop_on_signals(*numbers: int) -> Iterator[Stop]:
    """A `Stop` that SIGTERM, SIGINT and SIGHUP (or the signals given) request while the block runs."""
    stop = Stop()
    chosen = numbers or (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    # nohup has us ignore SIGHUP, and a shell's background job SIGINT: that stays so.
    heard = [number for number in chosen if signal.getsignal(number) != signal.SIG_IGN]
    before = {number: signal.signal(number, stop.request) for number in heard}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        stop.close()


def ticks(interval_seconds: float, stop: Stop, *, clock: Callable[[], float] = boot_clock) -> Iterator[float]:
    """Come back at start, start + interval, start + 2 · interval, …, until `stop`.

    Yields, at each, the seconds in which instants were missed because the caller took too long or the machine slept;
    0 if none. Missed instants are left out, never made up for.
    """
    start = clock()
    number = 0
    while not stop.requested:
        late = int((clock() - start) / interval_seconds) - number
        number += max(late, 0)
        yield late * interval_seconds if late > 0 else 0.0
        number += 1
        if stop.wait(start + number * interval_seconds - clock()):
            return


def samples(
    monitor: GpuMonitor,
    interval_seconds: float,
    stop: Stop,
    *,
    clock: Callable[[], float] = boot_clock,
) -> Iterator[Sample]:
    """A sample at each instant, with the gap before it marked."""
    for gap in ticks(interval_seconds, stop, clock=clock):
        sample = monitor.sample()
        yield replace(sample, gap_seconds=gap) if gap else sample
