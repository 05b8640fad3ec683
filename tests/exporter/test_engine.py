"""The Docker source against a real Engine with real containers, wherever one answers."""

import os
import shutil
import subprocess  # noqa: TID251 - the docker command is what is tested against
import tarfile
import uuid
from pathlib import Path

import pytest
from tests.exporter.conftest import until

from ds01_exporter.docker import Docker
from ds01_exporter.health import CollectorError

HOST = os.environ.get("DOCKER_HOST") or "unix:///var/run/docker.sock"
BUSYBOX = Path("/bin/busybox")
CGROUPS = Path("/sys/fs/cgroup")

pytestmark = pytest.mark.engine


def docker_command(*arguments, check=True):
    """Run the docker command line against the Engine of the tests."""
    done = subprocess.run(
        ["docker", "--host", HOST, *arguments], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0 or not check, done.stderr
    return done.stdout.strip()


@pytest.fixture(scope="session")
def image(tmp_path_factory):
    """An image with nothing but busybox in it; skips where no Engine answers."""
    try:
        Docker(HOST).containers()
    except CollectorError as error:
        pytest.skip(f"no Docker Engine answers at {HOST}: {error.problem}")
    if not BUSYBOX.exists() or shutil.which("docker") is None:
        pytest.skip(
            "an Engine answers, but its test image needs /bin/busybox (busybox-static) and the docker command"
        )
    archive = tmp_path_factory.mktemp("image") / "busybox.tar"
    with tarfile.open(archive, "w") as tar:
        tar.add(BUSYBOX, "bin/busybox")
    name = f"ds01-exporter-test:{uuid.uuid4().hex[:8]}"
    docker_command("import", str(archive), name)
    yield name
    docker_command("rmi", "--force", name, check=False)


@pytest.fixture
def container(image):
    """Start containers that sleep; they are removed after the test."""
    started = []

    def start(*options, name=None, command=("sleep", "600")):
        name = name or f"ds01-test-{uuid.uuid4().hex[:8]}"
        started.append(name)
        docker_command(
            "run",
            "--detach",
            "--network=none",
            "--init=false",
            f"--name={name}",
            *options,
            image,
            "/bin/busybox",
            *command,
        )
        return name

    yield start
    if started:
        docker_command("rm", "--force", *started, check=False)


def slots_of(scrape, exporter, name):
    """Slots and users of a container in a scrape."""
    rows = scrape(exporter).of("ds01_gpu_allocated", "container", "gpu_slot", "user", "interface")
    return {key[1:] for key in rows if key[0] == name}


def test_a_container_appears_and_goes_with_its_labels(site, scrape, container):
    """Start, stop and removal are seen through the Engine's events, long before the resync."""
    exporter = site.exporter(docker_host=HOST, start=True)
    before = scrape(exporter).of("ds01_containers_total", "status", "interface")
    name = container(
        "--label=ds01.gpu.slots=1.0,1.1", "--label=ds01.user=ann", "--label=ds01.interface=orchestration"
    )

    expected = {("1.0", "ann", "orchestration"), ("1.1", "ann", "orchestration")}
    until(lambda: slots_of(scrape, exporter, name) == expected)
    after = scrape(exporter).of("ds01_containers_total", "status", "interface")
    assert after["running", "orchestration"] >= before.get(("running", "orchestration"), 0) + 1
    assert scrape(exporter).of("ds01_user_containers_count")["ann",] >= 1

    docker_command("kill", name)
    until(lambda: slots_of(scrape, exporter, name) == set())
    docker_command("rm", name)


def test_a_renamed_and_a_paused_container_keep_their_slot(site, scrape, container):
    """A new name is seen at once; a paused container still holds what it has."""
    exporter = site.exporter(docker_host=HOST, start=True)
    name = container("--label=ds01.gpu.slots=0")
    until(lambda: slots_of(scrape, exporter, name))
    docker_command("pause", name)
    docker_command("rename", name, f"{name}-renamed")
    try:
        until(lambda: slots_of(scrape, exporter, f"{name}-renamed"))
        assert not slots_of(scrape, exporter, name)
    finally:
        docker_command("unpause", f"{name}-renamed")
        docker_command("rename", f"{name}-renamed", name)


def test_monitorings_own_containers_are_left_out(site, scrape, container):
    """A container with the monitoring's label is in no series."""
    exporter = site.exporter(docker_host=HOST, start=True)
    own = container("--label=ds01.monitoring=true", "--label=ds01.user=system")
    other = container("--label=ds01.gpu.slots=0")
    until(lambda: slots_of(scrape, exporter, other))

    assert own not in scrape(exporter).text
    assert ("system",) not in scrape(exporter).of("ds01_user_containers_count")


def test_use_of_a_container_is_read_from_its_real_cgroup(site, scrape, container):
    """CPU time grows while a container computes, and its limits are those it was given."""
    if not any((CGROUPS / name).exists() for name in ("memory", "cgroup.controllers")):
        pytest.skip(f"no cgroup file system at {CGROUPS}")
    name = container(
        "--label=ds01.managed=true",
        "--label=ds01.user=ann",
        "--memory=64m",
        "--cpus=0.5",
        command=("sh", "-c", "while :; do :; done"),
    )
    exporter = site.exporter(docker_host=HOST, cgroup_root=CGROUPS, start=True)

    def sample(metric):
        exporter.use.wake()
        return scrape(exporter).of(metric, "container", "user", "interface").get((name, "ann", "atomic"))

    first = until(lambda: sample("ds01_container_cpu_seconds_total"))
    until(lambda: sample("ds01_container_cpu_seconds_total") > first)
    assert sample("ds01_container_memory_limit_bytes") == 64 << 20
    assert sample("ds01_container_cpu_limit_cores") == 0.5
    assert 0 < sample("ds01_container_memory_bytes") < 64 << 20
    assert sample("ds01_container_oom_kills_total") == 0


def test_use_below_a_cgroup_parent_without_limit(site, scrape, container):
    """A container in a cgroup of its own parent is found; without limit there is no series for one."""
    name = container("--label=ds01.managed=true", "--cgroup-parent=/ds01-test-parent")
    exporter = site.exporter(docker_host=HOST, cgroup_root=CGROUPS, start=True)

    def sampled():
        exporter.use.wake()
        return name in {key[0] for key in scrape(exporter).of("ds01_container_memory_bytes", "container")}

    until(sampled)
    for limit in ("ds01_container_memory_limit_bytes", "ds01_container_cpu_limit_cores"):
        assert name not in {key[0] for key in scrape(exporter).of(limit, "container")}


def test_gpus_past_the_allocator_show_on_a_real_engine(site, scrape, container, image):
    """A container that was created with a GPU request and no allocation is told, though it cannot start here."""
    exporter = site.exporter(docker_host=HOST, start=True)
    name = f"ds01-test-{uuid.uuid4().hex[:8]}"
    docker_command("create", "--gpus=all", "--network=none", f"--name={name}", image, "/bin/busybox")
    try:
        found = until(lambda: scrape(exporter).of("ds01_unmanaged_gpu_container", "container", "running"))
        assert found[name, "false"] == 1
    finally:
        docker_command("rm", "--force", name)


def test_all_series_survive_two_hundred_labels(site, scrape, container):
    """Labels that have nothing to do with us, foreign text included, do no harm."""
    labels = [f'--label=other.{number}=a "quoted"\nvalue \\ {number}' for number in range(200)]
    exporter = site.exporter(docker_host=HOST, start=True)
    name = container("--label=ds01.gpu.slots=0", '--label=ds01.user=an"n\nb\\', *labels)

    until(lambda: slots_of(scrape, exporter, name) == {("0", 'an"n\nb\\', "docker")})
