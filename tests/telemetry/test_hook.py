"""The hook of an allocator: its count of open allocations, and starting the agent."""

import json
import os
import signal
import stat
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpu_telemetry import autostart, cli
from gpu_telemetry.allocations import Allocations, default_state_dir
from gpu_telemetry.errors import TelemetryError
from gpu_telemetry.instance import SingleInstance


@pytest.fixture
def hook(tmp_path, monkeypatch, capsys):
    """Runs `gpu-telemetry hook …` with a state directory of its own; returns (exit code, output)."""
    monkeypatch.delenv("GPU_TELEMETRY_AUTOSTART", raising=False)

    def run(*arguments):
        code = cli.main(["hook", "--state-dir", str(tmp_path), *arguments])
        return code, capsys.readouterr().out

    return run


def opened(hook):
    """The ids that `hook status` lists."""
    return [each["id"] for each in json.loads(hook("status")[1])["allocations"]]


def test_allocations_are_counted_by_id(hook):
    """None is left when the last one is released, in whatever order."""
    assert hook("allocated", "--id", "job-1", "--gpu", "GPU-1", "--gpu", "GPU-2") == (0, "")
    assert hook("allocated", "--id", "job-2") == (0, "")
    assert opened(hook) == ["job-1", "job-2"]
    hook("released", "--id", "job-1")
    assert opened(hook) == ["job-2"]
    hook("released", "--id", "job-2")
    assert opened(hook) == []


def test_a_repeated_hook_changes_nothing(hook, tmp_path):
    """An allocator that tells twice, or releases what it never told, does no harm."""
    hook("allocated", "--id", "job", "--gpu", "GPU-1")
    first = Allocations(tmp_path).open()
    hook("allocated", "--id", "job")
    assert Allocations(tmp_path).open() == first
    assert first[0].gpus == ("GPU-1",)
    assert hook("released", "--id", "never")[0] == 0


def test_all_can_be_released_at_once(hook):
    """An allocator that starts anew clears what a crash left."""
    for number in range(3):
        hook("allocated", "--id", str(number))
    hook("released", "--all")
    assert opened(hook) == []


@given(st.text(min_size=1, max_size=40).filter(lambda text: len(text.encode(errors="replace")) < 60))
def test_any_name_can_be_an_id(tmp_path_factory, name):
    """An id is foreign text: it cannot leave the directory, and comes back as it was."""
    state = tmp_path_factory.mktemp("state")
    allocations = Allocations(state)
    try:
        allocations.add(name)
    except (TelemetryError, UnicodeEncodeError):
        return
    assert [each.id for each in allocations.open()] == [name]
    assert [path.parent for path in state.rglob("*.json")] == [state / "allocations"]
    assert allocations.release(name)


@pytest.mark.parametrize("name", ["", "x" * 201])
def test_an_id_without_end_is_refused(hook, capsys, name):
    """No file could be named so."""
    assert hook("allocated", "--id", name)[0] == 2


def test_who_may_write_the_state_may_tell_allocations(tmp_path):
    """Allocator and service are two users of one group; the first to come must not shut the other out."""
    tmp_path.chmod(0o2770)
    Allocations(tmp_path).add("job")
    assert stat.S_IMODE((tmp_path / "allocations").stat().st_mode) == 0o2770


def test_many_at_once_are_all_counted(tmp_path):
    """Hooks of several allocations run side by side."""
    threads = [
        threading.Thread(target=Allocations(tmp_path).add, args=(f"job-{number}",)) for number in range(20)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(Allocations(tmp_path).open()) == 20


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        ("true", True),
        ("1", True),
        ("YES", True),
        ("on", True),
        ("false", False),
        ("0", False),
        ("", False),
        ("off", False),
    ],
)
def test_autostart_understands_the_usual_words(value, wanted):
    """`yes` is not silently no."""
    assert autostart.wanted({"GPU_TELEMETRY_AUTOSTART": value}) is wanted


def test_autostart_refuses_what_it_does_not_understand(hook, monkeypatch, tmp_path):
    """A typing mistake is reported, before anything is counted."""
    monkeypatch.setenv("GPU_TELEMETRY_AUTOSTART", "ture")
    assert hook("allocated", "--id", "job")[0] == 2
    assert Allocations(tmp_path).open() == []


def fake_systemctl(folder, **codes):
    """A systemctl that notes its calls and answers with these exit codes."""
    program = folder / "systemctl"
    cases = "".join(f'[ "$1" = {verb} ] && exit {code}\n' for verb, code in codes.items())
    program.write_text(f'#!/bin/sh\necho "$@" >> {folder}/calls\n{cases}exit 1\n')
    program.chmod(0o755)
    return folder / "calls"


def test_autostart_prefers_the_unit(tmp_path, monkeypatch):
    """Where the unit is installed it is started, and nothing beside it."""
    calls = fake_systemctl(tmp_path, cat=0, start=0)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    assert autostart.ensure_agent(tmp_path / "state") == "systemd"
    assert calls.read_text().splitlines() == ["cat gpu-telemetry.service", "start gpu-telemetry.service"]


def test_autostart_starts_nothing_beside_a_running_agent(tmp_path, monkeypatch):
    """An agent that runs follows the allocations already."""
    calls = fake_systemctl(tmp_path, cat=0, start=0)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    child = os.fork()
    if child == 0:
        with SingleInstance(tmp_path / "state", run_dir=tmp_path / "none"):
            signal.pause()
    try:
        while SingleInstance(tmp_path / "state").holder() is None:
            threading.Event().wait(0.01)
        assert autostart.ensure_agent(tmp_path / "state") == "running"
        assert not calls.exists()
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def test_the_state_directory_can_be_told(monkeypatch, tmp_path):
    """Allocator and agent find the same one."""
    monkeypatch.setenv("GPU_TELEMETRY_STATE", str(tmp_path))
    assert default_state_dir() == tmp_path
