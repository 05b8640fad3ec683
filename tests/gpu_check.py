"""`make gpu-check`: everything that gpu-telemetry does, on the real GPUs of this machine.

Compares NVML with nvidia-smi reading by reading, measures how many times faster a sample by NVML is, and writes
masked captures of nvidia-smi (`--captures DIR`) in the form of tests/telemetry/captures. Ends with 0 where all is
well, 1 where something is not, 3 where there is no GPU.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import re
import statistics
import subprocess  # noqa: TID251 - the commands are run as programs.
import sys
import tempfile
import time
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gpu_telemetry.backends.nvml import NvmlBackend
from gpu_telemetry.backends.smi import _READINGS, SmiBackend
from gpu_telemetry.errors import BackendUnavailable
from gpu_telemetry.metrics import READINGS
from gpu_telemetry.reader import Recording
from gpu_telemetry.topology import Topology

if TYPE_CHECKING:
    from collections.abc import Callable

    from gpu_telemetry.metrics import GpuMetrics

COMMAND = [sys.executable, "-m", "gpu_telemetry"]
MIB = 1024**2
NO_GPU = 3

# How far two readings some 100 ms apart may differ: absolute, and as a share of the larger. The rest must be equal.
TOLERANCES: dict[str, tuple[float, float]] = {
    "utilization_percent": (100, 0),
    "memory_utilization_percent": (100, 0),
    "encoder_utilization_percent": (100, 0),
    "decoder_utilization_percent": (100, 0),
    "memory_used_bytes": (64 * MIB, 0.05),
    "memory_free_bytes": (64 * MIB, 0.05),
    "memory_total_bytes": (MIB, 0),
    "memory_reserved_bytes": (2 * MIB, 0),
    "temperature_celsius": (4, 0),
    "memory_temperature_celsius": (4, 0),
    "power_watts": (20, 0.3),
    "power_limit_watts": (0.01, 0),
    "graphics_clock_mhz": (300, 0.5),
    "sm_clock_mhz": (300, 0.5),
    "memory_clock_mhz": (300, 0.5),
    "performance_state": (8, 0),
    "fan_percent": (10, 0),
    "throttle_mask": (0xFFFF, 0),
    "pcie_link_generation": (5, 0),
    "pcie_link_width": (16, 0),
}
# What nvidia-smi has no word for, and what changes with the processes.
NOT_COMPARED = frozenset(READINGS) - {name for name, _ in _READINGS.values()}


@dataclass
class Report:
    """What was found, said as it is found."""

    failures: list[str] = field(default_factory=list)

    def say(self, text: str) -> None:
        """A line for the reader."""
        sys.stdout.write(text + "\n")
        sys.stdout.flush()

    def check(self, what: str, work: Callable[[], str]) -> None:
        """One part: its remark, or why it failed; the others go on."""
        try:
            remark = work()
        except Exception as error:  # noqa: BLE001 - whatever goes wrong on strange hardware is a finding.
            self.failures.append(what)
            self.say(f"FAILED  {what}: {type(error).__name__}: {error}")
        else:
            self.say(f"ok      {what}: {remark}")


def call(*arguments: str, codes: tuple[int, ...] = (0,)) -> subprocess.CompletedProcess[str]:
    """The command to its end."""
    done = subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, check=False, timeout=300)
    if done.returncode not in codes:
        raise RuntimeError(
            f"{' '.join(arguments)} ended with {done.returncode}: {done.stderr.strip()[-500:]}"
        )
    return done


def check_list() -> str:
    """The topology, as JSON and by both backends."""
    by_nvml = Topology.from_dict(json.loads(call("list", "--json", "--backend", "nvml").stdout))
    by_smi = Topology.from_dict(json.loads(call("list", "--json", "--backend", "smi").stdout))
    for one, other in zip(by_nvml.slots(), by_smi.slots(), strict=True):
        if (one.name, one.uuid, one.mig_uuid, one.profile) != (
            other.name,
            other.uuid,
            other.mig_uuid,
            other.profile,
        ):
            raise ValueError(f"NVML has {one}, nvidia-smi has {other}")
    cards = ", ".join(str(gpu.name) for gpu in by_nvml.gpus)
    return (
        f"{cards}; driver {by_nvml.driver_version}; slots {', '.join(slot.name for slot in by_nvml.slots())}"
    )


def differences(by_nvml: GpuMetrics, by_smi: GpuMetrics) -> list[str]:
    """The readings in which the two do not agree."""
    found = []
    for name in READINGS:
        if name in NOT_COMPARED:
            continue
        one, other = getattr(by_nvml, name), getattr(by_smi, name)
        if (one is None) != (other is None):
            found.append(
                f"{name}: NVML {one} ({by_nvml.missing.get(name)}), nvidia-smi {other} ({by_smi.missing.get(name)})"
            )
            continue
        absolute, relative = TOLERANCES.get(name, (0, 0))
        if one is not None and abs(one - other) > max(absolute, relative * max(one, other)):
            found.append(f"{name}: NVML {one}, nvidia-smi {other}")
    return found


def check_readings() -> str:
    """NVML and nvidia-smi side by side."""
    nvml = NvmlBackend()
    nvml.collect()
    time.sleep(0.2)
    by_nvml = {each.uuid: each for each in nvml.collect()}
    by_smi = {each.uuid: each for each in SmiBackend().collect()}
    nvml.close()
    if set(by_nvml) != set(by_smi):
        raise ValueError(f"NVML sees {sorted(by_nvml)}, nvidia-smi sees {sorted(by_smi)}")
    cards = [uuid for uuid, each in by_nvml.items() if each.parent_uuid is None]
    found = [
        f"{by_nvml[uuid].slot} {text}" for uuid in cards for text in differences(by_nvml[uuid], by_smi[uuid])
    ]
    if found:
        raise ValueError("; ".join(found))
    read = sum(getattr(by_nvml[uuid], name) is not None for uuid in cards for name in READINGS)
    missing = {uuid: dict(by_nvml[uuid].missing) for uuid in cards}
    return f"{read} readings of {len(cards)} cards agree; missing: {next(iter(missing.values()))}"


def check_mig() -> str:
    """Activity of MIG instances through GPM."""
    nvml = NvmlBackend()
    nvml.collect()
    time.sleep(0.5)
    migs = [each for each in nvml.collect() if each.mig_index is not None]
    nvml.close()
    said = [
        f"{each.slot} {each.utilization_percent} ({each.missing.get('utilization_percent', 'read')})"
        for each in migs
    ]
    return "; ".join(said) or "no GPU is in MIG mode"


def check_record(folder: Path) -> str:
    """Ten samples, read back."""
    call("record", "--out", str(folder / "record"), "--interval", "100ms", "--duration", "1s")
    (file,) = (folder / "record").iterdir()
    rows = Recording(file).rows
    if not rows or any(row["status"] != "ok" for row in rows):
        raise ValueError(f"{len(rows)} lines, not all ok")
    return call("summary", str(file)).stdout.splitlines()[1]


def check_export() -> str:
    """The server's pages."""
    server = subprocess.Popen(
        [*COMMAND, "export", "--port", "0", "--interval", "1s"], stderr=subprocess.PIPE, text=True
    )
    try:
        assert server.stderr is not None
        line = server.stderr.readline()
        port = re.findall(r"port (\d+)", line)
        if not port:
            raise ValueError(f"it said {line!r}")
        root = f"http://127.0.0.1:{port[0]}"
        deadline = time.monotonic() + 30
        while (answer := json.loads(get(f"{root}/api/v1/monitoring/gpu-metrics")))["status"] != "ok":
            if time.monotonic() > deadline:
                raise ValueError(f"status {answer['status']}")
            time.sleep(0.1)
        families = set(re.findall(r"(?m)^(DCGM_FI_\w+)\{", get(f"{root}/metrics")))
        if "DCGM_FI_DEV_GPU_TEMP" not in families:
            raise ValueError("no DCGM_FI_DEV_GPU_TEMP")
        return f"{len(answer['gpus'])} GPUs in the API, {len(families)} families"
    finally:
        server.terminate()
        server.wait(timeout=30)


def get(url: str) -> str:
    """A page."""
    with urllib.request.urlopen(url, timeout=10) as answer:
        text: str = answer.read().decode()
    return text


def check_run(folder: Path) -> str:
    """A command with its exit code; on the GPU where PyTorch is there."""
    script = "import sys; sys.exit(7)"
    if importlib.util.find_spec("torch"):
        script = (
            "import sys, time, torch; x = torch.zeros(2**28, device='cuda'); torch.cuda.synchronize(); time.sleep(2)\n"
            "try: torch.empty(2**46, device='cuda')\n"
            "except RuntimeError as error: print(error, file=sys.stderr)\n"
            "sys.exit(7)"
        )
    call(
        "run",
        "--out",
        str(folder / "run"),
        "--interval",
        "100ms",
        "--",
        sys.executable,
        "-c",
        script,
        codes=(7,),
    )
    (file,) = (folder / "run").glob("*.json")
    note = json.loads(file.read_text())
    if "torch" in script and note["cuda_out_of_memory"] is None:
        raise ValueError("out of memory was not recognised")
    peak = note["peak_memory_bytes"]
    if "torch" in script and (peak is None or peak < 2**30):
        raise ValueError(f"peak memory is {peak}, though 1 GiB was allocated; processes: {note['processes']}")
    return f"exit code {note['exit_code']}, peak {peak}, out of memory {note['cuda_out_of_memory']!r}"


def check_stress() -> str:
    """Five seconds of load, or the documented refusal."""
    done = call("stress", "--gpu", "0", "--duration", "5", "--load", "50", "--force", codes=(0, NO_GPU))
    return "ran 5 s" if done.returncode == 0 else done.stderr.strip().splitlines()[0]


def check_speed() -> str:
    """One sample by NVML against one nvidia-smi call, in turns."""
    nvml, smi = NvmlBackend(), SmiBackend()
    nvml.collect()
    by_nvml, by_smi = [], []
    for _ in range(10):
        for backend, taken in ((nvml, by_nvml), (smi, by_smi)):
            start = time.perf_counter()
            if backend is nvml:
                backend.collect()
            else:
                smi.query()
            taken.append(time.perf_counter() - start)
    nvml.close()
    one, other = statistics.median(by_nvml), statistics.median(by_smi)
    return f"NVML {one * 1e3:.2f} ms, nvidia-smi {other * 1e3:.1f} ms, {other / one:.0f} times"


class Masks:
    """UUIDs and serial numbers as invented ones, the same for the same."""

    def __init__(self) -> None:
        self._known: dict[str, str] = {}

    def mask(self, text: str) -> str:
        """The text without what identifies a card or a person's paths."""
        text = re.sub(r"\b(GPU|MIG)-[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", self._uuid, text)
        text = re.sub(
            r"(?m)^(\s+(?:Serial Number|GPU PDI|Name|Host ID|ClusterUUID)\s+: ).*$", r"\1masked", text
        )
        return re.sub(r"/(?:\S+/)+", "/masked/", text)

    def _uuid(self, match: re.Match[str]) -> str:
        number = len(self._known)
        return self._known.setdefault(match[0], f"{match[1]}-00000000-0000-4000-8000-{number:012d}")


def capture(folder: Path) -> str:
    """What nvidia-smi prints here, masked, as a fixture."""
    smi, masks = SmiBackend(), Masks()
    cards = smi.query()
    name = re.sub(r"[^a-z0-9]+", "-", cards[0]["name"].lower()).strip("-")
    target = folder / f"{name}__{smi.driver_version}"
    target.mkdir(parents=True, exist_ok=True)
    apps = smi.ask(
        "--query-compute-apps=gpu_uuid,pid,used_gpu_memory,process_name", "--format=csv,noheader,nounits"
    )
    keys = ("gpu_uuid", "pid", "used_gpu_memory", "process_name")
    rows: list[dict[str, Any]] = [
        dict(zip(keys, line.split(", ", 3), strict=False))
        for line in apps.output.splitlines()
        if line.startswith("GPU-")
    ]
    (target / "gpus.json").write_text(masks.mask(json.dumps(cards, indent=1)) + "\n")
    (target / "apps.json").write_text(masks.mask(json.dumps(rows, indent=1)) + "\n")
    (target / "L.txt").write_text(masks.mask(smi.ask("-L").output))
    (target / "q.txt").write_text(masks.mask(smi.ask("-q").output))
    return str(target)


def main() -> int:
    """Check everything; see the module."""
    parser = argparse.ArgumentParser(prog="make gpu-check", description=__doc__)
    parser.add_argument(
        "--captures", type=Path, metavar="DIR", help="write masked captures of nvidia-smi here"
    )
    options = parser.parse_args()
    os.environ.pop("CUDA_VISIBLE_DEVICES", None)
    report = Report()
    try:
        NvmlBackend().collect()
    except BackendUnavailable as error:
        report.say(f"no GPU to check here: {error.problem}\n  hint: {error.hint}")
        return NO_GPU
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        report.check("list", check_list)
        report.check("NVML against nvidia-smi", check_readings)
        report.check("MIG utilisation", check_mig)
        report.check("record and summary", lambda: check_record(folder))
        report.check("export and API", check_export)
        report.check("run", lambda: check_run(folder))
        report.check("stress", check_stress)
        report.check("speed", check_speed)
        if options.captures:
            report.check("captures", lambda: capture(options.captures))
    report.say(f"{len(report.failures)} of the checks failed" if report.failures else "all checks passed")
    return 1 if report.failures else 0


if __name__ == "__main__":
    sys.exit(main())
