"""CPU and memory of containers from fixture trees of both cgroup versions."""

import pytest
from tests.exporter.conftest import until
from tests.exporter.fake_docker import container

from ds01_exporter.cgroup import CgroupTree, Use, candidate_paths, expand_slice

ID = "ab" * 32


def write(folder, **files):
    """Write a cgroup's files; dots in names are written as two underscores."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text)


def v2(root, path, **changes):
    """Make a version 2 cgroup."""
    write(root, cgroup__controllers="cpu memory\n")
    files = {
        "cpu__stat": "usage_usec 2500000\nuser_usec 2000000\n",
        "cpu__max": "max 100000\n",
        "memory__current": "1000\n",
        "memory__stat": "anon 300\nfile 700\ninactive_file 600\nactive_file 100\n",
        "memory__max": "max\n",
        "memory__events": "low 0\nhigh 0\nmax 0\noom 2\noom_kill 1\n",
    }
    write(root / path, **files | changes)


def v1(root, path, **changes):
    """Make a version 1 cgroup."""
    cpu = {
        "cpuacct__usage": "2500000000\n",
        "cpu__cfs_quota_us": "-1\n",
        "cpu__cfs_period_us": "100000\n",
    }
    write(root / "cpu,cpuacct" / path, **{name: changes.pop(name, text) for name, text in cpu.items()})
    files = {
        "memory__usage_in_bytes": "1000\n",
        "memory__stat": "cache 1\ninactive_file 5\ntotal_cache 700\ntotal_inactive_file 600\n",
        "memory__limit_in_bytes": "9223372036854771712\n",
        "memory__oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 1\n",
    }
    write(root / "memory" / path, **files | changes)


USE = Use(cpu_seconds=2.5, cpu_limit_cores=None, memory_bytes=400, memory_limit_bytes=None, oom_kills=1)


@pytest.mark.parametrize("make", [v1, v2])
@pytest.mark.parametrize(
    ("parent", "path"),
    [
        ("", f"docker/{ID}"),
        ("", f"system.slice/docker-{ID}.scope"),
        ("/ds01-student-ann", f"ds01-student-ann/{ID}"),
        ("ds01-student-ann.slice", f"ds01.slice/ds01-student.slice/ds01-student-ann.slice/docker-{ID}.scope"),
        ("ds01-student-ann.slice", f"ds01-student-ann.slice/{ID}"),
        ("/a/b", f"a/b/{ID}"),
    ],
)
def test_finds_the_cgroup_of_either_driver_in_either_version(tmp_path, make, parent, path):
    """Systemd's scopes in nested slices, cgroupfs' plain folders, with and without a parent."""
    make(tmp_path, path)
    tree = CgroupTree(tmp_path)

    assert tree.read(tree.version, ID, parent) == USE


@pytest.mark.parametrize(
    ("make", "limit"), [(v1, {"memory__limit_in_bytes": "2048\n"}), (v2, {"memory__max": "2048\n"})]
)
def test_a_limit_is_told(tmp_path, make, limit):
    """A limit is in bytes, in both versions."""
    make(tmp_path, f"docker/{ID}", **limit)
    tree = CgroupTree(tmp_path)

    assert tree.read(tree.version, ID, "").memory_limit_bytes == 2048


@pytest.mark.parametrize(
    ("make", "quota", "cores"),
    [
        (v2, {"cpu__max": "250000 100000\n"}, 2.5),
        (v2, {"cpu__max": "10000 50000\n"}, 0.2),
        (v1, {"cpu__cfs_quota_us": "250000\n"}, 2.5),
        (v1, {"cpu__cfs_quota_us": "10000\n", "cpu__cfs_period_us": "50000\n"}, 0.2),
    ],
)
def test_a_cpu_quota_is_told_in_cores(tmp_path, make, quota, cores):
    """Quota by period, in both versions; a fraction of a core stays one."""
    make(tmp_path, f"docker/{ID}", **quota)
    tree = CgroupTree(tmp_path)

    assert tree.read(tree.version, ID, "").cpu_limit_cores == cores


@pytest.mark.parametrize(
    "text", ["", "max", "max 100000\n", "100000\n", "100000 0\n", "0 100000\n", "-1 100000\n"]
)
def test_no_cpu_quota_is_absent(tmp_path, text):
    """Without a quota, or with one that cannot be read, there is no limit, never one of 0."""
    v2(tmp_path, f"docker/{ID}", cpu__max=text)

    assert CgroupTree(tmp_path).read(2, ID, "").cpu_limit_cores is None


@pytest.mark.parametrize("make", [v1, v2])
def test_what_a_kernel_does_not_tell_is_absent(tmp_path, make):
    """An old kernel has no oom_kill, a controller may be off: None, never 0; cache above usage gives 0."""
    make(
        tmp_path,
        f"docker/{ID}",
        memory__oom_control="under_oom 0\n",
        memory__events="low 0\n",
        cpu__stat="",
        memory__current="500\n",
        memory__usage_in_bytes="500\n",
    )
    for name in ("cpu,cpuacct", "cpuacct"):
        (tmp_path / name / "docker" / ID / "cpuacct.usage").unlink(missing_ok=True)
    tree = CgroupTree(tmp_path)

    assert tree.read(tree.version, ID, "") == Use(None, None, 0, None, None)


def test_no_cgroup_no_use(tmp_path):
    """A container that has just ended has no use, and an empty root is no cgroup file system."""
    assert CgroupTree(tmp_path).version is None
    v2(tmp_path, "docker/other")
    assert CgroupTree(tmp_path).read(2, ID, "") is None


@pytest.mark.parametrize(
    ("name", "path"),
    [("a.slice", "a.slice"), ("a-b.slice", "a.slice/a-b.slice"), ("x/a-b.slice", "x/a-b.slice")],
)
def test_slices_are_nested_by_their_dashes(name, path):
    """Systemd puts a-b.slice into a.slice."""
    assert expand_slice(name) == path
    assert all(not candidate.startswith("/") for candidate in candidate_paths(ID, "/" + name))


def test_only_managed_running_containers_are_sampled(site, docker, scrape):
    """A marked container or one that the state names has series; strangers and stopped ones have none."""
    site.write_state({"gpus": {"0": {"containers": ["named"], "users": {"ann": 1}}}})
    docker.containers = [
        container(1, "named"),
        container(2, "marked._.1", labels={"ds01.user": "bob"}),
        container(3, "stranger"),
        container(4, "stopped._.1", state="exited"),
    ]
    for one in docker.containers:
        v2(site.cgroup_root, f"docker/{one['Id']}")
    exporter = site.exporter(docker_host=docker.host, start=True)
    found = until(
        lambda: scrape(exporter).of("ds01_container_cpu_seconds_total", "container", "user", "interface")
    )

    assert found == {("named", "ann", "docker"): 2.5, ("marked._.1", "bob", "atomic"): 2.5}


@pytest.mark.parametrize("cgroups", ["none", "empty"])
def test_use_that_cannot_be_read_is_a_failure(site, docker, scrape, cgroups):
    """No cgroup file system, or not one of the containers in it, is said."""
    docker.containers = [container(1, "job._.1")]
    if cgroups == "empty":
        write(site.cgroup_root, cgroup__controllers="cpu\n")
    exporter = site.exporter(docker_host=docker.host, start=True)
    result = until(lambda: (found := scrape(exporter)).success("container_use") is not None and found)

    assert result.success("container_use") == 0
    assert result.of("ds01_container_memory_bytes") == {}
