"""The simulated Docker Engine, through its socket."""

from __future__ import annotations

import http.client
import json
import socket
import tempfile
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest

from ds01_demo.clock import Clock
from ds01_demo.engine import Engine
from ds01_demo.httpd import EngineServer
from ds01_demo.load import DAY
from ds01_demo.scenario import PROFILES
from ds01_demo.world import World

if TYPE_CHECKING:
    from collections.abc import Iterator

# One container waits to be started and one has exited; all that the tests name run.
NOW = 20_000 * DAY + 510 * 60.0


class UnixConnection(http.client.HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=30)
        self._path = path

    def connect(self) -> None:
        """Connect to the path instead of a host."""
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


@dataclass
class Docker:
    """A served Engine whose time stands still at `now` until a test moves it."""

    socket: Path
    now: float = NOW
    stopping: threading.Event = field(default_factory=threading.Event)

    def get(self, path: str) -> tuple[int, Any]:
        """Status and JSON body of a GET."""
        connection = UnixConnection(str(self.socket))
        connection.request("GET", path)
        response = connection.getresponse()
        body = response.read()
        connection.close()
        return response.status, json.loads(body)


@contextmanager
def serving(now: float = NOW) -> Iterator[Docker]:
    """The lively world's Engine in a short path, as unix sockets need."""
    with tempfile.TemporaryDirectory(prefix="ds01-demo-") as folder:
        docker = Docker(Path(folder) / "docker.sock", now)
        clock = Clock(wall=lambda: docker.now, start=now)
        engine = Engine(World(PROFILES["lively"]), clock)
        server = EngineServer(docker.socket, engine, clock, docker.stopping)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield docker
        finally:
            docker.stopping.set()
            server.shutdown()
            server.server_close()
            thread.join()


@pytest.fixture(scope="module")
def docker() -> Iterator[Docker]:
    """An Engine that the tests of this file only ask."""
    with serving() as running:
        yield running


def test_the_list_tells_what_the_exporter_needs(docker: Docker) -> None:
    """With all=1 every container has its id, name, labels, image and state; without it only running ones come."""
    status, everything = docker.get("/v1.43/containers/json?all=1")
    assert status == 200
    for entry in everything:
        assert len(entry["Id"]) == 64
        assert entry["Names"][0].startswith("/")
        assert isinstance(entry["Labels"], dict)
        assert isinstance(entry["Created"], int)
    assert {entry["State"] for entry in everything} == {"created", "running", "exited"}
    assert {entry["State"] for entry in docker.get("/containers/json")[1]} == {"running"}


def test_labels_come_in_both_spellings(docker: Docker) -> None:
    """The allocator's containers name slots and UUIDs, the wrapper's a UUID, the outsider's and ours nothing."""
    labels = {entry["Names"][0][1:]: entry["Labels"] for entry in docker.get("/containers/json?all=1")[1]}
    assert labels["llm-eval._.1002"]["ds01.gpu.slots"] == "1"
    assert labels["llm-eval._.1002"]["ds01.gpu.uuids"].startswith("GPU-")
    assert labels["jupyter-dmitri"]["ds01.gpu_slot"].startswith("MIG-")
    assert labels["ds01-log-shipper"]["ds01.monitoring"] == "true"


def test_inspect_gives_cgroup_and_devices(docker: Docker) -> None:
    """A container is found by id, name or prefix, with the slice and the devices that it was given."""
    entry = next(one for one in docker.get("/containers/json")[1] if one["Names"] == ["/jupyter-dmitri"])
    for name in (entry["Id"], "jupyter-dmitri", entry["Id"][:12]):
        status, found = docker.get(f"/containers/{name}/json")
        assert (status, found["Id"]) == (200, entry["Id"])
    assert found["HostConfig"]["CgroupParent"] == "ds01-research-dmitri.slice"
    (request,) = found["HostConfig"]["DeviceRequests"]
    assert request["DeviceIDs"] == [entry["Labels"]["ds01.gpu_slot"]]
    assert found["State"]["Running"] is True
    assert found["HostConfig"]["Memory"] == 16384 * 1024 * 1024


@pytest.mark.parametrize(
    ("path", "status", "message"),
    [
        ("/containers/nobody/json", 404, "No such container: nobody"),
        ("/images/json", 404, "page not found"),
        (
            "/v1.99/containers/json",
            400,
            "client version 1.99 is too new. Maximum supported API version is 1.47",
        ),
        (
            "/v1.12/containers/json",
            400,
            "client version 1.12 is too old. Minimum supported API version is 1.24",
        ),
        ("/containers/json?filters=" + quote('{"nonsense":["x"]}'), 400, "invalid filter 'nonsense'"),
        ("/containers/json?filters=nonsense", 400, "invalid filter"),
        ("/events?since=yesterday", 400, "invalid value for since: yesterday"),
    ],
)
def test_refusals_are_worded_as_by_an_engine(docker: Docker, path: str, status: int, message: str) -> None:
    """What the Engine does not know it refuses with its usual status and one message."""
    assert docker.get(path) == (status, {"message": message})


def test_filters_choose(docker: Docker) -> None:
    """Filters by label, name and status leave what they name, in both encodings of the parameter."""
    for filters in ('{"label":["ds01.monitoring=true"]}', '{"label":{"ds01.monitoring=true":true}}'):
        _, found = docker.get("/containers/json?all=1&filters=" + quote(filters))
        assert [one["Names"] for one in found] == [["/ds01-log-shipper"]]
    _, exited = docker.get("/containers/json?filters=" + quote('{"status":["exited"]}'))
    assert [(one["Names"], one["State"]) for one in exited] == [(["/sweep._.1005"], "exited")]


def test_ping_version_and_info(docker: Docker) -> None:
    """The Engine says which API it speaks and which cgroup driver it uses."""
    connection = UnixConnection(str(docker.socket))
    connection.request("GET", "/_ping")
    response = connection.getresponse()
    assert (response.status, response.read(), response.getheader("Api-Version")) == (200, b"OK", "1.47")
    connection.close()
    assert docker.get("/version")[1]["ApiVersion"] == "1.47"
    info = docker.get("/v1.47/info")[1]
    assert (info["CgroupDriver"], info["CgroupVersion"]) == ("systemd", "2")


def test_nothing_can_be_changed(docker: Docker) -> None:
    """A request to stop a container is refused: the simulated Engine only answers."""
    connection = UnixConnection(str(docker.socket))
    connection.request("POST", "/containers/jupyter-dmitri/stop")
    assert connection.getresponse().status == 403
    connection.close()


def test_past_events_agree_with_the_list(docker: Docker) -> None:
    """With since and until the stream ends by itself; what it says started and never died is running."""
    connection = UnixConnection(str(docker.socket))
    connection.request("GET", f"/events?since={int(NOW - DAY - 3600)}&until={NOW}")
    events = [json.loads(line) for line in connection.getresponse().read().splitlines()]
    connection.close()
    moments = [event["timeNano"] for event in events]
    assert moments == sorted(moments)
    alive: set[str] = set()
    for event in events:
        if event["Action"] == "start":
            alive.add(event["Actor"]["ID"])
        elif event["Action"] == "die":
            alive.discard(event["Actor"]["ID"])
    listed = {one["Id"] for one in docker.get("/containers/json")[1]}
    assert alive == listed


def test_events_come_as_they_happen() -> None:
    """A client that follows the stream hears of the next container, and the stream ends when the server stops."""
    with serving(20_000 * DAY + 1_795.0) as docker:
        connection = UnixConnection(str(docker.socket))
        connection.request("GET", "/events?filters=" + quote('{"event":["create"],"type":["container"]}'))
        response = connection.getresponse()
        docker.now += 30
        event: dict[str, Any] = json.loads(response.readline())
        assert (event["Action"], event["Actor"]["Attributes"]["name"]) == ("create", "debug._.1001")
        docker.stopping.set()
        assert response.read() == b""
        connection.close()
