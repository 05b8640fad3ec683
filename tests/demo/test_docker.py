"""The simulated Docker Engine, through its socket."""

from __future__ import annotations

import json
import threading
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest

from ds01_demo.clock import Clock
from ds01_demo.engine import Engine
from ds01_demo.httpd import EngineServer
from ds01_demo.load import DAY
from ds01_demo.scenario import PROFILES
from ds01_demo.world import World

from .conftest import UnixConnection

if TYPE_CHECKING:
    from pathlib import Path

    from .conftest import Served


def test_the_list_tells_what_the_exporter_needs(served: Served) -> None:
    """With all=1 every container has its id, name, labels, image and state; without it only running ones come."""
    status, everything = served.docker("/v1.43/containers/json?all=1")
    assert status == 200
    for entry in everything:
        assert len(entry["Id"]) == 64
        assert entry["Names"][0].startswith("/")
        assert entry["State"] in {"created", "running", "exited"}
        assert isinstance(entry["Labels"], dict)
        assert isinstance(entry["Created"], int)
    assert {entry["State"] for entry in served.docker("/containers/json")[1]} == {"running"}


def test_labels_come_in_both_spellings(served: Served) -> None:
    """The allocator's containers name slots and UUIDs, the wrapper's a UUID, the outsider's and ours nothing."""
    labels = {entry["Names"][0][1:]: entry["Labels"] for entry in served.docker("/containers/json?all=1")[1]}
    assert labels["llm-eval._.1002"]["ds01.gpu.slots"] == "1"
    assert labels["llm-eval._.1002"]["ds01.gpu.uuids"].startswith("GPU-")
    assert labels["jupyter-dmitri"]["ds01.gpu_slot"].startswith("MIG-")
    assert labels["ds01-log-shipper"]["ds01.monitoring"] == "true"


def test_inspect_gives_cgroup_and_devices(served: Served) -> None:
    """A container is found by id, name or prefix, with the slice and the devices that it was given."""
    entry = next(one for one in served.docker("/containers/json")[1] if one["Names"] == ["/jupyter-dmitri"])
    for name in (entry["Id"], "jupyter-dmitri", entry["Id"][:12]):
        status, found = served.docker(f"/containers/{name}/json")
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
def test_refusals_are_worded_as_by_an_engine(served: Served, path: str, status: int, message: str) -> None:
    """What the Engine does not know it refuses with its usual status and one message."""
    assert served.docker(path) == (status, {"message": message})


def test_filters_choose(served: Served) -> None:
    """Filters by label, name and status leave what they name, in both encodings of the parameter."""
    for filters in ('{"label":["ds01.monitoring=true"]}', '{"label":{"ds01.monitoring=true":true}}'):
        _, found = served.docker("/containers/json?all=1&filters=" + quote(filters))
        assert [one["Names"] for one in found] == [["/ds01-log-shipper"]]
    _, exited = served.docker("/containers/json?filters=" + quote('{"status":["exited"]}'))
    assert all(one["State"] == "exited" for one in exited)


def test_ping_version_and_info(served: Served) -> None:
    """The Engine says which API it speaks and which cgroup driver it uses."""
    connection = UnixConnection(str(served.root / "docker.sock"))
    connection.request("GET", "/_ping")
    response = connection.getresponse()
    assert (response.status, response.read(), response.getheader("Api-Version")) == (200, b"OK", "1.47")
    connection.close()
    assert served.docker("/version")[1]["ApiVersion"] == "1.47"
    info = served.docker("/v1.47/info")[1]
    assert (info["CgroupDriver"], info["CgroupVersion"]) == ("systemd", "2")


def test_nothing_can_be_changed(served: Served) -> None:
    """A request to stop a container is refused: the simulated Engine only answers."""
    connection = UnixConnection(str(served.root / "docker.sock"))
    connection.request("POST", "/containers/jupyter-dmitri/stop")
    assert connection.getresponse().status == 403
    connection.close()


def test_past_events_agree_with_the_list(served: Served) -> None:
    """With since and until the stream ends by itself; what it says started and never died is running."""
    now = time.time()
    connection = UnixConnection(str(served.root / "docker.sock"))
    connection.request("GET", f"/events?since={int(now - DAY - 3600)}&until={now}")
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
    listed = {one["Id"] for one in served.docker("/containers/json")[1]}
    fresh = {event["Actor"]["ID"] for event in events if event["time"] > now - 60}
    assert alive - fresh == listed - fresh


def test_events_come_as_they_happen(tmp_path: Path) -> None:
    """A client that follows the stream hears of the next container, and the stream ends when the server stops."""
    stopping = threading.Event()
    moment = [20_000 * DAY + 1_795.0]
    clock = Clock(wall=lambda: moment[0], start=moment[0])
    server = EngineServer(tmp_path / "d.sock", Engine(World(PROFILES["lively"]), clock), clock, stopping)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    connection = UnixConnection(str(tmp_path / "d.sock"))
    connection.request("GET", "/events?filters=" + quote('{"event":["create"],"type":["container"]}'))
    response = connection.getresponse()
    moment[0] += 30
    event: dict[str, Any] = json.loads(response.readline())
    assert (event["Action"], event["Actor"]["Attributes"]["name"]) == ("create", "debug._.1001")
    stopping.set()
    assert response.read() == b""
    connection.close()
    server.shutdown()
    server.server_close()
    thread.join()
