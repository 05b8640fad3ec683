"""A driver that hangs: programs go on, hear signals and end."""

from __future__ import annotations

import signal
import subprocess  # noqa: TID251 - the command is tested as a program.
import sys
import threading
import time
from typing import TYPE_CHECKING

from gpu_telemetry import MockGpuBackend
from gpu_telemetry.patience import PatientMonitor
from gpu_telemetry.reader import Recording

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from types import SimpleNamespace

COMMAND = [sys.executable, "-m", "gpu_telemetry"]
HUNG = ["nvmlDeviceGetUtilizationRates"]
DEADLINE_SECONDS = 60


class Slow(MockGpuBackend):
    """A backend whose reading waits until it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.let_go = threading.Event()

    def collect(self):
        """As the parent, once it is let go."""
        self.let_go.wait(DEADLINE_SECONDS)
        return super().collect()


def until(condition: Callable[[], object]) -> None:
    """Wait for a condition, at most a minute."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_sample_that_takes_too_long_is_a_timeout_until_the_driver_answers() -> None:
    """Nothing is invented meanwhile, the late answer is not shown as the present, and then all is well again."""
    backend = Slow().with_device(0, "Mock")
    monitor = PatientMonitor(backend, environ={}, patience_seconds=0.05)
    for _ in range(2):
        late = monitor.sample()
        assert (late.gpus, late.error and late.error.reason) == ((), "timeout")
    backend.let_go.set()
    until(lambda: monitor.sample().error is None)
    assert [gpu.name for gpu in monitor.sample().gpus] == ["Mock"]
    monitor.close()


def test_an_exception_arrives_where_the_sample_was_asked_for() -> None:
    """A mistake in a backend is not swallowed by the thread that met it."""

    class Broken(MockGpuBackend):
        def collect(self):
            raise ZeroDivisionError

    try:
        PatientMonitor(Broken(), environ={}).sample()
    except ZeroDivisionError:
        return
    raise AssertionError("nothing was raised")


def test_record_ends_on_sigterm_while_the_driver_hangs(fake_driver: SimpleNamespace, tmp_path: Path) -> None:
    """What was recorded before is whole."""
    fake_driver.write(fake_driver.card(0))
    folder = tmp_path / "out"
    recorder = subprocess.Popen(
        [*COMMAND, "record", "--out", str(folder), "--interval", "50ms"],
        env=fake_driver.environment,
        stderr=subprocess.PIPE,
    )
    until(lambda: [row for path in folder.glob("*.csv") for row in Recording(path)])
    fake_driver.write(fake_driver.card(0), hang=HUNG)
    until((tmp_path / "driver.hung").exists)
    recorder.send_signal(signal.SIGTERM)
    recorder.communicate(timeout=DEADLINE_SECONDS)
    assert recorder.returncode == 0
    (path,) = folder.glob("*.csv")
    recording = Recording(path)
    assert recording.rows[0]["status"] == "ok"
    assert recording.torn_lines == 0


def test_run_passes_signals_on_while_the_driver_hangs(fake_driver: SimpleNamespace, tmp_path: Path) -> None:
    """The command hears SIGTERM though no sample ever comes back, and its exit code is ours."""
    fake_driver.write(fake_driver.card(0), hang=HUNG)
    script = "trap 'echo heard; exit 5' TERM; echo ready; while :; do sleep 0.05; done"
    runner = subprocess.Popen(
        [*COMMAND, "run", "--out", str(tmp_path), "--", "sh", "-c", script],
        env=fake_driver.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert runner.stdout is not None
    assert runner.stdout.readline() == "ready\n"
    runner.send_signal(signal.SIGTERM)
    assert runner.stdout.readline() == "heard\n"
    runner.communicate(timeout=DEADLINE_SECONDS)
    assert runner.returncode == 5
