"""Summaries: figures worked out by hand, gaps, energy, and devices that could not be read."""

from __future__ import annotations

from typing import Any

import pytest

from gpu_telemetry.rows import utc
from gpu_telemetry.summary import summarise


def row(second: float, **values: Any) -> dict[str, Any]:
    """A line of a recording."""
    return {
        "timestamp": utc(1_800_000_000 + second),
        "elapsed_seconds": second,
        "recording": "0badcafe",
        "uuid": "GPU-aa11",
        "slot": "0",
        "status": "ok",
    } | values


def test_utilisation_is_min_mean_p95_and_max() -> None:
    """Of 1 to 100, the nearest-rank 95th percentile is 95."""
    (device,) = summarise([[row(n, utilization_percent=float(n)) for n in range(1, 101)]])
    assert (device.utilization_min_percent, device.utilization_max_percent) == (1, 100)
    assert (device.utilization_mean_percent, device.utilization_p95_percent) == (50.5, 95)
    assert (device.samples, device.duration_seconds, device.gaps) == (100, 99, 0)


def test_peaks_are_the_largest_sample() -> None:
    """Memory and temperature at their highest."""
    (device,) = summarise([[row(n, memory_used_bytes=n * 100, temperature_celsius=80 - n) for n in range(5)]])
    assert (device.memory_peak_bytes, device.temperature_max_celsius) == (400, 80)


def test_energy_comes_from_the_counter() -> None:
    """Also over a driver that was reloaded, whose counter begins at 0 again."""
    (device,) = summarise(
        [[row(n, energy_joules=joules) for n, joules in enumerate([1000.0, 1200.0, 50.0, 150.0])]]
    )
    assert (device.energy_joules, device.energy_estimated) == (350, False)


def test_energy_is_estimated_without_a_counter_and_gaps_do_not_count() -> None:
    """Mean power times the seconds that were recorded."""
    seconds = [0, 1, 2, 3, 13, 14, 15]
    (device,) = summarise([[row(n, power_watts=100.0) for n in seconds]])
    assert (device.gaps, device.gap_seconds) == (1, 9)
    assert (device.energy_joules, device.energy_estimated) == (600, True)


def test_a_marked_gap_counts_though_the_clock_slept() -> None:
    """A suspended laptop's monotonic clock does not show the hour; the mark does."""
    (device,) = summarise([[row(0), row(1), row(2, gap_seconds=3600.0), row(3)]])
    assert (device.gaps, device.gap_seconds) == (1, 3600)


def test_two_recordings_are_joined_by_the_wall_clock() -> None:
    """The time between a crash and the next start is a gap."""
    second = [row(n, recording="1badcafe", timestamp=utc(1_800_000_100 + n)) for n in range(3)]
    (device,) = summarise([[row(n) for n in range(3)], second])
    assert (device.gaps, device.gap_seconds, device.duration_seconds) == (1, 98, 102)


def test_a_clock_that_was_set_back_disturbs_nothing() -> None:
    """Durations and gaps follow the recording's own clock."""
    rows = [row(n, timestamp=utc(1_800_000_000 + n - (3600 if n > 2 else 0))) for n in range(6)]
    (device,) = summarise([rows])
    assert (device.duration_seconds, device.gaps) == (5, 0)


def test_what_was_never_read_is_unknown() -> None:
    """No 0 percent, no 0 joules; the reasons are kept, in the form of either format."""
    rows = [
        row(0, missing={"lost": ["utilization_percent"]}),
        row(1, missing="timeout=power_watts utilization_percent"),
    ]
    (device,) = summarise([rows])
    assert device.utilization_mean_percent is None
    assert device.energy_joules is None
    assert device.missing == ["lost", "timeout"]


def test_devices_are_in_the_order_of_their_slots() -> None:
    """GPU 10 comes after GPU 2, and an instance after its card."""
    rows = [row(0, uuid=slot, slot=slot) for slot in ("10", "2", "2.1", "2.0", "0")]
    assert [each.slot for each in summarise([rows])] == ["0", "2", "2.0", "2.1", "10"]


def test_lines_without_a_device_are_no_device() -> None:
    """While nothing could be read there is nothing to summarise."""
    assert summarise([[{"timestamp": utc(0), "status": "lost"}]]) == []


@pytest.mark.parametrize("count", [1, 2])
def test_few_lines_are_enough(count: int) -> None:
    """One sample has no duration and no gap."""
    (device,) = summarise([[row(n, utilization_percent=5.0) for n in range(count)]])
    assert (device.utilization_p95_percent, device.gaps) == (5, 0)
