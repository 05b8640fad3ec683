"""Readings by nvidia-smi: a fake one answers from captures in the formats of drivers 470 to 590."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpu_telemetry.backends import AutoBackend, create, smi_parse
from gpu_telemetry.backends.smi import SmiBackend
from gpu_telemetry.backends.smi_parse import Missing
from gpu_telemetry.errors import BackendUnavailable
from gpu_telemetry.metrics import READINGS

if TYPE_CHECKING:
    from collections.abc import Callable

MIB = 1024**2
CAPTURES = sorted(each.name for each in (Path(__file__).parent / "captures").iterdir() if each.is_dir())


@pytest.mark.parametrize("capture", CAPTURES)
def test_a_reading_is_there_or_has_a_reason(fake_smi: Callable[..., Path], capture: str) -> None:
    """Exactly the readings that are None are named in `missing`, whatever the driver prints."""
    for gpu in SmiBackend(str(fake_smi(capture))).collect():
        assert {field for field in READINGS if getattr(gpu, field) is None} == set(gpu.missing)


def test_cells_stay_in_their_columns(fake_smi: Callable[..., Path]) -> None:
    """Every value is under its own name and in the documented unit."""
    backend = SmiBackend(str(fake_smi("a100-mig__550.54.15")))
    gpu = backend.collect()[0]
    assert (gpu.device_id, gpu.name, gpu.pci_bus_id) == (0, "NVIDIA A100-SXM4-40GB", "00000000:07:00.0")
    assert (gpu.utilization_percent, gpu.memory_utilization_percent) == (87, 41)
    assert (gpu.memory_used_bytes, gpu.memory_reserved_bytes) == (8192 * MIB, 512 * MIB)
    assert (gpu.temperature_celsius, gpu.memory_temperature_celsius) == (61, 58)
    assert (gpu.power_watts, gpu.power_limit_watts, gpu.performance_state) == (250.5, 400.0, 0)
    assert gpu.throttle_reasons == ("sw_power_cap",)
    assert gpu.missing["fan_percent"] == "not_supported"
    assert gpu.processes is not None
    assert [(each.pid, each.name, each.memory_used_bytes) for each in gpu.processes] == [
        (4000001, "python", 7000 * MIB)
    ]
    assert backend.driver_version == "550.54.15"


def test_mig_devices_come_from_the_list_and_the_query(fake_smi: Callable[..., Path]) -> None:
    """Identity from -L, instance ids and memory from -q; nvidia-smi has no utilisation of an instance."""
    backend = SmiBackend(str(fake_smi("a100-mig__550.54.15")))
    _, card, first, second = backend.collect()
    assert card.missing["utilization_percent"] == "not_supported"
    assert (first.slot, first.gpu_instance_id, first.mig_profile) == ("1.0", 2, "3g.20gb")
    assert (first.memory_used_bytes, first.memory_total_bytes) == (5009 * MIB, 19968 * MIB)
    assert (second.slot, second.parent_uuid) == ("1.1", card.uuid)
    assert first.processes is not None
    assert [(each.pid, each.gpu_instance_id, each.memory_used_bytes) for each in first.processes] == [
        (4000002, 2, None)
    ]
    assert second.processes == ()
    slots = backend.topology().slots()
    assert [(each.name, each.fraction) for each in slots] == [("0", 1.0), ("1.0", 3 / 7), ("1.1", 1 / 7)]


def test_properties_that_a_driver_does_not_know_are_left_out(fake_smi: Callable[..., Path]) -> None:
    """An old driver refuses the whole query for one unknown property; the rest is still read."""
    backend = SmiBackend(str(fake_smi("t4__470.82.01")))
    (gpu,) = backend.collect()
    assert (gpu.name, gpu.memory_total_bytes, gpu.performance_state) == ("Tesla T4", 15109 * MIB, 8)
    assert gpu.missing["memory_reserved_bytes"] == "not_supported"
    assert gpu.missing["power_watts"] == "error"
    assert gpu.missing["memory_temperature_celsius"] == "not_supported"
    assert (gpu.mig_enabled, gpu.processes) == (False, ())


def test_one_lost_gpu_does_not_hide_the_other(fake_smi: Callable[..., Path]) -> None:
    """Its row says lost; a renamed property is asked for by its new name."""
    good, lost = SmiBackend(str(fake_smi("rtx4000-lost__535.104.05"))).collect()
    assert good.throttle_reasons == ("sw_power_cap",)
    assert lost.uuid == "GPU-33333333-4444-4555-8666-000000000001"
    assert lost.missing["temperature_celsius"] == lost.missing["throttle_mask"] == "lost"


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ("Failed to initialize NVML: Insufficient Permissions\n", "no_permission"),
        (
            "Failed to initialize NVML: Driver/library version mismatch\nNVML library version: 550.54\n",
            "version_mismatch",
        ),
        (
            "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver. Make sure …\n",
            "no_driver",
        ),
        ("No devices were found\n", "lost"),
        ("Unable to determine the device handle for GPU0000:07:00.0: GPU is lost. Reboot …\n", "lost"),
        ("", "error"),
    ],
)
def test_what_nvidia_smi_says_instead_becomes_a_reason(
    fake_smi: Callable[..., Path], words: str, reason: str
) -> None:
    """Its refusals stand on standard output; they are quoted and classified."""
    program = fake_smi("t4__470.82.01", {"--query-gpu": words}, code=9)
    with pytest.raises(BackendUnavailable) as caught:
        SmiBackend(str(program)).collect()
    assert caught.value.reason == reason
    assert words.partition("\n")[0] in caught.value.problem


def test_a_hanging_nvidia_smi_is_killed(fake_smi: Callable[..., Path]) -> None:
    """A call that does not end is a timeout, not a hang of ours."""
    program = fake_smi("t4__470.82.01", {"--query-gpu": "hang"})
    with pytest.raises(BackendUnavailable) as caught:
        SmiBackend(str(program), timeout_seconds=0.5).collect()
    assert caught.value.reason == "timeout"


def test_a_missing_nvidia_smi_is_no_driver(tmp_path: Path) -> None:
    """The next step is to install the driver."""
    with pytest.raises(BackendUnavailable) as caught:
        SmiBackend(str(tmp_path / "nvidia-smi")).collect()
    assert caught.value.reason == "no_driver"


def test_auto_falls_back_and_stays(
    fake_smi: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, nvml: Any
) -> None:
    """Without NVML nvidia-smi is taken; the backend that answered first is kept."""
    monkeypatch.setenv("PATH", str(fake_smi("t4__470.82.01").parent), prepend=":")
    backend = create("auto")
    assert backend.collect()[0].name == "Tesla T4"
    nvml.install(nvml.driver(nvml.card(0)))
    assert (backend.collect()[0].name, backend.name) == ("Tesla T4", "smi")
    fresh = create("auto")
    assert (fresh.collect()[0].name, fresh.name) == ("NVIDIA A100-SXM4-40GB", "nvml")
    fresh.close()


def test_while_neither_answers_both_are_asked_ever_more_rarely(
    fake_smi: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An nvidia-smi that fails is not started ten times a second; when it answers it is found."""
    program = fake_smi("t4__470.82.01", {"--query-gpu": "No devices were found\n"}, code=6)
    monkeypatch.setenv("PATH", str(program.parent), prepend=":")
    now = [0.0]
    backend = AutoBackend(clock=lambda: now[0])
    asked: list[float] = []
    real = SmiBackend.collect
    monkeypatch.setattr(SmiBackend, "collect", lambda self: asked.append(now[0]) or real(self))
    for _ in range(40):
        with pytest.raises(BackendUnavailable):
            backend.collect()
        now[0] += 0.5
    assert asked == [0, 1, 3, 7, 15]
    fake_smi("t4__470.82.01")
    now[0] += 60
    assert backend.collect()[0].name == "Tesla T4"


@given(st.text(max_size=20))
def test_any_cell_is_a_finite_number_or_a_reason(cell: str) -> None:
    """The parser of a cell never raises and never invents infinity."""
    value = smi_parse.number(cell)
    assert isinstance(value, Missing) or value - value == 0


@given(st.floats(-1e9, 1e9))
def test_a_number_survives_printing(value: float) -> None:
    """What nvidia-smi prints as a number is that number."""
    assert smi_parse.number(f"{value:.2f}") == float(f"{value:.2f}")


@given(st.text(max_size=200), st.integers(1, 6))
def test_every_row_has_all_its_cells(output: str, columns: int) -> None:
    """Whatever is printed, a row has as many cells as properties were asked for."""
    assert all(len(row) == columns for row in smi_parse.rows(output, columns))


@given(st.text(alphabet=" :\nAMIGDevice0123=", max_size=300))
def test_any_query_output_is_parsed(output: str) -> None:
    """The parsers of -q and -L never raise."""
    listed = smi_parse.parse_list(output)
    smi_parse.mig_readings(smi_parse.parse_query(output), listed)
