"""What sampling and recording cost for eight GPUs; nvidia-ml-py runs above a fake library written in Python.

The fake's own time is in the figures: a real driver's calls are compiled, but wait for the card.
"""

import json
import os
import signal
import statistics
import subprocess  # noqa: TID251 - the recorder is measured as a program.
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.bench.frame import Row
from tests.telemetry import nvml_fake

from gpu_telemetry.backends.nvml import NvmlBackend
from gpu_telemetry.backends.smi import SmiBackend
from gpu_telemetry.errors import BackendUnavailable

SITE = Path(__file__).parents[1] / "telemetry/fake_site"
GPUS = 8
SAMPLES = 200
RATIO_RUNS = 10
RECORD_SECONDS = 10.0
SETTLE_SECONDS = 2.0
HERTZ = os.sysconf("SC_CLK_TCK")


def measure() -> list[Row]:
    """Return the cost of a sample, of a recording at 10 Hz, and on a real GPU the gain over nvidia-smi."""
    state = nvml_fake.driver(*(nvml_fake.card(index) for index in range(GPUS)))
    return [_sample(state), *_record(state), *_ratio()]


def _sample(state: dict[str, Any]) -> Row:
    nvml_fake.install(state)
    backend = NvmlBackend()
    backend.collect()
    taken = []
    for _ in range(SAMPLES):
        before = time.process_time()
        backend.collect()
        taken.append(time.process_time() - before)
    backend.close()
    nvml_fake.uninstall()
    seconds = sorted(taken)[SAMPLES // 2]
    return Row(
        name=f"one sample of {GPUS} GPUs at 1 Hz, CPU",
        value=seconds * 100,
        unit="% of a core",
        limit=1.0,
        runs=SAMPLES,
        note="through the fake NVML",
    )


def _record(state: dict[str, Any]) -> list[Row]:
    with tempfile.TemporaryDirectory() as folder:
        driver = Path(folder) / "driver.json"
        driver.write_text(json.dumps(state))
        recorder = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "gpu_telemetry",
                "record",
                "--out",
                f"{folder}/out",
                "--interval",
                "100ms",
            ],
            env=os.environ | {"FAKE_NVML_STATE": str(driver), "PYTHONPATH": str(SITE)},
            stderr=subprocess.DEVNULL,
        )
        time.sleep(SETTLE_SECONDS)
        before, start = _cpu_seconds(recorder.pid), time.monotonic()
        time.sleep(RECORD_SECONDS)
        share = (_cpu_seconds(recorder.pid) - before) / (time.monotonic() - start)
        peak = _peak_megabytes(recorder.pid)
        recorder.send_signal(signal.SIGTERM)
        recorder.wait(timeout=30)
    name = f"record at 10 Hz, {GPUS} GPUs"
    note = f"over {RECORD_SECONDS:g} s, through the fake NVML"
    return [
        Row(name=f"{name}, CPU", value=share * 100, unit="% of a core", limit=5.0, runs=1, note=note),
        Row(name=f"{name}, peak memory", value=peak, unit="MB", limit=60.0, runs=1, note=note),
    ]


def _ratio() -> list[Row]:
    """One sample by NVML against one call of nvidia-smi, in turns; nothing where there is no GPU."""
    nvml, smi = NvmlBackend(), SmiBackend()
    try:
        nvml.collect()
        taken = [(_seconds(nvml.collect), _seconds(smi.query)) for _ in range(RATIO_RUNS)]
    except BackendUnavailable:
        return []
    finally:
        nvml.close()
    by_nvml, by_smi = (statistics.median(column) for column in zip(*taken, strict=True))
    return [
        Row(
            name="one nvidia-smi call over one sample by NVML",
            value=by_smi / by_nvml,
            unit="times",
            limit=20.0,
            at_least=True,
            runs=RATIO_RUNS,
            note=f"{by_smi * 1e3:.1f} ms over {by_nvml * 1e3:.2f} ms, real GPU, all cards",
        )
    ]


def _seconds(action: Callable[[], object]) -> float:
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / HERTZ


def _peak_megabytes(pid: int) -> float:
    lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("VmHWM"))) * 1024 / 1e6
