"""Andon: when an alert fires, when it is over, and what it says."""

import json
from datetime import datetime, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpu_telemetry import AlertConfig, AndonSystem, GpuMetrics, MockGpuBackend
from gpu_telemetry.andon import GpuIdle, MemoryPressure, PowerLimit, Severities, ThermalThrottling
from gpu_telemetry.metrics import GpuProcess

WORKER = (GpuProcess(pid=4711),)
HW_THERMAL, SW_POWER_CAP = 0x40, 0x04


class Clock:
    """A monotonic clock that a test moves."""

    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        """Seconds."""
        return self.now


@pytest.fixture
def clock():
    """The clock of the Andon system under test."""
    return Clock()


def gpu(device_id=0, **readings):
    """One GPU of which only these readings are known."""
    return GpuMetrics(device_id=device_id, uuid=f"GPU-{device_id}", **readings)


def kinds(alerts):
    """The kinds of some alerts, in order."""
    return [alert.kind for alert in alerts]


def test_the_documented_example_raises_its_alerts():
    """A hot, full GPU at its power limit raises one alert of each kind that 001 names."""
    metrics = (
        MockGpuBackend()
        .with_device(0, "Mock GPU 0")
        .with_temperature(85)
        .with_memory(95, 100)
        .with_power(294, 300)
        .collect_metrics()
    )
    alerts = AndonSystem().check(metrics)
    assert [alert.message() for alert in alerts] == [
        "GPU 0 thermal throttling: 85°C exceeds 80°C threshold",
        "GPU 0 memory pressure: 95% exceeds 90% threshold",
        "GPU 0 power limit: 98% exceeds 95% threshold",
    ]
    assert all(alert.simulated for alert in alerts)


@pytest.mark.parametrize(
    ("alert", "severity"),
    [
        (ThermalThrottling(0, 80, 80), 50),
        (ThermalThrottling(0, 90, 80), 60),
        (ThermalThrottling(0, 140, 80), 100),
        (ThermalThrottling(0, 75, 80, ("hw_thermal_slowdown",)), 50),
        (ThermalThrottling(0, None, 80, ("hw_thermal_slowdown",)), 50),
        (MemoryPressure(0, 93.75, 90), 60),
        (MemoryPressure(0, 95, 90), 80),
        (MemoryPressure(0, 99, 90), 100),
        (PowerLimit(0, 96, 95), 50),
        (PowerLimit(0, 100, 95), 70),
        (GpuIdle(0, 30), 40),
        (GpuIdle(0, 31), 70),
        (GpuIdle(0, 60), 70),
        (GpuIdle(0, 600), 90),
    ],
)
def test_severities_are_the_documented_figures(alert, severity):
    """Each kind has the severity that the table gives it."""
    assert alert.severity() == severity


def test_severities_are_data():
    """A site may rank memory lower without touching code."""
    config = AlertConfig(severities=Severities(memory=((0, 10),)))
    (alert,) = AndonSystem(config).check([gpu(memory_used_bytes=99, memory_total_bytes=100)])
    assert alert.severity() == 10


def test_an_alert_fires_once_and_resolves_once(clock):
    """However long a condition lasts, it is told at its beginning and at its end."""
    told = []
    andon = AndonSystem(clock=clock).on_alert(told.append).on_resolved(told.append)
    returned = []
    for percent in (95, 96, 97, 50, 40):
        returned += andon.check([gpu(memory_used_bytes=percent, memory_total_bytes=100)])
        clock.now += 10
    assert kinds(returned) == ["MemoryPressure"]
    assert [alert.resolved for alert in told] == [False, True]
    assert told[1].used_percent == 97, "the end carries the last reading"
    assert told[0].started_at == told[1].started_at
    assert told[1].resolved_at >= told[1].started_at
    assert andon.active == []


def test_hysteresis_keeps_a_value_at_its_threshold_from_flapping(clock):
    """A value that swings around its threshold is one alert, until it is clearly below."""
    told = []
    andon = AndonSystem(clock=clock).on_alert(told.append).on_resolved(told.append)
    for percent in (91, 89, 91, 86, 91, 84):
        andon.check([gpu(memory_used_bytes=percent, memory_total_bytes=100)])
    assert [alert.resolved for alert in told] == [False, True]


@given(
    readings=st.lists(
        st.tuples(st.none() | st.integers(0, 120), st.none() | st.sampled_from([0, HW_THERMAL]))
    ),
    source=st.sampled_from(["auto", "either"]),
    for_secs=st.sampled_from([0, 15]),
)
def test_firing_and_resolving_alternate_and_unknown_does_neither(readings, source, for_secs):
    """Whatever the readings do, each end has its beginning, and nothing happens at an unknown reading."""
    clock, told = Clock(), []
    config = AlertConfig(thermal_source=source, thermal_for_secs=for_secs, throttle_clear_secs=15)
    andon = AndonSystem(config, clock=clock).on_alert(told.append).on_resolved(told.append)
    for temperature, mask in readings:
        before = len(told)
        andon.check([gpu(temperature_celsius=temperature, throttle_mask=mask)])
        if temperature is None and mask is None:
            assert len(told) == before
        assert len(andon.active) == len(told) % 2
        clock.now += 10
    assert [alert.resolved for alert in told] == [bool(number % 2) for number in range(len(told))]


def test_a_condition_must_last_before_it_is_an_alert(clock):
    """A peak shorter than the for-duration is no alert, and the beginning is when it was first seen."""
    andon = AndonSystem(AlertConfig(power_for_secs=20), clock=clock)
    peak, calm = gpu(power_watts=299, power_limit_watts=300), gpu(power_watts=100, power_limit_watts=300)
    for reading in (peak, calm, peak, peak):
        assert andon.check([reading]) == []
        clock.now += 10
    assert kinds(andon.check([peak])) == ["PowerLimit"]


def test_an_unknown_reading_neither_fires_nor_resolves(clock):
    """None is not zero: it starts nothing, ends nothing, and its time is not counted."""
    andon = AndonSystem(AlertConfig(memory_for_secs=20), clock=clock)
    full, unknown = gpu(memory_used_bytes=99, memory_total_bytes=100), gpu()
    for reading in (full, unknown, unknown, full, full):
        assert andon.check([reading]) == []
        clock.now += 10
    assert kinds(andon.check([full])) == ["MemoryPressure"]
    andon.check([unknown])
    andon.check([])
    assert kinds(andon.active) == ["MemoryPressure"], "a reading that failed or a lost GPU does not heal it"


def test_throttle_reasons_decide_over_temperature(clock):
    """A GPU at 82 °C need not throttle, and one at 75 °C can."""
    andon = AndonSystem(clock=clock)
    assert andon.check([gpu(0, temperature_celsius=95, throttle_mask=SW_POWER_CAP)]) == []
    (alert,) = andon.check([gpu(1, temperature_celsius=75, throttle_mask=HW_THERMAL)])
    assert alert.message() == "GPU 1 thermal throttling at 75°C: the driver reports hw_thermal_slowdown"


def test_throttling_that_comes_and_goes_is_one_alert(clock):
    """The driver sets and clears the reasons many times a minute; the alert ends when they stay away."""
    told = []
    andon = AndonSystem(clock=clock).on_alert(told.append).on_resolved(told.append)
    for mask in (HW_THERMAL, 0, HW_THERMAL, 0, 0, 0, 0):
        assert not any(alert.resolved for alert in told)
        andon.check([gpu(throttle_mask=mask)])
        clock.now += 10
    assert [alert.resolved for alert in told] == [False, True]


def test_a_threshold_can_be_asked_for_beside_the_reasons(clock):
    """With `either`, a hot GPU is reported although it does not throttle, and not lost while one reading is."""
    andon = AndonSystem(AlertConfig(thermal_source="either", throttle_clear_secs=0), clock=clock)
    assert kinds(andon.check([gpu(temperature_celsius=85, throttle_mask=0)])) == ["ThermalThrottling"]
    andon.check([gpu(temperature_celsius=60)])
    assert kinds(andon.active) == ["ThermalThrottling"], "whether it throttles is unknown"
    andon.check([gpu(temperature_celsius=60, throttle_mask=0)])
    assert andon.active == []


def test_idle_needs_somebody_who_holds_the_gpu(clock):
    """A GPU without process or allocation is free, not hung; one whose processes are unknown is unknown."""
    andon = AndonSystem(clock=clock)
    free, unknown = gpu(0, utilization_percent=0, processes=()), gpu(1, utilization_percent=0)
    held, allocated = (
        gpu(2, utilization_percent=0, processes=WORKER),
        gpu(3, utilization_percent=0, processes=()),
    )
    told = []
    for _ in range(31):
        told += andon.check([free, unknown, held, allocated], held={"GPU-3"})
        clock.now += 10
    assert [alert.message() for alert in told] == [
        "GPU 2 idle for 300 seconds (possible hang)",
        "GPU 3 idle for 300 seconds (possible hang)",
    ]


def test_idle_time_is_measured_by_the_clock_and_ends_with_work(clock):
    """Any work starts the count anew; a reading that failed stops it without clearing it."""
    andon = AndonSystem(AlertConfig(idle_timeout_secs=100), clock=clock)
    rests, works = (gpu(utilization_percent=load, processes=WORKER) for load in (0, 40))
    lost = gpu(processes=WORKER)
    for reading, seconds in ((rests, 90), (works, 1), (rests, 60), (rests, 9), (lost, 500), (rests, 39)):
        assert andon.check([reading]) == []
        clock.now += seconds
    assert andon.check([rests]) == []
    clock.now += 2
    (alert,) = andon.check([rests])
    assert alert.duration_secs == 101
    clock.now += 20
    andon.check([rests])
    assert andon.active[0].duration_secs == 121


def test_each_device_is_watched_by_its_uuid(clock):
    """Sparse indices and MIG devices of one card each have their own lamps."""
    andon = AndonSystem(clock=clock)
    full = {"memory_used_bytes": 99, "memory_total_bytes": 100}
    instances = [
        GpuMetrics(device_id=5, uuid=f"MIG-{index}", parent_uuid="GPU-5", mig_index=index, **full)
        for index in (0, 1)
    ]
    alerts = andon.check([gpu(7, **full), *instances])
    assert [alert.message().partition(" memory")[0] for alert in alerts] == ["GPU 7", "GPU 5.0", "GPU 5.1"]
    assert [alert.uuid for alert in andon.active] == ["MIG-0", "MIG-1", "GPU-7"]


def test_a_failing_callback_harms_nobody(caplog):
    """What a callback raises is logged; the other callbacks and the caller go on."""
    told = []

    def broken(_alert):
        raise RuntimeError("mail server is down")

    andon = AndonSystem().on_alert(broken).on_alert(told.append)
    assert len(andon.check([gpu(temperature_celsius=99)])) == len(told) == 1
    assert "mail server is down" in caplog.text


def test_critical_alerts_can_be_asked_for():
    """From severity 80 on an alert is critical."""
    andon = AndonSystem()
    andon.check([gpu(memory_used_bytes=91, memory_total_bytes=100)])
    assert not andon.has_critical_alerts()
    andon.check([gpu(memory_used_bytes=96, memory_total_bytes=100)])
    assert andon.has_critical_alerts(), "the severity follows the reading while the alert lasts"


def test_an_alert_is_json():
    """An alert is tagged by its kind, as in 001, with times in UTC."""
    began = datetime(2025, 3, 4, 23, 2, 50, tzinfo=timezone.utc)
    document = ThermalThrottling(0, 85, 80, started_at=began).to_dict()
    assert json.loads(json.dumps(document)) == {
        "ThermalThrottling": {
            "device": 0,
            "temp": 85,
            "threshold": 80,
            "reasons": [],
            "started_at": "2025-03-04T23:02:50Z",
            "simulated": False,
            "severity": 55,
        }
    }
