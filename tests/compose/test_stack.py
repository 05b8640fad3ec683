"""The stack on a real Engine: up and healthy, hardened, and still there after what happens to servers."""

from __future__ import annotations

import json
import os
import signal
import socket
import time
import uuid
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ds01_monitoring import api, command
from ds01_monitoring.runtime import engine, owner, processes

from .engine_site import CONTAINERS, EngineSite, a_silence, ids, inspect, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.engine

DEVNULL = -3
"""subprocess.DEVNULL, which tests take no part of."""


@pytest.fixture
def busybox(site: EngineSite) -> str:
    """An image with a shell."""
    return site.images["busybox"]


@pytest.fixture
def other_bridge() -> Iterator[str]:
    """A network of somebody else."""
    name = f"ds01-test-{uuid.uuid4().hex[:8]}"
    engine.docker("network", "create", name)
    yield name
    engine.docker("network", "rm", name)


def up(site: EngineSite) -> dict[str, str]:
    """The last value of `up` by job."""
    return {item["metric"]["job"]: item["value"][1] for item in site.query("up")}


def volumes() -> set[str]:
    """The Engine's volumes, whoever's they are."""
    return set(engine.docker("volume", "ls", "--quiet").split())


def test_everything_is_up_and_every_check_is_well(site: EngineSite) -> None:
    """`status` finds nothing wrong, and what this machine cannot run is told apart from a failure."""
    _, output = site.manage("status", "--json")
    (found,) = json.loads(output)["deployments"]
    checks = {(check["area"], check["name"]): check["state"] for check in found["checks"]}

    assert set(checks.values()) <= {"ok", "pending", "absent"}, checks
    assert checks["services", "dcgm-exporter"] == "absent"
    assert {name for area, name in checks if area == "services"} == {
        "prometheus",
        "alertmanager",
        "node-exporter",
        "grafana",
        "ds01-exporter",
        "dcgm-exporter",
    }


def test_prometheus_reaches_every_target_through_the_bridge(site: EngineSite) -> None:
    """The exporter on the host at the bridge's gateway, the others by name; all with the password."""
    jobs = {"ds01-exporter", "node-exporter", "prometheus", "alertmanager", "grafana"}

    wait_until(lambda: up(site) == dict.fromkeys(jobs, "1"), "all targets up")


@pytest.mark.parametrize("name", CONTAINERS)
def test_a_container_has_as_few_rights_as_its_program_allows(site: EngineSite, name: str) -> None:
    """What the Engine made of the file, not what the file says."""
    (found,) = inspect(name)
    host = found["HostConfig"]
    uid, gid = owner.ids(site.state)

    assert uid != 0
    assert found["Config"]["User"] == f"{uid}:{gid}"
    assert host["CapDrop"] == ["ALL"]
    assert not host["CapAdd"]
    assert not host["Privileged"]
    assert "no-new-privileges:true" in host["SecurityOpt"]
    assert host["ReadonlyRootfs"]
    assert 0 < host["Memory"] == host["MemorySwap"]
    assert host["NanoCpus"] > 0
    assert host["PidsLimit"] > 0
    assert host["LogConfig"] == {"Type": "json-file", "Config": {"max-size": "10m", "max-file": "3"}}
    assert host["RestartPolicy"]["Name"] == "unless-stopped"
    published = [one["HostIp"] for ports in host["PortBindings"].values() for one in ports]
    assert published == ["127.0.0.1"]
    assert not any("docker.sock" in mount["Source"] for mount in found["Mounts"])
    # Something in memory stands where the image asks for a volume: nobody would ever remove that.
    assert {mount["Type"] for mount in found["Mounts"]} <= {"bind", "tmpfs"}
    writable = {mount["Source"] for mount in found["Mounts"] if mount["RW"] and mount["Type"] != "tmpfs"}
    assert writable <= {str(site.state.data / name.removeprefix("ds01-"))}


@pytest.mark.parametrize("name", CONTAINERS)
def test_the_health_check_works_in_the_image_and_with_the_password(site: EngineSite, name: str) -> None:
    """The probe's own command succeeds inside the container."""
    (found,) = inspect(name)
    kind, probe = found["Config"]["Healthcheck"]["Test"]

    assert kind == "CMD-SHELL"
    wait_until(
        lambda: (
            command.run(["docker", "exec", name, "/bin/sh", "-c", probe], timeout=30, check=False).returncode
            == 0
        ),
        f"a healthy {name}",
    )
    if name != "ds01-grafana":  # Its page about health is open to all.
        wrong = command.run(
            ["docker", "exec", name, "/bin/sh", "-c", probe.replace("/http_password", "/web-config.yml")],
            timeout=30,
            check=False,
        )
        assert wrong.returncode != 0


def test_a_container_with_our_labels_is_an_allocation_two_scrapes_later(
    site: EngineSite, busybox: str
) -> None:
    """From `docker run` to a series in Prometheus: the exporter hears of it at once, Prometheus within 30 s."""
    name = f"thesis._.{uuid.uuid4().hex[:6]}"
    labels = {"ds01.managed": "true", "ds01.user": "ann", "ds01.gpu.allocated": "0", "ds01.gpu.slots": "0"}
    flags = [word for key, value in labels.items() for word in ("--label", f"{key}={value}")]
    engine.docker("run", "--detach", "--name", name, *flags, "--entrypoint", "/bin/sleep", busybox, "600")
    try:
        wait_until(
            lambda: site.query(f'ds01_gpu_allocated{{container="{name}",user="ann",gpu_slot="0"}}'),
            "the allocation in Prometheus",
            seconds=75,
        )
    finally:
        engine.docker("rm", "--force", name)


def test_a_container_on_another_bridge_is_asked_for_the_password(
    site: EngineSite, busybox: str, other_bridge: str
) -> None:
    """Listening on the gateway's address means that every container of this host may knock."""
    address = f"http://{site.gateway}:{site.settings['exporter']['port']}/metrics"
    done = command.run(
        [
            "docker",
            "run",
            "--rm",
            "--network",
            other_bridge,
            "--entrypoint",
            "/bin/wget",
            busybox,
            "-O",
            "-",
            address,
        ],
        timeout=60,
        check=False,
    )

    assert "401" in done.stdout, done.stdout


def test_nothing_listens_on_an_address_that_others_can_reach(site: EngineSite) -> None:
    """Every port of the stack answers on loopback, the exporter's on the bridge's gateway too, and on nothing else."""
    outside = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with outside:
        outside.connect(("192.0.2.1", 9))  # Sends nothing; tells which address would be used.
        address = outside.getsockname()[0]
    numbers = [*site.settings["ports"].values(), site.settings["exporter"]["port"]]

    for number in numbers:
        with socket.socket() as one:
            one.settimeout(3)
            assert one.connect_ex((address, number)) != 0, f"{address}:{number} answers"


def test_a_changed_threshold_is_applied_without_losing_a_sample(site: EngineSite) -> None:
    """`reload` neither restarts a container nor makes Prometheus miss a scrape."""
    wait_until(lambda: up(site).get("node-exporter") == "1", "a first scrape")
    before, begun = ids(), time.time()
    degrees = 70 + int(begun) % 15
    site.configure(alerts={"gpu_temperature": {"warning": degrees}})

    site.manage("reload")

    rules = site.get("prometheus", "/api/v1/rules").json()["data"]["groups"]
    queries = {rule["name"]: rule["query"] for group in rules for rule in group["rules"]}
    assert f"> {degrees}" in queries["DS01GPUHighTemperature"]
    assert ids() == before
    # Raw samples: 15 s apart, from before the reload to after it.
    wait_until(
        lambda: float(site.query('timestamp(up{job="node-exporter"})')[0]["value"][1]) > begun + 16,
        "scrapes after the reload",
    )
    (series,) = site.query(f'up{{job="node-exporter"}}[{int(time.time() - begun) + 20}s]')
    times = [float(at) for at, _ in series["values"]]
    assert all(later - earlier < 22 for earlier, later in pairwise(times)), times


def test_start_recreates_only_what_changed(site: EngineSite) -> None:
    """Another retention is Prometheus' business alone."""
    before = ids()
    site.configure(prometheus={"retention_time": f"{8 + int(time.time()) % 50}d"})

    site.start()

    after = ids()
    assert {name for name in before if before[name] != after[name]} == {"ds01-prometheus"}


def test_a_secret_that_is_replaced_reaches_the_containers(site: EngineSite) -> None:
    """A mounted file stays the old one when another takes its name; `start` sees to that."""
    (site.state.secrets / "http_password").unlink()

    site.start()

    assert site.get("prometheus", "/-/ready").status == 200
    wait_until(lambda: set(up(site).values()) == {"1"}, "all targets up with the new password")


def test_a_sites_own_secret_is_readable_for_the_server_and_for_nobody_else(site: EngineSite) -> None:
    """Root's file with mode 0600, at any path, arrives at the same path in the container; so does its next content."""
    secret = site.root / "relay_password"
    secret.write_text("first word")
    secret.chmod(0o600)
    mail = {
        "smarthost": "mail.invalid:587",
        "from": "ds01@site.org",
        "to": ["admin@site.org"],
        "username": "ds01",
    }
    site.configure(notify={"mail": {**mail, "password_file": str(secret)}})
    try:
        site.start()
        assert engine.docker("exec", "ds01-alertmanager", "/bin/cat", str(secret)) == "first word"
        before = ids()
        secret.unlink()
        secret.write_text("second word")
        secret.chmod(0o600)

        site.manage("reload")

        assert engine.docker("exec", "ds01-alertmanager", "/bin/cat", str(secret)) == "second word"
        assert ids() == before
        copies = list((site.state.secrets / "site").iterdir())
        assert [oct(copy.stat().st_mode & 0o777) for copy in copies] == ["0o600"]
    finally:
        site.configure(notify=None)
        site.start()
    assert list((site.state.secrets / "site").iterdir()) == []


@pytest.mark.parametrize("name", ["ds01-prometheus", "ds01-alertmanager", "ds01-node-exporter"])
def test_a_server_whose_process_is_killed_comes_back(site: EngineSite, name: str) -> None:
    """Also after a reload: `docker kill --signal HUP` would have made the Engine give it up."""
    site.manage("reload")
    (before,) = inspect(name)
    os.kill(before["State"]["Pid"], signal.SIGKILL)

    def returned() -> bool:
        (now,) = inspect(name)
        return bool(now["State"]["Running"] and now["State"]["Pid"] != before["State"]["Pid"])

    wait_until(returned, f"{name} runs again")
    wait_until(lambda: "failed" not in site.checks().values(), "everything well")


def test_a_container_that_cannot_start_keeps_nothing_else_from_running(site: EngineSite) -> None:
    """As where a GPU is lost, which is when the monitoring is needed most: the exporter on the host is up, too."""
    images, broken = site.settings["images"], "ds01-test/broken:1"
    container = engine.docker("create", site.images["busybox"]).strip()
    engine.docker("commit", "--change", 'ENTRYPOINT ["/nothing"]', container, broken)
    site.manage("stop")
    site.configure(images={**images, "grafana": broken})
    try:
        code, _ = site.manage("start", check=False)
        checks = site.checks()
    finally:
        site.configure(images=images)
        site.start()
        engine.docker("rm", container)
        engine.docker("image", "rm", broken)

    assert code == 1
    assert {name for (area, name), state in checks.items() if area == "services" and state == "failed"} == {
        "grafana"
    }


def test_a_second_stack_does_not_take_over_the_first_ones_containers(
    site: EngineSite, tmp_path: Path
) -> None:
    """Their names are the same, whatever the state directory: the one that runs is named, and runs on."""
    other, before = EngineSite.make(tmp_path, site.images, site.docker_config), ids()

    code, told = other.manage("start", check=False)

    assert code == 1
    assert "runs on this Engine already" in told
    assert f"--state-dir {site.state.root} stop" in told
    assert not (other.state.run / "deployment.json").exists()
    assert ids() == before


@pytest.mark.parametrize(
    "words", ["stop", "reload", "restart", "update", "logs --tail 1", "grafana-password --reset"]
)
def test_an_engine_that_does_not_answer_is_named_and_nothing_is_half_done(
    site: EngineSite, words: str, tmp_path: Path
) -> None:
    """Each command says so with the next step, and what runs beside the containers runs on."""
    code, told = site.manage(*words.split(), check=False, DOCKER_HOST=f"unix://{tmp_path}/nobody.sock")

    assert code in {1, 2}
    assert "the Docker Engine does not answer" in told
    assert "systemctl start docker" in told
    assert "failed" not in site.checks().values()


def test_an_engine_that_hangs_is_named(site: EngineSite, tmp_path: Path) -> None:
    """It takes the question and says nothing; `status` does not wait for it longer than for the rest."""
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(tmp_path / "silent.sock"))
        silent.listen()

        code, told = site.manage(
            "status", "--json", check=False, DOCKER_HOST=f"unix://{tmp_path}/silent.sock"
        )

    (failed,) = (one for one in json.loads(told)["deployments"][0]["checks"] if one["area"] == "services")
    assert code == 1
    assert "the Docker Engine does not answer in time" in failed["detail"]
    assert "journalctl -u docker" in failed["hint"]


def test_a_grafana_that_does_not_run_takes_no_password_and_is_named(site: EngineSite) -> None:
    """With the command that brings it back; the file keeps the password that is in force."""
    file = site.state.secrets / "grafana_admin_password"
    before = file.read_text()
    engine.docker("stop", "ds01-grafana")

    code, told = site.manage("grafana-password", "--reset", check=False)

    assert code == 1
    assert "does not run" in told
    assert "hint: monitoring-manage start" in told
    assert file.read_text() == before


def test_nobody_can_delete_series_or_end_prometheus_over_http(site: EngineSite) -> None:
    """Neither its admin API nor its lifecycle API is on."""
    (found,) = inspect("ds01-prometheus")

    assert not {"--web.enable-admin-api", "--web.enable-lifecycle"} & set(found["Args"])


def test_stop_leaves_no_container_and_start_finds_all_data(site: EngineSite) -> None:
    """Series from before are there afterwards; so is the silence that somebody set."""
    wait_until(lambda: up(site).get("prometheus") == "1", "a first scrape")
    seen, before = time.time(), volumes()
    silence = api.alertmanager(site.deployment()).add_silence(a_silence())

    site.manage("stop")

    listed = engine.docker(
        "ps", "--all", "--quiet", "--filter", f"label={engine.PROJECT_LABEL}={engine.PROJECT}"
    )
    assert listed == ""
    assert not [found for found in processes.read_all(site.state.run) if found.alive()]
    assert not [found for found in engine.networks() if found["Name"] == engine.PROJECT]
    assert volumes() == before
    site.start()
    reply = site.get("prometheus", "/api/v1/query", query='up{job="prometheus"}', time=str(seen))
    assert reply.json()["data"]["result"]
    assert silence in {one["id"] for one in api.alertmanager(site.deployment()).silences()}


def test_another_subnet_is_taken_over(site: EngineSite) -> None:
    """A network keeps the subnet that it was made with, so it is made anew."""
    subnet = "172.30.118.0/24" if "117" in site.settings["network"]["subnet"] else "172.30.117.0/24"
    site.configure(network={"subnet": subnet})

    site.start()

    (network,) = [found for found in engine.networks() if found["Name"] == engine.PROJECT]
    assert network["IPAM"]["Config"][0]["Subnet"] == subnet
    wait_until(lambda: up(site).get("ds01-exporter") == "1", "the exporter at the new gateway")


def test_a_dcgm_exporter_that_already_runs_is_scraped(site: EngineSite, tmp_path: Path) -> None:
    """`dcgm: {address}` starts none; the demo's server plays the site's own."""
    port = site.settings["ports"]["dcgm_exporter"]
    programs = Path(engine.__file__).parents[3] / ".venv" / "bin"
    served = command.spawn(
        [
            str(programs / "ds01-demo"),
            "serve",
            "--dir",
            str(tmp_path),
            "--dcgm-bind",
            "0.0.0.0",
            "--dcgm-port",
            str(port),
        ],
        stdout=DEVNULL,
        stderr=DEVNULL,
    )
    try:
        site.configure(hardware="auto", dcgm={"address": f"{site.gateway}:{port}"})
        wait_until(lambda: _listens(port), "the demo's server")
        site.start()
        wait_until(lambda: up(site).get("dcgm-exporter") == "1", "its target up")
        assert "ds01-dcgm-exporter" not in engine.docker("ps", "--all", "--format", "{{.Names}}")
    finally:
        site.configure(hardware="none", dcgm=None)
        site.start()
        served.terminate()
        served.wait()


def _listens(port: int) -> bool:
    with socket.socket() as one:
        return one.connect_ex(("127.0.0.1", port)) == 0


def test_a_full_data_volume_ends_nothing_and_is_named(site: EngineSite) -> None:
    """Prometheus answers on, `status` says which disk, and with room it stores again without a restart."""
    volume = site.state.data / "prometheus"
    if not volume.is_mount():
        pytest.skip("may not mount")
    (before,) = inspect("ds01-prometheus")
    known = len(engine.docker("logs", "ds01-prometheus"))
    room = os.statvfs(volume)
    used = (room.f_blocks - room.f_bfree) * room.f_frsize
    _resize(volume, used)
    try:
        wait_until(
            lambda: "no space" in engine.docker("logs", "ds01-prometheus")[known:], "Prometheus notices"
        )
        assert site.get("prometheus", "/-/ready").status == 200
        assert site.checks()["disk", "free space"] == "failed"
    finally:
        _resize(volume, 4 << 30)
    freed = time.time()
    wait_until(
        lambda: any(
            float(item["value"][1]) > freed for item in site.query('timestamp(up{job="node-exporter"})')
        ),
        "new samples",
    )
    (after,) = inspect("ds01-prometheus")
    assert after["State"]["Pid"] == before["State"]["Pid"]


def _resize(volume: Path, size_bytes: int) -> None:
    command.run(["mount", "-o", f"remount,size={size_bytes}", str(volume)], timeout=10)


def test_an_update_says_what_could_not_be_renewed_and_keeps_it_running(site: EngineSite) -> None:
    """The stand-ins' registry does not exist, as a site's may not answer."""
    before = ids()

    code, told = site.manage("update", check=False)

    assert code == 1
    assert "could not be renewed" in told
    assert site.images["prometheus"] in told
    assert ids() == before
    assert "failed" not in site.checks().values()


def test_an_update_recreates_what_came_under_the_same_name(site: EngineSite) -> None:
    """As after `docker load`, where no registry answers; the other containers stay."""
    image, before = site.images["node-exporter"], ids()
    old = engine.docker("image", "inspect", "--format", "{{.Id}}", image).strip()
    container = engine.docker("create", image)
    try:
        engine.docker("commit", "--change", "LABEL newer=yes", container.strip(), image)
        site.manage("update", check=False)
        after, (found,) = ids(), inspect("ds01-node-exporter")
    finally:
        engine.docker("rm", container.strip())
        engine.docker("tag", old, image)
        site.start()
    assert {name for name in before if before[name] != after[name]} == {"ds01-node-exporter"}
    assert found["Config"]["Labels"]["newer"] == "yes"


def test_grafana_gets_a_new_password_while_it_runs(site: EngineSite) -> None:
    """Its own program is told, over standard input; the file and the screen have the same one afterwards."""
    file = site.state.secrets / "grafana_admin_password"
    before = file.read_text()

    _, told = site.manage("grafana-password", "--reset")

    after = file.read_text()
    assert after != before
    assert after.strip() in told
    assert engine.docker("exec", "ds01-grafana", "/bin/cat", "/tmp/password") == after
    assert file.stat().st_uid == owner.ids(site.state)[0]
    assert oct(file.stat().st_mode & 0o777) == "0o600"


def test_logs_come_from_containers_and_from_the_host(site: EngineSite) -> None:
    """One service's lines stand alone, all services' carry their names."""
    assert len(site.manage("logs", "prometheus", "--tail", "2")[1].splitlines()) == 2
    assert "listening" in site.manage("logs", "ds01-exporter", "--tail", "50")[1]
    _, everything = site.manage("logs", "--tail", "5")
    assert {"ds01-prometheus", "ds01-exporter"} <= {line.split()[0] for line in everything.splitlines()}
    code, told = site.manage("logs", "nobody", "--tail", "1", check=False)
    assert code == 2
    assert "one of: " in told


def test_logs_are_followed(site: EngineSite, tmp_path: Path) -> None:
    """What a container and a program on the host print after the command was started, until it is interrupted."""
    printed = tmp_path / "printed"
    environment = {**os.environ, "DOCKER_CONFIG": str(site.docker_config), "PYTHONUNBUFFERED": "1"}
    with printed.open("w") as stream:
        follower = command.spawn(site.words("logs"), env=environment, stdout=stream, stderr=stream)
    try:
        wait_until(
            lambda: all(name in printed.read_text() for name in ("ds01-prometheus", "ds01-exporter |")),
            "lines",
        )
        known = len(printed.read_text())
        site.manage("reload")
        wait_until(lambda: "configuration file" in printed.read_text()[known:], "a later line")
    finally:
        follower.send_signal(signal.SIGINT)
        ended = follower.wait(30)
    assert ended == 0
    assert "Traceback" not in printed.read_text()


@pytest.mark.skipif("DS01_ENGINE_PIDFILE" not in os.environ, reason="the Engine is not the tests' own")
def test_everything_comes_back_after_the_engine_was_restarted(site: EngineSite) -> None:
    """As with `systemctl restart docker`: containers return, and the exporter finds its Engine and its bridge again."""
    pidfile = Path(os.environ["DS01_ENGINE_PIDFILE"])
    folder = Path("/proc") / pidfile.read_text().strip()
    words = (folder / "cmdline").read_text().rstrip("\0").split("\0")
    os.kill(int(folder.name), signal.SIGTERM)
    wait_until(
        lambda: not folder.exists() or "Z" in (folder / "stat").read_text().split()[2], "the Engine's end"
    )

    started = command.spawn(words, stdout=DEVNULL, stderr=DEVNULL, start_new_session=True)
    command.let_go(started)

    wait_until(
        lambda: json.loads(_quiet("docker", "info", "--format", "{{json .ServerVersion}}") or '""'),
        "the Engine",
    )
    wait_until(lambda: "failed" not in site.checks().values(), "everything well")
    wait_until(lambda: up(site).get("ds01-exporter") == "1", "the exporter's target")


def _quiet(*words: str) -> str:
    done = command.run(words, timeout=30, check=False)
    return done.stdout if done.returncode == 0 else ""
