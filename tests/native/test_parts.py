"""The small parts of the native runtime: who has a port, following a log, reading an environment file."""

from __future__ import annotations

import os
import socket
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ds01_monitoring import command
from ds01_monitoring.runtime import binaries, child, logfiles, ports

if TYPE_CHECKING:
    from collections.abc import Callable

    Wait = Callable[[Callable[[], object], str], object]


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
def test_a_listener_is_found_with_its_process(family: socket.AddressFamily) -> None:
    """IPv4 and IPv6 listeners are named by pid, program and user."""
    with socket.socket(family) as listening:
        try:
            listening.bind(("", 0))
        except OSError:
            pytest.skip("this machine has no IPv6")
        listening.listen()
        port = listening.getsockname()[1]

        found = ports.listeners([port])

    assert found[port].pid == os.getpid()
    assert f"pid {os.getpid()}" in str(found[port])


def test_a_connection_is_no_listener() -> None:
    """A port that is only connected from is free."""
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.create_connection(server.getsockname()) as connection,
    ):
        assert ports.listeners([connection.getsockname()[1]]) == {}


def test_a_listener_of_somebody_whose_processes_are_hidden_is_named_by_user() -> None:
    """What an ordinary user may see of another user's listener is the user."""
    assert str(ports.Listener(9090, 1, "ann")) == "a process of user ann"


def test_following_goes_on_after_rotation(tmp_path: Path, wait_until: Wait) -> None:
    """Lines before, while and after the file is renamed away come once and in order."""
    file = tmp_path / "web.log"
    file.write_text("one\ntwo\n")
    seen: list[str] = []
    ended = threading.Event()

    def read() -> None:
        for _, line in logfiles.follow({"web": file}, 1, until=ended.is_set):
            seen.append(line)

    reader = threading.Thread(target=read)
    reader.start()
    try:
        wait_until(lambda: seen == ["two"], "the last line is shown")
        with file.open("a") as stream:
            stream.write("three\nfo")
            stream.flush()
            wait_until(lambda: seen == ["two", "three"], "a whole line is shown")
            stream.write("ur\n")
        wait_until(lambda: seen[-1] == "four", "a line in two halves is shown as one")
        file.rename(tmp_path / "web.log.1")
        file.write_text("five\n")
        wait_until(lambda: seen[-1] == "five", "the new file is followed")
    finally:
        ended.set()
        reader.join(30)

    assert seen == ["two", "three", "four", "five"]


def test_a_service_without_a_log_has_no_lines(tmp_path: Path) -> None:
    """A log that does not exist yet is empty, not an error."""
    assert list(logfiles.last({"web": tmp_path / "web.log"}, 5)) == []


def test_an_environment_file_is_read_as_systemd_reads_it(tmp_path: Path) -> None:
    """Comments are skipped, quotes taken off, everything else kept."""
    file = tmp_path / "exporter.env"
    file.write_text(
        '# a comment\n; another\nPLAIN=a b\nQUOTED="c \\"d\\""\nSINGLE=\'e\'\nEMPTY=\nEQUALS=f=g\n\n'
    )

    assert child.read_environment(file) == {
        "PLAIN": "a b",
        "QUOTED": 'c "d"',
        "SINGLE": "e",
        "EMPTY": "",
        "EQUALS": "f=g",
    }


def _program(folder: Path, name: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / name
    file.write_text("#!/bin/sh\n")
    file.chmod(0o755)
    return file


def test_debians_names_are_found_under_the_upstream_names(tmp_path: Path) -> None:
    """`alertmanager` may be `prometheus-alertmanager`; the upstream name wins where both exist."""
    debian = _program(tmp_path / "a", "prometheus-alertmanager")
    assert binaries.find("alertmanager", str(tmp_path / "a")) == debian

    upstream = _program(tmp_path / "b", "alertmanager")
    assert binaries.find("alertmanager", f"{tmp_path / 'a'}{os.pathsep}{tmp_path / 'b'}") == upstream
    assert binaries.find("prometheus", str(tmp_path / "a")) is None


def test_only_debians_prometheus_is_told_where_its_page_is(tmp_path: Path) -> None:
    """The option is unknown to the upstream build, which would refuse to start."""
    upstream = _program(tmp_path / "upstream", "prometheus")
    debian = _program(tmp_path / "debian" / "bin", "prometheus")
    page = tmp_path / "debian" / "share" / "prometheus" / "web"
    page.mkdir(parents=True)

    assert binaries.own_options("prometheus", upstream) == []
    assert binaries.own_options("prometheus", debian) == [f"--web.local-assets={page}"]


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("prometheus, version 2.42.0+ds (branch: debian/sid, revision: 2.42.0+ds-5+deb12u1)", False),
        (
            "prometheus, version 3.0.1 (branch: HEAD, revision: 1f56e8492c31a558ccea833027db4bd7f8b6d0e9)",
            False,
        ),
        (
            "prometheus, version 3.1.0 (branch: HEAD, revision: 7086161a93b262aa0949dbf2aba15a5a7b13e0a3)",
            True,
        ),
        ("prometheus, version 3.5.3+ds1 (branch: debian/sid, revision: 3.5.3+ds1-6)", True),
        ("no version", False),
    ],
)
def test_prometheus_evaluates_side_by_side_where_it_keeps_the_order(
    tmp_path: Path, said: str, told: bool
) -> None:
    """An older one does not know the feature, or forgets the order of a group that reads ALERTS."""
    program = _program(tmp_path, "prometheus")
    program.write_text(f"#!/bin/sh\necho '{said}'\n")

    assert binaries.features("prometheus", program) == ["--enable-feature=concurrent-rule-eval"] * told
    assert binaries.features("alertmanager", program) == []


def test_a_prometheus_that_does_not_say_its_version_starts_all_the_same(tmp_path: Path) -> None:
    """It is started without the feature, and its log says why."""
    program = _program(tmp_path / "bin", "prometheus")
    program.write_text('#!/bin/sh\necho "arguments: $*"\n[ "$1" != --version ]\n')
    run = tmp_path / "run"
    run.mkdir()
    environment = {
        **os.environ,
        "DS01_RUN": str(run),
        "PATH": f"{program.parent}{os.pathsep}{os.environ['PATH']}",
    }

    child_of_ours = [
        sys.executable,
        "-m",
        child.__name__,
        "prometheus",
        "--",
        "prometheus",
        "--config.file=x",
    ]
    done = command.run(child_of_ours, timeout=60, env=environment)

    assert done.stdout.splitlines()[-1] == "arguments: --config.file=x"
    assert "without what depends on the version" in done.stdout


def test_grafana_is_told_its_home(tmp_path: Path) -> None:
    """Both of its programs work: `grafana server`, and the older `grafana-server`."""
    new, old = _program(tmp_path / "bin", "grafana"), _program(tmp_path / "bin", "grafana-server")
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf" / "defaults.ini").touch()

    assert binaries.own_options("grafana", new) == ["server", f"--homepath={tmp_path}"]
    assert binaries.own_options("grafana", old) == [f"--homepath={tmp_path}"]


def test_waiting_for_another_service_ends_when_it_listens() -> None:
    """The exporter of the demo starts after the demo."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        child._wait_for(f"127.0.0.1:{server.getsockname()[1]}")


def test_the_repository_says_which_programs_the_native_runtime_needs() -> None:
    """What `start` looks for is what supervisord's template starts, apart from the optional ones."""
    template = (Path(__file__).parents[2] / "monitoring" / "supervisord.conf.j2").read_text()

    assert all(name in template for name in binaries.REQUIRED if name not in {"promtool", "amtool"})
