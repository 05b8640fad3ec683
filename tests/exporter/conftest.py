"""A machine made of files: state, metadata, events, topology, cgroups, and a Docker Engine that we control."""

import json
import os
import time
from pathlib import Path

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text
from tests.exporter.fake_docker import FakeDocker

from ds01_exporter.app import Exporter
from ds01_exporter.settings import Settings

UUID = "GPU-{:08d}-aaaa-bbbb-cccc-000000000000"
MIG_UUID = "MIG-{:08d}-1111-2222-3333-00000000000{}"


def topology():
    """GPU 0 whole, GPU 1 in two slices whose GPU instance ids are not their indices."""
    slices = [(0, 7, "1g.5gb", 1), (1, 2, "3g.20gb", 3)]
    migs = [
        {
            "index": index,
            "uuid": MIG_UUID.format(1, index),
            "gpu_instance_id": instance,
            "compute_instance_id": 0,
            "profile": profile,
            "compute_slices": share,
            "memory_total_bytes": None,
        }
        for index, instance, profile, share in slices
    ]
    gpu = {"name": "NVIDIA A100", "pci_bus_id": None, "memory_total_bytes": None, "compute_slices": 7}
    return {
        "schema": "gpu-telemetry/list/1",
        "simulated": False,
        "driver_version": None,
        "gpus": [
            {"index": 0, "uuid": UUID.format(0), "mig_enabled": False, "mig_devices": []} | gpu,
            {"index": 1, "uuid": UUID.format(1), "mig_enabled": True, "mig_devices": migs} | gpu,
        ],
    }


def until(condition, seconds=20):
    """Wait until `condition()` is true, and return what it returned."""
    deadline = time.monotonic() + seconds
    while not (result := condition()):
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)
    return result


class Scrape:
    """Exposition text, read by prometheus_client's own parser."""

    def __init__(self, text, *, openmetrics=False):
        self.text = text.decode()
        parse = parse_openmetrics if openmetrics else parse_text
        self.samples = [sample for found in parse(self.text) for sample in found.samples]
        keys = [(sample.name, tuple(sorted(sample.labels.items()))) for sample in self.samples]
        assert len(keys) == len(set(keys)), "a series stands there twice"

    def of(self, name, *labels):
        """The series of a metric: values by the values of `labels`, or of all labels in the alphabet's order."""
        found = [sample for sample in self.samples if sample.name == name]
        return {
            tuple(sample.labels[label] for label in labels or sorted(sample.labels)): sample.value
            for sample in found
        }

    def success(self, collector):
        """The collector's success: 1, 0, or None while it has not run."""
        return self.of("ds01_collector_success").get((collector,))


class Site:
    """The folders of one machine, and exporters that watch it."""

    def __init__(self, root):
        self.root = root
        self.state_file = root / "lib" / "gpu-state.json"
        self.events_file = root / "log" / "events.jsonl"
        self.topology_file = root / "topology.json"
        self.cgroup_root = root / "cgroup"
        self.metadata = root / "lib" / "container-metadata"
        for folder in (self.metadata, self.events_file.parent, self.cgroup_root):
            folder.mkdir(parents=True)
        self._started = []

    def write_state(self, document, *, old=True):
        """Write the state file, as text or as JSON; `old` makes it look as if written a while ago."""
        text = document if isinstance(document, (str, bytes)) else json.dumps(document)
        self.write(self.state_file, text, old=old)

    def write_topology(self, document=None):
        """Write the topology file."""
        self.write(self.topology_file, json.dumps(document or topology()))

    def write_metadata(self, name, **values):
        """Write one container's metadata."""
        self.write(self.metadata / f"{name}.json", json.dumps(values))

    def write(self, path, text, *, old=True):
        """Write a file in place."""
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        if old:
            self._aged = getattr(self, "_aged", time.time() - 10_000) + 1
            os.utime(path, (self._aged, self._aged))

    def exporter(self, *, start=False, **settings):
        """An exporter of this machine, its sources off unless they are named or their files exist."""
        values = {
            "state_file": self.state_file,
            "state_dir": self.state_file.parent,
            "events_file": None,
            "docker_host": None,
            "topology": str(self.topology_file) if self.topology_file.exists() else None,
            "cgroup_root": self.cgroup_root,
        }
        exporter = Exporter(Settings(**values | settings))
        if start:
            exporter.start()
            self._started.append(exporter)
        return exporter

    def stop(self):
        """End the exporters' threads."""
        for exporter in self._started:
            exporter.stop()


@pytest.fixture
def site(tmp_path):
    """A machine without anything on it."""
    machine = Site(tmp_path)
    yield machine
    machine.stop()


@pytest.fixture
def docker(tmp_path):
    """A running fake Docker Engine without containers."""
    with FakeDocker(tmp_path / "docker.sock").running() as engine:
        yield engine


@pytest.fixture
def scrape():
    """Scrape an exporter and parse the text."""
    return lambda exporter, **options: Scrape(
        exporter.scrape(**options), openmetrics=options.get("openmetrics", False)
    )


GOLDEN = Path(__file__).parent / "golden"


@pytest.fixture
def golden(update_golden):
    """Compare a text with a golden file, or rewrite the file under `--update-golden`."""

    def compare(name, text):
        path = GOLDEN / name
        if update_golden:
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, encoding="utf-8")
        assert text == path.read_text(encoding="utf-8"), "see what changed with: make golden && git diff"

    return compare
