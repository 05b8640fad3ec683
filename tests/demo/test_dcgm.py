"""The page of the simulated dcgm-exporter, as a client gets it."""

from __future__ import annotations

import base64
import http.client
import re
import subprocess  # noqa: TID251 - the doors are for the programs, not for their tests.
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from prometheus_client.parser import text_string_to_metric_families

from ds01_demo import dcgm
from ds01_demo.clock import Clock
from ds01_demo.load import DAY
from ds01_demo.scenario import PROFILES
from ds01_demo.world import World

from .conftest import PASSWORD, promtool

if TYPE_CHECKING:
    from .conftest import Served

NOW = 20_000 * DAY + 40_000.0


def get(served: Served, path: str, password: str | None = PASSWORD) -> tuple[int, str, str]:
    """Status, content type and body of a GET on the dcgm-exporter's port."""
    connection = http.client.HTTPConnection("127.0.0.1", served.dcgm_port, timeout=30)
    headers = {}
    if password is not None:
        headers["Authorization"] = "Basic " + base64.b64encode(f"ds01:{password}".encode()).decode()
    connection.request("GET", path, headers=headers)
    response = connection.getresponse()
    body = response.read().decode()
    connection.close()
    return response.status, response.getheader("Content-Type", ""), body


def series(text: str) -> dict[str, list[tuple[dict[str, str], float]]]:
    """Family name to its (labels, value) pairs, by prometheus_client's own parser."""
    found = defaultdict(list)
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            # The parser takes OpenMetrics' view of counters and adds a suffix that the text does not have.
            found[family.name].append((sample.labels, sample.value))
    return found


def page(profile: str = "lively", time: float = NOW) -> str:
    """The text of a profile at a moment."""
    return dcgm.text(World(PROFILES[profile]), time, Clock())


def test_the_page_needs_the_password(served: Served) -> None:
    """Without the right password nothing is told; with it the text comes in Prometheus' own content type."""
    assert get(served, "/metrics", None)[0] == 401
    assert get(served, "/metrics", "wrong")[0] == 401
    status, kind, body = get(served, "/metrics")
    assert (status, kind.split(";")[0]) == (200, "text/plain")
    assert "DCGM_FI_DEV_GPU_TEMP{" in body


def test_labels_are_those_of_the_exporter() -> None:
    """A whole card and an instance carry the labels of a current image, the instance its card's UUID."""
    temperatures = series(page())["DCGM_FI_DEV_GPU_TEMP"]
    common = {"gpu", "UUID", "pci_bus_id", "device", "modelName", "hostname", "DCGM_FI_DRIVER_VERSION"}
    assert {frozenset(labels) for labels, _ in temperatures} == {
        frozenset(common),
        frozenset(common | {"GPU_I_PROFILE", "GPU_I_ID"}),
    }
    cards = {labels["gpu"]: labels["UUID"] for labels, _ in temperatures}
    assert len(cards) == len(set(cards.values())) == 4
    assert all(labels["UUID"].startswith("GPU-") for labels, _ in temperatures)


def test_physical_readings_are_repeated_on_every_instance() -> None:
    """Power, temperature and energy of a card in MIG mode are the same on each of its rows."""
    for name in ("DCGM_FI_DEV_POWER_USAGE", "DCGM_FI_DEV_GPU_TEMP", "DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION"):
        values = defaultdict(set)
        for labels, value in series(page())[name]:
            values[labels["gpu"]].add(value)
        assert sorted(values) == ["0", "1", "2", "3"]
        assert all(len(found) == 1 for found in values.values())


def test_a_mig_instance_has_no_driver_utilisation() -> None:
    """GPU_UTIL is there for whole cards only, in percent; the profiling ratio for everything, 0 to 1."""
    found = series(page())
    assert {labels["gpu"] for labels, _ in found["DCGM_FI_DEV_GPU_UTIL"]} == {"0", "1"}
    assert not [labels for labels, _ in found["DCGM_FI_DEV_GPU_UTIL"] if "GPU_I_ID" in labels]
    assert len(found["DCGM_FI_PROF_GR_ENGINE_ACTIVE"]) == 10
    assert max(value for _, value in found["DCGM_FI_DEV_GPU_UTIL"]) > 1
    assert max(value for _, value in found["DCGM_FI_PROF_GR_ENGINE_ACTIVE"]) <= 1


def test_a_server_without_mig_has_one_row_per_card() -> None:
    """The profile of whole cards shows no instance labels anywhere."""
    found = series(page("whole"))
    assert [labels["gpu"] for labels, _ in found["DCGM_FI_DEV_GPU_UTIL"]] == ["0", "1", "2", "3"]
    for rows in found.values():
        assert not any("GPU_I_ID" in labels for labels, _ in rows)


@pytest.mark.tools
@pytest.mark.parametrize("suite", ["bookworm", "sid"])
def test_promtool_complains_only_of_nvidias_names(suite: str) -> None:
    """The text is well-formed; what promtool dislikes is how the real exporter names labels and counters."""
    done = subprocess.run(
        [promtool(suite), "check", "metrics"], input=page(), capture_output=True, text=True, check=False
    )
    complaints = {line.split(" ", 1)[1] for line in (done.stdout + done.stderr).splitlines() if line}
    assert complaints == {
        "label names should be written in 'snake_case' not 'camelCase'",
        'counter metrics should have "_total" suffix',
        "metric name should not include type 'counter'",
    }


def test_every_field_of_our_counters_files_is_served() -> None:
    """What the stack asks of a real exporter of this generation, the simulated one has, with the same type."""
    served = {family.name: family.kind for family in dcgm.FAMILIES}
    folder = Path(__file__).parents[2] / "prometheus"
    files = [
        path for path in folder.rglob("*.csv*") if "DCGM_FI_DEV_GPU_UTIL," in path.read_text(encoding="utf-8")
    ]
    for path in files:
        for line in path.read_text(encoding="utf-8").splitlines():
            if match := re.match(r"(DCGM_\w+)\s*,\s*(gauge|counter)\s*,", line):
                assert served.get(match[1]) == match[2], f"{path.name}: {line}"


def test_counters_keep_their_true_rate_at_any_speed() -> None:
    """Energy at speed 60 still grows by the power drawn per second of wall time."""
    world, clock = World(PROFILES["lively"]), Clock(speed=60, start=NOW)
    later = clock.world(NOW + 30)
    energy = {
        time: series(dcgm.text(world, time, clock))["DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION"][0][1]
        for time in (NOW, later)
    }
    watts = (energy[later] - energy[NOW]) / 1000 / 30
    assert 40 < watts <= 400
