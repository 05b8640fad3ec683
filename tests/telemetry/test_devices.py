"""The topology that the allocation exporter reads: slots, fractions, its JSON form, XID errors."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpu_telemetry.devices import (
    Gpu,
    MigDevice,
    NvmlUnavailable,
    Topology,
    TopologyError,
    XidWatcher,
    read_topology,
)

_TEXT = st.none() | st.text(max_size=8)
_COUNT = st.none() | st.integers(0, 2**50)
_MIGS = st.builds(MigDevice, st.integers(0, 6), st.text(max_size=8), _COUNT, _COUNT, _TEXT, _COUNT, _COUNT)
_GPUS = st.builds(
    Gpu,
    st.integers(0, 15),
    st.text(max_size=8),
    _TEXT,
    _TEXT,
    _COUNT,
    _COUNT,
    st.none() | st.booleans(),
    st.tuples(_MIGS),
)


@given(st.builds(Topology, st.lists(_GPUS, max_size=3).map(tuple), _TEXT, st.booleans()))
def test_topology_survives_json(topology: Topology) -> None:
    """What `list --json` prints is read back as it was."""
    assert Topology.from_dict(json.loads(json.dumps(topology.to_dict()))) == topology


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"schema": "gpu-telemetry/list/2"}, "schema is 'gpu-telemetry/list/2'"),
        ({"gpus": {}}, "gpus of the document is dict, not a list"),
        ({"gpus": [{"index": "0", "uuid": "GPU-a"}]}, "index of gpus[0] is '0', not int or null"),
        ({"gpus": [{"index": True, "uuid": "GPU-a"}]}, "index of gpus[0] is True"),
        ({"gpus": [{"index": 0}]}, "uuid of gpus[0] is missing"),
        ({"gpus": [{"index": 0, "uuid": "GPU-a", "mig_devices": [3]}]}, "gpus[0].mig_devices[0] is int"),
    ],
)
def test_a_wrong_document_is_refused_by_place(change: dict[str, Any], words: str) -> None:
    """An error names the place and the value."""
    with pytest.raises(TopologyError) as caught:
        Topology.from_dict({"schema": "gpu-telemetry/list/1", "gpus": []} | change)
    assert words in caught.value.problem
    assert "gpu-telemetry list --json" in caught.value.hint


def test_slots_are_whole_gpus_and_mig_devices(nvml: Any) -> None:
    """A card in MIG mode has no slot of its own; a slot's fraction is its compute slices over the card's."""
    migs = [
        nvml.mig(1, 0, 2, "3g.20gb", 3, 19968),
        nvml.mig(1, 2, 9, "1c.2g.10gb", 1, 9856, instance_slices=2),
    ]
    nvml.install(nvml.driver(nvml.card(0), nvml.card(1, mig_mode=1, migs=migs), nvml.card(2, mig_mode=1)))
    slots = read_topology().slots()
    assert [(each.name, each.gpu_instance_id, each.profile) for each in slots] == [
        ("0", None, None),
        ("1.0", 2, "3g.20gb"),
        ("1.2", 9, "1c.2g.10gb"),
    ]
    assert [each.fraction for each in slots] == [1.0, 3 / 7, 1 / 7]
    assert slots[1].uuid == "GPU-a1000000-0000-4000-8000-000000000001"
    assert slots[1].mig_uuid == "MIG-a1000000-0000-4000-0001-000000000000"


@pytest.mark.parametrize(
    ("name", "profiles", "slices"),
    [
        ("NVIDIA A30", {}, 4),
        ("NVIDIA A30", {"0": 1, "2": 4}, 4),
        ("NVIDIA H100 80GB HBM3", {}, 7),
        ("NVIDIA H200", {}, 7),
        ("NVIDIA GH200 480GB", {}, 7),
        ("NVIDIA RTX PRO 6000 Blackwell Server Edition", {}, 4),
        ("NVIDIA Tomorrow", {"3": 5}, 5),
        ("NVIDIA Tomorrow", {}, None),
        ("NVIDIA A100-SXM4-40GB", {"0": 1, "4": 7, "8": 1}, 7),
    ],
)
def test_a_card_knows_its_slices(nvml: Any, name: str, profiles: dict[str, int], slices: int | None) -> None:
    """From its largest instance profile, else by its name; a card that is not known stays unknown."""
    nvml.install(nvml.driver(nvml.card(0, name=name, profiles=profiles)))
    assert read_topology().gpus[0].compute_slices == slices


def test_a_card_without_mig_has_no_slices(nvml: Any) -> None:
    """A GeForce is no MIG card: not in MIG mode, its slices unknown, one whole slot."""
    nvml.install(nvml.driver(nvml.card(0, mig_mode=-3)))
    gpu = read_topology().gpus[0]
    assert (gpu.mig_enabled, gpu.compute_slices) == (False, None)
    assert [each.fraction for each in read_topology().slots()] == [1.0]


def test_the_profile_is_worked_out_where_the_name_lacks_it(nvml: Any) -> None:
    """Old drivers name a MIG device like its card; the profile then comes from its attributes."""
    migs = [
        nvml.mig(0, 0, 7, "?", 1, 4864, name="NVIDIA A100-SXM4-40GB"),
        nvml.mig(0, 1, 2, "?", 3, 19968, name="x"),
    ]
    nvml.install(nvml.driver(nvml.card(0, total=40536 * 1024**2, mig_mode=1, migs=migs)))
    assert [each.profile for each in read_topology().gpus[0].mig_devices] == ["1g.5gb", "3g.20gb"]


def test_no_driver_is_one_error_type() -> None:
    """Callers catch NvmlUnavailable and nothing else."""
    with pytest.raises(NvmlUnavailable) as caught:
        read_topology()
    assert caught.value.reason == "no_driver"


def test_xid_errors_reach_the_watcher(nvml: Any) -> None:
    """Errors are handed out once, with the card they belong to, all that are there at a time."""
    fake = nvml.install(nvml.driver(nvml.card(0), nvml.card(1)))
    with XidWatcher() as watcher:
        assert watcher.wait(0) == []
        fake.state["cards"][1]["xids"] = [79]
        fake.state["cards"][0]["xids"] = [43, 43]
        events = watcher.wait(0)
        assert [(each.gpu, each.uuid, each.xid, each.gpu_instance_id) for each in events] == [
            (0, "GPU-a1000000-0000-4000-8000-000000000000", 43, None),
            (0, "GPU-a1000000-0000-4000-8000-000000000000", 43, None),
            (1, "GPU-a1000000-0000-4000-8000-000000000001", 79, None),
        ]
        assert watcher.wait(0) == []
    assert fake.initialised == 0


def test_a_lost_driver_ends_the_watching(nvml: Any) -> None:
    """The watcher says that it can see no more, so that a new one can be made."""
    fake = nvml.install(nvml.driver(nvml.card(0)))
    with XidWatcher() as watcher:
        fake.state["error"] = 9
        with pytest.raises(NvmlUnavailable):
            watcher.wait(0)


def test_cards_without_events_cannot_be_watched(nvml: Any) -> None:
    """No GPU that reports XID errors is an error, not a silence for ever."""
    fake = nvml.install(nvml.driver(nvml.card(0, events_error=3)))
    with pytest.raises(NvmlUnavailable), XidWatcher():
        pass
    assert fake.initialised == 0
