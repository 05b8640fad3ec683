"""Programs under supervisord: kept up, never twice, ended without a trace."""

from __future__ import annotations

import os
import signal
import sys
import threading
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ds01_monitoring import command
from ds01_monitoring.errors import UserError
from ds01_monitoring.paths import StateDir
from ds01_monitoring.runtime import processes
from ds01_monitoring.runtime.native import NativeRuntime
from ds01_monitoring.runtime.programs import Programs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Wait = Callable[[Callable[[], object], str], object]

HEAD = """\
[supervisord]
nodaemon=true
silent=true
user=%(ENV_DS01_USER)s
logfile=%(ENV_DS01_STATE)s/logs/supervisord.log
pidfile=%(ENV_DS01_STATE)s/run/supervisord.pid
[unix_http_server]
file=%(ENV_DS01_SOCKET)s
[rpcinterface:supervisor]
supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface
"""

PROGRAM = """
[program:{name}]
command="%(ENV_DS01_PYTHON)s" -m ds01_monitoring.runtime.child {name} -- {command}
startsecs={startsecs}
startretries=1000000
redirect_stderr=true
stdout_logfile=%(ENV_DS01_STATE)s/logs/{name}.log
stdout_logfile_maxbytes=10MB
"""


def say(_line: str) -> None:
    """What a command would show on screen."""


class Stack:
    """A runtime whose configuration is written by the test."""

    def __init__(self, root: Path) -> None:
        self.state = StateDir(root)
        self.runtime = NativeRuntime(self.state, Programs(root / "bin"))
        (self.state.rendered / "1").mkdir(parents=True)
        self.state.current.symlink_to("1")

    def configure(self, *, startsecs: int = 0, **commands: str) -> None:
        """Write the rendered configuration: a program per keyword."""
        programs = "".join(
            PROGRAM.format(name=name, command=line, startsecs=startsecs) for name, line in commands.items()
        )
        (self.state.current / "supervisord.conf").write_text(HEAD + programs)

    def process(self, name: str) -> processes.Process | None:
        """The living process of a service."""
        found = processes.read(self.state.run, name)
        return found if found and found.alive() else None

    def pid(self, name: str) -> int:
        """Its pid; 0 where none lives."""
        found = self.process(name)
        return found.pid if found else 0

    def states(self) -> dict[str, str]:
        """State of each service, without those that are left out."""
        return {item.name: item.state for item in self.runtime.status() if item.state != "not installed"}


def belonging_to(root: Path) -> list[int]:
    """Every living process whose environment says that it belongs to this state directory."""
    mark = f"DS01_STATE={root}\0".encode()
    pids = [int(folder.name) for folder in Path("/proc").glob("[0-9]*") if mark in environment_of(folder)]
    return [pid for pid in pids if processes.start_ticks(pid) is not None]


def environment_of(folder: Path) -> bytes:
    """What a process was started with; nothing where it has ended."""
    try:
        return (folder / "environ").read_bytes()
    except OSError:
        return b""


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    """A stack of two programs that sleep; ended afterwards."""
    made = Stack(tmp_path / "state")
    made.configure(alertmanager="sleep 1000", prometheus="sleep 1001")
    yield made
    made.runtime.down(say)


def test_up_starts_every_program(stack: Stack, wait_until: Wait) -> None:
    """After `up` each program of the rendered configuration runs."""
    stack.runtime.up(say)

    wait_until(lambda: stack.states() == {"alertmanager": "running", "prometheus": "running"}, "both run")


def test_up_again_disturbs_nothing(stack: Stack, wait_until: Wait) -> None:
    """A second `up` leaves the processes that run as they are."""
    stack.configure(web="sleep 1000")
    stack.runtime.up(say)
    wait_until(lambda: stack.pid("web"), "it runs")
    before = stack.pid("web")

    stack.runtime.up(say)

    assert stack.pid("web") == before


def test_a_killed_program_is_started_again(stack: Stack, wait_until: Wait) -> None:
    """`kill -9` of a child costs it its pid and nothing else."""
    stack.runtime.up(say)
    before = wait_until(lambda: stack.pid("prometheus"), "it runs")

    os.kill(int(str(before)), signal.SIGKILL)

    wait_until(lambda: stack.pid("prometheus") not in {0, before}, "another one runs")


def test_a_crashing_program_is_tried_for_ever_and_its_last_words_are_shown(
    stack: Stack, wait_until: Wait
) -> None:
    """More starts than supervisord's default three, no end state, and the reason in the status."""
    stack.configure(startsecs=1, prometheus=f"{sys.executable} -c \"raise SystemExit('no such disk')\"")
    stack.runtime.up(say)

    def starts() -> int:
        found = processes.read(stack.state.run, "prometheus")
        return len(found.starts) if found else 0

    wait_until(lambda: starts() > 4, "it was started a fifth time")

    status = stack.runtime.status()[0]
    assert status.state == "failing"
    assert "no such disk" in status.detail


def test_after_supervisord_was_killed_nothing_runs_twice(stack: Stack, wait_until: Wait) -> None:
    """The next `up` ends the orphans before it starts their successors."""
    stack.runtime.up(say)
    wait_until(lambda: stack.pid("prometheus") and stack.pid("alertmanager"), "both run")
    orphans = {stack.pid("prometheus"), stack.pid("alertmanager")}
    os.kill(stack.pid("supervisord"), signal.SIGKILL)
    wait_until(lambda: not stack.process("supervisord"), "supervisord is dead")
    assert set(stack.states().values()) == {"stray"}

    stack.runtime.up(say)

    wait_until(lambda: stack.pid("prometheus") and stack.pid("alertmanager"), "both run again")
    running = {stack.pid("prometheus"), stack.pid("alertmanager"), stack.pid("supervisord")}
    assert not running & orphans
    wait_until(lambda: set(belonging_to(stack.state.root)) == running, "one of each runs, and nothing else")


def test_down_after_supervisord_was_killed_leaves_no_process(stack: Stack, wait_until: Wait) -> None:
    """`stop` ends orphans too."""
    stack.runtime.up(say)
    wait_until(lambda: stack.pid("prometheus") and stack.pid("alertmanager"), "both run")
    os.kill(stack.pid("supervisord"), signal.SIGKILL)

    stack.runtime.down(say)

    assert belonging_to(stack.state.root) == []


def test_a_second_one_of_the_same_name_cannot_start(stack: Stack, wait_until: Wait) -> None:
    """The lock that a program inherits keeps others out, whoever starts them."""
    stack.runtime.up(say)
    wait_until(lambda: stack.pid("prometheus"), "it runs")

    second = command.run(
        [sys.executable, "-m", "ds01_monitoring.runtime.child", "prometheus", "--", "sleep", "1"],
        env={**os.environ, "DS01_RUN": str(stack.state.run)},
        check=False,
        timeout=60,
    )

    assert second.returncode == 75
    assert "runs already" in second.stdout


def test_down_ends_what_a_program_started(stack: Stack, wait_until: Wait) -> None:
    """The children of a program that runs beside the services end with it, however it ends itself."""
    stack.runtime.up(say)
    stack.runtime.supervisor.once("past", ["sh", "-c", "sleep 1000 & wait"], os.environ["PATH"])
    wait_until(
        lambda: len(belonging_to(stack.state.root)) == 5, "supervisord, two programs, the shell, its child"
    )

    stack.runtime.down(say)

    assert belonging_to(stack.state.root) == []


def test_a_stranger_with_a_recorded_pid_lives(stack: Stack) -> None:
    """A pid file that is older than the process which has the pid now ends nobody."""
    stranger = command.spawn(["sleep", "1000"])
    try:
        ticks = processes.start_ticks(stranger.pid) or 0
        stack.state.run.mkdir(parents=True)
        record = processes.Process("prometheus", stranger.pid, ticks - 1, processes.boot_id())
        processes.write(stack.state.run, record)
        processes.write(stack.state.run, replace(record, name="supervisord"))

        stack.runtime.down(say)

        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def test_a_changed_program_is_started_anew_and_the_others_stay(stack: Stack, wait_until: Wait) -> None:
    """`up` with another rendered configuration applies exactly the difference."""
    stack.configure(kept="sleep 1000", changed="sleep 1000", removed="sleep 1000")
    stack.runtime.up(say)
    wait_until(lambda: all(map(stack.pid, ("kept", "changed", "removed"))), "all run")
    kept, changed = stack.pid("kept"), stack.pid("changed")
    stack.configure(kept="sleep 1000", changed="sleep 2000", added="sleep 1000")

    stack.runtime.up(say)

    wait_until(lambda: stack.pid("added") and stack.pid("changed") not in {0, changed}, "the new ones run")
    assert stack.pid("kept") == kept
    assert stack.pid("removed") == 0


def test_restart_of_one_service_leaves_the_others(stack: Stack, wait_until: Wait) -> None:
    """`restart prometheus` gives it a new process and touches nothing else."""
    stack.runtime.up(say)
    wait_until(lambda: stack.pid("prometheus") and stack.pid("alertmanager"), "both run")
    before = stack.pid("prometheus"), stack.pid("alertmanager")

    stack.runtime.restart("prometheus", say)

    wait_until(lambda: stack.pid("prometheus") not in {0, before[0]}, "a new one runs")
    assert stack.pid("alertmanager") == before[1]


def test_a_reload_in_the_first_moment_ends_nothing(stack: Stack, wait_until: Wait) -> None:
    """SIGHUP before a program has its handler would end it, and cost it a restart."""
    stack.runtime.up(say)
    stack.runtime.reload(say)
    wait_until(lambda: stack.pid("prometheus") and stack.pid("alertmanager"), "both run")
    before = stack.pid("prometheus")

    stack.runtime.reload(say)

    wait_until(lambda: set(stack.states().values()) == {"running"}, "both run on")
    assert stack.pid("prometheus") == before


def test_an_unknown_service_is_answered_with_the_known_ones(stack: Stack) -> None:
    """A typo costs one message that has the names."""
    with pytest.raises(UserError, match="no service promethus") as caught:
        stack.runtime.restart("promethus", say)

    assert "alertmanager, prometheus" in caught.value.hint
    assert caught.value.exit_code == 2


def test_two_ups_at_once_start_one_stack(stack: Stack, wait_until: Wait) -> None:
    """Whoever comes second finds the work done."""
    both = [threading.Thread(target=lambda: stack.runtime.up(say)) for _ in range(2)]
    for thread in both:
        thread.start()
    for thread in both:
        thread.join(60)

    wait_until(lambda: stack.pid("prometheus") and stack.pid("alertmanager"), "both run")
    running = {stack.pid("prometheus"), stack.pid("alertmanager"), stack.pid("supervisord")}
    wait_until(lambda: set(belonging_to(stack.state.root)) == running, "one of each runs")


def test_a_broken_configuration_of_supervisord_is_reported(stack: Stack) -> None:
    """`up` says what supervisord said."""
    (stack.state.current / "supervisord.conf").write_text(HEAD.replace("%(ENV_DS01_USER)s", "no-such-user"))

    with pytest.raises(UserError, match="supervisord did not start"):
        stack.runtime.up(say)


def test_a_state_directory_with_a_long_path_works(tmp_path: Path, wait_until: Wait) -> None:
    """Where a socket's path would be too long for the kernel, a short private folder holds it."""
    made = Stack(tmp_path / ("long" * 25))
    made.configure(web="sleep 1000")
    try:
        made.runtime.up(say)
        wait_until(lambda: made.pid("web"), "it runs")
    finally:
        made.runtime.down(say)

    assert belonging_to(made.state.root) == []


def test_logs_show_what_the_services_print(stack: Stack, wait_until: Wait) -> None:
    """The last lines of each service, with its name before them."""
    stack.configure(talker="sh -c 'echo one; echo two; sleep 1000'", web="sleep 1000")
    stack.runtime.up(say)
    wait_until(lambda: "two" in list(stack.runtime.logs("talker", tail=1, follow=False)), "it has spoken")

    assert list(stack.runtime.logs("talker", tail=1, follow=False)) == ["two"]
    assert "talker      | one" in list(stack.runtime.logs(None, tail=2, follow=False))


def test_a_record_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    """What `child` wrote is what `start` and `stop` act on."""
    process = processes.this_process("web", environment="abc", starts=[1.0, 2.0])
    processes.write(tmp_path, process)

    found = processes.read(tmp_path, "web")

    assert found is not None
    assert asdict(found) == asdict(process)
    assert found.alive()
    assert not replace(found, boot_id="another boot").alive()


def test_half_a_record_is_no_record(tmp_path: Path) -> None:
    """A torn or foreign file names nobody."""
    (tmp_path / "web.json").write_text('{"name": "web", "pid":')
    (tmp_path / "list.json").write_text("[1]")

    assert processes.read_all(tmp_path) == []
