"""As whom servers run where root starts them natively."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ds01_monitoring import secrets
from ds01_monitoring.paths import StateDir
from ds01_monitoring.runtime import accounts, owner, processes
from ds01_monitoring.runtime.native import NativeRuntime
from ds01_monitoring.runtime.programs import Programs

from .test_native import HEAD, PROGRAM

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Wait = Callable[[Callable[[], object], str], object]

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")

SLEEPER = "/bin/sleep 1000"


def say(_line: str) -> None:
    """What a command would show on screen."""


@pytest.fixture
def state(monkeypatch: pytest.MonkeyPatch) -> Iterator[StateDir]:
    """A state directory of root's that everybody can pass through, with a Prometheus, an Alertmanager, an exporter."""
    monkeypatch.setattr(owner, "USER", "no-such-user-here")
    root = Path(tempfile.mkdtemp(prefix="ds01-accounts-"))
    root.chmod(0o755)
    made = StateDir(root / "state")
    (made.rendered / "1").mkdir(parents=True)
    made.current.symlink_to("1")
    made.secrets.mkdir(mode=0o700)
    (made.secrets / "http_password").write_text("x")
    (made.secrets / "http_password").chmod(0o600)
    names = ("prometheus", "alertmanager", "ds01-exporter")
    programs = "".join(PROGRAM.format(name=name, command=SLEEPER, startsecs=0) for name in names)
    (made.current / "supervisord.conf").write_text(HEAD + programs)
    for name in ("prometheus", "alertmanager"):
        (made.current / name).mkdir()
        (made.current / name / f"{name}.yml").write_text("global: {}\n")
    yield made
    NativeRuntime(made, Programs(root / "bin")).down(say)
    shutil.rmtree(root)


@pytest.fixture
def runtime(state: StateDir) -> NativeRuntime:
    """The native runtime of it."""
    return NativeRuntime(state, Programs(state.bin))


def users(state: StateDir) -> dict[str, int]:
    """The user of each living service that has become its program."""
    found = {}
    for process in processes.read_all(state.run):
        folder = Path("/proc") / str(process.pid)
        if process.alive() and b"sleep" in (folder / "cmdline").read_bytes().split(b"\0")[0]:
            found[process.name] = folder.stat().st_uid
    return found


def test_servers_run_as_somebody_who_is_not_root_and_exporters_as_root(
    state: StateDir, runtime: NativeRuntime, wait_until: Wait
) -> None:
    """Data and secrets become readable for them, what root had written before included; root's files stay root's."""
    old = state.data / "prometheus" / "wal"
    old.mkdir(parents=True)
    (old / "0001").write_text("written as root")

    runtime.up(say)

    ours = owner.NOBODYS_ID
    wanted = {"prometheus": ours, "alertmanager": ours, "ds01-exporter": 0}
    wait_until(lambda: users(state) == wanted, "each runs as its user")
    for path in (old / "0001", state.data, state.secrets / "http_password"):
        assert path.stat().st_uid == ours, path
    for path in (state.root, state.run, state.logs, state.rendered):
        assert path.stat().st_uid == 0, path
    groups = (Path("/proc") / str(processes.read(state.run, "prometheus").pid) / "status").read_text()  # type: ignore[union-attr]
    assert f"Groups:\t{ours} \n" in groups


def test_a_server_that_may_not_read_a_secret_stays_roots_and_says_so(
    state: StateDir, runtime: NativeRuntime, wait_until: Wait
) -> None:
    """Mail that cannot be sent would be the worse choice; once the file is its user's, the server is too."""
    secret = state.root.parent / "relay password"
    secret.write_text("x")
    secret.chmod(0o600)
    configuration = state.current / "alertmanager" / "alertmanager.yml"
    configuration.write_text(f"global:\n  smtp_auth_password_file: '{secret}'\n")

    runtime.up(say)

    before = {"prometheus": owner.NOBODYS_ID, "alertmanager": 0, "ds01-exporter": 0}
    wait_until(lambda: users(state) == before, "it runs as root")
    told = {service.name: service.detail for service in runtime.status()}
    assert told["alertmanager"] == f"runs as root, as user {owner.NOBODYS_ID} cannot reach {secret}"
    assert told["prometheus"] == ""
    os.chown(secret, owner.NOBODYS_ID, owner.NOBODYS_ID)

    runtime.reload(say)

    after = {**before, "alertmanager": owner.NOBODYS_ID}  # A sleeper dies of the signal, and comes again.
    wait_until(lambda: users(state) == after, "it runs as its user, and the others as before")
    assert {service.detail for service in runtime.status() if service.name == "alertmanager"} == {""}


def test_servers_of_before_are_replaced_by_the_next_start(
    state: StateDir, runtime: NativeRuntime, monkeypatch: pytest.MonkeyPatch, wait_until: Wait
) -> None:
    """An upgrade takes root away from what runs as root."""
    with monkeypatch.context() as old:
        old.setattr(accounts, "assign", lambda *_arguments: {})
        runtime.up(say)
        wait_until(lambda: list(users(state).values()) == [0, 0, 0], "all run as root")
    pid = processes.read(state.run, "ds01-exporter")

    runtime.up(say)

    wait_until(lambda: users(state).get("prometheus") == owner.NOBODYS_ID, "it runs as its user")
    assert processes.read(state.run, "ds01-exporter") == pid


def test_a_state_directory_that_is_closed_to_others_leaves_the_servers_to_root(
    state: StateDir, runtime: NativeRuntime, wait_until: Wait
) -> None:
    """As below /root."""
    state.root.parent.chmod(0o700)

    runtime.up(say)

    wait_until(lambda: list(users(state).values()) == [0, 0, 0], "all run as root")
    assert all("cannot reach" in accounts.read(state)[name].why for name in ("prometheus", "alertmanager"))


def test_secrets_stay_readable_for_the_servers_while_root_renders(
    state: StateDir, runtime: NativeRuntime, wait_until: Wait
) -> None:
    """A server reads its password file at every scrape; there is no moment in which it may not."""
    runtime.up(say)
    wait_until(lambda: users(state).get("prometheus") == owner.NOBODYS_ID, "it runs as its user")

    secrets.ensure(state, {})

    for path in (state.secrets, *state.secrets.iterdir()):
        assert path.stat().st_uid == owner.NOBODYS_ID, path


def test_the_demo_stays_as_it_is(state: StateDir) -> None:
    """Its past is written beside the running Prometheus, by the same user."""
    demo = PROGRAM.format(name="ds01-demo", command=f"{sys.executable} -V", startsecs=0)
    (state.current / "supervisord.conf").write_text(
        HEAD + demo + PROGRAM.format(name="prometheus", command=SLEEPER, startsecs=0)
    )

    assert accounts.assign(state, os.environ["PATH"]) == {}
