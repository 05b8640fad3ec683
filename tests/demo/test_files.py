"""The files of the simulated server: formats that real tools read, and books that agree with the containers."""

from __future__ import annotations

import json
import subprocess  # noqa: TID251 - the doors are for the programs, not for their tests.
import sys
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

import pytest

from ds01_demo.cgroups import scope_path
from ds01_demo.clock import Clock
from ds01_demo.errors import DemoError
from ds01_demo.files import Files, Layout
from ds01_demo.load import DAY
from ds01_demo.scenario import HOUR, PROFILES
from ds01_demo.world import World
from gpu_telemetry.devices import Topology

from .conftest import start, stop

if TYPE_CHECKING:
    from pathlib import Path

NOW = 20_000 * DAY + 40_000


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    """A claimed directory."""
    made = Layout(tmp_path / "demo")
    made.claim()
    return made


@pytest.fixture
def files(layout: Layout) -> Files:
    """Files of the lively world that begin at `NOW`."""
    made = Files(layout, World(PROFILES["lively"]), Clock())
    made.begin(NOW)
    return made


def books(layout: Layout) -> dict[str, Any]:
    """gpu-state.json."""
    found: dict[str, Any] = json.loads(layout.state_file.read_text(encoding="utf-8"))
    return found


def test_the_books_have_the_form_of_the_real_allocator(layout: Layout, files: Files) -> None:
    """Every slot has an entry with names of containers and counts of users; instances name their card and UUID."""
    state = books(layout)
    assert set(state) == {"gpus", "mig_enabled", "allocation_strategy"}
    assert set(state["gpus"]) == {"0", "1", "2.0", "2.1", "2.2", "2.3", "2.4", "3.0", "3.1", "3.2"}
    for slot, entry in state["gpus"].items():
        assert all(isinstance(name, str) for name in entry["containers"])
        assert sum(entry["users"].values()) == len(entry["containers"])
        if "." in slot:
            assert (entry["physical_gpu"], entry["device_id"]) == tuple(slot.split("."))
            assert entry["uuid"] == entry["docker_id"] != ""
    assert sorted(state["gpus"]["1"]["users"]) == ["bea", "carlos"]
    assert state["gpus"]["3.2"]["containers"] == []


def test_metadata_follows_the_books(layout: Layout, files: Files) -> None:
    """For a whole day there is a metadata file for exactly the containers in the books, stopped ones marked."""
    stopped = 0
    for time in range(NOW, NOW + DAY, 240):
        files.follow(time)
        held = {name for entry in books(layout)["gpus"].values() for name in entry["containers"]}
        found = {
            path.stem: json.loads(path.read_text(encoding="utf-8")) for path in layout.metadata.glob("*.json")
        }
        assert set(found) == held
        stopped += sum("stopped_at" in entry for entry in found.values())
    assert stopped > 0


def test_the_log_has_a_day_in_both_spellings_and_in_order(layout: Layout, files: Files) -> None:
    """Lines parse, are in order, reach back over 24 hours, and go on where the past ends, none twice."""
    files.follow(NOW + HOUR)
    files.follow(NOW + 2 * HOUR)
    lines = layout.events.read_text(encoding="utf-8").splitlines()
    entries = [json.loads(line) for line in lines]
    assert len(set(lines)) == len(lines)
    moments = [
        datetime.fromisoformat((one.get("ts") or one["timestamp"]).replace("Z", "+00:00")) for one in entries
    ]
    assert moments == sorted(moments)
    assert (moments[0].timestamp(), moments[-1].timestamp()) == (
        pytest.approx(NOW - 25 * HOUR, abs=HOUR),
        pytest.approx(NOW + 2 * HOUR, abs=HOUR),
    )
    assert {"gpu.allocated", "gpu.released", "gpu.rejected"} == {
        one["event"] for one in entries if "event" in one
    }
    assert "container.start" in {one.get("event_type") for one in entries}
    assert {type(one["gpu"]) for one in entries if "gpu" in one} == {int, float}


def test_the_books_are_never_older_than_the_last_gpu_event(layout: Layout, files: Files) -> None:
    """At the start the books bear the time of the last event about a GPU, so nothing looks stale."""
    lines = [json.loads(line) for line in layout.events.read_text(encoding="utf-8").splitlines()]
    last = max(one["ts"] for one in lines if "ts" in one)
    modified = datetime.fromtimestamp(layout.state_file.stat().st_mtime, timezone.utc)
    assert modified.strftime("%Y-%m-%dT%H:%M:%SZ") == last


def test_allocations_in_the_log_are_those_in_the_books(layout: Layout, files: Files) -> None:
    """Replaying a day of allocations and releases onto the first books gives the last ones."""
    held = {(slot, name) for slot, entry in books(layout)["gpus"].items() for name in entry["containers"]}
    known = len(layout.events.read_text(encoding="utf-8").splitlines())
    files.follow(NOW + DAY // 2)
    for line in layout.events.read_text(encoding="utf-8").splitlines()[known:]:
        entry = json.loads(line)
        if entry.get("event") == "gpu.allocated":
            held.add((str(entry["gpu"]), entry["container"]))
        elif entry.get("event") == "gpu.released":
            held.remove((str(entry["gpu"]), entry["container"]))
    assert held == {
        (slot, name) for slot, entry in books(layout)["gpus"].items() for name in entry["containers"]
    }


def test_the_topology_is_what_our_own_reader_reads(layout: Layout, files: Files) -> None:
    """gpu_telemetry reads the file and finds the slots of the books, with their fractions."""
    raw = json.loads(layout.topology.read_text(encoding="utf-8"))
    assert raw["simulated"] is True
    slots = {slot.name: slot for slot in Topology.from_dict(raw).slots()}
    assert set(slots) == set(books(layout)["gpus"])
    assert slots["3.0"].fraction == pytest.approx(3 / 7)
    assert slots["3.0"].gpu_instance_id == 2


def test_cgroups_exist_for_running_containers_only(layout: Layout, files: Files) -> None:
    """Each running container has its scope, with CPU time that grows and memory that adds up; others have none."""
    world = World(PROFILES["lively"])
    usage: dict[str, int] = {}
    for time in range(NOW, NOW + 3 * HOUR, 300):
        files.follow(time)
        scopes = {
            path.relative_to(layout.cgroup).as_posix() for path in layout.cgroup.rglob("docker-*.scope")
        }
        assert scopes == {scope_path(job).as_posix() for job in world.jobs(time) if job.running(time)}
        for scope in scopes:
            folder = layout.cgroup / scope
            cpu = dict(line.split() for line in (folder / "cpu.stat").read_text().splitlines())
            memory = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
            assert int(cpu["usage_usec"]) == int(cpu["user_usec"]) + int(cpu["system_usec"])
            assert int(cpu["usage_usec"]) >= usage.get(scope, 0)
            usage[scope] = int(cpu["usage_usec"])
            current, limit = (
                int((folder / "memory.current").read_text()),
                (folder / "memory.max").read_text().strip(),
            )
            assert int(memory["inactive_file"]) < current
            assert limit == "max" or current <= int(limit)


def test_a_foreign_directory_is_left_alone(tmp_path: Path) -> None:
    """A directory with other people's files is refused, and nothing in it is touched."""
    (tmp_path / "thesis.tex").write_text("mine", encoding="utf-8")
    with pytest.raises(DemoError, match="not empty"):
        Layout(tmp_path).claim()
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_second_start_begins_afresh_but_keeps_mail(layout: Layout, files: Files) -> None:
    """What an earlier demo left is cleared, except the mail that arrived."""
    (layout.mailbox / "1.eml").write_text("mail", encoding="utf-8")
    layout.claim()
    assert not layout.state_file.exists()
    assert (layout.mailbox / "1.eml").exists()


def test_sigterm_ends_it_cleanly(tmp_path: Path) -> None:
    """SIGTERM ends the server with status 0 and takes its socket away."""
    served = start(tmp_path / "d")
    assert (served.root / "docker.sock").is_socket()
    assert stop(served) == 0
    assert not (served.root / "docker.sock").exists()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--password-file", "/nonexistent"], "cannot read the password"),
        (["--dir", "/proc"], "not empty"),
    ],
)
def test_mistakes_are_told_with_a_hint(tmp_path: Path, options: list[str], said: str) -> None:
    """A mistake in the options ends with status 1, the problem and a hint, and no traceback."""
    command = [
        sys.executable,
        "-m",
        "ds01_demo",
        "serve",
        "--dir",
        str(tmp_path / "d"),
        "--dcgm-port",
        "0",
        *options,
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 1
    assert said in done.stderr
    assert "hint:" in done.stderr
    assert "Traceback" not in done.stderr
