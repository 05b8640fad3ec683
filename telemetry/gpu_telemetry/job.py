"""A command run as a child: its process tree, its signals, its end."""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import sys
import threading
from typing import TYPE_CHECKING

from gpu_telemetry import command
from gpu_telemetry.processes import ProcessTree
from gpu_telemetry.relay import MemoryWatch, Relay

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gpu_telemetry.metrics import Sample
    from gpu_telemetry.sampling import Stop

log = logging.getLogger(__name__)

_PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h
_FORWARDED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)
_OUTPUT_SECONDS = 5.0


class Job:
    """A running command. Signals that reach us go on to it; its end asks `stop`.

    Args:
        arguments: The command and its arguments.
        stop: Requested when it ends.

    Raises:
        TelemetryError: There is no such command.
    """

    def __init__(self, arguments: Sequence[str], stop: Stop) -> None:
        self._stop = stop
        # One for each stream: what two streams say must not be joined to one line.
        self._watches = (MemoryWatch(), MemoryWatch())
        self._adopt_orphans()
        targets = (sys.stdout.fileno(), sys.stderr.fileno())
        relays = [Relay(target, watch.feed) for target, watch in zip(targets, self._watches, strict=True)]
        self._relays = relays
        self._early: list[int] = []
        self._process: command.Process | None = None
        # What we were started to ignore (nohup) the command ignores too.
        heard = [number for number in _FORWARDED if signal.getsignal(number) != signal.SIG_IGN]
        self._handlers = {number: signal.signal(number, self._forward) for number in heard}
        self._handlers[signal.SIGWINCH] = signal.signal(signal.SIGWINCH, self._resize)
        try:
            self._process = command.spawn(arguments, stdout=relays[0].child_end, stderr=relays[1].child_end)
        except BaseException:
            self._restore()
            raise
        for relay in relays:
            relay.start()
        for number in self._early:
            self._process.send_signal(number)
        self._waiter = threading.Thread(target=self._wait, name="gpu-telemetry-wait", daemon=True)
        self._waiter.start()

    def finish(self) -> tuple[int, int | None]:
        """Wait for its end; returns its exit code (128 + signal if a signal ended it) and that signal."""
        self._waiter.join()
        for relay in self._relays:
            relay.finish(_OUTPUT_SECONDS)
        for watch in self._watches:
            watch.finish()
        self._restore()
        code = self._process.returncode if self._process else 1
        return (code, None) if code >= 0 else (128 - code, -code)

    @property
    def out_of_memory(self) -> str | None:
        """The line of its output that says that a GPU's memory was full; None if none did."""
        return next((watch.line for watch in self._watches if watch.line is not None), None)

    def _wait(self) -> None:
        if self._process is not None:
            self._process.wait()
        self._stop.request()

    def _forward(self, number: int, _frame: object) -> None:
        # A terminal's Ctrl-C reaches every process of the foreground group, so the command has had it.
        if number in {signal.SIGINT, signal.SIGQUIT} and _foreground():
            return
        if self._process is None:
            self._early.append(number)
        else:
            self._process.send_signal(number)

    def _resize(self, *_: object) -> None:
        for relay in self._relays:
            relay.resize()

    def _restore(self) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    @staticmethod
    def _adopt_orphans() -> None:
        """Have processes whose parent has ended become our children, so that they stay in the tree."""
        if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
            log.debug("prctl: %s; orphaned processes are not followed", os.strerror(ctypes.get_errno()))


def _foreground() -> bool:
    try:
        return os.isatty(0) and os.tcgetpgrp(0) == os.getpgrp()
    except OSError:
        return False


class MemoryOfTree:
    """The most GPU memory of each process that descends from this one, by device, as far as samples show it.

    Attributes:
        peak_bytes: The most that all of them held together at one sample; None if none was seen with memory.
    """

    def __init__(self) -> None:
        self.peak_bytes: int | None = None
        self._tree = ProcessTree(os.getpid())
        self._found: dict[tuple[int, str], dict[str, object]] = {}

    def add(self, sample: Sample) -> None:
        """Take in one sample."""
        total = 0
        known = False
        for device in sample.gpus:
            # In MIG mode the card repeats the processes of its instances.
            if (
                device.mig_enabled
                and device.mig_index is None
                and any(
                    each.parent_uuid == device.uuid and each.processes is not None for each in sample.gpus
                )
            ):
                continue
            for process in device.processes or ():
                if process.pid in self._tree:
                    self._note(process.pid, process.name, device.uuid, device.slot, process.memory_used_bytes)
                    known |= process.memory_used_bytes is not None
                    total += process.memory_used_bytes or 0
        if known:
            self.peak_bytes = max(self.peak_bytes or 0, total)

    def processes(self) -> list[dict[str, object]]:
        """`pid`, `name`, `uuid`, `slot`, `peak_memory_bytes` (None if the driver did not say) and `samples`."""
        return [self._found[key] for key in sorted(self._found)]

    def _note(self, pid: int, name: str | None, uuid: str, slot: str, used: int | None) -> None:
        fresh: dict[str, object] = {
            "pid": pid,
            "name": name,
            "uuid": uuid,
            "slot": slot,
            "peak_memory_bytes": None,
            "samples": 0,
        }
        noted = self._found.setdefault((pid, uuid), fresh)
        noted["samples"] = int(str(noted["samples"])) + 1
        before = noted["peak_memory_bytes"]
        if used is not None:
            noted["peak_memory_bytes"] = max(used, before) if isinstance(before, int) else used
