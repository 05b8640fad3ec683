"""Who holds what, from the three forms of the state file, the labels of Docker and the metadata."""

import pytest
from tests.exporter.conftest import MIG_UUID, UUID, topology
from tests.exporter.fake_docker import GPUS_ALL, container

from ds01_exporter.allocations import Sources, merge
from ds01_exporter.containers import read_container, read_details
from ds01_exporter.metadata import Metadata
from ds01_exporter.state_format import parse_state
from ds01_exporter.topology import SlotTable
from gpu_telemetry.devices import Topology

SLOTS = SlotTable(Topology.from_dict(topology()).slots())
MANAGED = {"ds01.managed": "true"}


def whole(*containers, **users):
    """A whole GPU's entry in form A."""
    return {"type": "physical_gpu", "containers": list(containers), "users": users}


def state(**gpus):
    """A state in form A or B."""
    return parse_state({"gpus": gpus, "mig_enabled": True})


def containers(*entries):
    """What Docker lists and inspects."""
    return tuple(read_container(entry, read_details(entry["inspect"])) for entry in entries)


def view(state=None, docker=None, metadata=None, slots=SLOTS, per_gpu=4):
    """Merge sources."""
    return merge(Sources(state, docker, metadata or {}, slots), per_gpu)


def held(result):
    """The labels of all holders."""
    return sorted(holder.labels for holder in result.holders)


def test_each_container_of_a_shared_slot_has_its_own_user():
    """Two containers on one slot are two series, each with its own owner."""
    docker = containers(
        container(1, "a._.1001", labels={"ds01.user": "ann"}),
        container(2, "b._.1002", labels={"ds01.user": "bob"}),
    )
    result = view(state(**{"0": whole("a._.1001", "b._.1002", ann=1, bob=1)}), docker)

    assert held(result) == [("0", "a._.1001", "ann", "atomic"), ("0", "b._.1002", "bob", "atomic")]


@pytest.mark.parametrize(
    ("label", "own", "metadata", "users", "expected"),
    [
        ("label", "object", "metadata", ["slot"], "label"),
        ("", "object", "metadata", ["slot"], "object"),
        ("", "", "metadata", ["slot"], "metadata"),
        ("", "", "", ["slot"], "slot"),
        ("", "", "", ["one", "two"], ""),
        ("", "", "", [], ""),
    ],
)
def test_the_user_comes_from_the_first_source_that_knows(label, own, metadata, users, expected):
    """Docker label, container object, metadata, the only key of `users`, else nothing."""
    entry = {"containers": [{"container": "job", "user": own}], "users": dict.fromkeys(users, 1)}
    docker = containers(container(1, "job", labels={"ds01.user": label} if label else {}))
    result = view(state(**{"0": entry}), docker, {"job": Metadata(user=metadata)})

    assert [holder.user for holder in result.holders] == [expected]


def test_since_comes_from_the_first_source_that_knows():
    """The same order holds for the time of allocation, and none of them means absent."""
    label = {"ds01.gpu.allocated_at": "1970-01-01T00:00:01Z"}
    entry = {"containers": [{"container": "job", "allocated_at": "1970-01-01T00:00:02Z"}]}
    metadata = {"job": Metadata(since=3.0)}

    def since(result):
        return [holder.since for holder in result.holders]

    assert since(view(state(**{"0": entry}), containers(container(1, "job", labels=label)), metadata)) == [
        1.0
    ]
    assert since(view(state(**{"0": entry}), (), metadata)) == [2.0]
    assert since(view(state(**{"0": whole("job")}), (), metadata)) == [3.0]
    assert since(view(state(**{"0": whole("job")}), ())) == [None]


def test_a_stopped_container_holds_its_slot_only_while_the_state_names_it():
    """A label on a stopped container is history; the state file is not."""
    stopped = containers(container(1, "job", state="exited", labels={"ds01.gpu.slots": "0"}))

    assert held(view(state(**{"0": whole("job")}), stopped)) == [("0", "job", "", "docker")]
    assert held(view(state(**{"0": whole()}), stopped)) == []
    assert held(view(None, stopped)) == []


@pytest.mark.parametrize(
    ("labels", "slots"),
    [
        ({"ds01.gpu.slots": "1.0,1.1"}, ["1.0", "1.1"]),
        ({"ds01.gpu.slots": "0", "ds01.gpu.uuids": MIG_UUID.format(1, 0)}, ["0"]),
        ({"ds01.gpu.uuids": f"{MIG_UUID.format(1, 1)},{UUID.format(0)}"}, ["0", "1.1"]),
        ({"ds01.gpu.uuid": UUID.format(0)}, ["0"]),
        ({"ds01.gpu_slot": MIG_UUID.format(1, 0)}, ["1.0"]),
        ({"ds01.gpu_slot": UUID.format(0)[:16]}, ["0"]),
        ({"ds01.gpu_slot": UUID.format(0)[:6]}, [UUID.format(0)[:6]]),
        ({"ds01.gpu.allocated": "1:1"}, ["1.1"]),
        ({"ds01.gpu_slot": "GPU-unknown"}, ["GPU-unknown"]),
        ({"ds01.gpu.slots": " , "}, []),
    ],
)
def test_labels_in_both_spellings_become_slot_names(labels, slots):
    """Slots stand in the labels as names or as UUIDs, which the topology turns into names."""
    result = view(None, containers(container(1, "job", labels=labels)))

    assert [slot for slot, *_ in held(result)] == slots


def test_uuids_of_the_state_file_help_without_a_driver():
    """Where the driver does not answer, the UUIDs that the state file gives are used."""
    known = parse_state({"gpus": {"1.0": {"type": "mig_instance", "uuid": "MIG-1", "containers": []}}})
    result = view(known, containers(container(1, "job", labels={"ds01.gpu_slot": "MIG-1"})), slots=None)

    assert [slot for slot, *_ in held(result)] == ["1.0"]
    assert "unknown_slot" not in result.conflicts


def test_a_container_is_found_by_its_id_too():
    """A state file with short ids names the same containers, with a leading slash as well."""
    one, other = container(1, "job", labels={"ds01.user": "ann"}), container(2, "more")
    result = view(state(**{"0": whole(one["Id"][:12], "/more")}), containers(one, other))

    assert held(result) == [("0", "job", "ann", "docker"), ("0", "more", "", "docker")]
    assert result.conflicts["no_container"] == 0


def test_conflicts_are_counted_by_kind():
    """Each kind of contradiction counts what it says, and nothing else."""
    claimed = state(**{"0": whole("gone", "mine", ann=1), "7": whole("mine", "theirs", bob=1)})
    docker = containers(
        container(1, "mine", labels={"ds01.user": "ann"}),
        container(2, "theirs", labels={"ds01.user": "bob"}),
        container(3, "unlisted", labels={"ds01.gpu.slots": "1.0"}),
    )

    assert view(claimed, docker).conflicts == {
        "no_container": 1,
        "no_entry": 1,
        "unknown_slot": 1,
        "two_owners": 1,  # ann's container on a slot that the state gives to bob
    }


def test_what_cannot_be_compared_is_absent():
    """Without Docker nobody can say which containers are missing, without a driver which slots."""
    claimed = state(**{"9": whole("job")})

    assert view(claimed, None, slots=None).conflicts == {"two_owners": 0}
    assert view(None, (), slots=SLOTS).conflicts == {"unknown_slot": 0}
    assert view(claimed, None).containers is None
    assert view(claimed, None).running_by_user is None


@pytest.mark.parametrize(
    ("name", "labels", "claimed", "interface"),
    [
        ("x._.1", {"ds01.interface": "orchestration"} | MANAGED, "docker", "orchestration"),
        ("x", {"ds01.interface": "api"}, "", "other"),
        ("x._.1", {"ds01.container_type": "docker"} | MANAGED, "", "docker"),
        ("x", {"ds01.container_type": "devcontainer"} | MANAGED, "", "other"),
        ("x", {"ds01.container_type": "compose"} | MANAGED, "", "other"),
        ("x", {"ds01.container_type": "jupyter"} | MANAGED, "atomic", "other"),
        ("x", MANAGED | {"ds01.container_type": "unknown"}, "", "atomic"),
        ("x", MANAGED, "orchestration", "orchestration"),
        ("x", MANAGED, "", "atomic"),
        ("jupyter._.1001", {}, "", "atomic"),
        ("vscode-thesis", {}, "", "other"),
        ("my_devcontainer_1", {}, "", "other"),
        ("project-compose-1", {}, "", "other"),
        ("JupyterHub", {}, "", "other"),
        ("x", {"ds01.managed": "false"}, "", "docker"),
    ],
)
def test_interface_detection(name, labels, claimed, interface):
    """The interface label, then the type, then what the state says, then marks and names, then docker."""
    entry = {"containers": [{"container": name, "interface": claimed}]}
    result = view(state(**{"0": entry}), containers(container(1, name, labels=labels)))

    assert [holder.interface for holder in result.holders] == [interface]


def test_containers_are_counted_with_zeros():
    """Both statuses and all four interfaces are there; a paused container runs."""
    result = view(
        None,
        containers(
            container(1, "a"), container(2, "b", state="paused"), container(3, "c._.1", state="created")
        ),
    )

    assert len(result.containers) == 8
    assert {key: count for key, count in result.containers.items() if count} == {
        ("running", "docker"): 2,
        ("stopped", "atomic"): 1,
    }


def test_users_containers_are_the_running_ones():
    """A user who only holds a slot with a stopped container has none; containers without user count for nobody."""
    docker = containers(
        container(1, "a", labels={"ds01.user": "ann"}),
        container(2, "b", labels={"aime.mlc.USER": "ann"}),
        container(3, "c", state="exited", labels={"ds01.user": "bob"}),
        container(4, "d"),
    )

    assert view(state(**{"0": whole("c")}), docker).running_by_user == {"ann": 2, "bob": 0}


def test_mig_equivalents_count_each_slot_once():
    """A slice is 1, a whole GPU as configured; two containers on one slot are one slot."""
    claimed = state(
        **{
            "0": whole("a", "b", ann=2),
            "1.0": whole("c", ann=1),
            "5": whole("d", bob=1),
            "5.1": whole("e", bob=1),
        }
    )

    assert view(claimed, per_gpu=7).mig_equivalents == {"ann": 8, "bob": 8}


@pytest.mark.parametrize(
    ("host", "env"),
    [
        (GPUS_ALL, ()),
        ({"DeviceRequests": [{"Driver": "nvidia", "Count": 1, "Capabilities": [["compute", "gpu"]]}]}, ()),
        ({"DeviceRequests": [{"Count": 0, "DeviceIDs": ["0"], "Capabilities": [["gpu"]]}]}, ()),
        ({"DeviceRequests": [{"Driver": "cdi", "Count": 0, "DeviceIDs": ["nvidia.com/gpu=all"]}]}, ()),
        ({"Runtime": "nvidia"}, ("PATH=/bin", "NVIDIA_VISIBLE_DEVICES=all")),
        ({"Devices": [{"PathOnHost": "/dev/nvidia0"}]}, ()),
    ],
)
def test_gpus_past_the_allocator_are_noticed(host, env):
    """However a container was given GPUs, it shows, with the user that its compose folder tells."""
    labels = {"com.docker.compose.project.working_dir": "/home/eve/project"}
    result = view(state(), containers(container(1, "stray", labels=labels, host=host, env=env)))

    assert [(one.container, one.user, one.running) for one in result.unmanaged] == [("stray", "eve", True)]


@pytest.mark.parametrize(
    ("host", "env"),
    [
        ({}, ("NVIDIA_VISIBLE_DEVICES=all",)),
        ({"Runtime": "nvidia"}, ("NVIDIA_VISIBLE_DEVICES=void",)),
        ({"Runtime": "nvidia"}, ()),
        ({"DeviceRequests": [{"Driver": "", "Count": 1, "Capabilities": [["tpu"]]}]}, ()),
        ({"DeviceRequests": [{"Driver": "cdi", "DeviceIDs": ["example.com/net=0"]}]}, ()),
        ({"DeviceRequests": "nonsense", "Devices": {"also": 1}}, ()),
    ],
)
def test_containers_without_gpus_are_not_unmanaged(host, env):
    """CUDA images set NVIDIA_VISIBLE_DEVICES whatever the runtime; other devices are no GPUs."""
    assert view(state(), containers(container(1, "plain", host=host, env=env))).unmanaged == ()


def test_whoever_holds_a_slot_is_not_unmanaged():
    """The state file's name or a slot label is enough; a mere ds01 label is not, while the state is known."""
    docker = containers(
        container(1, "named", host=GPUS_ALL),
        container(2, "labelled", host=GPUS_ALL, state="exited", labels={"ds01.gpu.slots": "1.0"}),
        container(3, "sneaky", host=GPUS_ALL | {"CgroupParent": "ds01-student-eve.slice"}, labels=MANAGED),
    )

    assert [(one.container, one.user) for one in view(state(**{"0": whole("named")}), docker).unmanaged] == [
        ("sneaky", "eve")
    ]
    assert [one.container for one in view(None, docker).unmanaged] == ["named"]
