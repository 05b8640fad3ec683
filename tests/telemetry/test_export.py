"""Prometheus metrics over HTTP: DCGM's names, plain names, and nothing stale."""

import base64
import os
import signal
import socket
import subprocess  # noqa: TID251 - the doors are for the programs, not for their tests.
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from gpu_telemetry import GpuMetrics, GpuMonitor, MockGpuBackend, PrometheusExporter
from gpu_telemetry.errors import BackendUnavailable, TelemetryError
from gpu_telemetry.exporter import Pages
from gpu_telemetry.exposition import Family, labels, render
from gpu_telemetry.latest import Latest
from gpu_telemetry.metrics import Sample

PROGRAM = str(Path(sys.executable).with_name("gpu-telemetry"))
GOLDEN = Path(__file__).parent / "golden"
SECONDS = 20
GIB = 1024**3

WHOLE = GpuMetrics(
    device_id=0,
    uuid="GPU-473571f2-fb37-ef7e-50fe-9885b74a23cd",
    name="NVIDIA A100-SXM4-40GB",
    pci_bus_id="00000000:07:00.0",
    mig_enabled=False,
    utilization_percent=87.0,
    memory_utilization_percent=40.0,
    memory_used_bytes=10 * GIB,
    memory_total_bytes=40 * GIB,
    memory_free_bytes=29 * GIB,
    memory_reserved_bytes=GIB,
    temperature_celsius=61,
    power_watts=251.5,
    power_limit_watts=400.0,
    energy_joules=6890.956,
    sm_clock_mhz=1410,
    memory_clock_mhz=1215,
    throttle_mask=4,
    pcie_replay_total=2,
    ecc_corrected_total=1,
    ecc_uncorrected_total=0,
    remapped_rows_pending=False,
    xid=0,
)
SLICED = GpuMetrics(
    device_id=1,
    uuid="GPU-5c4d2f0e-0ddb-1882-ccba-3e5f36943994",
    name="NVIDIA H100 80GB HBM3",
    mig_enabled=True,
    memory_used_bytes=5 * GIB,
    memory_total_bytes=80 * GIB,
    memory_free_bytes=75 * GIB,
    temperature_celsius=48,
    power_watts=180.0,
)


def instance(index, gpu_instance, compute_instance=0, **readings):
    """A MIG device of the sliced card."""
    return GpuMetrics(
        device_id=1,
        uuid=f"MIG-{index}",
        name="NVIDIA H100 80GB HBM3",
        parent_uuid=SLICED.uuid,
        mig_index=index,
        gpu_instance_id=gpu_instance,
        compute_instance_id=compute_instance,
        mig_profile="3g.40gb",
        memory_used_bytes=(index + 1) * GIB,
        memory_total_bytes=40 * GIB,
        **readings,
    )


INSTANCES = (
    instance(0, 2, utilization_percent=40.8, sm_active_percent=30.0, tensor_active_percent=12.5),
    instance(1, 9, 0),
    instance(2, 9, 1),
)


def sample(*gpus, error=None, simulated=False):
    """A sample of now."""
    return Sample(
        timestamp=time.time(),
        monotonic=time.monotonic(),
        gpus=gpus,
        driver_version="550.54.15",
        simulated=simulated,
        error=error,
    )


def page(*gpus, prefix=None, **more):
    """The metrics page of a sample with these devices."""
    latest = Latest(60)
    latest.put(sample(*gpus, **more))
    return Pages(latest, prefix=prefix).metrics().decode()


def series(text):
    """Every series of a page: (name, labels, value)."""
    return [
        (each.name, frozenset(each.labels.items()), each.value)
        for family in text_string_to_metric_families(text)
        for each in family.samples
    ]


def values(text, name):
    """The values of one metric by (UUID, GPU_I_ID)."""
    found = [(dict(given), value) for each, given, value in series(text) if each == name]
    return {(given["UUID"], given.get("GPU_I_ID")): value for given, value in found}


def get(url, password=None):
    """Status, headers and body of a page."""
    request = urllib.request.Request(url)
    if password:
        request.add_header("Authorization", "Basic " + base64.b64encode(f"ds01:{password}".encode()).decode())
    try:
        with urllib.request.urlopen(request, timeout=SECONDS) as answer:
            return answer.status, answer.headers, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers, error.read().decode()


def wait_for(condition):
    """What `condition` returns, once that is true."""
    deadline = time.monotonic() + SECONDS
    while not (found := condition()):
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.01)
    return found


def test_the_page_looks_like_dcgm_exporter(update_golden, monkeypatch):
    """Names, labels, units and types are those of dcgm-exporter; unreadable values are absent."""
    monkeypatch.setattr(socket, "gethostname", lambda: "gpu01")
    lines = page(WHOLE, SLICED, *INSTANCES).splitlines(keepends=True)
    text = "".join(line for line in lines if "DCGM_FI" in line)
    golden = GOLDEN / "dcgm_names.prom"
    if update_golden:
        golden.write_text(text)
    assert text == golden.read_text()


def test_instances_own_their_memory_and_the_card_its_board():
    """The memory of a sliced card is counted once, and UUID is always the card's."""
    text = page(WHOLE, SLICED, *INSTANCES)
    assert values(text, "DCGM_FI_DEV_FB_USED") == {
        (WHOLE.uuid, None): 10 * 1024,
        (SLICED.uuid, "2"): 1024,
        (SLICED.uuid, "9"): 2048,
    }
    assert values(text, "DCGM_FI_DEV_GPU_TEMP") == {(WHOLE.uuid, None): 61, (SLICED.uuid, None): 48}
    assert values(text, "DCGM_FI_PROF_GR_ENGINE_ACTIVE") == {(SLICED.uuid, "2"): pytest.approx(0.408)}
    assert values(text, "DCGM_FI_DEV_GPU_UTIL") == {(WHOLE.uuid, None): 87}


def test_a_card_in_mig_mode_without_instances_keeps_its_rows():
    """Nothing owns its memory, so the card shows it, as dcgm-exporter does."""
    assert values(page(SLICED), "DCGM_FI_DEV_FB_USED") == {(SLICED.uuid, None): 5 * 1024}


def test_compute_instances_of_one_gpu_instance_are_one_series():
    """DCGM's labels do not tell them apart, and Prometheus refuses a series that comes twice."""
    every = [(name, given) for name, given, _ in series(page(WHOLE, SLICED, *INSTANCES))]
    assert len(every) == len(set(every))


def test_a_device_of_which_nothing_is_known_has_no_series():
    """Unknown is absent, never 0."""
    assert "DCGM_FI" not in page(GpuMetrics(device_id=0, uuid="GPU-0"))


def test_plain_names_have_the_prefix():
    """The names of 001, with the index as the only label."""
    text = page(WHOLE, *INSTANCES, prefix="entrenar")
    for line in (
        'entrenar_gpu_temperature_celsius{device="0"} 61.0',
        'entrenar_gpu_utilization_percent{device="0"} 87.0',
        f'entrenar_gpu_memory_used_bytes{{device="0"}} {10.0 * GIB!r}',
        'entrenar_gpu_power_watts{device="0"} 251.5',
        'entrenar_gpu_utilization_percent{device="1.0"} 40.8',
        "entrenar_up 1.0",
    ):
        assert line in text.splitlines()
    assert "DCGM" not in text


@pytest.mark.parametrize("prefix", ["", "9lives", "a-b", "a:b", "ä"])
def test_a_prefix_that_no_metric_can_have_is_refused(prefix):
    """A page that Prometheus would not read is not served."""
    with pytest.raises(ValueError, match="cannot begin the name of a metric"):
        PrometheusExporter(prefix=prefix)


def test_an_old_sample_is_not_served_as_fresh():
    """Readings disappear when nothing new comes, and the page says how old the last ones are."""
    now = time.monotonic()
    latest = Latest(60, clock=lambda: now)
    latest.put(sample(WHOLE))
    pages = Pages(latest)
    assert "DCGM_FI_DEV_GPU_TEMP" in pages.metrics().decode()
    now += 61
    text = pages.metrics().decode()
    assert "DCGM_FI" not in text
    assert 'ds01_collector_success{collector="gpu_telemetry"} 0.0' in text
    ages = [value for name, _, value in series(text) if name == "ds01_gpu_telemetry_sample_age_seconds"]
    assert ages == [pytest.approx(61, abs=1)]


def test_a_lost_driver_takes_the_readings_away_and_keeps_the_last_success():
    """The endpoint stays up; the alert on ds01_collector_success tells."""
    latest = Latest(60)
    good = sample(WHOLE)
    latest.put(good)
    latest.put(sample(error=BackendUnavailable("gone", reason="lost")))
    text = Pages(latest).metrics().decode()
    assert "DCGM_FI" not in text
    success = [
        value for name, _, value in series(text) if name == "ds01_collector_last_success_timestamp_seconds"
    ]
    assert success == [pytest.approx(good.timestamp)]


def test_simulated_readings_say_so():
    """Made-up data is marked in every outlet."""
    assert "ds01_gpu_telemetry_simulated 1.0" in page(WHOLE, simulated=True)
    assert "ds01_gpu_telemetry_simulated 0.0" in page(WHOLE)
    assert "x_simulated 1.0" in page(WHOLE, prefix="x", simulated=True)


@given(
    st.dictionaries(st.sampled_from(["name", "driver", "host"]), st.text(max_size=20)),
    st.floats(allow_nan=False),
)
def test_no_name_can_break_the_format(pairs, value):
    """Whatever a card or host is called, prometheus_client's own parser reads it back."""
    text = render([Family("x", "gauge", "Help \\ with\nlines.", [(labels(pairs), value)])]).decode()
    assert series(text) == [("x", frozenset((key, text) for key, text in pairs.items() if text), value)]


def test_it_serves_the_documented_pages():
    """`PrometheusExporter(prefix=…, port=…).register_gpu_metrics(monitor)` is a running server."""
    monitor = GpuMonitor(MockGpuBackend().with_device(0, "Mock GPU 0").with_temperature(75), environ={})
    with PrometheusExporter(prefix="train", port=0).register_gpu_metrics(monitor) as exporter:
        root = f"http://127.0.0.1:{exporter.port}"
        wait_for(lambda: get(root + "/healthz")[0] == 200)
        status, headers, body = get(root + "/metrics")
        assert (status, headers["Content-Type"]) == (200, "text/plain; version=0.0.4; charset=utf-8")
        assert 'train_gpu_temperature_celsius{device="0"} 75.0' in body
        assert body.splitlines()[0] in exporter.render()
        assert "/api/v1/monitoring/gpu-metrics" in get(root + "/")[2]
    with pytest.raises(urllib.error.URLError):
        get(root + "/metrics")


def test_it_can_be_started_again():
    """A program may stop and start serving."""
    exporter = PrometheusExporter(port=0)
    for _ in range(2):
        with exporter:
            assert get(f"http://127.0.0.1:{exporter.port}/healthz")[0] == 503


def test_a_taken_port_is_an_error_for_a_person():
    """It names the address and says what to do."""
    with PrometheusExporter(port=0) as first:
        with pytest.raises(TelemetryError, match="cannot listen on") as refused:
            PrometheusExporter(port=first.port).start()
        assert "--port" in refused.value.hint


def test_every_page_asks_for_the_password(tmp_path):
    """On a shared host loopback is not private."""
    secret = tmp_path / "password"
    secret.write_text("s3cret\n")
    with PrometheusExporter(port=0, password_file=secret) as exporter:
        for path in (
            "/",
            "/metrics",
            "/healthz",
            "/openapi.json",
            "/api/v1/monitoring/gpu-metrics",
            "/nothing",
        ):
            assert get(f"http://127.0.0.1:{exporter.port}{path}")[0] == 401
        assert get(f"http://127.0.0.1:{exporter.port}/metrics", "s3cret")[0] == 200


class Command:
    """A running `gpu-telemetry export`, without a driver."""

    def __init__(self, *options):
        self.process = subprocess.Popen(
            [PROGRAM, "export", "--port", "0", *options],
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"PATH": "/nonexistent"},
        )

    @property
    def root(self):
        """Its address, without a slash at the end."""
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self):
        line = self.process.stderr.readline()
        self.port = int(line.split()[-1]) if "serving" in line else pytest.fail(line)
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        self.process.stderr.close()


def test_the_command_serves_until_it_is_told_to_stop():
    """Without a driver it is up and says so; SIGTERM ends it with 0; a client that goes away does not."""
    with Command("--backend", "nvml", "--interval", "1s", "--prefix", "lab") as command:
        status, _, body = wait_for(
            lambda: (found := get(command.root + "/healthz")) and "starting" not in found[2] and found
        )
        assert (status, "nvml_unavailable" in body) == (503, True)
        assert "lab_up 0.0" in get(command.root + "/metrics")[2]
        for _ in range(5):
            with socket.create_connection(("127.0.0.1", command.port)) as rude:
                rude.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                rude.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n" * 20)
        assert get(command.root + "/metrics")[0] == 200
        command.process.send_signal(signal.SIGTERM)
        assert command.process.wait(SECONDS) == 0


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--prefix", "9"], "cannot begin the name of a metric"),
        (["--password-file", "/nonexistent"], "the password cannot be read"),
        (["--interval", "0s"], "interval"),
    ],
)
def test_wrong_options_end_it_with_2(options, complaint):
    """A mistake is reported before anything is served."""
    done = subprocess.run(
        [PROGRAM, "export", "--port", "0", *options],
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode == 2
    assert complaint in done.stderr
    assert "Traceback" not in done.stderr
