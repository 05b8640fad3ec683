"""Whole scrapes: golden texts for each form of the state file, formats, and sources that fail."""

import errno
import gzip
import json
import logging
import os
import re
import shutil
import subprocess  # noqa: TID251 - promtool is what is asked
import zlib
from pathlib import Path

import pytest
from tests.exporter.conftest import MIG_UUID, UUID, until
from tests.exporter.fake_docker import GPUS_ALL, container
from tests.exporter.test_state_format import A, B, C

from ds01_exporter import exposition, files
from ds01_exporter.metrics import METRICS

PROMTOOLS = (
    Path(__file__).parents[2] / ".tools" / "bookworm" / "usr" / "bin" / "promtool",
    shutil.which("promtool"),
)
VOLATILE = re.compile(
    r"^(ds01_collector_duration_seconds\{|ds01_collector_last_success\w+\{|ds01_state_disk_bytes\{|ds01_exporter_info\{)(.*) \S+$",
    re.MULTILINE,
)


def stable(text):
    """A scrape's text without the values that differ each time."""
    text = re.sub(r'version="[^"]*"', 'version="0"', text.decode())
    return VOLATILE.sub(r"\1\2 0", text)


@pytest.mark.parametrize(("name", "state"), [("a", A), ("b", B), ("c", C)])
@pytest.mark.parametrize("openmetrics", [False, True], ids=["text", "openmetrics"])
def test_golden_scrape_of_each_form(site, scrape, golden, name, state, openmetrics):
    """The text of a machine with this form of state file, metadata and a topology is the golden one."""
    site.write_topology()
    site.write_state(state)
    os.utime(site.state_file, (1_769_767_200, 1_769_767_200))
    site.write_metadata(
        "proj._.1002", container="proj._.1002", user="bob", allocated_at="2026-01-30T11:00:00Z"
    )
    exporter = site.exporter()

    scrape(exporter, openmetrics=openmetrics)
    golden(f"form_{name}.{'om' if openmetrics else 'prom'}", stable(exporter.scrape(openmetrics=openmetrics)))


def full_site(site, docker):
    """A machine on which every metric but the driver's has something to say."""
    site.write_topology()
    site.write_state(A)
    os.utime(site.state_file, (1_769_767_200, 1_769_767_200))
    docker.containers = [
        container(
            1, "thesis._.1001", labels={"ds01.managed": "true", "ds01.user": "alice", "ds01.gpu.slots": "0"}
        ),
        container(2, "vscode-x", labels={"ds01.gpu_slot": MIG_UUID.format(1, 1), "ds01.user": "cleo"}),
        container(3, "old", state="exited"),
        container(4, "stray", host=GPUS_ALL),
        container(5, "ds01-grafana", labels={"ds01.monitoring": "true"}),
    ]
    for number in (1, 2):
        folder = site.cgroup_root / "docker" / docker.containers[number - 1]["Id"]
        folder.mkdir(parents=True)
        (folder / "cpu.stat").write_text(f"usage_usec {number}500000\nuser_usec 1\n")
        (folder / "memory.current").write_text("5000\n")
        (folder / "memory.stat").write_text("anon 1\ninactive_file 2000\n")
        (folder / "memory.max").write_text("max\n" if number == 1 else "8000\n")
        (folder / "cpu.max").write_text("max 100000\n" if number == 1 else "250000 100000\n")
        (folder / "memory.events").write_text("low 0\noom 4\noom_kill 3\n")
    (site.cgroup_root / "cgroup.controllers").write_text("cpu memory\n")
    site.events_file.write_text("")


def test_golden_scrape_of_a_whole_machine(site, docker, scrape, golden):
    """Docker, cgroups and the event log together with the state file make the golden text."""
    full_site(site, docker)
    exporter = site.exporter(docker_host=docker.host, events_file=site.events_file, start=True)
    until(
        lambda: scrape(exporter).success("events") == 1 and scrape(exporter).of("ds01_container_memory_bytes")
    )

    golden("machine.prom", stable(exporter.scrape()))


def test_every_metric_of_the_table_is_in_a_scrape(site, scrape):
    """Each metric has its help and type in the text even while it has no series."""
    site.write_topology()
    exporter = site.exporter(events_file=site.events_file, docker_host="unix:///nowhere", topology="nvml")
    text = scrape(exporter).text

    assert {name for name in METRICS if f"# TYPE {name} " not in text} == set()


def test_formats_and_compressions_say_the_same(site, scrape):
    """Text and OpenMetrics hold the same series, and the gzip stream unpacks to the text, changed or not."""
    site.write_topology()
    exporter = site.exporter()
    for state in (A, A, B, C):
        site.write_state(state)
        plain, openmetrics = scrape(exporter), scrape(exporter, openmetrics=True)
        unpacked = gzip.decompress(exporter.scrape(compress=True))

        assert {one.name for one in plain.samples} == {one.name for one in openmetrics.samples}
        assert openmetrics.text.endswith("# EOF\n")
        assert stable(unpacked) == stable(exporter.scrape())
        one_stream = zlib.decompressobj(16 + zlib.MAX_WBITS)
        assert stable(one_stream.decompress(exporter.scrape(compress=True))) == stable(exporter.scrape())
        assert one_stream.eof
        assert not one_stream.unused_data


def test_slots_carry_the_names_of_the_hardware(site, scrape):
    """Whole GPUs have no instance; a slice has its GPU's UUID, its real instance id, its profile and its share."""
    site.write_topology()
    result = scrape(site.exporter())

    assert result.of("ds01_gpu_slot_info", "gpu_slot", "gpu", "UUID", "GPU_I_ID", "GPU_I_PROFILE") == {
        ("0", "0", UUID.format(0), "", ""): 1,
        ("1.0", "1", UUID.format(1), "7", "1g.5gb"): 1,
        ("1.1", "1", UUID.format(1), "2", "3g.20gb"): 1,
    }
    assert result.of("ds01_gpu_slot_fraction", "gpu_slot", "GPU_I_PROFILE") == {
        ("0", ""): 1,
        ("1.0", "1g.5gb"): 1 / 7,
        ("1.1", "3g.20gb"): 3 / 7,
    }


def test_a_changed_topology_is_read_again(site, scrape):
    """After MIG was reconfigured the slots are the new ones, and a vanished file leaves none."""
    site.write_topology()
    exporter = site.exporter()
    assert len(scrape(exporter).of("ds01_gpu_slot_info")) == 3
    site.write_topology({"schema": "gpu-telemetry/list/1", "gpus": [{"index": 5, "uuid": "GPU-5"}]})

    assert set(scrape(exporter).of("ds01_gpu_slot_fraction", "gpu_slot")) == {("5",)}

    site.topology_file.unlink()
    gone = scrape(exporter)
    assert gone.of("ds01_gpu_slot_info") == {}
    assert gone.success("topology") == 0


def test_no_driver_is_said(site, scrape):
    """Without an NVIDIA driver both of its collectors fail, and the rest reports."""
    site.write_state(A)
    exporter = site.exporter(topology="nvml", start=True)
    result = until(
        lambda: (
            (found := scrape(exporter)).success("topology") is not None
            and found.success("xid") is not None
            and found
        )
    )

    if result.success("topology") == 0:
        assert result.of("ds01_gpu_slot_info") == {}
    assert len(result.of("ds01_gpu_allocated")) == 3


BAD_STATES = {
    "empty": b"",
    "half": json.dumps(A)[:200].encode(),
    "not utf-8": b'{"gpus": {"0": {"containers": ["\xff\xfe"]}}}',
    "binary": bytes(range(256)) * 10,
    "a number": b"7",
    "unknown schema": b'{"slots": {}}',
    "wrong type": b'{"gpus": {"0": {"containers": 1}}}',
    "deep": b"[" * 100_000,
    "huge number": b'{"gpus": ' + b"9" * 5000 + b"}",
}


@pytest.mark.parametrize("bad", BAD_STATES.values(), ids=BAD_STATES.keys())
def test_a_bad_state_file_fails_its_collector_only(site, scrape, bad, caplog):
    """The scrape is valid, the collector failed, nothing is made up, and the log has one line for many scrapes."""
    site.write_topology()
    site.write_state(bad)
    exporter = site.exporter()
    for _ in range(3):
        result = scrape(exporter)

        assert result.success("state") == 0
        assert result.success("exposition") == 1
        assert result.of("ds01_gpu_allocated") == {}
        assert len(result.of("ds01_gpu_slot_info")) == 3
    assert len([record for record in caplog.records if record.getMessage().startswith("state:")]) == 1


def test_a_key_cannot_forge_a_line_of_the_log(site, scrape, caplog):
    """What a broken file says is logged on one line, without what no encoding has, and not at any length."""
    site.write_state({"gpus": {"0\nWARNING all is well\ud800" + "x" * 10_000: 7}})

    assert scrape(site.exporter()).success("state") == 0
    (line,) = [record.getMessage() for record in caplog.records if record.getMessage().startswith("state:")]
    assert r"0\nWARNING all is well\ud800xxx" in line
    assert len(line) < 600


def test_a_machine_without_allocator_has_nothing_that_fails(site):
    """With every source of the allocator off the others report, and no collector is left to fail."""
    text = site.exporter(state_file=None, state_dir=None).scrape().decode()

    assert 'ds01_collector_success{collector="exposition"} 1.0' in text
    assert "} 0.0" not in "".join(line for line in text.splitlines() if "collector_success" in line)
    assert "ds01_state_disk_bytes{" not in text


def test_a_huge_state_file_is_not_read(site, scrape, caplog):
    """100 MB are refused without reading them."""
    with site.state_file.open("wb") as file:
        file.truncate(100 << 20)
    result = scrape(site.exporter())

    assert result.success("state") == 0
    assert "larger than 16 MiB" in caplog.text


def test_other_things_in_the_place_of_the_state_file(site, scrape, caplog):
    """A directory, a pipe that nobody writes to, a broken link and nothing at all fail at once, and are named."""
    exporter = site.exporter()
    assert scrape(exporter).success("state") == 0
    for make in (Path.mkdir, os.mkfifo, lambda path: path.symlink_to("nowhere")):
        make(site.state_file)
        assert scrape(exporter).success("state") == 0
        site.state_file.rmdir() if site.state_file.is_dir() else site.state_file.unlink()

    assert "No such file or directory" in caplog.text
    assert "not a regular file" in caplog.text


def test_an_unreadable_state_file(site, scrape, monkeypatch, caplog):
    """Missing permission is named; the kernel's answer is played, because root may read everything."""
    site.write_state(A)

    def refuse(path, _flags):
        raise PermissionError(errno.EACCES, "Permission denied", path)

    monkeypatch.setattr(files, "_open_without_waiting", refuse)

    assert scrape(site.exporter()).success("state") == 0
    assert "Permission denied" in caplog.text


def test_a_file_that_is_being_rewritten_is_bridged_for_a_minute(site, scrape):
    """The last whole reading is served for 60 s, then nothing; a whole file is served at once."""
    site.write_state(A)
    exporter = site.exporter()
    now = [1000.0]
    exporter.state._clock = lambda: now[0]
    whole = scrape(exporter).of("ds01_gpu_allocated")
    site.write_state(json.dumps(A)[:300])
    for seconds in (1, 59.9):
        now[0] = 1000 + seconds
        bridged = scrape(exporter)
        assert bridged.success("state") == 1
        assert bridged.of("ds01_gpu_allocated") == whole

    now[0] = 1060.1
    late = scrape(exporter)
    assert late.success("state") == 0
    assert late.of("ds01_gpu_allocated") == {}
    now[0] = 1060.2
    assert scrape(exporter).of("ds01_gpu_allocated") == {}

    site.write_state(B)
    assert set(scrape(exporter).of("ds01_gpu_allocated", "container")) == {("thesis",)}


def test_a_state_file_that_vanished_is_not_bridged(site, scrape):
    """A file that is gone, or has another schema now, is no file half written."""
    for replacement in (None, '{"slots": {}}'):
        site.write_state(A)
        exporter = site.exporter()
        assert scrape(exporter).of("ds01_gpu_allocated")
        site.state_file.unlink()
        if replacement:
            site.write_state(replacement)
        result = scrape(exporter)

        assert result.success("state") == 0
        assert result.of("ds01_gpu_allocated") == {}
        assert bool(result.of("ds01_state_file_modified_timestamp_seconds")) is bool(replacement)


def test_a_change_within_the_clock_tick_of_the_file_system_is_seen(site, scrape):
    """A file that was just written is read again even though size and time stamp are the same."""
    site.write_state('{"gpus": {"0": {"containers": ["aa"]}}}', old=False)
    stamp = site.state_file.stat().st_mtime_ns
    exporter = site.exporter()
    assert set(scrape(exporter).of("ds01_gpu_allocated", "container")) == {("aa",)}
    site.write_state('{"gpus": {"0": {"containers": ["bb"]}}}', old=False)
    os.utime(site.state_file, ns=(stamp, stamp))

    assert set(scrape(exporter).of("ds01_gpu_allocated", "container")) == {("bb",)}


def test_an_unchanged_machine_is_not_encoded_again(site, monkeypatch):
    """Between two scrapes of an unchanged machine only the collectors' own series are encoded."""
    site.write_topology()
    site.write_state(A)
    exporter = site.exporter()
    exporter.scrape()
    encoded = []
    original = exposition.generate_latest
    monkeypatch.setattr(
        exposition,
        "generate_latest",
        lambda families: encoded.append(list(families.collect())) or original(families),
    )
    exporter.scrape()
    names = {family.name for families in encoded for family in families}

    assert not names & {"ds01_gpu_allocated", "ds01_gpu_slot", "ds01_exporter"}


def test_foreign_text_does_no_harm(site, scrape):
    """Quotes, newlines, backslashes, half a surrogate pair and 10 000 characters arrive as they are."""
    names = ['a"b', "a\nb", "a\\b", "x" * 10_000, "ünïcödé \U0001f600", "\x00", "{}=,"]
    site.write_state({"gpus": {"0": {"containers": [*names, "\ud800", "\udfff"]}}})
    for openmetrics in (False, True):
        found = scrape(site.exporter(), openmetrics=openmetrics).of("ds01_gpu_allocated", "container")

        assert {name for (name,) in found} == {*names, "?"}


def test_metadata_is_read_again_when_it_changes(site, scrape, caplog):
    """New, changed, removed and broken files: a broken one is logged once, and the state's holders remain."""
    site.write_state({"gpus": {"0": {"containers": ["job"]}}})
    exporter = site.exporter()

    def users():
        return set(scrape(exporter).of("ds01_gpu_allocated", "user"))

    assert users() == {("",)}
    site.write_metadata("job", user="ann", gpu_id="0", allocated_at="2026-01-30T10:00:00")
    assert users() == {("ann",)}
    assert scrape(exporter).of("ds01_gpu_allocated_since_timestamp_seconds")
    (site.metadata / "job.json").write_text("{")
    exporter.metadata._checked_at = None
    assert users() == {("",)}
    exporter.metadata._checked_at = None
    assert users() == {("",)}
    assert len([record for record in caplog.records if "job.json" in record.getMessage()]) == 1
    shutil.rmtree(site.metadata)
    assert users() == {("",)}


def test_disk_sizes_are_those_of_the_file_system(site, scrape):
    """Free is what users may use; a missing directory leaves no sizes and a failed collector."""
    sizes = scrape(site.exporter()).of("ds01_state_disk_bytes")
    found = os.statvfs(site.root)

    assert sizes["total",] == found.f_blocks * found.f_frsize
    assert 0 < sizes["free",] <= sizes["total",] - sizes["used",]
    gone = scrape(site.exporter(state_dir=site.root / "nowhere"))
    assert gone.of("ds01_state_disk_bytes") == {}
    assert gone.success("disk") == 0


def test_one_log_line_for_each_change_of_state(site, scrape, caplog):
    """Failing, failing in the same way, failing otherwise, and working again: three lines."""
    caplog.set_level(logging.INFO)
    exporter = site.exporter()
    for content in (None, None, b"7", b"7", json.dumps(A).encode(), json.dumps(A).encode()):
        if content is not None:
            site.write_state(content)
        scrape(exporter)

    assert [record.getMessage().partition(": ")[2].rpartition(": ")[2] for record in caplog.records] == [
        "No such file or directory",
        "expected an object, found a number",
        "works again",
    ]


def test_a_mistake_in_one_part_leaves_the_others(site, scrape, monkeypatch, caplog):
    """An exception while a part is made is logged once; the client gets the other parts and sees the failure."""
    site.write_topology()
    site.write_state(A)
    exporter = site.exporter()
    monkeypatch.setattr("ds01_exporter.app.allocation_rows", lambda _: 1 / 0)
    for _ in range(3):
        result = scrape(exporter)

        assert result.success("exposition") == 0
        assert len(result.of("ds01_gpu_slot_info")) == 3
        assert result.of("ds01_gpu_allocated") == {}
    assert len(caplog.records) == 1


@pytest.mark.tools
@pytest.mark.parametrize("name", ["form_a.prom", "machine.prom"])
def test_promtool_finds_only_what_the_document_named(name):
    """Promtool's complaints about the golden scrape are those about three gauges' names that the document gave."""
    promtool = next((path for path in PROMTOOLS if path and Path(path).exists()), None)
    if promtool is None:
        pytest.skip("no promtool: make tools")
    text = (Path(__file__).parent / "golden" / name).read_bytes()
    done = subprocess.run(
        [promtool, "check", "metrics"], input=text, capture_output=True, timeout=60, check=False
    )
    complaints = {line.split()[0] for line in done.stderr.decode().splitlines()}

    assert complaints <= {"ds01_containers_total", "ds01_events_24h_total", "ds01_user_containers_count"}, (
        done.stderr
    )


def test_a_change_encodes_only_what_it_touches(site, docker, monkeypatch):
    """A state file that gives one slot to somebody else leaves the text about containers and slots alone."""
    full_site(site, docker)
    exporter = site.exporter(docker_host=docker.host, start=True)
    until(lambda: exporter.use.uses)
    exporter.scrape()
    encoded = []
    original = exposition.generate_latest
    monkeypatch.setattr(
        exposition,
        "generate_latest",
        lambda families: encoded.append(list(families.collect())) or original(families),
    )
    site.write_state(A | {"gpus": A["gpus"] | {"2": {"containers": ["new"], "users": {"dora": 1}}}})
    text = exporter.scrape().decode()
    names = {family.name for families in encoded for family in families}

    assert 'ds01_gpu_allocated{container="new",gpu_slot="2",interface="docker",user="dora"} 1.0' in text
    assert {"ds01_gpu_allocated", "ds01_user_mig_allocated"} <= names
    assert not names & {"ds01_containers_total", "ds01_gpu_slot", "ds01_container_memory_bytes"}
