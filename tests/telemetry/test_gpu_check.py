"""`make gpu-check` finds what it is to find: run here on a fake driver and a fake nvidia-smi that agree, or do not."""

from __future__ import annotations

import json
import os
import subprocess  # noqa: TID251 - the check is run as a program.
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import SimpleNamespace

ROOT = Path(__file__).parents[2]
CAPTURE = ROOT / "tests/telemetry/captures/a100-mig__550.54.15"


@pytest.fixture
def check(
    fake_driver: SimpleNamespace, fake_smi: Callable[..., Path], tmp_path: Path
) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs the check on one card that both describe; changes are to NVML's side."""
    folder = tmp_path / "one-card"
    folder.mkdir()
    (card,) = [each for each in json.loads((CAPTURE / "gpus.json").read_text()) if each["index"] == "0"]
    (folder / "gpus.json").write_text(json.dumps([card]))
    (folder / "apps.json").write_text("[]")
    (folder / "L.txt").write_text((CAPTURE / "L.txt").read_text().splitlines()[0] + "\n")
    (folder / "q.txt").write_text((CAPTURE / "q.txt").read_text())
    program = fake_smi(str(folder))

    def run(*arguments: str, **changes: Any) -> subprocess.CompletedProcess[str]:
        fake_driver.write(fake_driver.card(0, uuid=card["uuid"], bus=card["pci.bus_id"], **changes))
        return subprocess.run(
            [sys.executable, "-m", "tests.gpu_check", *arguments],
            cwd=ROOT,
            env=fake_driver.environment | {"PATH": f"{program.parent}:{os.environ['PATH']}"},
            capture_output=True,
            text=True,
            check=False,
            timeout=240,
        )

    return run


def test_all_is_well_where_both_agree(check: Callable[..., Any], tmp_path: Path) -> None:
    """Every part passes, the ratio of speeds is printed, and the captures are masked."""
    done = check("--captures", str(tmp_path / "captures"))
    assert done.returncode == 0, done.stdout
    assert "all checks passed" in done.stdout
    assert "times" in done.stdout
    (folder,) = (tmp_path / "captures").iterdir()
    assert folder.name == "nvidia-a100-sxm4-40gb__550.54.15"
    text = "".join(file.read_text() for file in folder.iterdir())
    assert "11111111-2222" not in text
    assert "GPU-00000000-0000-4000-8000-000000000000" in text


def test_a_reading_that_differs_is_named(check: Callable[..., Any]) -> None:
    """A factor of a thousand, or a reading that only one of them has, fails the check."""
    done = check(nvmlDeviceGetPowerUsage=250_500_000, nvmlDeviceGetFanSpeed=40)
    assert done.returncode == 1
    assert "0 power_watts: NVML 250500.0, nvidia-smi 250.5" in done.stdout
    assert "fan_percent: NVML 40 (None), nvidia-smi None (not_supported)" in done.stdout


def test_without_gpu_it_says_so_and_ends_with_3() -> None:
    """Nobody takes a machine without GPU for one on which all is well."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.gpu_check"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 3
    assert "no GPU to check here" in done.stdout
