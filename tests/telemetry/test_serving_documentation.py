"""Every command, page, metric and call that docs/telemetry.md names for serving, recording on demand and alerts works."""

import json
import re
import shlex
import sys
import urllib.request
from pathlib import Path

import pytest

from gpu_telemetry import AndonSystem, GpuMonitor, MockGpuBackend, PrometheusExporter, cli, openapi
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
    """The table below would be empty without them."""
    assert len(COMMANDS) >= 10
    assert all(f"## {name}" in SECTIONS for name in OURS)


@pytest.mark.parametrize("line", COMMANDS)
def test_every_command_is_understood(line):
    """The command line knows each command and option; what they do is tested where they live."""
    program, *arguments = shlex.split(line)
    assert program == "gpu-telemetry"
    assert cli._parser(arguments).parse_args(arguments).command == arguments[0]


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
