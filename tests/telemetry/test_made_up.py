"""Made-up GPUs: the mock that tests build, and the simulator; and what GpuMetrics works out of its readings."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpu_telemetry import GpuMetrics, GpuMonitor, MockGpuBackend
from gpu_telemetry.backends import NAMES, create
from gpu_telemetry.backends.simulated import SimulatedBackend
from gpu_telemetry.errors import BackendUnavailable, TelemetryError
from gpu_telemetry.metrics import READINGS, THROTTLE_REASONS, GpuProcess

GIB = 1024**3


def test_the_mock_reads_what_it_was_told() -> None:
    """Each with_… speaks of the device added last."""
    mock = (
        MockGpuBackend()
        .with_device(0, "Mock GPU 0")
        .with_temperature(75)
        .with_utilization(85)
        .with_memory(8 * GIB, 16 * GIB)
        .with_device(1, "Mock GPU 1", uuid="GPU-b")
        .with_power(380, 400)
        .with_clocks(1410, 1215)
        .with_throttle_reasons("sw_power_cap", "hw_thermal_slowdown")
        .with_processes(GpuProcess(pid=1, user="ann"))
    )
    first, second = mock.collect_metrics()
    assert (first.device_id, first.temperature_celsius, first.utilization_percent) == (0, 75, 85)
    assert (first.memory_percent(), first.power_percent(), first.memory_free_bytes) == (50, None, 8 * GIB)
    assert (second.uuid, second.power_percent(), second.sm_clock_mhz) == ("GPU-b", 95, 1410)
    assert second.throttle_reasons == ("sw_power_cap", "hw_thermal_slowdown")
    assert second.thermal_throttling() is True
    assert first.thermal_throttling() is None
    assert first.simulated
    assert second.simulated


def test_the_mock_can_lose_a_reading_or_everything() -> None:
    """A reading is lost for the reason given; a failure raises until it is ended."""
    mock = (
        MockGpuBackend().with_device(0, "Mock GPU 0").with_reading("utilization_percent", None, reason="lost")
    )
    monitor = GpuMonitor(mock, environ={})
    assert monitor.collect_metrics()[0].missing["utilization_percent"] == "lost"
    mock.with_failure("timeout")
    with pytest.raises(BackendUnavailable):
        monitor.collect_metrics()
    sample = monitor.sample()
    assert sample.error is not None
    assert (sample.error.reason, sample.gpus, sample.simulated) == ("timeout", (), True)
    mock.with_failure(None)
    assert monitor.sample().error is None


def test_a_mistake_in_a_mock_is_told() -> None:
    """A field, a reason or a device that is not there."""
    with pytest.raises(ValueError, match="add a device first"):
        MockGpuBackend().with_temperature(1)
    with pytest.raises(ValueError, match="no reading 'temperature'"):
        MockGpuBackend().with_device(0, "x").with_reading("temperature", 1)
    with pytest.raises(ValueError, match="unknown throttle reason 'heat'"):
        MockGpuBackend().with_device(0, "x").with_throttle_reasons("heat")


@given(st.floats(1.7e9, 2e9), st.integers(1, 8))
def test_the_simulator_is_plausible_at_any_time(now: float, gpus: int) -> None:
    """Within every reading's range, the same again for the same time, and honest about what is missing."""
    found = SimulatedBackend(gpus, clock=lambda: now).collect()
    assert found == SimulatedBackend(gpus, clock=lambda: now).collect()
    for gpu in found:
        assert gpu.simulated
        assert {field for field in READINGS if getattr(gpu, field) is None} == set(gpu.missing)
        for field in READINGS:
            value = getattr(gpu, field)
            assert value is None or not field.endswith("_percent") or 0 <= value <= 100
        assert 0 <= (gpu.memory_percent() or 0) <= 100
        assert 0 <= (gpu.power_percent() or 0) <= 100


def test_the_simulators_devices_are_those_of_its_topology() -> None:
    """One row per card and instance, the last card in MIG mode."""
    backend = SimulatedBackend(2)
    assert [slot.name for slot in backend.topology().slots()] == ["0", "1.0", "1.1", "1.2"]
    assert [each.slot for each in backend.collect()] == ["0", "1", "1.0", "1.1", "1.2"]


def test_energy_only_grows() -> None:
    """A counter, as a real card's."""
    now = [1.8e9]
    backend = SimulatedBackend(1, clock=lambda: now[0])
    first = backend.collect()[0].energy_joules
    now[0] += 10
    second = backend.collect()[0].energy_joules
    assert first is not None
    assert second is not None
    assert second > first


@given(st.none() | st.integers(0, 2**40), st.none() | st.integers(0, 2**40))
def test_a_share_of_nothing_is_unknown(used: int | None, total: int | None) -> None:
    """Neither a division by 0 nor a 0 for what is not known."""
    percent = GpuMetrics(
        device_id=0, uuid="x", memory_used_bytes=used, memory_total_bytes=total
    ).memory_percent()
    assert (percent is None) == (used is None or not total)


@given(st.integers(0, 0x1FF))
def test_throttle_reasons_are_the_bits(mask: int) -> None:
    """Every bit has its name, and no bit is no reason."""
    reasons = GpuMetrics(device_id=0, uuid="x", throttle_mask=mask).throttle_reasons
    assert reasons == tuple(name for bit, name in THROTTLE_REASONS.items() if mask & bit)


def test_backends_are_chosen_by_name() -> None:
    """Each documented name makes one; another is an error that lists them."""
    for name in NAMES:
        create(name).close()
    with pytest.raises(TelemetryError) as caught:
        GpuMonitor("dcgm")
    assert caught.value.exit_code == 2
    assert "auto, nvml, smi, simulated" in caught.value.hint
