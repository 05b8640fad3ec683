"""Every command, page, metric and call that docs/telemetry.md names for serving, recording on demand and alerts works."""

import json
import os
import re
import shlex
import signal
import subprocess  # noqa: TID251 - the commands are run as programs.
import sys
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import pytest

from gpu_telemetry import AndonSystem, GpuMonitor, MockGpuBackend, PrometheusExporter, openapi
from gpu_telemetry.alerts import GpuIdle, MemoryPressure, PowerLimit, ThermalThrottling
from gpu_telemetry.callbacks import GpuMonitorCallback

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs/telemetry.md").read_text()
OURS = ("Serve readings", "Record what matters", "Alerts in a program", "Watch a training", "See it move")
SECTIONS = "".join(
    part for part in re.split(r"(?m)^(?=## )", TEXT) if part.startswith(tuple(f"## {name}" for name in OURS))
)


def blocks(language):
    """The code blocks of our sections in that language."""
    return re.findall(rf"(?ms)^```{language}\n(.*?)^```", SECTIONS)


COMMANDS = [line for block in blocks("sh") for line in block.splitlines()]


def test_our_sections_are_there():
    """The tests below would be empty without them, and no command is left out of them."""
    assert {line.split()[1] for line in COMMANDS} == {"export", "agent", "hook", "stress"}
    assert all(f"## {name}" in SECTIONS for name in OURS)


@pytest.fixture
def machine(fake_driver, tmp_path):
    """A whole GPU, one in MIG mode, and a PyTorch; starts a documented line with its folders below a folder of its own."""
    slices = [fake_driver.mig(1, index, 7 + index, "1g.5gb", 1, 4864) for index in range(2)]
    fake_driver.write(
        fake_driver.card(0, compute=[]),
        fake_driver.card(1, mig_mode=1, migs=slices, compute=[], utilization=-3),
    )
    site = tmp_path / "site"
    site.mkdir()
    (site / "torch.py").write_text(TORCH)
    secret = tmp_path / "var/lib/ds01-monitoring/secrets/http_password"
    secret.parent.mkdir(parents=True)
    secret.write_text("secret\n")
    environment = fake_driver.environment | {
        "GPU_TELEMETRY_STATE": str(tmp_path / "state"),
        "PYTHONPATH": f"{fake_driver.environment['PYTHONPATH']}{os.pathsep}{site}",
    }

    @contextmanager
    def start(line):
        line = line.replace("/var/", f"{tmp_path}/var/").replace("--port 9118", "")
        program, *arguments = shlex.split(line)
        assert program == "gpu-telemetry"
        if arguments[0] in {"export", "agent"}:
            arguments += ["--port", "0"]
        command = [sys.executable, "-m", "gpu_telemetry", *arguments]
        process = subprocess.Popen(
            command, env=environment, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        try:
            yield process
        finally:
            process.kill()
            process.communicate()

    return start


TORCH = """
import time
from types import SimpleNamespace
__version__, uint8 = "2.0", "uint8"
class Matrix:
    def __matmul__(self, other):
        return self
def rand(shape, device):
    return Matrix()
def empty(size, dtype, device):
    return b""
cuda = SimpleNamespace(is_available=lambda: True, synchronize=lambda: time.sleep(0.001), mem_get_info=lambda: (8, 10))
"""


@pytest.mark.parametrize(
    "line", [line for line in COMMANDS if line.split()[1] in {"export", "agent", "stress"}]
)
def test_every_lasting_command_runs_until_it_is_told(machine, line):
    """It says that it has begun, and SIGTERM ends it with 0."""
    with machine(line) as process:
        begun = process.stderr.readline()
        assert re.search("serving on .* port|keeps GPU .* busy", begun), begun + process.stderr.read()
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0


@pytest.mark.parametrize("line", [line for line in COMMANDS if line.split()[1] == "hook"])
def test_every_hook_works(machine, line):
    """It ends with 0, whatever is allocated."""
    with machine(line) as process:
        _, complaint = process.communicate(timeout=60)
        assert (process.returncode, complaint) == (0, "")


@pytest.mark.parametrize("code", blocks("python"))
def test_every_example_runs(code, nvml, capsys):
    """The examples run as they stand, on a machine with a GPU."""
    nvml.install(nvml.driver(nvml.card(0)))
    exec(compile(code, "docs/telemetry.md", "exec"), {})
    printed = capsys.readouterr().out
    for promised in re.findall(r"(?m)\)  # (.*)$", code):
        if code.count("print(") == 1:
            assert printed.strip() == promised


def test_every_page_is_served():
    """The table of pages is the server's."""
    pages = re.findall(r"(?m)^\| `(/[^`]*)` \|", SECTIONS)
    assert len(pages) == 4
    with PrometheusExporter(port=0) as exporter:
        exporter.latest.put(GpuMonitor(MockGpuBackend().with_device(0, "Mock GPU 0"), environ={}).sample())
        for page in pages:
            with urllib.request.urlopen(f"http://127.0.0.1:{exporter.port}{page}", timeout=20) as answer:
                assert answer.status == 200


@pytest.mark.parametrize("prefix", [None, "NAME"])
def test_every_metric_is_exported(prefix, nvml):
    """The metrics named in the text are on the page of a machine with a GPU."""
    nvml.install(nvml.driver(nvml.card(0)))
    exporter = PrometheusExporter(prefix=prefix, port=0)
    exporter.latest.put(GpuMonitor("nvml", environ={}).sample())
    pattern = r"`(NAME_\w+)" if prefix else r"`(ds01_\w+)"
    named = set(re.findall(pattern, SECTIONS))
    assert len(named) >= 5
    page = exporter.render()
    assert [name for name in named if f"\n{name}" not in f"\n{page}"] == []


def test_the_answer_is_the_described_one():
    """The JSON in the text is the example of the OpenAPI document, which a test compares with a real answer."""
    (example,) = blocks("json")
    assert json.loads(example) == openapi.EXAMPLE


def test_the_table_of_alerts_names_all_kinds():
    """Each kind stands in the table, and only those."""
    named = re.findall(r"(?m)^\| `([A-Z]\w+)` \|", SECTIONS)
    assert named == [kind.kind for kind in (ThermalThrottling, MemoryPressure, PowerLimit, GpuIdle)]


def test_every_method_that_is_named_is_there():
    """The bullets name real methods, of the callback or of Andon."""
    named = set(
        re.findall(
            r"`(?:callback\.|andon\.)?(with_\w+|on_\w+|lightning|transformers|keras|active)\b", SECTIONS
        )
    )
    assert len(named) >= 7
    assert [
        name for name in named if not (hasattr(GpuMonitorCallback, name) or hasattr(AndonSystem, name))
    ] == []


def test_the_settings_are_those_that_ship():
    """Every variable that is named is in /etc/default/gpu-telemetry, and the other way round."""
    shipped = re.findall(
        r"(?m)^(GPU_TELEMETRY_\w+)=", (ROOT / "config/deploy/default/gpu-telemetry").read_text()
    )
    assert set(re.findall(r"GPU_TELEMETRY_\w+", SECTIONS)) == set(shipped)
    assert "torch" not in sys.modules
