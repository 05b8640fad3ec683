"""The three forms of the state file, and what is refused."""

import json
from pathlib import Path

import jsonschema
import pytest

from ds01_exporter.state_format import Claim, StateFormatError, parse_state

SCHEMA = json.loads(
    (Path(__file__).parents[2] / "exporter" / "gpu-state.schema.json").read_text(encoding="utf-8")
)

A = {
    "gpus": {
        "0": {
            "type": "physical_gpu",
            "containers": ["thesis._.1001", "more._.1002"],
            "users": {"alice": 1, "bob": 1},
            "reserved_until": None,
            "reserved_for": None,
        },
        "1.0": {
            "type": "mig_instance",
            "physical_gpu": "1",
            "device_id": "0",
            "uuid": "MIG-1",
            "profile": "1g.10gb",
            "docker_id": "MIG-1",
            "containers": ["proj._.1002"],
            "users": {"bob": 1},
        },
        "2": {"type": "physical_gpu", "containers": [], "users": {}},
    },
    "mig_enabled": True,
    "allocation_strategy": "least_allocated",
}
B = {
    "gpus": {
        "0": {
            "type": "physical_gpu",
            "containers": [
                {
                    "container": "thesis",
                    "user": "alice",
                    "allocated_at": "2026-01-30T10:00:00Z",
                    "interface": "orchestration",
                }
            ],
            "total_memory": "40960 MiB",
        }
    },
    "mig_enabled": False,
    "last_updated": "2026-01-30T10:00:00Z",
}
C = {
    "allocations": {
        "thesis": {
            "user": "alice",
            "gpu_id": "1:3",
            "allocated_at": "2026-01-30T10:00:00+00:00",
            "priority": 10,
            "stopped_at": None,
        },
        "plain": {"user": "bob", "gpu_id": "0"},
    },
    "last_updated": "",
}
SINCE = 1769767200.0


def test_form_a_has_names_and_counts():
    """Containers are names, the users of a slot stand beside them, a free slot claims nothing."""
    state = parse_state(A)

    assert state.claims == (
        Claim("0", "thesis._.1001"),
        Claim("0", "more._.1002"),
        Claim("1.0", "proj._.1002"),
    )
    assert state.slot_users["0"] == {"alice", "bob"}
    assert state.slot_uuids == {"MIG-1": "1.0"}
    assert state.mig_slots == {"1.0"}


def test_form_b_has_container_objects():
    """Each container carries its own user, time and interface."""
    assert parse_state(B).claims == (Claim("0", "thesis", "alice", "orchestration", SINCE),)


def test_form_c_is_by_container():
    """The colon of a slice's id becomes the dot of its slot."""
    assert parse_state(C).claims == (Claim("1.3", "thesis", "alice", "", SINCE), Claim("0", "plain", "bob"))


def test_form_c_with_nothing_allocated():
    """The empty form that the documents tell to reset to is a state without allocations."""
    assert parse_state({"allocations": {}, "last_updated": ""}).claims == ()


@pytest.mark.parametrize("gpu_id", [["0", "1:1"], "0,1:1", "0, 1.1"])
def test_form_c_with_several_slots(gpu_id):
    """A container with several slots claims each of them."""
    claims = parse_state({"allocations": {"job": {"gpu_id": gpu_id}}}).claims

    assert [claim.slot for claim in claims] == ["0", "1.1"]


@pytest.mark.parametrize("document", [A, B, C], ids="ABC")
def test_the_schema_accepts_what_we_accept(document):
    """The published schema agrees with the reader on every form."""
    jsonschema.validate(document, SCHEMA)


WRONG = [
    ([], "the document: expected an object, found an array"),
    ({}, "neither 'gpus' nor 'allocations' is there"),
    ({"slots": {}}, "an unknown schema"),
    ({"gpus": []}, "gpus: expected an object, found an array"),
    ({"gpus": {"0": None}}, "gpus.0: expected an object, found null"),
    ({"gpus": {"0": {"containers": "job"}}}, "gpus.0.containers: expected an array, found a string"),
    (
        {"gpus": {"0": {"containers": [7]}}},
        r"gpus.0.containers\[0\]: expected a name or an object, found a number",
    ),
    ({"gpus": {"0": {"containers": [{"user": "ann"}]}}}, "expected a container name, found null"),
    ({"gpus": {"0": {"containers": [""]}}}, "expected a container name, found a string"),
    (
        {"gpus": {"0": {"containers": [{"container": "x", "user": 1}]}}},
        "user: expected a string, found a number",
    ),
    ({"gpus": {"0": {"users": ["ann"]}}}, "gpus.0.users: expected an object, found an array"),
    ({"gpus": {"0": {"uuid": False}}}, "gpus.0.uuid: expected a string, found a boolean"),
    ({"allocations": {"job": "0"}}, "allocations.job: expected an object, found a string"),
    ({"allocations": {"job": {"gpu_id": None}}}, "allocations.job.gpu_id: expected a slot name, found null"),
    (
        {"allocations": {"job": {"gpu_id": [True]}}},
        "allocations.job.gpu_id: expected a slot name, found a boolean",
    ),
]


@pytest.mark.parametrize(("document", "message"), WRONG)
def test_wrong_types_are_refused_with_their_place(document, message):
    """The message names the place, what was expected and what was found; the schema refuses the same."""
    with pytest.raises(StateFormatError, match=message):
        parse_state(document)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(document, SCHEMA)
