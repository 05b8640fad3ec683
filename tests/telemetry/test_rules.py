"""The recording rules understand what `gpu-telemetry export` serves, so that alerts and dashboards work without DCGM."""

import subprocess  # noqa: TID251 - the doors are for the programs, not for their tests.
from pathlib import Path

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from ds01_monitoring.config.load import parse_settings
from ds01_monitoring.runtime import packages
from ds01_monitoring.templates import Templates

ROOT = Path(__file__).parents[2]
GOLDEN = (Path(__file__).parent / "golden/dcgm_names.prom").read_text()
GIB = 1024**3

WHOLE = 'gpu="0",host="gpu01",UUID="GPU-473571f2-fb37-ef7e-50fe-9885b74a23cd"'
SLICED = 'gpu="1",host="gpu01",UUID="GPU-5c4d2f0e-0ddb-1882-ccba-3e5f36943994"'
PROFILE = 'GPU_I_PROFILE="3g.40gb"'

EXPECTED = {
    "ds01:gpu_utilization:ratio": {WHOLE: 0.87, f'{SLICED},GPU_I_ID="2",{PROFILE}': 0.408},
    "ds01:gpu_memory_used:bytes": {
        WHOLE: 10 * GIB,
        f'{SLICED},GPU_I_ID="2",{PROFILE}': GIB,
        f'{SLICED},GPU_I_ID="9",{PROFILE}': 2 * GIB,
    },
    "ds01:gpu_memory_total:bytes": {WHOLE: 39 * GIB},
    "ds01:gpu_tensor_active:ratio": {f'{SLICED},GPU_I_ID="2",{PROFILE}': 0.125},
    "ds01:gpu_temperature:celsius": {WHOLE: 61, SLICED: 48},
    "ds01:gpu_power:watts": {WHOLE: 251.5, SLICED: 180},
    "ds01:gpu_power_limit:watts": {WHOLE: 400},
    "ds01:gpu_energy:joules": {WHOLE: 6890.956},
    "ds01:gpu_sm_clock:hertz": {WHOLE: 1.41e9},
    'ds01:gpu_throttled:bool{reason="power_cap"}': {f'{WHOLE},reason="power_cap"': 1},
    "ds01:gpu_ecc_correctable:count": {WHOLE: 1},
    "ds01:gpus:count": {'host="gpu01"': 2},
}


@pytest.fixture(scope="module", params=["bookworm", "sid"])
def promtool(request):
    """The oldest promtool that is supported, and a new one."""
    return packages.fetch(request.param, ROOT / ".tools") / "usr/bin/promtool"


def scraped():
    """The exported series as Prometheus stores them: with `host`, without what is dropped at scrape time."""
    dropped = {"Hostname", "DCGM_FI_DRIVER_VERSION", "pci_bus_id"}
    for family in text_string_to_metric_families(GOLDEN):
        for each in family.samples:
            kept = {name: value for name, value in each.labels.items() if name not in dropped} | {
                "host": "gpu01"
            }
            written = ",".join(f'{name}="{value}"' for name, value in kept.items())
            # prometheus_client gives every counter OpenMetrics' ending; DCGM's have none.
            name = each.name.removesuffix("_total")
            yield {"series": f"{name}{{{written}}}", "values": f"{each.value!r}x8"}


def expectations():
    """What the recorded series are to be."""
    for query, values in EXPECTED.items():
        name = query.partition("{")[0]
        samples = [{"labels": f"{name}{{{labels}}}", "value": value} for labels, value in values.items()]
        yield {"expr": query, "eval_time": "1m", "exp_samples": samples}


def test_the_rules_understand_the_exported_series(promtool, tmp_path):
    """Whole GPUs and MIG instances, each once, in base units."""
    settings = parse_settings("site: {host: gpu01}\n")
    template = "prometheus/rules/normalise.yml.j2"
    values = {**settings.variables(), "jobs": ["gpu-telemetry"], "inventory": [], "demo": False}
    (tmp_path / "normalise.yml").write_text(Templates(ROOT).render(template, values))
    case = {
        "rule_files": ["normalise.yml"],
        "evaluation_interval": "15s",
        "tests": [
            {"interval": "15s", "input_series": list(scraped()), "promql_expr_test": list(expectations())}
        ],
    }
    (tmp_path / "case.yml").write_text(yaml.safe_dump(case))
    done = subprocess.run(
        [str(promtool), "test", "rules", "case.yml"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
