"""Readings by NVML: nvidia-ml-py's own code above a fake library, with its return codes."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest

from gpu_telemetry.backends.nvml import NvmlBackend
from gpu_telemetry.errors import NvmlUnavailable
from gpu_telemetry.metrics import READINGS, is_lost

if TYPE_CHECKING:
    from collections.abc import Iterator

MIB = 1024**2


class Clock:
    """A clock that moves when it is told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        """Seconds."""
        return self.now


@pytest.fixture
def clock() -> Clock:
    """The backend's clock."""
    return Clock()


@pytest.fixture
def backend(nvml: Any, clock: Clock) -> Iterator[NvmlBackend]:
    """A backend on whatever driver the test installs."""
    backend = NvmlBackend(clock=clock)
    yield backend
    backend.close()


def test_every_reading_is_in_the_documented_unit(nvml: Any, backend: NvmlBackend) -> None:
    """Milliwatts, millijoules and bytes come out as watts, joules and bytes."""
    nvml.install(nvml.driver(nvml.card(0)))
    (gpu,) = backend.collect()
    assert (gpu.power_watts, gpu.power_limit_watts, gpu.energy_joules) == (250.5, 400.0, 1000.5)
    assert (gpu.memory_used_bytes, gpu.memory_total_bytes) == (8192 * MIB, 40960 * MIB)
    assert (gpu.memory_free_bytes, gpu.memory_reserved_bytes) == (32256 * MIB, 512 * MIB)
    assert (gpu.temperature_celsius, gpu.memory_temperature_celsius) == (61, 58)
    assert (gpu.utilization_percent, gpu.memory_utilization_percent) == (87, 41)
    assert (gpu.graphics_clock_mhz, gpu.sm_clock_mhz, gpu.memory_clock_mhz) == (1410, 1410, 1215)
    assert gpu.throttle_reasons == ("sw_power_cap",)
    assert (gpu.ecc_corrected_total, gpu.ecc_corrected_lifetime_total, gpu.remapped_rows_failed) == (
        0,
        2,
        False,
    )
    assert (gpu.uuid, gpu.name, gpu.pci_bus_id) == (
        "GPU-a1000000-0000-4000-8000-000000000000",
        "NVIDIA A100-SXM4-40GB",
        "00000000:01:00.0",
    )
    assert backend.driver_version == "550.54.15"


def test_a_reading_is_there_or_has_a_reason(nvml: Any, backend: NvmlBackend) -> None:
    """Exactly the readings that are None are named in `missing`."""
    nvml.install(
        nvml.driver(nvml.card(0), nvml.card(1, mig_mode=1, migs=[nvml.mig(1, 0, 7, "1g.5gb", 1, 4864)]))
    )
    for gpu in backend.collect():
        assert {field for field in READINGS if getattr(gpu, field) is None} == set(gpu.missing)


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (3, "not_supported"),
        (4, "no_permission"),
        (10, "timeout"),
        (13, "not_supported"),
        (999, "error"),
        (27, "no_data"),
    ],
)
def test_a_refused_reading_says_why_and_spares_the_others(
    nvml: Any, backend: NvmlBackend, code: int, reason: str
) -> None:
    """One reading's error code becomes its reason; it is never 0, and its neighbours are read."""
    nvml.install(
        nvml.driver(
            nvml.card(
                0, nvmlDeviceGetTemperature=-code, compute=-code, utilization=-code, fields={"83": -code}
            )
        )
    )
    (gpu,) = backend.collect()
    for field in ("temperature_celsius", "processes", "utilization_percent", "energy_joules"):
        assert getattr(gpu, field) is None
        assert gpu.missing[field] == reason
    assert gpu.power_watts == 250.5


def test_one_lost_gpu_keeps_its_row(nvml: Any, backend: NvmlBackend, clock: Clock) -> None:
    """A card that falls off the bus is shown as lost, also after NVML no longer lists it; the other is read on."""
    fake = nvml.install(nvml.driver(nvml.card(0), nvml.card(1)))
    backend.collect()
    fake.state["cards"][1]["lost"] = True
    for _ in range(2):
        first, second = backend.collect()
        assert first.temperature_celsius == 61
        assert is_lost(second)
        assert second.uuid == "GPU-a1000000-0000-4000-8000-000000000001"
        clock.now += 60
    fake.state["cards"][1]["lost"] = False
    clock.now += 60
    assert backend.collect()[1].temperature_celsius == 61


def test_a_lost_driver_comes_back_after_a_growing_wait(nvml: Any, backend: NvmlBackend, clock: Clock) -> None:
    """While the driver is gone NVML is asked ever more rarely; then the readings return."""
    fake = nvml.install(nvml.driver(nvml.card(0)))
    backend.collect()
    fake.state["error"] = 9
    attempts = []
    for _ in range(600):
        before = fake.calls.get("nvmlInitWithFlags", 0)
        with pytest.raises(NvmlUnavailable) as caught:
            backend.collect()
        if fake.calls.get("nvmlInitWithFlags", 0) > before:
            attempts.append(clock.now)
        clock.now += 0.5
    assert caught.value.reason == "no_driver"
    waits = [later - earlier for earlier, later in pairwise(attempts)]
    assert waits == [2, 4, 8, 16, 32, 60, 60, 60]
    fake.state["error"] = 0
    clock.now += 60
    assert backend.collect()[0].temperature_celsius == 61
    backend.close()
    assert fake.initialised == 0


def test_all_cards_lost_are_looked_for_anew(nvml: Any, backend: NvmlBackend, clock: Clock) -> None:
    """When no card answers, the session is dropped and the rows stay, marked lost, until a new one finds them."""
    fake = nvml.install(nvml.driver(nvml.card(0)))
    backend.collect()
    fake.state["cards"][0]["lost"] = True
    for _ in range(5):
        (gpu,) = backend.collect()
        assert is_lost(gpu)
        clock.now += 1
    fake.state["cards"][0]["lost"] = False
    clock.now += 60
    assert backend.collect()[0].temperature_celsius == 61


def test_without_a_driver_nothing_is_invented(backend: NvmlBackend) -> None:
    """A machine without libnvidia-ml raises with a next step."""
    with pytest.raises(NvmlUnavailable) as caught:
        backend.collect()
    assert caught.value.reason == "no_driver"
    assert "install the NVIDIA driver" in caught.value.hint


def test_permission_to_the_driver_is_needed(nvml: Any, backend: NvmlBackend) -> None:
    """A user who may not open the devices is told so."""
    nvml.install(nvml.driver(nvml.card(0), error=4))
    with pytest.raises(NvmlUnavailable) as caught:
        backend.collect()
    assert caught.value.reason == "no_permission"


def test_mig_devices_have_rows_of_their_own(nvml: Any, backend: NvmlBackend) -> None:
    """A card in MIG mode has its board readings; each instance its memory, processes and GPM activity."""
    instance = nvml.mig(
        0, 1, 9, "1g.5gb", 1, 4864, compute=[{"pid": 4_000_002, "memory": 900 * MIB, "instance": 9}]
    )
    gpm = {"9": {"1": 42.5, "2": 40.0, "5": -3, "10": 12.0}, "card": {}}
    nvml.install(nvml.driver(nvml.card(0, mig_mode=1, migs=[instance], utilization=-3, gpm=gpm)))
    first = backend.collect()
    assert first[1].missing["utilization_percent"] == "no_data"
    card, mig = backend.collect()
    assert (card.slot, mig.slot) == ("0", "0.1")
    assert card.missing["utilization_percent"] == "not_supported"
    assert (mig.parent_uuid, mig.gpu_instance_id, mig.mig_profile) == (card.uuid, 9, "1g.5gb")
    assert (mig.utilization_percent, mig.sm_active_percent, mig.dram_active_percent) == (42.5, 40.0, 12.0)
    assert mig.missing["tensor_active_percent"] == "not_supported"
    assert mig.missing["temperature_celsius"] == "not_supported"
    assert mig.processes is not None
    assert [(each.pid, each.memory_used_bytes, each.gpu_instance_id) for each in mig.processes] == [
        (4_000_002, 900 * MIB, 9)
    ]


def test_mig_devices_come_and_go(nvml: Any, backend: NvmlBackend, clock: Clock) -> None:
    """A destroyed MIG device loses its row, a new one gets one, and no card is called lost."""
    fake = nvml.install(nvml.driver(nvml.card(0, mig_mode=1, migs=[nvml.mig(0, 0, 7, "1g.5gb", 1, 4864)])))
    assert [each.slot for each in backend.collect()] == ["0", "0.0"]
    fake.state["cards"][0]["migs"] = [nvml.mig(0, 2, 1, "3g.20gb", 3, 19968)]
    assert [each.slot for each in backend.collect()] == ["0"]
    assert [each.slot for each in backend.collect()] == ["0", "0.2"]
    assert clock.now == 100.0


def test_xid_errors_are_counted(nvml: Any, backend: NvmlBackend) -> None:
    """The last XID and their number since the start; 0 while there are none; unknown where they cannot be watched."""
    fake = nvml.install(nvml.driver(nvml.card(0), nvml.card(1, events_error=3)))
    first, second = backend.collect()
    assert (first.xid, first.xid_total) == (0, 0)
    assert second.xid is None
    fake.state["cards"][0]["xids"] = [43, 79]
    first, _ = backend.collect()
    assert (first.xid, first.xid_total) == (79, 2)


def test_old_drivers_lack_the_second_memory_call(nvml: Any, backend: NvmlBackend) -> None:
    """Where NVML has no reserved memory the old call is used, and only `reserved` is missing."""
    nvml.install(nvml.driver(nvml.card(0, reserved=-3)))
    for _ in range(2):
        (gpu,) = backend.collect()
        assert gpu.memory_used_bytes == 8192 * MIB
        assert gpu.missing["memory_reserved_bytes"] == "not_supported"


def test_a_name_that_is_no_text_does_not_hide_the_gpu(nvml: Any, backend: NvmlBackend) -> None:
    """WSL2 hands out names that are not UTF-8; nvidia-ml-py refuses to decode them."""
    nvml.install(nvml.driver(nvml.card(0, name_bytes="4e56ff41")))
    (gpu,) = backend.collect()
    assert gpu.name == "NV\N{REPLACEMENT CHARACTER}A"
    assert gpu.temperature_celsius == 61


def test_pcie_rates_come_from_counters_else_on_request(nvml: Any, clock: Clock) -> None:
    """Byte counters give a rate from the second sample on; without them the 20 ms measurement must be asked for."""
    fake = nvml.install(
        nvml.driver(nvml.card(0, fields={"197": 1000, "198": 5000}, nvmlDeviceGetPcieThroughput=2))
    )
    backend = NvmlBackend(clock=clock)
    assert backend.collect()[0].missing["pcie_tx_bytes_per_second"] == "no_data"
    fake.state["cards"][0]["fields"] = {"197": 3000, "198": 4000}
    (gpu,) = backend.collect()
    assert gpu.pcie_tx_bytes_per_second is not None
    assert gpu.pcie_tx_bytes_per_second > 0
    assert gpu.missing["pcie_rx_bytes_per_second"] == "no_data"
    fake.state["cards"][0]["fields"] = {}
    assert backend.collect()[0].missing["pcie_tx_bytes_per_second"] == "not_sampled"
    backend.close()
    backend = NvmlBackend(clock=clock, pcie_throughput=True)
    assert backend.collect()[0].pcie_tx_bytes_per_second == 2000
    backend.close()


def test_functions_that_an_old_library_lacks_are_not_supported(nvml: Any, backend: NvmlBackend) -> None:
    """A symbol missing in libnvidia-ml is a missing reading, no crash."""
    state = nvml.driver(nvml.card(0), without=["nvmlDeviceGetFieldValues", "nvmlDeviceGetTemperature"])
    nvml.install(state)
    (gpu,) = backend.collect()
    assert gpu.missing["temperature_celsius"] == gpu.missing["energy_joules"] == "not_supported"
    assert gpu.power_watts == 250.5
