"""`install` and `uninstall`: what they write, what they leave alone, and what they leave behind."""

from __future__ import annotations

import os
import shutil
import stat
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ds01_monitoring import command
from ds01_monitoring.install import gpus, removal
from ds01_monitoring.install.files import DOCKER_GROUP, DOCKER_GROUP_TEXT
from ds01_monitoring.install.place import Place

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .conftest import Machine

UNIT = "/etc/systemd/system/ds01-exporter.service"
SITE = "/etc/ds01-monitoring/monitoring.yaml"


@contextmanager
def newer(machine: Machine) -> Iterator[None]:
    """A clone with a newer version of monitoring.yaml, whose environment counts as made."""
    template = machine.clone / "config" / "monitoring.yaml"
    shipped = template.read_text()
    version = next(machine.at("/opt/ds01-monitoring/versions").iterdir())
    template.write_text(shipped + "# something new\n")
    try:
        (copying,) = (line for line in machine.install("--dry-run") if line.startswith("copy the code"))
        shutil.copytree(version, machine.at(copying.split()[7]))
        yield
    finally:
        template.write_text(shipped)


def test_a_rehearsal_prints_what_install_does_and_does_nothing(machine: Machine) -> None:
    """--dry-run and install print the same lines, and the first leaves the machine as it was."""
    before = machine.content()

    rehearsed = machine.install("--dry-run")

    assert machine.content() == before
    assert machine.install() == rehearsed
    assert machine.content() != before


def test_a_second_install_changes_nothing(machine: Machine) -> None:
    """What is there and fits is left alone."""
    machine.install("--telemetry")
    before = machine.content()

    assert machine.install() == ["installed already; nothing to do"]
    assert machine.content() == before


def test_an_edited_file_is_never_overwritten(machine: Machine) -> None:
    """The new version is put beside it and named; the edited one works on."""
    machine.install()
    machine.at(SITE).write_text("site: {name: Ours}\n")
    shipped = (machine.clone / "config" / "monitoring.yaml").read_text()

    with newer(machine):
        lines = machine.install()
        again = machine.install()

    assert f"keep {SITE}, which was edited, and write {SITE}.new: compare them" in lines
    assert machine.at(SITE).read_text() == "site: {name: Ours}\n"
    assert machine.at(f"{SITE}.new").read_text() == shipped + "# something new\n"
    assert again == ["installed already; nothing to do"]


def test_a_newer_version_below_a_stack_that_runs_says_how_it_gets_there(machine: Machine) -> None:
    """What runs goes on as it is; an installation that changes no code has nothing to say."""
    machine.install()
    record = machine.at("/var/lib/ds01-monitoring/run/deployment.json")
    record.parent.mkdir()
    record.touch()

    with newer(machine):
        told = [line for line in machine.install() if line.startswith("next: monitoring-manage restart")]
        again = machine.install()

    assert len(told) == 1
    assert again == ["installed already; nothing to do"]


def test_an_edited_file_of_an_unchanged_version_is_no_news(machine: Machine) -> None:
    """As long as what ships stays the same there is nothing to compare."""
    machine.install()
    machine.at(SITE).write_text("site: {name: Ours}\n")

    assert machine.install() == ["installed already; nothing to do"]
    assert not machine.at(f"{SITE}.new").exists()


def test_a_file_that_was_not_edited_is_updated(machine: Machine) -> None:
    """An old version of ours is replaced without a question."""
    machine.install()
    unit = machine.at(UNIT)
    shipped = unit.read_text()
    manifest = machine.at("/opt/ds01-monitoring/manifest.json")
    unit.write_text("# of an older version\n")
    from ds01_monitoring.install.manifest import digest  # The record says that this is what was installed.

    manifest.write_text(manifest.read_text().replace(digest(shipped.encode()), digest(unit.read_bytes())))

    assert f"update {UNIT}" in machine.install()
    assert unit.read_text() == shipped


def test_the_unit_of_the_first_implementation_is_kept_beside_ours(machine: Machine) -> None:
    """A file of the same name that we never installed is somebody's work."""
    machine.at(UNIT).parent.mkdir(parents=True)
    machine.at(UNIT).write_text("[Service]\nUser=root\n")
    command_of_old = machine.at("/usr/local/bin/monitoring-manage")
    command_of_old.parent.mkdir(parents=True)
    command_of_old.symlink_to("/opt/ds01-infra/scripts/monitoring-manage")

    machine.install()

    assert machine.at(UNIT).read_text() == "[Service]\nUser=root\n"
    assert "User=ds01-monitoring" in machine.at(f"{UNIT}.new").read_text()
    assert str(command_of_old.readlink()) == "/opt/ds01-infra/scripts/monitoring-manage"
    assert str(Path(f"{command_of_old}.new").readlink()) == "/opt/ds01-monitoring/bin/monitoring-manage"


def test_uninstall_keeps_what_cannot_be_made_again(machine: Machine) -> None:
    """Configuration and state stay; an edited unit is set aside, so that it starts nothing."""
    machine.install("--telemetry")
    secret = machine.at("/var/lib/ds01-monitoring/secrets/http_password")
    secret.parent.mkdir()
    secret.write_text("x")
    machine.at(UNIT).write_text("# edited\n")

    machine.uninstall()

    left = {name for name, content in machine.content().items() if content is not None}
    assert left == {
        SITE,
        "/etc/default/gpu-telemetry",
        f"{UNIT}.saved",
        "/var/lib/ds01-monitoring/secrets/http_password",
    }


def test_uninstall_with_data_leaves_nothing(machine: Machine) -> None:
    """Not a file, whatever was edited or offered."""
    machine.at(UNIT).parent.mkdir(parents=True)
    machine.at(UNIT).write_text("# of the first implementation\n")
    machine.install("--telemetry")
    machine.at(SITE).write_text("site: {name: Ours}\n")
    (machine.at("/var/lib/ds01-monitoring") / "data").mkdir()

    rehearsed = machine.uninstall("--data", "--dry-run")

    assert machine.uninstall("--data") == rehearsed
    assert [name for name, content in machine.content().items() if content is not None] == []
    assert machine.uninstall("--data") == ["not installed; nothing to do"]


def test_uninstall_with_data_also_takes_what_an_earlier_uninstall_kept(machine: Machine) -> None:
    """The record of the installation went with the code; another program's files of such names stay."""
    machine.install("--telemetry")
    machine.at(UNIT).write_text("# edited\n")
    told = machine.uninstall()
    machine.at(UNIT).write_text("# of the first implementation\n")

    machine.uninstall("--data")

    assert any("from a clone" in line for line in told)
    assert {name for name, content in machine.content().items() if content is not None} == {UNIT}


def test_an_uninstall_that_was_interrupted_goes_on(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Systemctl refuses to disable a unit whose file is gone, and the rest would stay for ever."""
    machine.install()
    machine.at(UNIT).unlink()
    monkeypatch.setattr(Place, "systemd", property(lambda _place: True))

    steps = [step.text for step in removal.make(Place(machine.root), data=True).steps]

    assert "systemctl disable --now ds01-monitoring.service" in steps
    assert "systemctl daemon-reload" in steps


def test_everything_is_readable_whatever_the_umask(clone: Path, machine: Machine) -> None:
    """The service's user and people at the terminal read what root installed with umask 077."""
    before = os.umask(0o077)
    try:
        machine.install()
    finally:
        os.umask(before)

    for path in machine.root.rglob("*"):
        if not path.is_symlink() and "versions" not in path.parts:
            wanted = 0o755 if path.is_dir() or path.parent.name == "bin" else 0o644
            assert stat.S_IMODE(path.stat().st_mode) == wanted, path


@pytest.mark.timeout(900)
def test_the_installed_programs_run_without_the_clone(built: Machine, tmp_path: Path) -> None:
    """Each launcher starts its program from the copy, and nothing in the copy leads back to the clone."""
    for name in ("monitoring-manage", "monitoring-status", "ds01-exporter", "ds01-demo", "gpu-telemetry"):
        done = command.run(
            [str(built.at(f"/opt/ds01-monitoring/bin/{name}")), "--help"], timeout=60, cwd=tmp_path
        )
        assert name in done.stdout
    where = "import ds01_monitoring.paths as p, ds01_exporter as e; print(p.data_root(), e.__file__)"
    python = built.at("/opt/ds01-monitoring/venv/bin/python")
    for path in command.run([str(python), "-I", "-c", where], timeout=60).stdout.split():
        assert Path(path).resolve().is_relative_to(built.root.resolve()), path
    assert built.at("/opt/ds01-monitoring/docs/install.md").is_file()
    assert not list(built.root.rglob("__editable__*"))


@pytest.mark.timeout(900)
def test_the_installed_scripts_name_the_place_where_they_will_run(built: Machine) -> None:
    """A packager's build folder stands nowhere in the programs."""
    scripts = [path for path in built.at("/opt/ds01-monitoring/venv/bin").iterdir() if not path.is_symlink()]

    assert (built.at("/opt/ds01-monitoring/venv/bin/supervisord")) in scripts
    for script in scripts:
        assert str(built.root).encode() not in script.read_bytes(), script


@pytest.mark.timeout(900)
def test_the_installed_copy_can_repair_its_files(built: Machine) -> None:
    """Run from /opt, install has no clone to copy from and brings back what is missing."""
    unit = built.at("/etc/logrotate.d/ds01-monitoring")
    unit.unlink()

    done = command.run(
        [str(built.at("/opt/ds01-monitoring/bin/monitoring-manage")), "install", "--root", str(built.root)],
        timeout=60,
    )

    assert done.stdout.splitlines()[0] == "write /etc/logrotate.d/ds01-monitoring"
    assert unit.is_file()


@pytest.mark.timeout(900)
@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd-analyze is not installed")
def test_the_units_load(built: Machine, tmp_path: Path) -> None:
    """Systemd finds nothing to complain about; the programs that they name are there and can be run."""
    units = []
    for name in ("ds01-exporter", "ds01-monitoring", "gpu-telemetry"):
        units.append(tmp_path / f"{name}.service")
        text = built.at(f"/etc/systemd/system/{name}.service").read_text()
        units[-1].write_text(text.replace("/opt/ds01-monitoring", str(built.at("/opt/ds01-monitoring"))))

    done = command.run(["systemd-analyze", "verify", "--man=no", *map(str, units)], timeout=120, check=False)

    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd-analyze is not installed")
def test_the_exporter_is_well_confined(machine: Machine) -> None:
    """Systemd's own measure of exposure is 2.5 or less, with the Docker group's drop-in too."""
    machine.install()
    drop_in = machine.at(str(DOCKER_GROUP))

    for text in ("", DOCKER_GROUP_TEXT):
        drop_in.parent.mkdir(exist_ok=True)
        drop_in.write_text(text)
        done = command.run(
            ["systemd-analyze", "security", "--offline=true", "--threshold=25", str(machine.at(UNIT))],
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stdout[-300:]
        assert ("runs with supplementary groups" in done.stdout) == bool(text)


def test_the_exporter_takes_its_settings_from_one_file(machine: Machine) -> None:
    """No setting stands in the unit, and of the stack's secrets it sees the password it asks for."""
    machine.install()
    unit = machine.at(UNIT).read_text()

    assert "EnvironmentFile=/var/lib/ds01-monitoring/rendered/current/exporter.env" in unit
    assert "\nEnvironment=" not in unit
    assert "TemporaryFileSystem=/var/lib/ds01-monitoring" in unit
    assert "BindReadOnlyPaths=-/var/lib/ds01-monitoring/secrets/http_password\n" in unit


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A fake `docker` that prints the files named after its first argument; no driver's links exist."""
    answers = tmp_path / "answers"
    answers.mkdir()
    docker = tmp_path / "bin" / "docker"
    docker.parent.mkdir()
    docker.write_text(f'#!/bin/sh\ncat "{answers}/$1"\n')
    docker.chmod(0o755)
    monkeypatch.setenv("PATH", f"{docker.parent}:{os.environ['PATH']}")
    monkeypatch.setattr(gpus, "missing_links", lambda _dev: ["/dev/char/195:0"])
    (answers / "info").write_text("systemd\n")
    (answers / "ps").write_text("a\n")
    return answers


def _container(**host: object) -> str:
    import json

    environment = ["NVIDIA_VISIBLE_DEVICES=all"]
    return json.dumps(
        [{"Name": "/train", "HostConfig": {"Runtime": "runc", **host}, "Config": {"Env": environment}}]
    )


@pytest.mark.parametrize(
    "host",
    [
        {"DeviceRequests": [{"Driver": "nvidia", "Count": -1}]},
        {"Runtime": "nvidia"},
        {"Devices": [{"PathOnHost": "/dev/nvidia0"}]},
    ],
)
def test_a_reload_that_would_cost_somebody_the_gpu_is_refused(engine: Path, host: dict[str, object]) -> None:
    """However the container was given its GPU; the message names it and the remedy."""
    (engine / "inspect").write_text(_container(**host))

    with pytest.raises(gpus.UserError, match="train") as refused:
        gpus.refuse_if_at_risk()

    assert "create-dev-char-symlinks" in refused.value.hint
    assert "--force" in refused.value.hint


def test_a_reload_that_costs_nothing_passes(engine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No GPU container, another cgroup driver, or links that are there: each is enough."""
    (engine / "inspect").write_text(_container())
    gpus.refuse_if_at_risk()

    (engine / "inspect").write_text(_container(Runtime="nvidia"))
    (engine / "info").write_text("cgroupfs\n")
    gpus.refuse_if_at_risk()

    (engine / "info").write_text("systemd\n")
    monkeypatch.setattr(gpus, "missing_links", lambda _dev: [])
    gpus.refuse_if_at_risk()


def test_missing_links_are_found_by_device_number(tmp_path: Path) -> None:
    """A link per character device; folders and files of the driver need none."""
    (tmp_path / "nvidia-caps").mkdir()
    (tmp_path / "char").mkdir()
    try:
        os.mknod(tmp_path / "nvidia0", 0o600 | stat.S_IFCHR, os.makedev(195, 0))
        os.mknod(tmp_path / "nvidiactl", 0o600 | stat.S_IFCHR, os.makedev(195, 255))
    except PermissionError:
        pytest.skip("device files can be made by root only")
    (tmp_path / "char" / "195:0").symlink_to("../nvidia0")

    assert gpus.missing_links(tmp_path) == [str(tmp_path / "char" / "195:255")]
