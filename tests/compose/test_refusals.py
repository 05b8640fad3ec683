"""What stands in the way is said before anything is changed, each with its next step."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import uuid
from typing import TYPE_CHECKING

import pytest

from ds01_monitoring import command
from ds01_monitoring.errors import UserError
from ds01_monitoring.paths import StateDir
from ds01_monitoring.runtime import engine, preflight

from . import images
from .engine_site import EngineSite

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def nothing_runs(running: EngineSite) -> None:
    """The tests' own stack is down, which would itself be in the way."""
    running.manage("stop", check=False)


@pytest.fixture
def site(tmp_path: Path, docker_config: Path, nothing_runs: None) -> EngineSite:
    """A site that was never started; its images are named and need not be here."""
    names = ("prometheus", "alertmanager", "node-exporter", "grafana")
    return EngineSite.make(tmp_path, {name: f"ds01-test/{name}:none" for name in names}, docker_config)


def refused(site: EngineSite, *arguments: str, **environment: str) -> str:
    """What a `start` says that must fail; nothing may have been started or recorded."""
    code, told = site.manage("start", *arguments, check=False, **environment)

    assert code in {1, 2}, told
    assert "hint:" in told
    assert not (site.state.run / "deployment.json").exists()
    return told


@pytest.mark.engine
def test_a_missing_docker_compose_is_named_with_its_package(site: EngineSite, tmp_path: Path) -> None:
    """Debian 12 has version 1 under nearly the same name, which the hint says."""
    empty = tmp_path / "empty"
    empty.mkdir()
    if not _lacks_compose(str(empty)):
        pytest.skip("this machine has docker compose for everybody")

    told = refused(site, DOCKER_CONFIG=str(empty))

    assert "`docker compose` (v2) is not installed" in told
    assert "docker-compose-v2" in told


def _lacks_compose(config: str) -> bool:
    return (
        command.run(
            ["docker", "compose", "version"],
            timeout=30,
            check=False,
            env={**os.environ, "DOCKER_CONFIG": config},
        ).returncode
        != 0
    )


@pytest.mark.engine
def test_an_engine_that_does_not_answer_is_named(site: EngineSite, tmp_path: Path) -> None:
    """Somebody stopped it, or it never started."""
    told = refused(site, DOCKER_HOST=f"unix://{tmp_path}/nobody.sock")

    assert "the Docker Engine does not answer" in told
    assert "systemctl start docker" in told


@pytest.mark.engine
def test_a_user_who_may_not_use_the_engine_hears_how(docker_config: Path) -> None:
    """As user nobody, against the real socket."""
    setpriv = shutil.which("setpriv")
    if os.geteuid() != 0 or setpriv is None:
        pytest.skip("needs root and setpriv, to be somebody else")
    done = command.run(
        [setpriv, "--reuid=65534", "--regid=65534", "--clear-groups", "docker", "version"],
        timeout=30,
        check=False,
        env={"PATH": os.environ["PATH"]},
    )

    found = engine.meaning(done.stdout)

    assert found is not None, done.stdout
    assert found.problem == "this user may not use the Docker Engine"
    assert "group docker" in found.hint


@pytest.mark.engine
def test_a_taken_port_is_named_with_who_has_it(site: EngineSite) -> None:
    """Here it is this very test."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", site.settings["ports"]["prometheus"]))
        taken.listen()

        told = refused(site)

    assert f"{site.settings['ports']['prometheus']} (prometheus) by " in told
    assert f"pid {os.getpid()}" in told


@pytest.mark.engine
def test_a_taken_port_of_the_exporter_on_the_host_is_named(site: EngineSite) -> None:
    """Not a container's, and needed all the same."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", site.settings["exporter"]["port"]))
        taken.listen()

        assert f"{site.settings['exporter']['port']} (ds01-exporter) by " in refused(site)


@pytest.mark.engine
def test_a_stack_of_the_first_implementation_that_still_runs_is_named(
    site: EngineSite, tmp_path: Path
) -> None:
    """Its project has the same name, and its containers would be replaced without a word."""
    busybox = images.build_all()["busybox"]
    service = {"image": busybox, "entrypoint": ["/bin/sleep", "600"], "network_mode": "none"}
    (tmp_path / "old").mkdir()
    file = tmp_path / "old" / "docker-compose.yaml"
    file.write_text(json.dumps({"services": {"prometheus": service}}))
    words = ["docker", "compose", "--project-name", "ds01-monitoring", "--file", str(file)]
    environment = {**os.environ, "DOCKER_CONFIG": str(site.docker_config)}
    command.run([*words, "up", "--detach"], timeout=60, env=environment)
    try:
        told = refused(site)
    finally:
        command.run([*words, "down", "--timeout", "0"], timeout=60, env=environment)

    assert f"{file.parent}: a stack of the project ds01-monitoring runs on this Engine already" in told
    assert "docker compose --project-name ds01-monitoring down" in told


@pytest.mark.engine
def test_a_subnet_that_collides_is_named_with_the_other_network(site: EngineSite) -> None:
    """The Engine itself would only say that a pool overlaps."""
    name = f"ds01-test-{uuid.uuid4().hex[:8]}"
    site.configure(network={"subnet": "172.30.119.0/24"})
    engine.docker("network", "create", "--subnet", "172.30.119.128/25", name)
    try:
        told = refused(site)
    finally:
        engine.docker("network", "rm", name)

    assert f"collides with 172.30.119.128/25 of the Docker network {name}" in told
    assert "network.subnet" in told


@pytest.mark.engine
def test_an_image_that_cannot_be_had_is_named_with_the_way_out(site: EngineSite) -> None:
    """A machine without internet gets its images from a mirror or by docker load."""
    site.configure(
        images=dict.fromkeys(
            ("prometheus", "alertmanager", "node_exporter", "grafana"), "registry.invalid/x:1"
        )
    )

    told = refused(site)

    assert re.search("images.[a-z_]+: registry.invalid/x:1: an image could not be had", told)
    assert "docker load" in told


@pytest.mark.engine
@pytest.mark.parametrize("name", ["prom/Prometheus:v3", "prom/prometheus@sha256:abc"])
def test_a_name_that_is_no_images_is_named_with_its_key(site: EngineSite, name: str) -> None:
    """The Engine itself names neither."""
    site.configure(images={**site.settings["images"], "node_exporter": name})

    assert f"images.node_exporter: {name}: the name of an image is wrong" in refused(site)


@pytest.mark.engine
def test_gpus_that_the_engine_cannot_give_are_named(site: EngineSite) -> None:
    """With `hardware: dcgm` asked for, leaving it out silently would be the wrong help."""
    if engine.nvidia():
        pytest.skip("this Engine has the NVIDIA runtime")
    site.configure(hardware="dcgm")

    assert "nvidia-container-toolkit" in refused(site)


@pytest.mark.engine
def test_an_exporter_image_that_was_not_built_is_named_with_the_command(site: EngineSite) -> None:
    """`monitoring-manage build` makes it."""
    site.configure(
        exporter={**site.settings["exporter"], "deployment": "container"},
        images={"ds01_exporter": "ds01-never-built:1", **_present()},
    )

    assert "monitoring-manage build" in refused(site)


def _present() -> dict[str, str]:
    from . import images

    built = images.build_all()
    return dict.fromkeys(("prometheus", "alertmanager", "node_exporter", "grafana"), built["busybox"])


@pytest.mark.engine
def test_a_dcgm_exporter_on_loopback_is_refused(site: EngineSite) -> None:
    """Inside Prometheus' container that address is the container itself."""
    site.configure(hardware="auto", dcgm={"address": "localhost:9400"})

    assert "inside a container is the container itself" in refused(site)


@pytest.mark.parametrize(
    ("said", "means"),
    [
        ("Error response from daemon: Pool overlaps with other one on this address space", "the subnet"),
        ('Error: could not select device driver "nvidia" with capabilities: [[gpu]]', "cannot give GPUs"),
        (
            "nvidia-container-cli: initialization error: nvml error: driver/library version mismatch: unknown",
            "do not match",
        ),
        (
            (
                "Error response from daemon: runc create failed: error running hook: exit status 1, stdout: , stderr: "
                "nvidia-container-cli: detection error: nvml error: gpu is lost: unknown"
            ),
            "does not get its GPUs: nvidia-container-cli: detection error: nvml error: gpu is lost",
        ),
        ("Bind for 127.0.0.1:9090 failed: port is already allocated", "a port is taken"),
        ("write /var/lib/docker/tmp: no space left on device", "the disk is full"),
        (
            'The container name "/ds01-grafana" is already in use by container "0123"',
            "another container has the name",
        ),
    ],
)
def test_what_the_engine_says_is_put_into_words(said: str, means: str) -> None:
    """Words that other versions of Docker were seen to use."""
    found = engine.meaning(f"Creating …\n{said}\n")

    assert found is not None
    assert means in found.problem
    assert found.hint


def _table(rows: list[tuple[str, str]]) -> str:
    """Destinations and masks as /proc/net/route writes them."""
    head = "Iface Destination Gateway Flags RefCnt Use Metric Mask MTU Window IRTT\n"
    return head + "".join(f"tun0 {to} 00000000 0003 0 0 0 {mask} 0 0 0\n" for to, mask in rows)


def test_a_route_collides_and_a_default_route_in_two_halves_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a VPN that takes all traffic writes it."""
    routes = tmp_path / "route"
    monkeypatch.setattr(preflight, "ROUTES", routes)
    monkeypatch.setattr(engine, "networks", list)
    halves = [("00000000", "00000080"), ("00000080", "00000080")]
    routes.write_text(_table(halves))
    preflight.free_subnet("172.30.101.0/24")

    routes.write_text(_table([*halves, ("00001EAC", "0000FFFF")]))
    with pytest.raises(UserError, match=r"collides with 172\.30\.0\.0/16 of the interface tun0"):
        preflight.free_subnet("172.30.101.0/24")


@pytest.mark.parametrize("written", ["link/rendered/current", "state/rendered/0123456789ab"])
def test_ones_own_stack_is_recognised_however_its_folder_is_written(tmp_path: Path, written: str) -> None:
    """Through a link to the state directory, and as the version that was in force when it was started."""
    state = StateDir(tmp_path / "state")
    state.rendered.mkdir(parents=True)
    (tmp_path / "link").symlink_to("state")
    labels = {engine.FOLDER_LABEL: str(tmp_path / written)}
    container = engine.Container("prometheus", {"State": {"Running": True}, "Config": {"Labels": labels}})

    preflight.no_other_stack([container], state.rendered)


def test_words_that_nobody_knows_are_passed_on() -> None:
    """Better the Engine's own last lines than a guess."""
    error = command.CommandFailed(["docker", "compose", "up"], 1, "one\ntwo\nsomething odd\n")

    assert "something odd" in engine.explain(error).problem
