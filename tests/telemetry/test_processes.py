"""Whose a GPU process is, from a procfs of our own and from the real one."""

from __future__ import annotations

import os
import subprocess  # noqa: TID251 - a child to look for.
from typing import TYPE_CHECKING

from gpu_telemetry.processes import Owner, ProcessTable, ProcessTree, _login

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

CONTAINER = "0123456789abcdef" * 4


def process(
    proc: Path, pid: int, parent: int, *, started: int = 100, name: str = "python", cgroup: str = "0::/"
) -> None:
    """A process in a procfs."""
    folder = proc / str(pid)
    folder.mkdir(exist_ok=True)
    (folder / "comm").write_text(name + "\n")
    (folder / "cgroup").write_text(cgroup + "\n")
    (folder / "stat").write_text(f"{pid} ({name}) S {parent} " + "0 " * 17 + f"{started} 0 0\n")


def test_a_container_is_known_by_its_cgroup(tmp_path: Path) -> None:
    """With cgroup v1 and v2, with systemd's scopes and with Kubernetes' pods."""
    for pid, cgroup in enumerate(
        (
            f"12:devices:/docker/{CONTAINER}",
            f"0::/system.slice/docker-{CONTAINER}.scope",
            f"0::/kubepods/pod1/{CONTAINER}",
        ),
        100,
    ):
        process(tmp_path, pid, 1, cgroup=cgroup)
        assert ProcessTable(tmp_path).owner(pid).container == CONTAINER


def test_a_process_that_has_gone_is_unknown(tmp_path: Path) -> None:
    """No name, no user, no container."""
    assert ProcessTable(tmp_path).owner(100) == Owner()


def test_an_owner_without_login_name_is_a_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A user id of a container that the host does not know."""

    def unknown(uid: int) -> None:
        raise KeyError(uid)

    _login.cache_clear()
    monkeypatch.setattr("pwd.getpwuid", unknown)
    process(tmp_path, 100, 1)
    assert ProcessTable(tmp_path).owner(100).user == str(os.getuid())
    _login.cache_clear()


def test_owners_are_asked_again_after_a_while(tmp_path: Path) -> None:
    """A pid may belong to somebody else later."""
    now = [0.0]
    table = ProcessTable(tmp_path, clock=lambda: now[0])
    process(tmp_path, 100, 1, name="one")
    assert table.owner(100).name == "one"
    process(tmp_path, 100, 1, name="two")
    assert table.owner(100).name == "one"
    now[0] = 60.0
    assert table.owner(100).name == "two"


def test_a_tree_is_all_descendants(tmp_path: Path) -> None:
    """Names with spaces and brackets do not mislead; strangers and the root itself are not in it."""
    process(tmp_path, 10, 1)
    process(tmp_path, 11, 10, name="a) S 1 (b")
    process(tmp_path, 12, 11)
    process(tmp_path, 13, 1)
    tree = ProcessTree(10, tmp_path)
    assert [pid for pid in (1, 10, 11, 12, 13, 99) if pid in tree] == [11, 12]


def test_a_pid_that_is_used_again_is_another_process(tmp_path: Path) -> None:
    """Known by its start time, in both directions; one that has just ended is what it was."""
    process(tmp_path, 10, 1)
    process(tmp_path, 11, 10)
    tree = ProcessTree(10, tmp_path)
    assert 11 in tree
    (tmp_path / "11/stat").unlink()
    assert 11 in tree
    process(tmp_path, 11, 1, started=200)
    assert 11 not in tree


def test_the_real_tree_has_our_child() -> None:
    """On the machine's own procfs."""
    with subprocess.Popen(["sleep", "600"]) as child:
        assert child.pid in ProcessTree(os.getpid())
        assert os.getppid() not in ProcessTree(os.getpid())
        child.kill()
