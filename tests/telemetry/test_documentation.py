"""docs/telemetry.md: every command, column, reason, field and example of the core's sections is run or compared."""

from __future__ import annotations

import re
import shlex
import signal
import subprocess  # noqa: TID251 - the commands are run as programs.
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from gpu_telemetry import nvml as door
from gpu_telemetry.backends import NAMES
from gpu_telemetry.cli import COMMANDS
from gpu_telemetry.metrics import READINGS
from gpu_telemetry.reader import Recording
from gpu_telemetry.rows import COLUMNS

if TYPE_CHECKING:
    from types import SimpleNamespace

TEXT = (Path(__file__).parents[2] / "docs/telemetry.md").read_text()
CORE = TEXT[: TEXT.index("## Serve readings")]
LINES = [line for block in re.findall(r"(?ms)^```sh\n(.*?)^```", CORE) for line in block.splitlines()]
EXAMPLES = re.findall(r"(?ms)^```python\n(.*?)^```", CORE)
ENDLESS = [
    line
    for line in LINES
    if re.search(r" (watch|record) ", line) and not re.search("--once|--duration", line)
]


def argv(line: str) -> list[str]:
    """A documented line as a program's arguments."""
    program, *arguments = shlex.split(line)
    assert program == "gpu-telemetry"
    return [sys.executable, "-m", "gpu_telemetry", *arguments]


@pytest.fixture
def machine(fake_driver: SimpleNamespace, tmp_path: Path) -> SimpleNamespace:
    """A machine with a GPU, and the recordings that the documented lines speak of."""
    fake_driver.write(fake_driver.card(0))
    fake_driver.folder = tmp_path / "work"
    fake_driver.folder.mkdir()
    command = "gpu-telemetry record --out recordings --duration 100ms --interval 20ms"
    run(fake_driver, command)
    (file,) = (fake_driver.folder / "recordings").iterdir()
    file.rename(file.with_name("gpu-telemetry_20261110T090044Z_0badcafe_0001.csv"))
    run(fake_driver, "gpu-telemetry run --out runs --job chunk-30 -- true")
    return fake_driver


def run(machine: SimpleNamespace, line: str) -> subprocess.CompletedProcess[str]:
    """A line to its end."""
    return subprocess.run(
        argv(line),
        env=machine.environment,
        cwd=machine.folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


@pytest.mark.parametrize("line", [line for line in LINES if line not in ENDLESS])
def test_every_command_works(machine: SimpleNamespace, line: str) -> None:
    """It ends with 0 on a machine with a GPU."""
    done = run(machine, line)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("line", ENDLESS)
def test_every_endless_command_runs_until_it_is_told(machine: SimpleNamespace, line: str) -> None:
    """It shows or writes something, and SIGTERM ends it with 0."""
    before = set((machine.folder / "recordings").iterdir())
    output = machine.folder / "output"
    with output.open("wb") as file:
        process = subprocess.Popen(argv(line), env=machine.environment, cwd=machine.folder, stdout=file)

    def shown() -> bool:
        fresh = set((machine.folder / "recordings").iterdir()) - before
        written = any(path.suffix != ".gz" and Recording(path).rows for path in fresh)
        return written or "A100" in output.read_text()

    with process:
        deadline = time.monotonic() + 60
        while not shown():
            assert process.poll() is None, "it ended by itself"
            assert time.monotonic() < deadline, "it showed nothing"
            time.sleep(0.02)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=60) == 0


@pytest.mark.parametrize("example", EXAMPLES)
def test_every_example_runs(example: str, machine: SimpleNamespace) -> None:
    """As it stands, in a program of its own."""
    done = subprocess.run(
        [sys.executable, "-c", example], env=machine.environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert ("61 °C" in done.stdout) == ("collect_metrics():" in example)


def test_every_command_of_the_program_is_on_the_page() -> None:
    """A new command is documented, or this fails."""
    named = {argv(line)[3] for line in re.findall(r"(?m)^gpu-telemetry .*$", TEXT)}
    assert named == set(COMMANDS)


def test_every_column_is_in_the_table() -> None:
    """A new column is explained, and none is promised that is not there."""
    table = CORE[CORE.index("| column |") : CORE.index("An empty cell")]
    first_cells = [line.split("|")[1] for line in table.splitlines()[2:] if line.startswith("|")]
    assert {name for cell in first_cells for name in re.findall(r"`(\w+)`", cell)} == set(COLUMNS)
    assert set(READINGS) - {"throttle_mask"} <= set(COLUMNS)


def test_every_reason_and_backend_is_explained() -> None:
    """What the code can say is what the page lists."""
    reasons = set(re.findall(r"(?m)^\| `(\w+)` \|", CORE[: CORE.index("## Where readings")]))
    assert {door.reason_of(code) for code in range(1000)} | {"not_sampled"} == reasons
    backends = re.findall(
        r"(?m)^\| `(\w+)` \|", CORE[CORE.index("| backend |") : CORE.index("All GPUs and MIG")]
    )
    assert tuple(backends) == NAMES


def test_no_documented_option_is_missing(machine: SimpleNamespace) -> None:
    """Every option of the core's commands that the page names is one of the command's."""
    for name in ("list", "watch", "record", "summary", "tail", "run"):
        known = run(machine, f"gpu-telemetry {name} --help").stdout
        for line in LINES:
            before_command = line.partition(" -- ")[0]
            if before_command.split()[1] == name:
                assert all(option in known for option in re.findall(r" (--?[a-z][a-z-]*)", before_command))
