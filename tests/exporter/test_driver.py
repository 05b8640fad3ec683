"""Slots and XID errors from the driver, with the driver's side replaced."""

import threading

import pytest
from tests.exporter.conftest import UUID, topology, until

from ds01_exporter import topology as topology_module
from ds01_exporter import xid as xid_module
from gpu_telemetry.devices import NvmlUnavailable, Topology, XidEvent


class Driver:
    """What NVML would say: a topology, and XID events one after the other."""

    def __init__(self):
        self.topology = Topology.from_dict(topology())
        self.events = []
        self.unavailable = None
        self._woken = threading.Event()

    def read_topology(self):
        """Stand in for gpu_telemetry.devices.read_topology."""
        if self.unavailable:
            raise self.unavailable
        return self.topology

    def __call__(self):
        """Stand in for the class XidWatcher."""
        return self

    def __enter__(self):
        if self.unavailable:
            raise self.unavailable
        return self

    def __exit__(self, *_):
        pass

    def wait(self, timeout_seconds):
        """Hand out the events; a lost driver raises here."""
        if self.unavailable:
            raise self.unavailable
        if not self.events:
            self._woken.wait(0.01)
        events, self.events = self.events, []
        return events


@pytest.fixture
def driver(monkeypatch):
    """A driver that the exporter asks instead of the real one."""
    stand_in = Driver()
    monkeypatch.setattr(topology_module, "read_topology", stand_in.read_topology)
    monkeypatch.setattr(xid_module, "XidWatcher", stand_in)
    monkeypatch.setattr(xid_module, "RETRY_SECONDS", 0.02)
    return stand_in


LOST = NvmlUnavailable("NVML is not available: GPU is lost", reason="lost")


def test_xid_errors_are_counted_as_they_happen(site, scrape, driver):
    """Each error counts by GPU and number, with the time of the last; one of an unknown GPU has no names."""
    exporter = site.exporter(topology="nvml", start=True)
    driver.events = [XidEvent(1, UUID.format(1), 43, 10.0), XidEvent(1, UUID.format(1), 79, 11.0)]
    until(lambda: len(scrape(exporter).of("ds01_gpu_xid_errors_total")) == 2)
    driver.events = [XidEvent(1, UUID.format(1), 43, 12.0), XidEvent(None, None, 48, 13.0)]
    found = until(
        lambda: (
            len(all_of := scrape(exporter).of("ds01_gpu_xid_errors_total", "gpu", "UUID", "xid")) == 3
            and all_of
        )
    )

    assert found == {("1", UUID.format(1), "43"): 2, ("1", UUID.format(1), "79"): 1, ("", "", "48"): 1}
    last = scrape(exporter).of("ds01_gpu_xid_last_timestamp_seconds", "xid")
    assert last == {("43",): 12.0, ("79",): 11.0, ("48",): 13.0}
    assert scrape(exporter).success("xid") == 1


def test_slots_follow_a_reconfiguration(site, scrape, driver):
    """A changed MIG layout is seen at the next reading, and allocations keep their names."""
    exporter = site.exporter(topology="nvml", start=True)
    assert len(scrape(exporter).of("ds01_gpu_slot_info")) == 3
    document = topology()
    document["gpus"][1]["mig_devices"].pop()
    driver.topology = Topology.from_dict(document)
    exporter.topology.wake()

    until(lambda: len(scrape(exporter).of("ds01_gpu_slot_info")) == 2)


def test_a_lost_driver_is_said_and_found_again(site, scrape, driver):
    """While the driver is lost there are no slots, counted errors stay, and both collectors recover."""
    exporter = site.exporter(topology="nvml", start=True)
    driver.events = [XidEvent(0, UUID.format(0), 79, 10.0)]
    until(lambda: scrape(exporter).of("ds01_gpu_xid_errors_total"))
    driver.unavailable = LOST
    exporter.topology.wake()
    until(lambda: scrape(exporter).success("topology") == 0 and scrape(exporter).success("xid") == 0)
    lost = scrape(exporter)
    assert lost.of("ds01_gpu_slot_info") == {}
    assert lost.of("ds01_gpu_xid_errors_total", "xid") == {("79",): 1}
    driver.unavailable = None
    exporter.topology.wake()

    until(lambda: scrape(exporter).success("topology") == 1 and scrape(exporter).success("xid") == 1)
