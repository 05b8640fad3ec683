"""The exporter's unit follows the rendered settings."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from ds01_monitoring import exporter_unit, stack
from ds01_monitoring.config.load import parse_settings
from ds01_monitoring.errors import UserError
from ds01_monitoring.paths import StateDir

if TYPE_CHECKING:
    from pathlib import Path

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root restarts a unit")


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StateDir:
    """The installed state directory of a machine whose systemctl writes down what it is told."""
    systemctl = tmp_path / "bin" / "systemctl"
    systemctl.parent.mkdir()
    systemctl.write_text(
        f'#!/bin/sh\necho "$@" >>"{tmp_path}/told"\n[ "$1" != is-active ] || test -e "{tmp_path}/active"\n'
    )
    systemctl.chmod(0o755)
    monkeypatch.setenv("PATH", f"{systemctl.parent}:{os.environ['PATH']}")
    made = StateDir(tmp_path / "state")
    made.current.mkdir(parents=True)
    (made.current / "exporter.env").write_text("A=1\n")
    for name, value in (("INSTALLED_STATE", made.root), ("SYSTEMD_RUNS", tmp_path), ("FILE", tmp_path)):
        monkeypatch.setattr(exporter_unit, name, value)
    return made


def _told(state: StateDir) -> list[str]:
    """What systemctl was told, without questions."""
    file = state.root.parent / "told"
    return [line for line in file.read_text().splitlines() if not line.startswith("is-active")]


@needs_root
def test_the_unit_is_restarted_when_its_settings_changed_and_only_then(state: StateDir) -> None:
    """The first time, after a change, and when it does not run."""
    restart = ["restart ds01-exporter.service"]
    exporter_unit.apply(state, lambda _text: None)
    assert _told(state) == restart

    (state.root.parent / "active").touch()
    exporter_unit.apply(state, lambda _text: None)
    assert _told(state) == restart

    (state.current / "exporter.env").write_text("A=2\n")
    exporter_unit.apply(state, lambda _text: None)
    assert _told(state) == restart * 2


def test_another_state_directory_leaves_the_unit_alone(state: StateDir, tmp_path: Path) -> None:
    """The unit reads the installed one only."""
    exporter_unit.apply(StateDir(tmp_path / "another"), lambda _text: None)

    assert not (tmp_path / "told").exists()


def test_a_unit_that_is_not_installed_is_named(
    state: StateDir, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`deployment: systemd` without the unit is a mistake with a remedy."""
    monkeypatch.setattr(exporter_unit, "FILE", tmp_path / "nothing")

    with pytest.raises(UserError) as refused:
        exporter_unit.apply(state, lambda _text: None)

    assert "monitoring-manage install" in refused.value.hint


@pytest.mark.parametrize(
    ("deployment", "installed", "by_systemd"),
    [("systemd", False, True), ("auto", True, True), ("auto", False, False), ("process", True, False)],
)
def test_who_runs_the_exporter(
    deployment: str, installed: bool, by_systemd: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`auto` is the unit where it is installed; the others are what they say. The demo has its own."""
    unit = tmp_path / "unit"
    if installed:
        unit.touch()
    monkeypatch.setattr(stack, "EXPORTER_UNIT", unit)
    settings = parse_settings(f"exporter: {{deployment: {deployment}}}\nruntime: native\nhardware: none\n")

    assert stack.plan(settings, StateDir(tmp_path)).exporter_by_systemd is by_systemd
    assert stack.plan(settings, StateDir(tmp_path), demo=True).exporter_by_systemd is False
