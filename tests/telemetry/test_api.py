"""The REST API: its documented answer, its description, and what it says when nothing can be read."""

import json
import re
import time
import urllib.request
from datetime import datetime, timezone

import jsonschema
import pytest

from gpu_telemetry import GpuMetrics, GpuMonitor, MockGpuBackend, PrometheusExporter, api, openapi
from gpu_telemetry.errors import BackendUnavailable
from gpu_telemetry.latest import BackgroundSampler, Latest, State
from gpu_telemetry.metrics import Sample

MIB = 1024**2
URL = "/api/v1/monitoring/gpu-metrics"

DOCUMENTED = {
    "timestamp": "2025-03-04T23:02:50.123456Z",
    "gpus": [
        {
            "id": "gpu-0",
            "name": "NVIDIA GeForce RTX 3080",
            "uuid": "GPU-05a9ed06-0ddb-1882-ccba-3e5f36943994",
            "utilization": 75,
            "memory": {"total": 10240, "used": 8192, "free": 2048},
            "temperature": 65,
            "power_usage": 220.5,
            "clock_speeds": {"graphics": 1800, "memory": 8000},
        }
    ],
}
"""The example of the original documentation, its time marked as UTC."""

RTX = GpuMetrics(
    device_id=0,
    uuid="GPU-05a9ed06-0ddb-1882-ccba-3e5f36943994",
    name="NVIDIA GeForce RTX 3080",
    utilization_percent=75.0,
    memory_utilization_percent=40.0,
    memory_total_bytes=10240 * MIB,
    memory_used_bytes=8192 * MIB,
    memory_free_bytes=2048 * MIB,
    temperature_celsius=65,
    power_watts=220.5,
    graphics_clock_mhz=1800,
    memory_clock_mhz=8000,
)


def sample(*gpus, error=None, simulated=False):
    """A sample of the documented moment."""
    moment = datetime(2025, 3, 4, 23, 2, 50, 123456, tzinfo=timezone.utc)
    return Sample(timestamp=moment.timestamp(), monotonic=0.0, gpus=gpus, error=error, simulated=simulated)


def answer(state, **options):
    """The answer for this state, checked against the published description."""
    document = json.loads(api.document(state, **options))
    described = openapi.document(password=False)
    schema = {"$ref": "#/components/schemas/GpuMetrics", "components": described["components"]}
    jsonschema.Draft202012Validator(schema).validate(document)
    return document


def test_the_documented_answer_is_what_is_served():
    """Every documented key is there with the documented value, plus how fresh it is."""
    document = answer(State("ok", sample(RTX), 12.5))
    assert (document.pop("status"), document.pop("sample_age_seconds")) == ("ok", 12.5)
    assert document["gpus"][0].pop("memory_utilization") == 40
    assert document == DOCUMENTED


def test_the_described_example_is_a_real_answer():
    """The example of the OpenAPI document is the answer to the documented sample."""
    assert answer(State("ok", sample(RTX), 12.5)) == openapi.EXAMPLE


def test_unknown_is_null():
    """A lost reading is null, not 0 °C; a card that answers nothing stays in the list."""
    (gpu,) = answer(State("ok", sample(GpuMetrics(device_id=0, uuid="GPU-0")), 0.0))["gpus"]
    assert gpu["temperature"] is None
    assert gpu["memory"] == {"total": None, "used": None, "free": None}
    assert gpu["name"] is None


def test_without_a_driver_no_gpu_is_invented():
    """The answer is 200 with the status and the reason."""
    state = State("nvml_unavailable", sample(error=BackendUnavailable("no library", reason="no_driver")), 1.0)
    document = answer(state)
    assert (document["status"], document["reason"], document["gpus"]) == ("nvml_unavailable", "no_driver", [])
    assert "simulated" not in document


def test_placeholders_are_asked_for_and_marked():
    """`--placeholders` shows one GPU where none can be read, and says that it is simulated."""
    error = BackendUnavailable("no library", reason="no_driver")
    document = answer(State("nvml_unavailable", sample(error=error), 1.0), placeholders=True)
    assert document["simulated"] is True
    assert [gpu["simulated"] for gpu in document["gpus"]] == [True]
    assert "simulated" not in answer(State("ok", sample(RTX), 1.0), placeholders=True)
    assert answer(State("starting"), placeholders=True)["gpus"] == []


def test_an_old_sample_is_not_shown():
    """The age stays, the readings go."""
    document = answer(State("stale", sample(RTX), 400.0))
    assert (document["status"], document["gpus"], document["sample_age_seconds"]) == ("stale", [], 400.0)


def test_simulated_readings_are_marked():
    """Whole answer and GPU say that nothing real was asked."""
    gpu = MockGpuBackend().with_device(0, "Mock GPU 0").collect_metrics()[0]
    document = answer(State("ok", sample(gpu, simulated=True), 0.0))
    assert (document["simulated"], document["gpus"][0]["simulated"]) == (True, True)


def test_mig_devices_are_part_of_their_card():
    """The API speaks of cards; a MIG device is no second GPU."""
    mig = GpuMetrics(device_id=0, uuid="MIG-1", parent_uuid=RTX.uuid, mig_index=0)
    assert len(answer(State("ok", sample(RTX, mig), 0.0))["gpus"]) == 1


def get(exporter, path):
    """Status, type and JSON of a page."""
    with urllib.request.urlopen(f"http://127.0.0.1:{exporter.port}{path}", timeout=20) as page:
        return page.status, page.headers["Content-Type"], json.load(page)


@pytest.fixture
def exporter():
    """A server with one GPU, sampled once."""
    monitor = GpuMonitor(MockGpuBackend().with_device(0, "Mock GPU 0").with_utilization(75), environ={})
    with PrometheusExporter(port=0).register_gpu_metrics(monitor) as server:
        deadline = time.monotonic() + 20
        while server.latest.state().status != "ok":
            assert time.monotonic() < deadline
            time.sleep(0.01)
        yield server


def test_the_url_is_the_documented_one(exporter):
    """GET /api/v1/monitoring/gpu-metrics answers JSON with a UTC time."""
    status, kind, document = get(exporter, URL)
    assert (status, kind) == (200, "application/json")
    assert document["gpus"][0]["utilization"] == 75
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", document["timestamp"])


def test_every_described_page_is_served_as_described(exporter):
    """The OpenAPI document lists the real pages, and what they answer matches its schemas."""
    _, _, described = get(exporter, "/openapi.json")
    assert set(described["paths"]) == {URL, "/healthz"}
    for path, methods in described["paths"].items():
        status, _, document = get(exporter, path)
        content = methods["get"]["responses"][str(status)]["content"]["application/json"]["schema"]
        jsonschema.Draft202012Validator(content | {"components": described["components"]}).validate(document)


def test_the_description_names_the_password():
    """A client generated from it knows that it must log in."""
    assert openapi.document(password=True)["security"] == [{"basic": []}]
    assert "security" not in openapi.document(password=False)


def test_requests_do_not_touch_the_driver(exporter):
    """Answers come from the background sample."""
    before = get(exporter, URL)[2]
    assert get(exporter, URL)[2]["timestamp"] == before["timestamp"]


def test_sampling_outlives_an_unexpected_error(caplog):
    """A failure nobody thought of is logged, and the next interval tries again."""

    class Broken(GpuMonitor):
        calls = 0

        def sample(self):
            self.calls += 1
            if self.calls == 1:
                raise RuntimeError("unheard of")
            return super().sample()

    latest = Latest(60)
    sampler = BackgroundSampler(Broken(MockGpuBackend(), environ={}), 0.01, latest.put)
    sampler.start()
    deadline = time.monotonic() + 20
    while latest.state().status != "ok":
        assert time.monotonic() < deadline
        time.sleep(0.01)
    sampler.stop()
    assert "unheard of" in caplog.text
