"""`gpu-telemetry run`: the command behaves as it would alone, and its summary is there however it ends."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess  # noqa: TID251 - the command is tested as a program.
import sys
from typing import TYPE_CHECKING, Any

import pytest

from gpu_telemetry.relay import MemoryWatch

if TYPE_CHECKING:
    from pathlib import Path
    from types import SimpleNamespace

COMMAND = [sys.executable, "-m", "gpu_telemetry"]
RUN = [*COMMAND, "run", "--interval", "20ms"]
MIB = 1024**2

# Tells the fake driver that this process and a child of it are on the GPU, then waits until that was sampled.
TRAIN = """
import json, os, pathlib, sys, time
state = pathlib.Path(os.environ["FAKE_NVML_STATE"])
out = pathlib.Path(sys.argv[1])
child = os.fork()
if child == 0:
    time.sleep(600)
def use(mine, childs):
    driver = json.loads(state.read_text())
    driver["cards"][0]["compute"] = [
        {"pid": os.getpid(), "memory": mine}, {"pid": child, "memory": childs}, {"pid": 4000001, "memory": 10**10}]
    new = state.with_suffix(".run")
    new.write_text(json.dumps(driver))
    new.replace(state)
    def seen():
        return any(f"{os.getpid()}:{mine}:" in file.read_text() for file in out.glob("*.csv"))
    while not seen():
        time.sleep(0.02)
use(3 * 2**30, 2**30)
use(2**30, 2**30)
os.kill(child, 9)
sys.exit(int(sys.argv[2]))
"""


@pytest.fixture
def driver(fake_driver: SimpleNamespace) -> SimpleNamespace:
    """A driver with one card."""
    fake_driver.write(fake_driver.card(0))
    return fake_driver


def run(driver: SimpleNamespace, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """The command to its end."""
    return subprocess.run(
        [*RUN, *arguments],
        env=driver.environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        **options,
    )


def note_of(folder: Path) -> dict[str, Any]:
    """What was noted of the only run in a folder."""
    (file,) = folder.glob("gpu-telemetry-run_*.json")
    found: dict[str, Any] = json.loads(file.read_text())
    return found


@pytest.mark.parametrize("code", [0, 7])
def test_peak_memory_is_that_of_the_process_tree(driver: SimpleNamespace, tmp_path: Path, code: int) -> None:
    """The command's own processes count, another's on the same card do not; on success and on failure."""
    out = tmp_path / "out"
    done = run(
        driver, "--out", str(out), "--job", "chunk-30", "--", sys.executable, "-c", TRAIN, str(out), str(code)
    )
    assert done.returncode == code, done.stderr
    note = note_of(out)
    assert (note["exit_code"], note["job"], note["cuda_out_of_memory"]) == (code, "chunk-30", None)
    assert note["peak_memory_bytes"] == 4 * 2**30
    assert sorted(each["peak_memory_bytes"] for each in note["processes"]) == [2**30, 3 * 2**30]
    assert note["devices"][0]["utilization_mean_percent"] == 87
    assert "at most 4.0 GiB" in done.stderr


def test_output_and_input_pass_through_unchanged(driver: SimpleNamespace, tmp_path: Path) -> None:
    """Both streams byte by byte, standard input, and no word of ours on standard output."""
    script = "import sys; sys.stdout.write(sys.stdin.read()); sys.stderr.write('warning\\n')"
    done = run(driver, "--out", str(tmp_path), "--", sys.executable, "-c", script, input="a\r\nb")
    assert done.stdout == "a\nb"  # Text mode makes \r\n a line end.
    assert done.stderr.startswith("warning\n")


def test_options_of_the_command_are_its_own(driver: SimpleNamespace, tmp_path: Path) -> None:
    """What stands behind -- is not looked at."""
    done = run(driver, "--out", str(tmp_path), "--", "echo", "--interval", "--job", "--", "-h")
    assert done.stdout == "--interval --job -- -h\n"


def test_a_terminal_stays_a_terminal(driver: SimpleNamespace, tmp_path: Path) -> None:
    """A command that draws progress bars on a terminal still has one."""
    ours, theirs = pty.openpty()
    script = "import sys; print(sys.stdout.isatty(), sys.stderr.isatty())"
    process = subprocess.Popen(
        [*RUN, "--out", str(tmp_path), "--", sys.executable, "-c", script],
        env=driver.environment,
        stdout=theirs,
        stderr=subprocess.PIPE,
    )
    os.close(theirs)
    process.communicate(timeout=120)
    assert os.read(ours, 100) == b"True False\r\n"
    os.close(ours)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGHUP])
def test_signals_go_on_to_the_command(
    driver: SimpleNamespace, tmp_path: Path, number: signal.Signals
) -> None:
    """The command decides what they mean; its exit code comes back."""
    script = (
        "import signal, sys\n"
        f"signal.signal({int(number)}, lambda *_: sys.exit(9))\n"
        "print('ready', flush=True)\n"
        "while True: signal.pause()\n"
    )
    process = subprocess.Popen(
        [*RUN, "--out", str(tmp_path), "--", sys.executable, "-c", script],
        env=driver.environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(number)
        assert process.wait(timeout=120) == 9
    assert note_of(tmp_path)["exit_code"] == 9


def test_an_ignored_hangup_stays_ignored(driver: SimpleNamespace, tmp_path: Path) -> None:
    """Under nohup neither we nor the command end with the terminal."""
    script = "import os, signal; os.kill(os.getppid(), signal.SIGHUP); os.kill(os.getpid(), signal.SIGHUP)"
    done = subprocess.run(
        [*RUN, "--out", str(tmp_path), "--", sys.executable, "-c", script],
        env=driver.environment,
        check=False,
        timeout=120,
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN),
    )
    assert done.returncode == 0


def test_a_killed_command_is_reported_as_a_shell_does(driver: SimpleNamespace, tmp_path: Path) -> None:
    """128 + 9, with the signal in the summary."""
    done = run(driver, "--out", str(tmp_path), "--", "sh", "-c", "kill -9 $$")
    assert done.returncode == 137
    assert note_of(tmp_path)["signal"] == 9


def test_a_command_that_is_not_there_is_127(driver: SimpleNamespace, tmp_path: Path) -> None:
    """An error with its name."""
    done = run(driver, "--out", str(tmp_path), "--", "no-such-command")
    assert done.returncode == 127
    assert "cannot run no-such-command" in done.stderr
    assert note_of(tmp_path)["exit_code"] == 127


def test_a_missing_driver_does_not_stop_the_command(tmp_path: Path) -> None:
    """Work goes before telemetry; nothing is invented."""
    done = subprocess.run(
        [*RUN, "--backend", "nvml", "--out", str(tmp_path), "--", "sh", "-c", "exit 5"],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 5
    assert note_of(tmp_path)["devices"] == []
    assert "no GPU could be read" in done.stderr


@pytest.mark.parametrize(
    "line",
    [
        "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.",
        "torch.cuda.OutOfMemoryError: CUDA out of memory.",
        "RuntimeError: CUDA error: out of memory",
        "cupy.cuda.memory.OutOfMemoryError: Out of memory allocating 1,024 bytes",
        "jaxlib.xla_extension.XlaRuntimeError: RESOURCE_EXHAUSTED: Out of memory while trying to allocate 8 bytes.",
        "tensorflow.python.framework.errors_impl.ResourceExhaustedError: OOM when allocating tensor with shape[8]",
        "CUDA_ERROR_OUT_OF_MEMORY: out of memory",
        "cudaErrorMemoryAllocation",
        "RuntimeError: CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
    ],
)
def test_out_of_memory_is_recognised_wherever_the_output_is_cut(line: str) -> None:
    """Whatever pieces the output comes in, the line is found whole."""
    for cut in range(len(line)):
        watch = MemoryWatch()
        watch.feed(b"epoch 1\n" + line[:cut].encode())
        watch.feed(line[cut:].encode())
        watch.finish()
        assert watch.line == line


@pytest.mark.parametrize(
    "line", ["peak memory 3 GiB", "MemoryError", "Out of memory: Killed process 12", "out of disk"]
)
def test_other_words_are_no_cuda_out_of_memory(line: str) -> None:
    """The host's memory is another matter."""
    watch = MemoryWatch()
    watch.feed(line.encode() + b"\n")
    watch.finish()
    assert watch.line is None


def test_runs_can_be_compared(driver: SimpleNamespace, tmp_path: Path) -> None:
    """A batch of runs is one table, with exit code and out-of-memory of each."""
    run(driver, "--out", str(tmp_path), "--job", "chunk-30", "--", "true")
    run(
        driver,
        "--out",
        str(tmp_path),
        "--job",
        "chunk-60",
        "--",
        "sh",
        "-c",
        "echo CUDA out of memory; exit 1",
    )
    table = subprocess.run(
        [*COMMAND, "summary", "--table", str(tmp_path)], capture_output=True, text=True, check=True
    )
    cells = {line.split()[0]: line.split()[1:3] for line in table.stdout.splitlines()[1:]}
    assert cells == {"chunk-30": ["0", "no"], "chunk-60": ["1", "yes"]}
