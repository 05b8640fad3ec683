"""Sampling instants: no drift, gaps marked, an end that comes at once."""

from __future__ import annotations

import os
import signal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpu_telemetry import GpuMonitor, MockGpuBackend
from gpu_telemetry.sampling import Stop, samples, stop_on_signals, ticks


class FakeStop(Stop):
    """A stop whose waiting moves a clock instead."""

    def __init__(self, waits: int) -> None:
        super().__init__()
        self.now = 50.0
        self._left = waits

    def clock(self) -> float:
        """Seconds."""
        return self.now

    def wait(self, seconds: float) -> bool:
        """Pretend to wait."""
        self.now += max(seconds, 0.0)
        self._left -= 1
        return self._left <= 0


@given(st.lists(st.floats(0.0, 0.9), min_size=1, max_size=50), st.sampled_from([0.1, 1.0, 5.0]))
def test_work_does_not_make_the_instants_drift(work: list[float], interval: float) -> None:
    """However long a sample takes within its interval, the next begins at a multiple of it."""
    stop = FakeStop(len(work))
    for number, (share, gap) in enumerate(zip(work, ticks(interval, stop, clock=stop.clock), strict=False)):
        assert stop.now == pytest.approx(50.0 + number * interval)
        assert gap == 0.0
        stop.now += share * interval
    stop.close()


def test_missed_instants_are_a_gap_and_are_not_made_up_for() -> None:
    """After 3.4 s of work at 1 s, three instants are missing; sampling goes on in step."""
    stop = FakeStop(3)
    times = ticks(1.0, stop, clock=stop.clock)
    assert next(times) == 0.0
    stop.now += 4.4
    assert next(times) == 3.0
    assert stop.now == pytest.approx(54.4)
    assert next(times) == 0.0
    assert stop.now == pytest.approx(55.0)
    stop.close()


def test_the_wall_clock_does_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock set back by an hour neither stops nor hurries the sampling, and shows as it is in the timestamps."""
    stop = FakeStop(3)
    wall = {50: 2_000_000_000.0, 51: 1_999_996_400.0, 52: 1_999_996_401.0}
    monkeypatch.setattr("time.time", lambda: wall[round(stop.now)])
    backend = MockGpuBackend().with_device(0, "Mock GPU 0")
    found = list(samples(GpuMonitor(backend, environ={}), 1.0, stop, clock=stop.clock))
    assert [each.gap_seconds for each in found] == [0.0, 0.0, 0.0]
    assert found[1].timestamp < found[0].timestamp
    assert found[0].monotonic <= found[1].monotonic <= found[2].monotonic
    stop.close()


def test_a_signal_ends_a_wait_and_the_old_handler_returns() -> None:
    """SIGTERM while waiting a minute is noticed at once."""
    before = signal.getsignal(signal.SIGTERM)
    with stop_on_signals(signal.SIGTERM) as stop:
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.wait(60)
        assert stop.signal == signal.SIGTERM
    assert signal.getsignal(signal.SIGTERM) is before
