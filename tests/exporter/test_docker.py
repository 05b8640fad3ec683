"""The Docker source: events, resync, what never changes, and an Engine that hangs, restarts or is not there."""

import threading
import time

import pytest
from tests.exporter.conftest import MIG_UUID, until
from tests.exporter.fake_docker import GPUS_ALL, FakeDocker, container

from ds01_exporter import docker as docker_module
from ds01_exporter import docker_watch
from ds01_exporter.containers import read_container
from ds01_exporter.docker import Docker, DockerHostError


def held(scrape, exporter):
    """The containers that hold a slot."""
    return {name for (name,) in scrape(exporter).of("ds01_gpu_allocated", "container")}


def test_a_scrape_asks_docker_nothing(site, docker, scrape):
    """Ten scrapes cost no call; each container is inspected once in its life, and listed with one call."""
    docker.containers = [container(number, f"job{number}") for number in range(5)]
    exporter = site.exporter(docker_host=docker.host, start=True)
    until(lambda: scrape(exporter).success("docker") == 1 and "/events" in docker.calls)
    exporter.docker.wake()
    lists = docker.calls.count("/containers/json")
    until(lambda: docker.calls.count("/containers/json") > lists)
    time.sleep(docker_watch._MIN_PAUSE_SECONDS)
    before = list(docker.calls)
    for _ in range(10):
        scrape(exporter)

    assert docker.calls == before
    assert len([path for path in before if path not in {"/events", "/containers/json"}]) == 5


def test_an_event_brings_the_new_list_at_once(site, docker, scrape):
    """A container that comes and goes is seen long before the resync."""
    exporter = site.exporter(docker_host=docker.host, start=True)
    until(lambda: "/events" in docker.calls)
    docker.containers = [container(1, "job", labels={"ds01.gpu.slots": "0"})]
    docker.changed()
    until(lambda: held(scrape, exporter) == {"job"})
    docker.containers = []
    docker.changed()

    until(lambda: held(scrape, exporter) == set())


def test_the_resync_finds_what_events_did_not_tell(site, docker, scrape, monkeypatch):
    """A lost event is made good by the periodic list."""
    monkeypatch.setattr(docker_watch, "RESYNC_SECONDS", 0.05)
    exporter = site.exporter(docker_host=docker.host, start=True)
    docker.containers = [container(1, "job", labels={"ds01.gpu.slots": "0"})]

    until(lambda: held(scrape, exporter) == {"job"})


def test_no_docker_at_all(site, scrape, caplog):
    """An absent Engine fails its collector, what needs it is absent, and the log says so once."""
    site.write_state({"gpus": {"0": {"containers": ["job"]}}})
    exporter = site.exporter(docker_host=f"unix://{site.root}/nowhere.sock", start=True)
    for _ in range(2):
        exporter.docker.wake()
        until(lambda: scrape(exporter).success("docker") == 0)
    result = scrape(exporter)

    assert result.of("ds01_containers_total") == {}
    assert result.of("ds01_user_containers_count") == {}
    assert set(result.of("ds01_gpu_allocated", "container")) == {("job",)}
    assert [record.levelname for record in caplog.records if "nowhere.sock" in record.getMessage()] == [
        "WARNING"
    ]


def test_a_hung_docker_holds_up_no_scrape(site, docker, scrape, monkeypatch):
    """While the Engine hangs the last list stands in for a minute, the collector fails, then the list is let go."""
    monkeypatch.setattr(docker_module, "TIMEOUT_SECONDS", 0.2)
    docker.containers = [container(1, "job", labels={"ds01.gpu.slots": "0"})]
    exporter = site.exporter(docker_host=docker.host, start=True)
    until(lambda: held(scrape, exporter) == {"job"})
    docker.hang()
    exporter.docker.wake()
    until(lambda: scrape(exporter).success("docker") == 0)
    assert held(scrape, exporter) == {"job"}
    monkeypatch.setattr(docker_watch, "KEEP_SECONDS", 0.0)

    assert held(scrape, exporter) == set()


def test_a_restarted_docker_is_found_again(site, scrape, tmp_path, monkeypatch):
    """After a restart the events stream is opened again and the new list read."""
    monkeypatch.setattr(docker_watch, "_RECONNECT_SECONDS", (0.05,))
    engine = FakeDocker(tmp_path / "docker.sock")
    with engine.running():
        exporter = site.exporter(docker_host=engine.host, start=True)
        until(lambda: scrape(exporter).success("docker") == 1 and "/events" in engine.calls)
    exporter.docker.wake()
    until(lambda: scrape(exporter).success("docker") == 0)
    engine.containers = [container(1, "job", labels={"ds01.gpu.slots": "0"})]
    with engine.running():
        until(lambda: held(scrape, exporter) == {"job"})
        assert scrape(exporter).success("docker") == 1


@pytest.mark.parametrize(
    "answer", [b"not json", b'{"message": "x"}', b"[7]", b'[{"Names": ["/x"]}]', b"[" * 100_000]
)
def test_an_answer_that_makes_no_sense_is_a_failure(site, docker, scrape, answer):
    """Whatever stands in the place of the list, the scrape is valid and the collector failed."""
    docker.broken = answer
    exporter = site.exporter(docker_host=docker.host, start=True)

    until(lambda: scrape(exporter).success("docker") == 0)
    assert scrape(exporter).of("ds01_containers_total") == {}


def test_one_container_that_cannot_be_inspected_hides_no_other(site, docker, scrape, monkeypatch, caplog):
    """A hanging inspect costs that container's details only, and is not tried again at once."""
    stuck, fine = container(1, "stuck", labels={"ds01.gpu.slots": "0"}), container(2, "fine", host=GPUS_ALL)
    docker.containers = [stuck, fine]
    asked = []
    original = Docker.inspect

    def inspect(self, container_id):
        asked.append(container_id)
        if container_id == stuck["Id"]:
            raise docker_module.DockerError("no answer")
        return original(self, container_id)

    monkeypatch.setattr(Docker, "inspect", inspect)
    exporter = site.exporter(docker_host=docker.host, start=True)
    until(lambda: scrape(exporter).of("ds01_unmanaged_gpu_container"))
    exporter.docker.tick()

    assert held(scrape, exporter) == {"stuck"}
    assert asked.count(stuck["Id"]) == 1


def test_names_are_the_containers_own():
    """The leading slash goes, a link's alias is not taken for the name, and no name leaves the id."""
    entry = container(1, "x")
    entry["Names"] = ["/other/alias", "/mine"]
    assert read_container(entry, None).name == "mine"
    entry["Names"] = None
    assert read_container(entry, None).name == entry["Id"][:12]


@pytest.mark.parametrize(
    "host", ["ssh://server", "unix://", "/var/run/docker.sock", "tcp://", "", "https://x:2376"]
)
def test_hosts_that_are_not_supported_are_refused(host):
    """An address that the exporter cannot use is refused with those that it can."""
    with pytest.raises(DockerHostError, match="unix:///path or tcp://address:port"):
        Docker(host)


def test_uuid_labels_become_slots_end_to_end(site, docker, scrape):
    """The later spelling, a UUID in ds01.gpu_slot, joins the hardware's names."""
    site.write_topology()
    docker.containers = [
        container(1, "job", labels={"ds01.gpu_slot": MIG_UUID.format(1, 1), "ds01.user": "ann"})
    ]
    exporter = site.exporter(docker_host=docker.host, start=True)
    found = until(lambda: scrape(exporter).of("ds01_gpu_allocated", "gpu_slot", "user"))

    assert found == {("1.1", "ann"): 1}


def test_the_threads_end(site, docker, scrape):
    """After stop no thread of the exporter is left, not even the one that waits for events."""
    before = set(threading.enumerate())
    exporter = site.exporter(docker_host=docker.host, events_file=site.events_file, start=True)
    until(lambda: "/events" in docker.calls)
    mine = [one for one in threading.enumerate() if one not in before and "process_request" not in one.name]
    exporter.stop()

    until(lambda: not any(one.is_alive() for one in mine))
