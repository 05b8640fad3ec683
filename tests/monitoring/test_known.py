"""The lists of known series against what really exports them."""

from __future__ import annotations

import contextlib
import re
import socket
import time
from pathlib import Path

import pytest
import requests

import ds01_monitoring.known
from ds01_exporter.metrics import METRICS
from ds01_monitoring import command
from ds01_monitoring.check.catalogue import GPU_LABELS
from ds01_monitoring.known import SOURCES, WHEN_ENABLED, series
from ds01_monitoring.render import render
from gpu_telemetry.dcgm import ROWS

FOLDER = Path(ds01_monitoring.known.__file__).parent
SAMPLE = re.compile(r"^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? \S+", re.MULTILINE)
LABEL = re.compile(r'(\w+)="(?:[^"\\]|\\.)*"')


def scraped(text):
    """Labels of each series in an exposition text, by name."""
    found: dict[str, set[str]] = {}
    for name, labels in SAMPLE.findall(text):
        found.setdefault(name, set()).update(LABEL.findall(labels))
    return found


def write(source, found):
    """Rewrite the list of one source, keeping its comments at the top."""
    path = FOLDER / f"{source}.txt"
    head = [line for line in path.read_text().splitlines() if line.startswith("#")] if path.exists() else []
    body = [" ".join([name, *sorted(labels)]) for name, labels in sorted(found.items())]
    path.write_text("\n".join([*head, *body]) + "\n")
    series.cache_clear()


@pytest.mark.parametrize("source", [*SOURCES, WHEN_ENABLED])
def test_every_list_can_be_read(source):
    """Each source has a list, and nothing in it is written twice."""
    names = [
        line.split()[0]
        for line in (FOLDER / f"{source}.txt").read_text().splitlines()
        if not line.startswith("#")
    ]

    assert names
    assert sorted(set(names)) == sorted(names)
    assert set(series(source)) == set(names)


def test_our_own_exporters_list_is_its_table(update_golden):
    """A metric or label that ds01-exporter gains or loses is gained or lost here."""
    found = {name: set(row.labels) for name, row in METRICS.items()}
    if update_golden:
        write("ds01-exporter", found)

    assert {name: set(labels) for name, labels in series("ds01-exporter").items()} == found


@contextlib.contextmanager
def running(args, port, tmp_path):
    """A server until the block ends."""
    with (
        (tmp_path / "log").open("w") as log,
        command.spawn([str(arg) for arg in args], stdout=log, stderr=log, cwd=tmp_path) as process,
    ):
        try:
            deadline = time.monotonic() + 30
            while time.monotonic() < deadline:
                assert process.poll() is None, (tmp_path / "log").read_text()
                with contextlib.suppress(requests.ConnectionError):
                    if requests.get(f"http://127.0.0.1:{port}/metrics", timeout=5).ok:
                        break
                time.sleep(0.1)
            yield f"http://127.0.0.1:{port}/metrics"
        finally:
            process.kill()


def test_gpu_telemetrys_list_is_its_table(update_golden):
    """The hardware readings of our own exporter carry DCGM's names and, after relabeling, DCGM's labels."""
    own = {name: set(labels) for name, labels in series("gpu-telemetry").items() if name.startswith("ds01_")}
    found = {row.name: set(GPU_LABELS) for row in ROWS} | own
    if update_golden:
        write("gpu-telemetry", found)

    assert {name: set(labels) for name, labels in series("gpu-telemetry").items()} == found


def free_port():
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.mark.tools
def test_the_servers_lists_hold_what_they_export(settings, state, suite, tmp_path, update_golden):
    """Prometheus and Alertmanager of both generations export nothing that the lists do not know."""
    tree = render(settings.model_copy(update={"security": type(settings.security)(local_auth=False)}), state)
    port = free_port()
    servers = {
        "prometheus": [
            suite / "prometheus",
            f"--config.file={tree.path}/prometheus/prometheus.yml",
            f"--storage.tsdb.path={tmp_path}/tsdb",
            f"--web.listen-address=127.0.0.1:{port}",
        ],
        "alertmanager": [
            suite / "prometheus-alertmanager",
            f"--config.file={tree.path}/alertmanager/alertmanager.yml",
            f"--storage.path={tmp_path}/am",
            "--cluster.listen-address=",
            f"--web.listen-address=127.0.0.1:{port}",
        ],
        "node-exporter": [suite / "prometheus-node-exporter", f"--web.listen-address=127.0.0.1:{port}"],
    }
    for source, args in servers.items():
        with running(args, port, tmp_path) as address:
            found = scraped(requests.get(address, timeout=10).text)
        assert len(found) > 50
        if update_golden:
            known = {name: set(labels) for name, labels in series(source).items()}
            for name, labels in found.items():
                known.setdefault(name, set()).update(labels)
            write(source, known)
        if source != "node-exporter":  # What it exports depends on the machine that it runs on.
            missing = {
                name for name in found if name not in series(source) or found[name] - series(source)[name]
            }
            assert missing == set()
