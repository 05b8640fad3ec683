"""Evaluating all rules for 1 000 GPUs of 7 slices with 2 000 allocations, on a real Prometheus with full windows.

What rules look back on lies where it would after a day: two hours in Prometheus' memory, the rest in blocks.
"""

import contextlib
import itertools
import os
import re
import signal
import socket
import statistics
import subprocess  # noqa: TID251 - the doors are for the programs, not for their benchmarks.
import tempfile
import threading
import time
import urllib.request
from collections import defaultdict
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import yaml
from tests.bench.fleet import ALLOCATIONS, GPUS, HOSTS, HOUR, SLICES, Fleet
from tests.bench.frame import Row
from tests.bench.past import message
from tests.rules import driver
from tests.rules.proofs import seconds

from ds01_monitoring.context import PROMETHEUS_GOGC
from ds01_monitoring.runtime.binaries import features, own_options

LIMIT_SECONDS = 2.0
EVALUATIONS = 5
"""How many of the rarest group are waited for, after one with cold caches; of the others more are measured meanwhile."""
SLOWEST_SECONDS = 60
"""Groups with a longer interval are evaluated as often as this, so that each is measured in reasonable time.

Not more often: each would wait for the processor in others' evaluations that in truth are minutes apart.
"""
APART_MILLISECONDS = 130
"""By which the intervals of two groups differ, so that none meets another at every evaluation.

Where a group begins within its interval follows from the name of its file. Two that coincide on a machine of two cores would
each count the other's time, and which do would be another matter in each run.
"""
PATIENCE_SECONDS = 600
IN_MEMORY_SECONDS = 2 * HOUR
BLOCK_HOURS = 18
"""The largest block that Prometheus makes of seven days."""
PIECE_SECONDS = HOUR // 2
"""Prometheus accepts samples that are up to an hour older than its newest."""
PIECE_BYTES = 4_000_000


def measure() -> list[Row]:
    """The median of each group's evaluations, and their sum."""
    tools = driver.promtools()
    if "bookworm" not in tools and "sid" not in tools:
        raise RuntimeError("no Prometheus; `make tools` fetches it")
    return [row for suite, promtool in tools.items() for row in _rows(suite, promtool)]


def _rows(suite: str, promtool: Path) -> Iterator[Row]:
    with tempfile.TemporaryDirectory(prefix="ds01-bench-") as name, _prometheus(Path(name), promtool) as url:
        evaluations = _watch(url)
    note = f"Prometheus of {suite}"
    medians = {group: statistics.median(taken) for group, taken in evaluations.items()}
    what = f"all rules, {HOSTS * GPUS} GPUs x {SLICES} slices, {ALLOCATIONS} allocations"
    load = f"{note}, load {os.getloadavg()[0]:.1f}"
    yield Row(what, sum(medians.values()), "s", LIMIT_SECONDS, runs=EVALUATIONS, note=load)
    every = _intervals()
    for group, taken in medians.items():
        least = f"{note}, fastest {min(evaluations[group]):.3g} s"
        yield Row(
            f"  group {group}, every {every[group]} s", taken, "s", runs=len(evaluations[group]), note=least
        )
    share = sum(taken / every[group] for group, taken in medians.items())
    yield Row("  share of the time in which rules are evaluated", share, "", runs=EVALUATIONS, note=note)


def _intervals() -> dict[str, int]:
    """The seconds between two evaluations of each group."""
    groups = [group for content in driver.render().values() if content for group in content["groups"]]
    return {group["name"]: seconds(str(group["interval"])) for group in groups}


@contextlib.contextmanager
def _prometheus(folder: Path, promtool: Path) -> Iterator[str]:
    """A Prometheus with rules, targets and a past; yields its address."""
    fleet = Fleet()
    now = int(time.time())
    _fill_blocks(fleet, now, promtool, folder)
    source = ThreadingHTTPServer(("127.0.0.1", 0), _handler(fleet.pages()))
    threading.Thread(target=source.serve_forever, daemon=True).start()
    (folder / "prometheus.yml").touch()
    address = f"127.0.0.1:{_free_port()}"
    program = promtool.with_name("prometheus")
    command = [
        program,
        f"--config.file={folder}/prometheus.yml",
        f"--storage.tsdb.path={folder}/data",
        f"--web.listen-address={address}",
        "--web.enable-remote-write-receiver",
        *own_options("prometheus", program),
        *features("prometheus", program),
    ]
    environment = {**os.environ, "GOGC": str(PROMETHEUS_GOGC)}
    server = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _await_ready(f"http://{address}/-/ready")
        _fill_memory(fleet, now, f"http://{address}/api/v1/write")
        _configure(folder, fleet.hosts, f"127.0.0.1:{source.server_port}")
        server.send_signal(signal.SIGHUP)
        yield f"http://{address}/metrics"
    finally:
        server.terminate()
        server.wait()
        source.shutdown()


def _fill_blocks(fleet: Fleet, now: int, promtool: Path, folder: Path) -> None:
    """Let promtool make the older blocks, each from its own text: it reads a text again for each block."""
    until = now - IN_MEMORY_SECONDS
    since = now - max(past.reach for past in fleet.recorded())
    text = folder / "past.txt"
    length = BLOCK_HOURS * HOUR
    limit = f"--max-block-duration={BLOCK_HOURS}h"
    for begin in range(since // length * length, until, length):
        with text.open("w", encoding="utf-8") as file:
            for past in fleet.recorded():
                file.writelines(past.openmetrics(begin, min(begin + length, until), now))
            file.write("# EOF\n")
        command = [promtool, "tsdb", "create-blocks-from", "openmetrics", "-q", limit, text, folder / "data"]
        subprocess.run(command, check=True, capture_output=True)


def _fill_memory(fleet: Fleet, now: int, url: str) -> None:
    """Send the last hours, oldest first, before anything newer is there."""
    for begin in range(now - IN_MEMORY_SECONDS, now, PIECE_SECONDS):
        series: list[bytes] = []
        for past in fleet.recorded():
            for one in past.written(begin, min(begin + PIECE_SECONDS, now), now):
                series.append(one)
                if len(series) * len(one) > PIECE_BYTES:
                    _send(url, series)
                    series = []
        _send(url, series)


def _send(url: str, series: list[bytes]) -> None:
    headers = {
        "Content-Encoding": "snappy",
        "Content-Type": "application/x-protobuf",
        "X-Prometheus-Remote-Write-Version": "0.1.0",
    }
    if series:
        request = urllib.request.Request(url, data=message(series), headers=headers)
        with urllib.request.urlopen(request, timeout=60) as reply:
            reply.read()


def _configure(folder: Path, hosts: list[str], address: str) -> None:
    files = {name: content for name, content in driver.render().items() if content}
    number = itertools.count()
    for name, content in files.items():
        for group in content["groups"]:
            every = min(seconds(str(group["interval"])), SLOWEST_SECONDS)
            group["interval"] = f"{every}s{next(number) * APART_MILLISECONDS}ms"
        (folder / name).write_text(yaml.safe_dump(content, width=10_000), encoding="utf-8")
    scrape = {
        "job_name": "ds01-exporter",
        "honor_labels": True,
        "static_configs": [
            {"targets": [address], "labels": {"host": host, "__metrics_path__": f"/{host}"}} for host in hosts
        ],
    }
    configuration = {
        "global": {"scrape_interval": "15s", "scrape_timeout": "15s", "evaluation_interval": "15s"},
        "rule_files": [str(folder / name) for name in files],
        "scrape_configs": [scrape],
    }
    (folder / "prometheus.yml").write_text(yaml.safe_dump(configuration), encoding="utf-8")


def _await_ready(url: str) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=10):
            return
        time.sleep(0.2)
    raise RuntimeError(f"{url} does not answer")


def _watch(url: str) -> dict[str, list[float]]:
    """Collect each evaluation's duration as it happens; the first of a group, with cold caches, is left out."""
    seen: dict[str, dict[float, float]] = defaultdict(dict)
    groups = set(_intervals())
    deadline = time.monotonic() + PATIENCE_SECONDS
    while any(len(seen[group]) <= EVALUATIONS for group in groups):
        if time.monotonic() > deadline:
            raise RuntimeError(f"no {EVALUATIONS} evaluations of each group in {PATIENCE_SECONDS} s")
        time.sleep(5)
        with urllib.request.urlopen(url, timeout=60) as reply:
            metrics = reply.read().decode()
        figures = {
            (kind, group): float(value)
            for kind, group, value in re.findall(
                r'^prometheus_rule_group_last_(evaluation_timestamp|duration)_seconds\{rule_group="[^;]*;([^"]+)"\} (\S+)$',
                metrics,
                re.MULTILINE,
            )
        }
        for (kind, group), value in figures.items():
            if kind == "evaluation_timestamp" and value > 0:
                seen[group][value] = figures["duration", group]
        _refuse_failures(metrics)
    return {group: [taken for _, taken in sorted(seen[group].items())][1:] for group in sorted(groups)}


def _refuse_failures(metrics: str) -> None:
    """A rule that fails is fast."""
    pattern = r'^prometheus_rule_evaluation_failures_total\{rule_group="[^;]*;([^"]+)"\} (\S+)$'
    failed = {group for group, count in re.findall(pattern, metrics, re.MULTILINE) if float(count)}
    if failed:
        raise RuntimeError(f"rules of {', '.join(sorted(failed))} fail; see the page /rules of a Prometheus")


def _handler(pages: dict[str, bytes]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = pages[self.path.strip("/")]
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; version=0.0.4")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments: object) -> None:
            """Say nothing."""

    return Handler


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
