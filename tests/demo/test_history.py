"""The demo's past: text that promtool takes, values that agree with the live demo, rules in a workable order."""

from __future__ import annotations

import http.client
import json
import os
import re
import subprocess  # noqa: TID251 - the doors are for the programs, not for their tests.
import sys
import time
import urllib.parse
import urllib.request
from typing import TYPE_CHECKING, Any

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from prometheus_client.parser import text_string_to_metric_families as parse_text

from ds01_demo.__main__ import main
from ds01_demo.backfill import before_first_scrape, private_server
from ds01_demo.bodies import state
from ds01_demo.errors import DemoError
from ds01_demo.history import TARGETS, Span, lines
from ds01_demo.load import DAY
from ds01_demo.recorded import Rule, levels
from ds01_demo.scenario import HOUR, PROFILES
from ds01_demo.world import World
from ds01_monitoring.context import JOBS

from .conftest import promtool

if TYPE_CHECKING:
    from pathlib import Path

    from .conftest import Served

END = 20_000 * DAY + 10 * HOUR
RULES = """
groups:
  - name: last
    interval: 15s
    rules:
      - {record: "demo:power:avg10m", expr: "avg_over_time(demo:power:watts[10m])"}
      - {alert: Hot, expr: "demo:power:watts > 1"}
  - name: first
    interval: 2m
    rules:
      - {record: "demo:power:watts", expr: 'sum by (host) (max by (host, UUID) (DCGM_FI_DEV_POWER_USAGE))', labels: {kind: "sum"}}
      - {record: "demo:odd:bool", expr: 'up and on () (vector(time()) % 240 == 0) or up * 0'}
"""


@pytest.fixture(scope="module")
def text() -> str:
    """Twenty minutes of the lively server."""
    return "".join(lines(World(PROFILES["lively"]), Span(END - 1200, END, 60)))


def test_the_text_is_openmetrics_in_the_order_of_time(text: str) -> None:
    """It parses strictly, and within each series the moments only go forward, one step at a time."""
    last: dict[tuple[str, frozenset[tuple[str, str]]], float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            key = (sample.name, frozenset(sample.labels.items()))
            moment = float(sample.timestamp)
            assert moment > last.get(key, 0)
            assert (moment - END) % 60 == 0
            last[key] = moment
    assert len(last) > 400


def test_labels_are_those_after_relabeling(text: str) -> None:
    """Every series has host, job and instance; what our scrape configuration drops is not there."""
    for line in text.splitlines():
        if not line.startswith("#"):
            labels = set(re.findall(r'[{,](\w+)="', line))
            assert {"host", "job", "instance"} <= labels
            assert not labels & {"hostname", "Hostname", "pci_bus_id", "DCGM_FI_DRIVER_VERSION"}
            assert 'GPU_I_ID=""' not in line


@pytest.mark.parametrize("job", sorted(TARGETS))
def test_every_target_was_up(text: str, job: str) -> None:
    """Each job has an `up` series with its own address."""
    assert f'up{{host="demo",instance="{TARGETS[job]}",job="{job}"}} 1 {END}' in text


# gpu-telemetry has the driver's place where nothing plays dcgm-exporter.
@pytest.mark.parametrize("job", [job for job in JOBS if job != "gpu-telemetry"])
def test_every_job_of_the_stack_can_have_a_past(tmp_path: Path, job: str) -> None:
    """`start --demo` names each job that it runs, Grafana where one is installed."""
    output = tmp_path / "past.om"

    assert main(["history", f"--output={output}", "--hours=0.05", f"--target={job}=127.0.0.1:12345"]) == 0
    assert f'up{{host="demo",instance="127.0.0.1:12345",job="{job}"}} 1' in output.read_text()


def exporter_series(page: str) -> set[tuple[str, frozenset[tuple[str, str]]]]:
    """Names and labels of what the exporter says about the world; empty labels are no labels in Prometheus."""
    return {
        (sample.name, frozenset((name, value) for name, value in sample.labels.items() if value))
        for family in parse_text(page)
        for sample in family.samples
        if sample.name.startswith("ds01_")
    }


def real_exporter(served: Served) -> str:
    """The page of the real allocation exporter on the served demo, once all its sources are read."""
    root = served.root
    environment = os.environ | {
        "DS01_STATE_FILE": str(root / "state/gpu-state.json"),
        "DS01_STATE_DIR": str(root / "state"),
        "DS01_EVENTS_FILE": str(root / "log/events.jsonl"),
        "DS01_TOPOLOGY": str(root / "topology.json"),
        "DS01_CGROUP_ROOT": str(root / "cgroup"),
        "DOCKER_HOST": f"unix://{root / 'docker.sock'}",
        "DS01_EXPORTER_PORT": "0",
    }
    command = [sys.executable, "-m", "ds01_exporter"]
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            found = next(
                match for line in process.stderr if (match := re.search(r"127\.0\.0\.1 port (\d+)", line))
            )
            deadline = time.monotonic() + 60
            page = ""
            while time.monotonic() < deadline:
                connection = http.client.HTTPConnection("127.0.0.1", int(found[1]), timeout=30)
                connection.request("GET", "/metrics")
                page = connection.getresponse().read().decode()
                connection.close()
                wanted = (
                    "ds01_container_cpu_seconds_total{",
                    "ds01_events_24h_total{",
                    "ds01_gpu_allocated{",
                )
                if all(series in page for series in wanted):
                    break
                time.sleep(0.1)
            return page
        finally:
            process.terminate()
            process.stderr.read() if process.stderr else None


def test_history_is_what_the_real_exporter_says(served: Served) -> None:
    """Every series of the exporter in the history is one that the real exporter gives on the same world."""
    world = World(PROFILES["lively"])

    def containers(moment: float) -> dict[str, str]:
        return {job.id: state(job, moment) for job in world.jobs(moment)}

    while True:
        before = int(time.time())
        # What came, started or ended in the last minute the exporter may not have seen yet.
        if containers(before - 60) == containers(before + 10):
            page = real_exporter(served)
            after = int(time.time())
            if containers(before - 60) == containers(after):
                break
        time.sleep(1)

    past = set()
    for family in text_string_to_metric_families("".join(lines(world, Span(after, after, 60)))):
        for sample in family.samples:
            own = frozenset((k, v) for k, v in sample.labels.items() if k not in {"host", "job", "instance"})
            past.add((sample.name, own))
    ours = {series for series in past if series[0].startswith("ds01_")}
    assert ours - exporter_series(page) == set()
    assert {name for name, _ in exporter_series(page)} - {name for name, _ in ours} == set()


@pytest.mark.tools
@pytest.mark.parametrize("suite", ["bookworm", "sid"])
def test_backfill_brings_scraped_and_recorded_series(suite: str, tmp_path: Path) -> None:
    """After the command a Prometheus on the data directory answers for both, recorded from recorded included."""
    rules, data = tmp_path / "rules.yml", tmp_path / "data"
    rules.write_text(RULES, encoding="utf-8")
    tool = promtool(suite)
    command = [sys.executable, "-m", "ds01_demo", "backfill", "--data-dir", str(data), "--rules", str(rules)]
    command += [
        "--hours",
        "1",
        "--end",
        str(END),
        "--promtool",
        str(tool),
        "--prometheus",
        str(tool.with_name("prometheus")),
    ]
    command += ["--target", "dcgm-exporter=127.0.0.1:12345"]
    subprocess.run(command, check=True, timeout=280)
    blocks = sorted(path.name for path in data.iterdir())
    subprocess.run(command, check=True, timeout=280)
    assert sorted(path.name for path in data.iterdir()) == blocks, "a second run adds nothing"
    assert {path.name for path in tmp_path.iterdir()} == {"rules.yml", "data"}
    with private_server(str(tool.with_name("prometheus")), tmp_path) as url:
        power = query(url, "demo:power:watts")
        assert [series["metric"] for series in power] == [
            {"__name__": "demo:power:watts", "host": "demo", "kind": "sum"}
        ]
        world = World(PROFILES["lively"])
        now = sum(world.gpu(gpu.index, END).power_watts for gpu in world.gpus)
        assert float(power[0]["value"][1]) == pytest.approx(now, rel=1e-6)
        assert len(query(url, "demo:power:avg10m")) == 1
        assert len(query(url, 'up{instance="127.0.0.1:12345", job="dcgm-exporter"}')) == 1
        odd = 'count_over_time(demo:odd:bool{job="dcgm-exporter"}[31m])'
        assert [series["value"][1] for series in query(url, odd)] == ["16"], (
            "also where two parts make one series"
        )


def test_the_past_ends_where_a_running_server_began(tmp_path: Path) -> None:
    """A data directory in use is filled up to the birth of its log, an empty one up to now."""
    assert before_first_scrape(tmp_path) == pytest.approx(time.time(), abs=60)
    (tmp_path / "wal").mkdir()
    os.utime(tmp_path / "wal", (END, END))
    assert before_first_scrape(tmp_path) == END


def query(url: str, expression: str) -> list[dict[str, Any]]:
    """The result of an instant query at `END`."""
    parameters = urllib.parse.urlencode({"query": expression, "time": END})
    with urllib.request.urlopen(f"{url}/api/v1/query?{parameters}", timeout=60) as answer:
        found: list[dict[str, Any]] = json.load(answer)["data"]["result"]
    return found


def test_a_rule_comes_after_what_it_reads(tmp_path: Path) -> None:
    """Levels follow the names in expressions, not in strings; alerts are left out."""
    path = tmp_path / "rules.yml"
    path.write_text(RULES, encoding="utf-8")
    assert [[rule.record for rule in level] for level in levels([path])] == [
        ["demo:power:watts", "demo:odd:bool"],
        ["demo:power:avg10m"],
    ]
    assert levels([path])[0][0].interval == 120
    assert Rule("a", 'b{c="d"}', {}, 0).needs({"a", "b", "d"}) == {"b"}


def test_what_is_counted_keeps_its_interval(tmp_path: Path) -> None:
    """A series whose samples a rule or an alert counts is evaluated as often as live, any other as often as scraped."""
    path = tmp_path / "rules.yml"
    path.write_text(
        "groups: [{name: g, interval: 15s, rules: ["
        "{record: a, expr: up}, {record: b, expr: up}, {alert: C, expr: 'count_over_time( a[1h]) * 15 > 3000'}]}]",
        encoding="utf-8",
    )
    assert {rule.record: rule.step(60) for level in levels([path]) for rule in level} == {"a": 15, "b": 60}


def test_rules_in_a_circle_are_all_there(tmp_path: Path) -> None:
    """Rules that read each other come last instead of never."""
    path = tmp_path / "rules.yml"
    path.write_text(
        "groups: [{name: g, rules: [{record: a, expr: b}, {record: b, expr: a}, {record: c, expr: up}]}]"
    )
    assert [[rule.record for rule in level] for level in levels([path])] == [["c"], ["a", "b"]]


def test_a_broken_rules_file_is_named(tmp_path: Path) -> None:
    """What is no rules file is refused before any work is done."""
    path = tmp_path / "rules.yml"
    path.write_text("groups: [{rules: [{record: a}]}]", encoding="utf-8")
    with pytest.raises(DemoError, match=r"rules\.yml"):
        levels([path])
