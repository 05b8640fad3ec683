"""A Prometheus that has watched the demo: hours of history as blocks, and the live exporters on top."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess  # noqa: TID251 - the doors are for the programs, not for their tests.
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ds01_monitoring.config import Settings
from ds01_monitoring.paths import StateDir
from ds01_monitoring.render import render
from ds01_monitoring.runtime.binaries import features, own_options

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
HOURS = 1.5
STEP = 15
JOBS = ("prometheus", "alertmanager", "dcgm-exporter", "ds01-exporter", "node-exporter")
READ_TWICE = (
    "ds01:slots_held:gpus and on () (count_over_time(alertmanager_alerts[1m]) > 2)"
    " and on () (count_over_time(prometheus_tsdb_head_series[1m]) > 2)"
)
"""True when the servers themselves were read often enough for a rate."""

WASTER = {"user": "dmitri", "container": "jupyter-dmitri", "gpu_slot": "2.1", "gpu": "2"}
FIRING = (
    {"host": "demo", "alertname": "DS01MIGWaste", "severity": "warning", "notify": "mail", **WASTER},
    {"host": "demo", "alertname": "DS01UserWaste", "severity": "none", "notify": "user", "user": WASTER["user"]},
)  # fmt: skip
"""Firing alerts of the demo as the server would have written them; no test waits for their half hour."""


@dataclass
class Watched:
    """A running Prometheus and what it watches.

    Attributes:
        url: Its address.
        processes: Everything that was started, newest last.
    """

    url: str
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def get(self, path: str, **parameters: object) -> dict[str, Any]:
        """The answer of the HTTP API, errors included."""
        query = urllib.parse.urlencode(parameters, doseq=True)
        request = urllib.request.Request(f"{self.url}/api/v1/{path}", data=query.encode())
        try:
            with urllib.request.urlopen(request, timeout=60) as response:
                return dict(json.load(response))
        except urllib.error.HTTPError as error:
            if "json" not in error.headers.get("Content-Type", ""):
                raise  # Not the API: the server is not ready yet.
            return dict(json.load(error))

    def vector(self, query: str) -> list[dict[str, Any]]:
        """The series that an instant query gives now."""
        return list(self.get("query", query=query)["data"]["result"])


@contextlib.contextmanager
def watched(folder: Path, suite: str, *, profile: str = "lively", dcgm: bool = True) -> Iterator[Watched]:
    """Start everything on free ports, filled with history, and end it at the end.

    Args:
        folder: A short empty folder; the demo's socket lies in it.
        suite: The Debian suite whose servers are used.
        profile: The demo's profile.
        dcgm: Whether dcgm-exporter is there, now and in the past.
    """
    tools = ROOT / ".tools" / suite / "usr" / "bin"
    with (
        contextlib.ExitStack() as held
    ):  # Filling takes half a minute, in which somebody else could take a port.
        sockets = {job: held.enter_context(socket.create_server(("127.0.0.1", 0))) for job in JOBS}
        addresses = {job: f"127.0.0.1:{each.getsockname()[1]}" for job, each in sockets.items()}
        tree = past(folder, tools, addresses, profile, dcgm=dcgm)
    running = Watched(f"http://{addresses['prometheus']}")
    with ended(running):
        for command in commands(folder, tools, tree, addresses, profile, dcgm=dcgm):
            log = (folder / f"{len(running.processes)}.log").open("wb")
            running.processes.append(subprocess.Popen(command, stdout=log, stderr=log))
            log.close()
        wait(running, {job for job in JOBS if dcgm or job != "dcgm-exporter"})
        yield running


def past(folder: Path, tools: Path, addresses: dict[str, str], profile: str, *, dcgm: bool) -> Path:
    """Render the configuration and fill the data directory, where dcgm-exporter is there; the rendered tree."""
    settings = Settings.model_validate({"site": {"host": "demo"}, "security": {"local_auth": False}})
    tree = render(
        settings,
        StateDir(folder / "state"),
        runtime="native",
        hardware="dcgm",
        demo=True,
        addresses=addresses,
    ).path
    configuration = tree / "prometheus" / "prometheus.yml"
    text = configuration.read_text().replace("scrape_interval: 15s", "scrape_interval: 3s")
    configuration.write_text(text.replace("scrape_timeout: 10s", "scrape_timeout: 3s"))
    rules = [str(path) for path in sorted((tree / "prometheus" / "rules").glob("*.yml"))]
    now = int(time.time())
    if dcgm:
        fill(folder, tools, addresses, rules, profile, now)
    return tree


def fill(
    folder: Path, tools: Path, addresses: dict[str, str], rules: list[str], profile: str, now: int
) -> None:
    """Put the past into the data directory: scraped and recorded series, and two alerts."""
    own = [f"--target={job}={address}" for job, address in addresses.items()]
    command = [sys.executable, "-m", "ds01_demo", "backfill", "--data-dir", str(folder / "tsdb"), *own]
    command += ["--hours", str(HOURS), "--step", str(STEP), "--end", str(now), "--profile", profile]
    command += ["--promtool", str(tools / "promtool"), "--prometheus", str(tools / "prometheus")]
    subprocess.run([*command, "--rules", *rules], check=True)
    text = "".join(
        f"# TYPE {name} unknown\n"
        + "".join(
            f"{name}{{{written(labels | more)}}} {value} {moment}\n"
            for labels in FIRING
            for moment in range(now - 600, now, STEP)
        )
        for name, more, value in (
            ("ALERTS", {"alertstate": "firing"}, 1),
            ("ALERTS_FOR_STATE", {}, now - 7200),
        )
    )
    (folder / "alerts.om").write_text(f"{text}# EOF\n")
    command = [str(tools / "promtool"), "tsdb", "create-blocks-from", "openmetrics", "-q"]
    subprocess.run(
        [*command, str(folder / "alerts.om"), str(folder / "tsdb")], check=True, capture_output=True
    )


def commands(
    folder: Path, tools: Path, tree: Path, addresses: dict[str, str], profile: str, *, dcgm: bool
) -> Iterator[list[str]]:
    """The command lines of everything that runs."""
    demo, port = folder / "demo", {job: address.rpartition(":")[2] for job, address in addresses.items()}
    python = [sys.executable, "-m"]
    answers = port["dcgm-exporter"] if dcgm else "0"
    yield [*python, "ds01_demo", "serve", "--dir", str(demo), "--dcgm-port", answers, "--profile", profile]
    yield [
        *python, "ds01_exporter", "--port", port["ds01-exporter"], "--topology", f"{demo}/topology.json",
        "--state-file", f"{demo}/state/gpu-state.json", "--state-dir", f"{demo}/state",
        "--events-file", f"{demo}/log/events.jsonl", "--docker-host", f"unix://{demo}/docker.sock",
        "--cgroup-root", f"{demo}/cgroup",
    ]  # fmt: skip
    yield [str(tools / "prometheus-node-exporter"), f"--web.listen-address={addresses['node-exporter']}"]
    (folder / "alertmanager.yml").write_text("route: {receiver: none}\nreceivers: [{name: none}]\n")
    yield [
        str(tools / "prometheus-alertmanager"), f"--config.file={folder}/alertmanager.yml", "--cluster.listen-address=",
        f"--storage.path={folder}/am", f"--web.listen-address={addresses['alertmanager']}",
    ]  # fmt: skip
    yield [
        str(tools / "prometheus"), f"--config.file={tree}/prometheus/prometheus.yml",
        f"--storage.tsdb.path={folder}/tsdb", f"--web.listen-address={addresses['prometheus']}",
        *own_options("prometheus", tools / "prometheus"), *features("prometheus", tools / "prometheus"),
    ]  # fmt: skip


def wait(running: Watched, jobs: set[str]) -> None:
    """Wait until every job was read and the rules have run over it."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        for process in running.processes:
            assert process.poll() is None, process.args
        with contextlib.suppress(OSError):
            up = {series["metric"]["job"] for series in running.vector("up == 1")}
            evaluated = running.vector("max(prometheus_rule_group_last_evaluation_timestamp_seconds) > 0")
            if jobs <= up and evaluated and running.vector(READ_TWICE):
                return
        time.sleep(0.5)
    raise TimeoutError(f"not ready: {running.vector('up')}")


@contextlib.contextmanager
def ended(running: Watched) -> Iterator[None]:
    """End the processes that were started, the newest first."""
    try:
        yield
    finally:
        for process in reversed(running.processes):
            process.send_signal(signal.SIGTERM)
        for process in running.processes:
            process.wait(timeout=60)


def written(labels: dict[str, str]) -> str:
    """Labels as the text format has them."""
    return ",".join(f'{name}="{value}"' for name, value in labels.items())


def suites() -> list[str]:
    """The Debian suites whose servers `make tools` has fetched."""
    return [
        suite
        for suite in ("bookworm", "sid")
        if os.access(ROOT / f".tools/{suite}/usr/bin/prometheus", os.X_OK)
    ]
