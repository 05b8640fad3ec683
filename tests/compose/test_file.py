"""The rendered docker-compose.yaml: accepted by docker compose, and right where no test machine has the hardware."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from ds01_monitoring import command, compose_facts, context
from ds01_monitoring.config.load import parse_settings
from ds01_monitoring.paths import StateDir
from ds01_monitoring.render import render
from ds01_monitoring.runtime import owner, shared_files

if TYPE_CHECKING:
    from collections.abc import Callable

Render = "Callable[..., dict[str, Any]]"

VARIANTS = {
    "nothing set": "",
    "no auth": "security: {local_auth: false}",
    "digests": "images: {prometheus: 'mirror.site.org/prom/prometheus@sha256:" + "0" * 64 + "'}",
    "odd words": "grafana: {admin_user: 'a$b: #\"c', root_url: 'http://x/$y'}",
    "container": "exporter: {deployment: container}",
    "own dcgm": "dcgm: {address: '10.0.0.1:9400'}",
    "subnet": "network: {subnet: 10.99.0.0/28}",
}


@pytest.fixture
def as_compose_reads(docker_config: Path, tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """Renders a configuration and returns what `docker compose config` makes of it."""

    def read(text: str, hardware: str = "dcgm") -> dict[str, Any]:
        tree = render(
            parse_settings(f"site: {{host: gpu01}}\n{text}\n"),
            StateDir(tmp_path / "sta te"),
            runtime="compose",
            hardware=hardware,
        )
        done = command.run(
            [
                "docker",
                "compose",
                "--file",
                str(tree.path / "docker-compose.yaml"),
                "config",
                "--format",
                "json",
            ],
            timeout=60,
            env={**os.environ, "DOCKER_CONFIG": str(docker_config)},
        )
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    return read


@pytest.mark.engine
@pytest.mark.parametrize("variant", VARIANTS)
def test_docker_compose_accepts_every_variant(
    as_compose_reads: Callable[..., dict[str, Any]], variant: str
) -> None:
    """Whatever the site sets, and with a space in the state directory's path."""
    services = as_compose_reads(VARIANTS[variant])["services"]

    assert {"prometheus", "alertmanager", "grafana", "node-exporter"} <= set(services)
    assert ("dcgm-exporter" in services) == (variant != "own dcgm")
    assert ("ds01-exporter" in services) == (variant == "container")
    for service in services.values():
        assert service["cap_drop"] == ["ALL"]
        assert service["read_only"] is True
        assert [port["host_ip"] for port in service["ports"]] == ["127.0.0.1"]
        assert not any("docker.sock" in volume.get("source", "") for volume in service["volumes"])


@pytest.mark.engine
def test_words_arrive_as_they_were_written(as_compose_reads: Callable[..., dict[str, Any]]) -> None:
    """Dollars and quotes are compose's and YAML's business, not the site's."""
    settings = as_compose_reads(VARIANTS["odd words"])["services"]["grafana"]["environment"]

    # `config` doubles dollars again, so that its output can be read once more.
    assert settings["GF_SECURITY_ADMIN_USER"].replace("$$", "$") == 'a$b: #"c'
    assert settings["GF_SERVER_ROOT_URL"].replace("$$", "$") == "http://x/$y"


@pytest.mark.engine
def test_dcgm_has_the_rights_that_profiling_needs_and_its_gpus_by_name(
    as_compose_reads: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Devices that only the NVIDIA hook brings are lost at the next daemon-reload (nvidia-container-toolkit#48)."""
    monkeypatch.setattr(compose_facts, "_nvidia_devices", lambda: ["/dev/nvidia0", "/dev/nvidiactl"])

    service = as_compose_reads("")["services"]["dcgm-exporter"]

    assert set(service["cap_add"]) <= {"SYS_ADMIN", "DAC_OVERRIDE"}
    assert not service.get("privileged")
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert [device["source"] for device in service["devices"]] == ["/dev/nvidia0", "/dev/nvidiactl"]
    (asked,) = service["deploy"]["resources"]["reservations"]["devices"]
    assert asked["count"] == -1
    assert any(word.endswith("rendered/current/dcgm/counters.csv") for word in service["command"])


@pytest.mark.engine
def test_an_exporter_in_a_container_has_no_docker_and_says_so(
    as_compose_reads: Callable[..., dict[str, Any]],
) -> None:
    """Its own network only, the allocator's folders read-only, no socket."""
    service = as_compose_reads(VARIANTS["container"], "none")["services"]["ds01-exporter"]

    assert service["environment"]["DOCKER_HOST"] == "none"
    assert service["environment"]["DS01_TOPOLOGY"] == "none"
    assert {volume["source"] for volume in service["volumes"]} >= {"/var/lib/ds01", "/var/log/ds01"}
    assert all(volume["read_only"] for volume in service["volumes"])


def test_node_exporter_sees_file_systems_and_units_only_where_it_can(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A `/` that is shared, as under systemd, is mounted with the sockets in /run hidden; else nothing is made up."""
    texts = {}
    for shared in (True, False):
        monkeypatch.setattr(compose_facts, "_root_is_shared", lambda shared=shared: shared)
        monkeypatch.setattr(compose_facts.Path, "is_socket", lambda _path, shared=shared: shared)
        tree = render(parse_settings(""), StateDir(tmp_path), runtime="compose", hardware="none")
        texts[shared] = (tree.path / "docker-compose.yaml").read_text()

    assert "propagation: rslave" in texts[True]
    assert '"/rootfs/run:' in texts[True]
    assert "--collector.systemd" in texts[True]
    assert "propagation" not in texts[False]
    assert "--no-collector.filesystem" in texts[False]
    assert "--no-collector.systemd" in texts[False]


def test_only_device_files_of_gpus_are_passed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not what else happens to be called nvidia."""
    if os.geteuid() != 0:
        pytest.skip("needs root, to make device files")
    (tmp_path / "nvidia-caps").mkdir()
    for name in ("nvidia0", "nvidia11", "nvidiactl", "nvidia-uvm", "nvidia-caps/nvidia-cap1", "nvidia-fs0"):
        os.mknod(tmp_path / name, 0o666 | stat.S_IFCHR, os.makedev(1, 3))
    (tmp_path / "nvidia1").write_text("a file")
    monkeypatch.setattr(compose_facts, "DEVICES", tmp_path)

    found = [Path(path).relative_to(tmp_path).as_posix() for path in compose_facts._nvidia_devices()]

    assert found == ["nvidia-caps/nvidia-cap1", "nvidia-uvm", "nvidia0", "nvidia11", "nvidiactl"]


def test_containers_never_run_as_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Root's state directory is given to the system user, or to a number that nobody has."""
    if os.geteuid() != 0:
        pytest.skip("needs root, to give files away")
    state = StateDir(tmp_path / "state")
    state.secrets.mkdir(parents=True)
    data = state.data / "prometheus" / "wal"
    data.mkdir(parents=True)
    (data / "0001").write_text("")
    (state.secrets / "http_password").write_text("x")
    monkeypatch.setattr(owner, "USER", "no-such-user-here")

    assert owner.ids(state) == (owner.NOBODYS_ID, owner.NOBODYS_ID)
    owner.hand_over(state, (state.data / "prometheus",))

    for path in (state.root, state.secrets / "http_password", data / "0001"):
        assert path.stat().st_uid == owner.NOBODYS_ID


def test_the_plan_that_is_read_back_is_the_one_that_was_rendered(tmp_path: Path) -> None:
    """Images, commands and copies come back with their dollars."""
    secret = tmp_path / "pass$word"
    secret.write_text("x")
    text = f"notify: {{mail: {{smarthost: 'm:25', from: a@b.org, to: [c@d.org], username: u, password_file: '{secret}'}}}}"
    state = StateDir(tmp_path / "state")
    tree = render(parse_settings(text), state, runtime="compose", hardware="none")

    plan = shared_files.read_plan(tree.path / "docker-compose.yaml")

    assert plan.subnet == "172.30.101.0/24"
    assert set(plan.left_out) == {"dcgm-exporter"}
    assert list(plan.copies) == [str(secret)]
    assert str(secret) in plan.files["alertmanager"]["secrets"]


def test_a_changed_file_that_a_server_reads_only_at_its_start_changes_its_mark(tmp_path: Path) -> None:
    """And only its own: Grafana reads its data sources once, Prometheus hears of its rules by a signal."""
    state = StateDir(tmp_path)
    tree = render(parse_settings(""), state, runtime="compose", hardware="none")
    tree.activate()
    plan = shared_files.read_plan(tree.path / "docker-compose.yaml")
    before = shared_files.marks(state, plan)
    for name in ("grafana/provisioning/datasources/prometheus.yml", "prometheus/prometheus.yml"):
        (tree.path / name).write_text("# changed")

    after = shared_files.marks(state, plan)

    assert {name for name in before if before[name] != after[name]} == {"DS01_FILES_GRAFANA"}


def test_the_exporters_gpus_are_the_engines(tmp_path: Path) -> None:
    """Inside a container the driver is there only where the Engine brings it."""
    settings = parse_settings("exporter: {deployment: container}\nruntime: compose")

    for hardware, expected in (("dcgm", "nvml"), ("none", "none")):
        found = context.resolve(settings, StateDir(tmp_path), runtime="compose", hardware=hardware)
        assert context.exporter_environment(found)["DS01_TOPOLOGY"] == expected
