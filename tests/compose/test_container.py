"""The exporter as a container: its image from our Dockerfile, and what it can know without the Docker socket."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from ds01_monitoring import command

from . import images
from .engine_site import EngineSite, inspect, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.engine

NAME = "ds01-exporter-test:built"
HOLDERS = {"gpus": {"0": {"containers": [{"container": "thesis", "user": "ann", "interface": "atomic"}]}}}


@pytest.fixture(scope="module")
def image(docker_config: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The image, built by the command; skipped where PyPI cannot be reached."""
    builder = EngineSite(tmp_path_factory.mktemp("build"), {}, docker_config)
    builder.configure(images={"ds01_exporter": NAME, "python": images.python_base()})
    code, told = builder.manage("build", check=False)
    if "pip could not get" in told:
        pytest.skip(told)
    assert code == 0, told
    yield NAME
    command.run(["docker", "image", "rm", "--force", NAME], timeout=60, check=False)


@pytest.fixture(scope="module")
def contained(running: EngineSite, image: str) -> Iterator[EngineSite]:
    """The stack with its exporter in a container, and one GPU held; afterwards as before."""
    site = running
    before = dict(site.settings)
    state_file = site.root / "allocator" / "gpu-state.json"
    empty = state_file.read_text()
    state_file.write_text(json.dumps(HOLDERS))
    site.configure(
        exporter={**before["exporter"], "deployment": "container"},
        images={**before["images"], "ds01_exporter": image},
    )
    try:
        site.start()
        yield site
    finally:
        state_file.write_text(empty)
        site.configure(exporter=before["exporter"], images=before["images"])
        site.start()


def test_an_exporter_in_a_container_tells_allocations_without_the_docker_source_and_says_so(
    contained: EngineSite,
) -> None:
    """From the allocator's files alone, to Prometheus through the bridge; `status` names what it lacks and why."""
    found = wait_until(
        lambda: contained.query('ds01_gpu_allocated{container="thesis",user="ann",gpu_slot="0"}'),
        "the allocation in Prometheus",
        seconds=75,
    )
    _, output = contained.manage("status", "--json")
    (told,) = json.loads(output)["deployments"]
    checks = {(check["area"], check["name"]): check for check in told["checks"]}

    assert found[0]["value"][1] == "1"
    assert checks["services", "ds01-exporter"]["state"] == "ok"
    assert checks["collectors", "state"]["state"] == "ok"
    assert checks["collectors", "docker"]["state"] == "absent"
    assert "no Docker socket" in checks["collectors", "docker"]["detail"]
    assert {check["state"] for check in told["checks"]} <= {"ok", "pending", "absent"}
    assert "listening" in contained.manage("logs", "ds01-exporter", "--tail", "50")[1]


def test_the_exporters_container_has_as_few_rights_as_the_others(contained: EngineSite) -> None:
    """Nothing writable, no socket, no capability, its port on loopback only."""
    (found,) = inspect("ds01-exporter")
    host = found["HostConfig"]

    assert found["Config"]["User"] not in {"", "0", "0:0"}
    assert (host["CapDrop"], host["CapAdd"], host["ReadonlyRootfs"]) == (["ALL"], None, True)
    assert "no-new-privileges:true" in host["SecurityOpt"]
    assert host["NanoCpus"] > 0 < host["PidsLimit"]
    assert {one["HostIp"] for ports in host["PortBindings"].values() for one in ports} == {"127.0.0.1"}
    assert not any(mount["RW"] or "docker.sock" in mount["Source"] for mount in found["Mounts"])
