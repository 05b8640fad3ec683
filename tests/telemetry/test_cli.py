"""The command `gpu-telemetry` as a program: what it prints, and with which code it ends."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess  # noqa: TID251 - the command is tested as a program.
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest

from gpu_telemetry.devices import Topology
from gpu_telemetry.reader import Recording

if TYPE_CHECKING:
    from pathlib import Path
    from types import SimpleNamespace

COMMAND = [sys.executable, "-m", "gpu_telemetry"]


def call(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """The command to its end."""
    return subprocess.run(
        [*COMMAND, *arguments], capture_output=True, text=True, check=False, timeout=120, **options
    )


@pytest.fixture
def mig_driver(fake_driver: SimpleNamespace) -> SimpleNamespace:
    """A whole card, and one cut into an instance."""
    fake_driver.write(
        fake_driver.card(0),
        fake_driver.card(1, mig_mode=1, migs=[fake_driver.mig(1, 0, 2, "3g.20gb", 3, 19968)]),
    )
    return fake_driver


def test_list_as_json_is_the_allocators_topology(mig_driver: SimpleNamespace) -> None:
    """The document is of the published schema and gives the slots that a scheduler needs."""
    done = call("list", "--json", env=mig_driver.environment)
    document = json.loads(done.stdout)
    assert document["schema"] == "gpu-telemetry/list/1"
    assert set(document) == {"schema", "simulated", "driver_version", "gpus"}
    topology = Topology.from_dict(document)
    assert [slot.name for slot in topology.slots()] == ["0", "1.0"]
    assert (topology.simulated, topology.driver_version) == (False, "550.54.15")


@pytest.mark.parametrize(
    ("visible", "slots"),
    [("0", ["0"]), ("1", ["1.0"]), ("MIG-a1000000", ["1.0"]), ("0,7,1", ["0"]), ("", [])],
)
def test_list_shows_what_this_process_may_use(
    mig_driver: SimpleNamespace, visible: str, slots: list[str]
) -> None:
    """A scheduler inside an allocation must not hand out its neighbours' GPUs; `--all-devices` shows them."""
    environment = mig_driver.environment | {"CUDA_VISIBLE_DEVICES": visible}
    mine = json.loads(call("list", "--json", env=environment).stdout)
    assert [slot.name for slot in Topology.from_dict(mine).slots()] == slots
    everything = json.loads(call("list", "--json", "--all-devices", env=environment).stdout)
    assert [slot.name for slot in Topology.from_dict(everything).slots()] == ["0", "1.0"]


def test_list_for_people_names_every_slot(mig_driver: SimpleNamespace) -> None:
    """Slot, profile, instance, share and UUID of each device."""
    text = call("list", env=mig_driver.environment).stdout
    assert "driver 550.54.15" in text
    (line,) = [line for line in text.splitlines() if line.startswith("1.0 ")]
    assert line.split() == ["1.0", "3g.20gb", "2", "19.5", "3/7", "MIG-a1000000-0000-4000-0001-000000000000"]


def test_no_driver_is_an_error_with_a_next_step() -> None:
    """Nobody takes a machine without driver for one without GPUs."""
    done = call("list", "--backend", "nvml")
    assert (done.returncode, done.stdout) == (1, "")
    assert "error: NVML is not available" in done.stderr
    assert "hint: install the NVIDIA driver" in done.stderr


def test_simulated_readings_say_so_in_every_outlet(tmp_path: Path) -> None:
    """List, watch, the recordings, their summary and their tail."""
    assert json.loads(call("list", "--json", "--backend", "simulated").stdout)["simulated"] is True
    assert "simulated" in call("list", "--backend", "simulated").stdout
    assert "SIMULATED" in call("watch", "--once", "--backend", "simulated").stdout
    call(
        "record",
        "--backend",
        "simulated",
        "--out",
        str(tmp_path),
        "--interval",
        "20ms",
        "--duration",
        "100ms",
    )
    (file,) = tmp_path.iterdir()
    assert "simulated" in call("summary", str(file)).stdout
    assert "simulated" in call("tail", str(file)).stdout


def test_watch_shows_each_device_once(mig_driver: SimpleNamespace) -> None:
    """Utilisation, memory, what holds the clocks down; where a reading is missing, why."""
    done = call("watch", "--once", env=mig_driver.environment)
    assert done.returncode == 0
    lines = {line.split()[0]: line for line in done.stdout.splitlines()}
    assert "87" in lines["0"]
    assert "sw_power_cap" in lines["0"]
    assert "not supported" in lines["1.0"]


def test_watch_goes_on_until_it_is_stopped(mig_driver: SimpleNamespace) -> None:
    """Without a terminal one view follows another; Ctrl-C ends it cleanly."""
    process = subprocess.Popen(
        [*COMMAND, "watch", "--interval", "20ms"],
        env=mig_driver.environment,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdout is not None
        views = 0
        while views < 3:
            line = process.stdout.readline()
            assert line, "it ended"
            views += "driver 550.54.15" in line
        process.send_signal(signal.SIGINT)
        process.stdout.read()
        assert process.wait(timeout=60) == 0


def test_watch_on_a_terminal_gives_the_screen_back(mig_driver: SimpleNamespace) -> None:
    """It draws on the terminal's other screen and leaves it when it ends."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [*COMMAND, "watch", "--interval", "20ms"],
        env=mig_driver.environment | {"TERM": "xterm", "COLUMNS": "120", "LINES": "40"},
        stdin=theirs,
        stdout=theirs,
    )
    os.close(theirs)
    shown = b""
    while b"A100" not in shown:
        shown += os.read(ours, 65536)
    process.send_signal(signal.SIGTERM)
    # A terminal whose other end is closed answers with an error.
    with suppress(OSError):
        while more := os.read(ours, 65536):
            shown += more
    assert process.wait(timeout=60) == 0
    os.close(ours)
    assert shown.count(b"\x1b[?1049h") == shown.count(b"\x1b[?1049l") == 1


def test_watch_without_driver_says_so() -> None:
    """One view, code 1, no invented device."""
    done = call("watch", "--once", "--backend", "nvml")
    assert done.returncode == 1
    assert "nothing can be read: NVML is not available" in done.stdout


def test_only_visible_devices_are_shown(mig_driver: SimpleNamespace) -> None:
    """CUDA_VISIBLE_DEVICES filters; --all-devices shows the machine."""
    environment = mig_driver.environment | {"CUDA_VISIBLE_DEVICES": "0"}
    one = call("watch", "--once", env=environment).stdout
    assert "3g.20gb" not in one
    assert "3g.20gb" in call("watch", "--once", "--all-devices", env=environment).stdout


@pytest.mark.parametrize("backend", ["auto", "nvml"])
def test_pcie_is_measured_on_request(fake_driver: SimpleNamespace, tmp_path: Path, backend: str) -> None:
    """A card without byte counters is asked for 20 ms in each direction only where that is wanted."""
    fake_driver.write(fake_driver.card(0, nvmlDeviceGetPcieThroughput=2))
    options = ("--backend", backend, "--interval", "20ms", "--duration", "20ms")
    for name, extra in (("without", ()), ("with", ("--pcie-throughput",))):
        call("record", "--out", str(tmp_path / name), *options, *extra, env=fake_driver.environment)
    (without,), (wanted,) = ((tmp_path / name).iterdir() for name in ("without", "with"))
    assert "not_sampled=pcie_tx_bytes_per_second pcie_rx_bytes_per_second" in without.read_text()
    assert Recording(wanted).rows[0]["pcie_tx_bytes_per_second"] == 2000


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["record", "--out", "x", "--interval", "1ms"], "1ms is not between 10ms and 1h"),
        (["record", "--out", "x", "--interval", "soon"], "'soon' is no time such as"),
        (["record", "--out", "x", "--rotate-size", "big"], "'big' is no size such as"),
        (["record"], "--out"),
        (["run"], "no command given"),
        (["summary", "no-such-file"], "cannot read no-such-file: No such file or directory"),
        (["nonsense"], "invalid choice: 'nonsense'"),
    ],
)
def test_wrong_usage_is_code_2_and_names_the_value(arguments: list[str], words: str, tmp_path: Path) -> None:
    """Nothing is done, and the offending value is in the message."""
    done = call(*arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert words in done.stderr


def test_a_reader_that_has_seen_enough_is_no_error(mig_driver: SimpleNamespace) -> None:
    """`gpu-telemetry list --json | head -1` ends quietly."""
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [*COMMAND, "list", "--json"],
        env=mig_driver.environment,
        stdout=write,
        stderr=subprocess.PIPE,
        check=False,
    )
    os.close(write)
    assert (done.returncode, done.stderr) == (0, b"")


def test_importing_needs_no_gpu_library() -> None:
    """The public names can be imported where nvidia-ml-py, prometheus_client and a driver are missing."""
    script = (
        "import sys\n"
        "for name in ('pynvml', 'prometheus_client', 'rich', 'torch'): sys.modules[name] = None\n"
        "from gpu_telemetry import GpuMonitor, GpuMetrics, AndonSystem, AlertConfig, GpuAlert, sparkline, MockGpuBackend\n"
        "from gpu_telemetry import GpuMonitorCallback\n"
        "from gpu_telemetry.errors import NvmlUnavailable\n"
        "try: GpuMonitor('nvml').collect_metrics()\n"
        "except NvmlUnavailable as error: print(error.reason)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("not_installed\n", "")


def test_a_locale_without_degrees_ends_nothing(fake_driver: SimpleNamespace, tmp_path: Path) -> None:
    """In an ASCII locale signs are replaced; the output is still there."""
    ascii_only = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    fake_driver.write(fake_driver.card(0))
    environment = fake_driver.environment | ascii_only
    assert "A100" in call("watch", "--once", env=environment).stdout
    record = ("record", "--out", str(tmp_path), "--duration", "1s")
    assert call(*record, env=environment).returncode == 0
    for arguments in (("summary", str(tmp_path)), ("tail", str(tmp_path), "-n", "1")):
        done = call(*arguments, env=environment)
        assert (done.returncode, "?C" in done.stdout) == (0, True)


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_streams_stay_apart_from_recordings(
    fake_driver: SimpleNamespace, tmp_path: Path, closed: str
) -> None:
    """What would go to a closed stream goes nowhere, not into the file that took its number."""
    fake_driver.write(fake_driver.card(0))
    shell = f"{sys.executable} -m gpu_telemetry run --out {tmp_path} -- sh -c 'echo noise; echo noise >&2; exit 7' {closed}"
    done = subprocess.run(shell, shell=True, check=False, timeout=60, env=fake_driver.environment)
    assert done.returncode == 7
    (recording,) = tmp_path.glob("*.csv")
    assert "noise" not in recording.read_text(encoding="utf-8")
    assert Recording(recording).rows


def test_a_full_device_is_an_error_for_a_person(fake_driver: SimpleNamespace) -> None:
    """Output that cannot be written is said, without a traceback."""
    fake_driver.write(fake_driver.card(0))
    with open("/dev/full", "w", encoding="utf-8") as full:  # noqa: PTH123 - a device, not a path of ours.
        done = subprocess.run(
            [*COMMAND, "list"], stdout=full, stderr=subprocess.PIPE, text=True, check=False, timeout=60,
            env=fake_driver.environment,
        )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert "No space left" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("export", "--port", "99999"), 1, "0 to 65535"),
        (("agent", "--start-seconds", "inf"), 2, "no time that can pass"),
        (("agent", "--stop-seconds", "nan"), 2, "no time that can pass"),
        (("tail", "/dev/null", "-n", "-3"), 2, "less than 1"),
        (("run", "--out", "{folder}", "--", "/etc/passwd/x"), 127, "Not a directory"),
        (("run", "--out", "{folder}", "--", "{script}"), 127, "Exec format error"),
    ],
)
def test_wrong_input_is_named(
    fake_driver: SimpleNamespace, tmp_path: Path, arguments: tuple[str, ...], code: int, words: str
) -> None:
    """A value that cannot be is refused at once, in words."""
    fake_driver.write(fake_driver.card(0))
    script = tmp_path / "script"
    script.write_bytes(b"\x7f")
    script.chmod(0o700)
    given = [each.format(folder=tmp_path, script=script) for each in arguments]
    done = call(*given, env=fake_driver.environment)
    assert (done.returncode, words in done.stderr) == (code, True), done.stderr
    assert "Traceback" not in done.stderr


def test_what_is_no_utf8_goes_through(fake_driver: SimpleNamespace, tmp_path: Path) -> None:
    """A tag, an output and an allocation's id of any bytes."""
    fake_driver.write(fake_driver.card(0))
    odd = os.fsdecode(b"j\xff")
    run = [
        *COMMAND,
        "run",
        "--out",
        str(tmp_path),
        "--job",
        odd,
        "--",
        "printf",
        r"a\377: CUDA out of memory\n",
    ]
    done = subprocess.run(run, capture_output=True, check=False, timeout=60, env=fake_driver.environment)
    assert (done.returncode, done.stdout) == (0, b"a\xff: CUDA out of memory\n")
    table = call("summary", "--table", str(tmp_path), env=fake_driver.environment)
    assert (table.returncode, "yes" in table.stdout) == (0, True), table.stdout
    hook = ("hook", "--state-dir", str(tmp_path / "state"))
    assert call(*hook, "allocated", "--id", odd, env=fake_driver.environment).returncode == 0
    assert (
        json.loads(call(*hook, "status", env=fake_driver.environment).stdout)["allocations"][0]["id"] == odd
    )
    assert call(*hook, "released", "--id", odd, env=fake_driver.environment).returncode == 0
    assert json.loads(call(*hook, "status", env=fake_driver.environment).stdout) == {"allocations": []}
