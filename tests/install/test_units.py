"""What systemd runs instead of the stack is asked and told through systemd."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from ds01_monitoring import units
from ds01_monitoring.cli import manage
from ds01_monitoring.deployment import Deployment
from ds01_monitoring.errors import UserError
from ds01_monitoring.health import Check, local
from ds01_monitoring.http import Client
from ds01_monitoring.paths import StateDir

if TYPE_CHECKING:
    from pathlib import Path

    from click.testing import Result

JOURNALCTL = """\
#!/bin/sh
echo "$@" >>"{told}"
echo "2026-01-31T12:00:00+0000 gpu01 ds01-exporter[1]: listening"
case "$*" in *--follow*) echo "2026-01-31T12:00:01+0000 gpu01 ds01-exporter[1]: more"; exec sleep 600;; esac
"""


@pytest.fixture
def running(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Deployment:
    """A stack of Prometheus and node_exporter on a machine whose units are stand-ins."""
    monkeypatch.setattr(units, "UNITS", tmp_path / "units")
    (tmp_path / "units").mkdir()
    (tmp_path / "units" / "ds01-exporter.service").touch()
    programs = tmp_path / "programs"
    programs.mkdir()
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    state = StateDir(tmp_path / "state")
    state.current.mkdir(parents=True)
    (state.current / "supervisord.conf").write_text("[program:prometheus]\n[program:node-exporter]\n")
    state.logs.mkdir()
    (state.logs / "prometheus.log").write_text("ready\n")
    addresses = {"prometheus": "127.0.0.1:9", "ds01-exporter": "127.0.0.1:9"}
    made = Deployment(state, "native", "none", False, False, "gpu01", addresses)
    made.write()
    return made


def _program(running: Deployment, name: str, text: str) -> None:
    file = running.state.root.parent / "programs" / name
    file.write_text(text)
    file.chmod(0o755)


def _logs(running: Deployment, *arguments: str) -> Result:
    return CliRunner().invoke(manage, [f"--state-dir={running.state.root}", "logs", *arguments])


def test_the_exporters_log_is_its_journal(running: Deployment, tmp_path: Path) -> None:
    """One service's lines stand alone; among all services' they carry the name."""
    _program(running, "journalctl", JOURNALCTL.format(told=tmp_path / "told"))

    one, everything = _logs(running, "ds01-exporter", "--tail", "7"), _logs(running, "--tail", "7")

    assert one.output == "2026-01-31T12:00:00+0000 gpu01 ds01-exporter[1]: listening\n"
    assert "--unit ds01-exporter.service --lines 7" in (tmp_path / "told").read_text()
    assert "ds01-exporter | 2026-01-31T12:00:00" in everything.output
    assert "prometheus    | ready" in everything.output


def test_a_journal_is_followed(running: Deployment, tmp_path: Path) -> None:
    """What comes later is shown, too; the program that reads it ends with its reader."""
    _program(running, "journalctl", JOURNALCTL.format(told=tmp_path / "told"))
    journal = units.follow("ds01-exporter")

    lines = iter(journal)

    assert next(lines).endswith("listening")
    assert next(lines).endswith("more")
    assert journal.end() != 0


def test_a_machine_without_journalctl_says_where_to_look(
    running: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one service fails with the reason; among all the others are still shown."""
    monkeypatch.setenv("PATH", str(running.state.root))

    one, everything = _logs(running, "ds01-exporter", "--tail", "1"), _logs(running, "--tail", "1")

    assert one.exit_code == 1
    assert "systemd runs ds01-exporter, and its journal cannot be read: the program journalctl" in one.output
    assert "hint:" in one.output
    assert everything.exit_code == 0
    assert "the program journalctl is not here" in everything.output
    assert "| ready" in everything.output


def test_a_journal_that_this_user_may_not_read_says_so(running: Deployment) -> None:
    """With journalctl's own words."""
    _program(
        running, "journalctl", "#!/bin/sh\necho No journal files were opened: Permission denied\nexit 1\n"
    )

    with pytest.raises(UserError, match="Permission denied") as refused:
        list(units.lines("ds01-exporter", tail=1))

    assert "sudo" in refused.value.hint


def test_a_service_that_is_none_is_refused_with_those_that_are(running: Deployment) -> None:
    """Units are among them."""
    refused = _logs(running, "promethus")

    assert refused.exit_code == 2
    assert "one of: prometheus, node-exporter, ds01-exporter" in refused.output


def test_a_restart_refuses_an_unknown_service_before_it_changes_anything(
    running: Deployment, tmp_path: Path
) -> None:
    """A changed configuration is not put in force by a slip of the finger; a unit is a service, too."""
    (tmp_path / "monitoring.yaml").write_text("runtime: native\nhardware: none\n")
    options = [f"--config={tmp_path / 'monitoring.yaml'}", f"--state-dir={running.state.root}"]
    before = sorted(running.state.root.rglob("*"))

    refused = CliRunner().invoke(manage, [*options, "restart", "promethus"])

    assert refused.exit_code == 2
    assert "there is no service promethus" in refused.output
    assert "ds01-exporter" in refused.output
    assert sorted(running.state.root.rglob("*")) == before


@pytest.mark.skipif(os.geteuid() != 0, reason="only root restarts a unit")
def test_a_unit_is_restarted_by_systemd(running: Deployment, tmp_path: Path) -> None:
    """Nobody else can."""
    _program(running, "systemctl", f'#!/bin/sh\necho "$@" >"{tmp_path}/told"\n')

    units.restart("ds01-exporter")

    assert (tmp_path / "told").read_text() == "restart ds01-exporter.service\n"


def test_status_knows_the_unit(running: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    """It stands among the services; a failed one has its next step."""
    monkeypatch.setattr(local, "SYSTEMD_RUNS", running.state.root)
    found: dict[str, Check] = {}
    for state in ("active", "failed"):
        _program(running, "systemctl", f"#!/bin/sh\necho {state}\n[ {state} = active ]\n")
        found[state] = {check.name: check for check in local.services(running, Client(None))}["ds01-exporter"]

    assert found["active"].state == "ok"
    assert found["failed"].state == "failed"
    assert "monitoring-manage logs ds01-exporter" in found["failed"].hint


def test_what_the_stack_runs_itself_is_not_the_units(running: Deployment) -> None:
    """`exporter: {deployment: process}` on a machine with the unit, and the demo, have their own exporter."""
    assert units.beside(running, ["prometheus"]) == ["ds01-exporter"]
    assert units.beside(running, ["prometheus", "ds01-exporter"]) == []
    demo = Deployment(running.state, "native", "dcgm", True, False, "demo", running.addresses)
    assert units.beside(demo, ["prometheus"]) == []
