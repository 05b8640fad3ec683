"""Recordings: their text, their files, and what survives a full disk, a kill and a lost driver."""

from __future__ import annotations

import csv
import gzip
import json
import os
import resource
import shutil
import signal
import subprocess  # noqa: TID251 - the command is tested as a program.
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gpu_telemetry.archive import Archive
from gpu_telemetry.errors import BackendUnavailable, TelemetryError
from gpu_telemetry.metrics import READINGS, GpuMetrics, GpuProcess, HostMetrics, HostTemperature, Sample
from gpu_telemetry.reader import Recording
from gpu_telemetry.recorder import Limits, Recorder
from gpu_telemetry.rows import COLUMNS, FORMATS, lines

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import SimpleNamespace

GOLDEN = Path(__file__).parent / "golden"
GIB = 1024**3
COMMAND = [sys.executable, "-m", "gpu_telemetry"]


def sample(**changes: Any) -> Sample:
    """A sample of one card whose only unknown readings are those not named here."""
    values: dict[str, Any] = {
        "utilization_percent": 87.0,
        "memory_used_bytes": 8 * GIB,
        "memory_total_bytes": 40 * GIB,
        "temperature_celsius": 61.0,
        "power_watts": 250.5,
        "energy_joules": 1000.5,
        "throttle_mask": 0,
        "remapped_rows_failed": False,
        "processes": (GpuProcess(pid=4242, user="ann", memory_used_bytes=7 * GIB), GpuProcess(pid=4243)),
    } | changes
    missing = {field: "not_supported" for field in READINGS if values.get(field) is None}
    known = {field: value for field, value in values.items() if value is not None}
    card = GpuMetrics(
        device_id=0, uuid="GPU-aa11", name="Mock, GPU", mig_enabled=False, missing=missing, **known
    )
    return Sample(timestamp=1_800_000_000.25, monotonic=7.0, gpus=(card,), backend="nvml")


def host() -> HostMetrics:
    """Host readings of two sockets."""
    return HostMetrics(
        cpu_power_watts={"package-0": 50.0, "package-1": 25.5},
        cpu_energy_joules={"package-0": 100.0, "package-1": 51.0},
        temperatures=(HostTemperature(chip="coretemp", label="Package id 0", celsius=61.0),),
    )


@pytest.mark.parametrize("form", FORMATS)
def test_lines_are_golden(form: str, update_golden: bool) -> None:
    """The text of a sample: unknown is empty or null with a reason, nothing is 0 that was not read."""
    refused = Sample(
        timestamp=1_800_000_001.0,
        monotonic=8.0,
        backend="nvml",
        gap_seconds=2.0,
        error=BackendUnavailable("gone", reason="lost"),
    )
    common = {"elapsed_seconds": 1.0, "recording": "0badcafe", "job": "chunk-30"}
    text = lines(form, replace(sample(), host=host()), common) + lines(form, refused, common)
    file = GOLDEN / f"sample.{form}"
    if update_golden:
        file.write_bytes(text.encode())
    assert text == file.read_bytes().decode()


@pytest.mark.parametrize("form", FORMATS)
def test_what_was_written_is_read_back(tmp_path: Path, form: str) -> None:
    """Both formats give the same values under the same names."""
    recorder = Recorder(tmp_path, form, job="chunk-30")
    assert recorder.write(sample())
    recorder.close()
    (row,) = Recording(recorder.path).rows
    assert row["timestamp"] == "2027-01-15T08:00:00.250Z"
    assert (row["uuid"], row["name"], row["job"]) == ("GPU-aa11", "Mock, GPU", "chunk-30")
    assert (row["utilization_percent"], row["memory_used_bytes"]) == (87.0, 8 * GIB)
    assert "fan_percent" not in row
    assert row["remapped_rows_failed"] is False


_PERCENT = st.none() | st.floats(0, 100)


@given(
    st.sampled_from(FORMATS), _PERCENT, st.none() | st.integers(0, 2**45), st.text(max_size=20), st.booleans()
)
@example(form="csv", utilization=None, used=None, name="\n\r", simulated=False)
@example(form="csv", utilization=None, used=None, name="a\0b", simulated=False)
def test_any_value_survives_a_recording(
    tmp_path_factory: pytest.TempPathFactory,
    form: str,
    utilization: float | None,
    used: int | None,
    name: str,
    simulated: bool,
) -> None:
    """Names with commas, quotes and line ends, and every number, come back as they were; CSV has no NUL."""
    folder = tmp_path_factory.mktemp("recording")
    name = name.encode("utf-8", "replace").decode()
    card = replace(sample(utilization_percent=utilization, memory_used_bytes=used).gpus[0], name=name)
    recorder = Recorder(folder, form)
    recorder.write(replace(sample(), gpus=(card, card), simulated=simulated))
    recorder.close()
    read = Recording(recorder.path)
    assert read.torn_lines == 0
    for row in read.rows:
        assert row.get("utilization_percent") == utilization
        assert row.get("memory_used_bytes") == used
        assert row.get("name", "") == (name.replace("\0", "") if form == "csv" else name)
        assert row["simulated"] is simulated


@pytest.mark.parametrize("form", FORMATS)
def test_every_file_has_a_header_and_rotation_compresses(tmp_path: Path, form: str) -> None:
    """Files end at their size; the finished ones are compressed, and together they have every line once."""
    recorder = Recorder(tmp_path, form, limits=Limits(rotate_bytes=4000))
    for _ in range(20):
        assert recorder.write(sample())
    recorder.close()
    files = sorted(tmp_path.iterdir())
    assert len(files) > 3
    assert [file.suffix for file in files].count(".gz") == len(files) - 1
    for file in files:
        raw = gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
        first = raw.decode().splitlines()[0]
        assert first.split(",") == list(COLUMNS) if form == "csv" else json.loads(first)["schema"]
    assert sum(len(Recording(file).rows) for file in files) == 20


def test_files_end_at_their_age(tmp_path: Path) -> None:
    """After the age the next sample begins a new file."""
    now = [0.0]
    recorder = Recorder(tmp_path, limits=Limits(rotate_seconds=60), clock=lambda: now[0])
    recorder.write(sample())
    now[0] = 61.0
    recorder.write(sample())
    recorder.close()
    assert len(recorder.paths) == 2


def test_a_deleted_file_is_begun_anew(tmp_path: Path) -> None:
    """A person who removes the file under us gets a new one, not readings into nowhere."""
    recorder = Recorder(tmp_path)
    recorder.write(sample())
    recorder.path.unlink()
    recorder.write(sample())
    recorder.close()
    assert len(Recording(recorder.path).rows) == 1


def test_a_deleted_folder_is_made_anew(tmp_path: Path) -> None:
    """Somebody tidies up while we record: the next sample finds its place again."""
    recorder = Recorder(tmp_path / "out")
    recorder.write(sample())
    shutil.rmtree(tmp_path / "out")
    assert recorder.write(sample())
    recorder.close()
    assert len(Recording(recorder.path).rows) == 1


def old(folder: Path, number: int, size: int, age: float, suffix: str = ".csv.gz") -> Path:
    """A finished file of an earlier recording."""
    path = folder / f"gpu-telemetry_20260101T00000{number}Z_0badcafe_0001{suffix}"
    path.write_bytes(b"x" * size)
    os.utime(path, (time.time() - age, time.time() - age))
    return path


def test_old_files_go_by_size_and_by_age(tmp_path: Path) -> None:
    """The oldest go first, and what is not ours stays."""
    expired, first, second = old(tmp_path, 1, 10, 9000), old(tmp_path, 2, 600, 60), old(tmp_path, 3, 600, 30)
    foreign = tmp_path / "notes.csv"
    foreign.write_bytes(b"x" * 5000)
    Archive(tmp_path, keep_bytes=1000, keep_seconds=3600).adopt()
    assert not expired.exists()
    assert not first.exists()
    assert second.exists()
    assert foreign.exists()


def test_what_a_killed_recorder_left_is_taken_over(tmp_path: Path) -> None:
    """An orphan is compressed; the file of a recorder that still runs is left alone."""
    orphan = old(tmp_path, 1, 10, 60, ".csv")
    running = Recorder(tmp_path)
    running.write(sample())
    os.utime(running.path, (time.time() - 60, time.time() - 60))
    Recorder(tmp_path).close()
    running.write(sample())
    running.close()
    assert not orphan.exists()
    assert orphan.with_name(orphan.name + ".gz").exists()
    assert len(Recording(running.path).rows) == 2


@pytest.mark.parametrize("form", FORMATS)
def test_a_torn_last_line_is_left_out(tmp_path: Path, form: str) -> None:
    """Cut anywhere, a recording loses the cut line and no other."""
    recorder = Recorder(tmp_path, form)
    for _ in range(3):
        recorder.write(sample())
    recorder.close()
    whole = recorder.path.read_bytes()
    last = whole[:-1].rfind(b"\n") + 1
    for cut in range(last + 1, len(whole) - 1, 7):
        recorder.path.write_bytes(whole[:cut])
        read = Recording(recorder.path)
        assert (len(read.rows), read.torn_lines) == (2, 1)


@pytest.mark.parametrize("form", FORMATS)
def test_a_power_cut_costs_only_what_was_not_on_the_disk(tmp_path: Path, form: str) -> None:
    """Zeros in the middle or at the end are no lines; what is around them is read."""
    recorder = Recorder(tmp_path, form)
    for _ in range(3):
        recorder.write(sample())
    recorder.close()
    head, first, second, third = recorder.path.read_bytes().splitlines(keepends=True)
    recorder.path.write_bytes(head + first + b"\0" * len(second) + third + first + b"\0" * 4096)
    recording = Recording(recorder.path)
    assert (len(recording.rows), recording.torn_lines) == (2, 2)


def test_a_compressed_file_that_was_cut_off_is_read_up_to_the_cut(tmp_path: Path) -> None:
    """A copy that broke off still gives its first lines."""
    recorder = Recorder(tmp_path)
    for number in range(500):
        recorder.write(sample(utilization_percent=float(number % 100), power_watts=number * 1.37))
    recorder.close()
    cut = tmp_path / "cut.csv.gz"
    cut.write_bytes(gzip.compress(recorder.path.read_bytes())[:-400])
    assert 0 < len(Recording(cut).rows) < 500


@pytest.mark.parametrize(
    "text", ["time,power\n1,2\n", '{"schema": "x"}\n{"a": 1}\n', "PK\x03\x04\n", "[1]\n"]
)
def test_a_foreign_file_is_refused(tmp_path: Path, text: str) -> None:
    """A file that is no recording is an error with its name, no empty summary."""
    file = tmp_path / "foreign.csv"
    file.write_text(text)
    with pytest.raises(TelemetryError) as caught:
        list(Recording(file))
    assert "foreign.csv is no recording" in caught.value.problem


def test_a_full_disk_stops_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """While nothing fits samples are counted as lost and said once; afterwards the gap is in the next line."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    now = 7.0
    recorder = Recorder(tmp_path)
    recorder.write(sample())
    kept = recorder.path.read_bytes()
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(kept) + 100, hard))
        for _ in range(3):
            now += 1.0
            assert not recorder.write(replace(sample(), monotonic=now))
        assert recorder.path.read_bytes() == kept
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert recorder.write(replace(sample(), monotonic=now + 1.0))
    recorder.close()
    rows = Recording(recorder.path).rows
    assert [row["gap_seconds"] for row in rows] == [0.0, 4.0]
    assert recorder.dropped_samples == 3
    assert caplog.text.count("the disk is full") == 1


def test_a_folder_that_may_not_be_written_is_refused(tmp_path: Path) -> None:
    """An error with the folder and the option, before anything is sampled."""
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(TelemetryError) as caught:
        Recorder(file / "out")
    assert str(file / "out") in caught.value.problem
    assert "--out" in caught.value.hint


def wait_for(condition: Callable[[], Any], process: subprocess.Popen[bytes]) -> Any:
    """What the condition returns once it is true; fails if the program ends before."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if found := condition():
            return found
        assert process.poll() is None, "the program ended"
        time.sleep(0.02)
    pytest.fail("the condition did not come true")


def start(fake_driver: SimpleNamespace, folder: Path, *options: str) -> subprocess.Popen[bytes]:
    """`gpu-telemetry record` on the fake driver."""
    return subprocess.Popen(
        [*COMMAND, "record", "--out", str(folder), "--interval", "20ms", *options],
        env=fake_driver.environment,
        stderr=subprocess.PIPE,
    )


def rows_of(folder: Path) -> list[dict[str, Any]]:
    """All lines written so far."""
    return [row for file in folder.glob("gpu-telemetry_*") for row in Recording(file).rows]


def test_a_driver_lost_in_mid_recording_comes_back(tmp_path: Path, fake_driver: SimpleNamespace) -> None:
    """The recording goes on: lines that say why, then readings again; SIGTERM ends it cleanly."""
    fake_driver.write(fake_driver.card(0))
    out = tmp_path / "out"
    with start(fake_driver, out, "--format", "jsonl") as process:
        wait_for(lambda: any("temperature_celsius" in row for row in rows_of(out)), process)
        fake_driver.write(fake_driver.card(0), error=9)
        wait_for(lambda: any(row["status"] == "no_driver" for row in rows_of(out)), process)
        fake_driver.write(fake_driver.card(0, nvmlDeviceGetTemperature=44))
        wait_for(lambda: any(row.get("temperature_celsius") == 44 for row in rows_of(out)), process)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=60) == 0
    lost = [row for row in rows_of(out) if row["status"] != "ok"]
    assert all("uuid" not in row and "temperature_celsius" not in row for row in lost)


def test_one_gpu_gone_does_not_end_the_others_lines(tmp_path: Path, fake_driver: SimpleNamespace) -> None:
    """Its lines go on with every reading lost, under its own UUID, and its neighbour's are whole."""
    fake_driver.write(fake_driver.card(0), fake_driver.card(1))
    out = tmp_path / "out"

    def lost() -> list[dict[str, Any]]:
        return [row for row in rows_of(out) if row.get("missing", "").startswith("lost=")]

    with start(fake_driver, out) as process:
        wait_for(lambda: len(rows_of(out)) > 4, process)
        fake_driver.write(fake_driver.card(0), fake_driver.card(1, lost=True))
        found = wait_for(lost, process)
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=60) == 0
    assert {row["uuid"] for row in found} == {"GPU-a1000000-0000-4000-8000-000000000001"}
    assert "utilization_percent" not in found[0]
    whole = [row for row in rows_of(out) if row["uuid"].endswith("0")]
    assert all(row["temperature_celsius"] == 61 for row in whole)


def test_permission_denied_is_a_status(tmp_path: Path, fake_driver: SimpleNamespace) -> None:
    """A user who may not open the devices gets lines that say so, and no invented device."""
    fake_driver.write(fake_driver.card(0), error=4)
    out = tmp_path / "out"
    with start(fake_driver, out, "--backend", "nvml", "--duration", "60ms") as process:
        assert process.wait(timeout=60) == 0
    rows = rows_of(out)
    assert {row["status"] for row in rows} == {"no_permission"}
    assert all("uuid" not in row for row in rows)


def test_a_kill_loses_no_line_but_the_last(tmp_path: Path, fake_driver: SimpleNamespace) -> None:
    """After SIGKILL every line but the last is whole, and the next recording takes the file over."""
    fake_driver.write(*(fake_driver.card(index) for index in range(8)))
    out = tmp_path / "out"
    with start(fake_driver, out) as process:
        wait_for(lambda: len(rows_of(out)) >= 40, process)
        process.kill()
        process.wait(timeout=60)
    (file,) = out.iterdir()
    recording = Recording(file)
    assert recording.torn_lines <= 1
    times = sorted({row["elapsed_seconds"] for row in recording.rows})
    assert all(sum(row["elapsed_seconds"] == at for row in recording.rows) == 8 for at in times[:-1])


@pytest.mark.skipif(
    os.geteuid() != 0, reason="mounting a small tmpfs needs root; RLIMIT_FSIZE is tested above"
)
def test_a_really_full_disk(tmp_path: Path, fake_driver: SimpleNamespace) -> None:
    """On a tmpfs of 64 KiB the recorder lives on, says so, and exits with 1 when it is ended."""
    mount = tmp_path / "small"
    mount.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(mount)], check=False, capture_output=True
    )
    if mounted.returncode != 0:
        pytest.skip("mounting is not allowed here")
    try:
        fake_driver.write(fake_driver.card(0), fake_driver.card(1))
        with start(fake_driver, mount) as process:
            stderr = process.stderr
            assert stderr is not None
            while b"the disk is full" not in (line := stderr.readline()):
                assert line, "the program ended"
            process.send_signal(signal.SIGTERM)
            assert process.wait(timeout=60) == 1
            assert b"could not be written" in stderr.read()
        for file in mount.iterdir():
            assert Recording(file).torn_lines == 0
    finally:
        subprocess.run(["umount", str(mount)], check=True)


def test_csv_is_plain_csv(tmp_path: Path) -> None:
    """Any CSV reader gets as many cells as there are columns in every line."""
    recorder = Recorder(tmp_path)
    recorder.write(sample())
    recorder.write(Sample(timestamp=0.0, monotonic=0.0, error=BackendUnavailable("x", reason="lost")))
    recorder.close()
    with recorder.path.open(newline="") as file:
        assert {len(row) for row in csv.reader(file)} == {len(COLUMNS)}
