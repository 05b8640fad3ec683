"""Every panel of every dashboard over 7 days of 8 GPUs with 7 slices each and 50 users, on a real Prometheus.

The series are made as blocks at the pace at which the rules record them. A panel's figure is the sum of its queries.
"""

import contextlib
import socket
import statistics
import subprocess  # noqa: TID251 - the doors are for the programs, not for their benchmarks.
import tempfile
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.bench.frame import RUNS, Row

from ds01_monitoring.config import Settings
from ds01_monitoring.dashboards import expand
from ds01_monitoring.templates import Templates

DAYS, GPUS, SLICES, USERS = 7, 8, 7, 50
LIMIT_MILLISECONDS = 300
BLOCK = 7200
"""Seconds in a block of promtool's."""

ROOT = Path(__file__).parents[2]
TOOLS = ROOT / ".tools" / "bookworm" / "usr" / "bin"
VALUES = [f"{number * 7919 % 1000 / 1000:g}" for number in range(97)]
"""A cycle that no compression takes for a constant."""


def measure() -> list[Row]:
    """One row for each dashboard: its slowest panel."""
    with tempfile.TemporaryDirectory(prefix="ds01-bench-") as folder:
        now = int(time.time()) // 60 * 60
        fill(Path(folder), now)
        with prometheus(Path(folder)) as url:
            return [
                slowest(url, path, now) for path in sorted((ROOT / "grafana/dashboards").glob("*.yml.j2"))
            ]


def slowest(url: str, path: Path, now: int) -> Row:
    """The slowest panel of one dashboard."""
    settings = Settings()
    text = Templates().render(f"grafana/dashboards/{path.name}", settings.variables())
    made = expand(text, path.name, settings)
    medians = {}
    for panel in made["panels"]:
        requests = [request(url, target, panel, now) for target in panel.get("targets", [])]
        medians[panel["title"]] = statistics.median(milliseconds(requests) for _ in range(RUNS))
    title = max(medians, key=lambda name: medians[name])
    name = f"{made['title']}, {DAYS} days of {GPUS} x {SLICES} slices and {USERS} users: slowest panel"
    return Row(name, medians[title], "ms", LIMIT_MILLISECONDS, note=title)


def request(url: str, target: dict[str, object], panel: dict[str, Any], now: int) -> urllib.request.Request:
    """The request that Grafana sends for one query of a panel."""
    expr = str(target["expr"])
    seconds = DAYS * 86400
    for name, value in {
        "$host": ".+", "$gpu": ".+", "$user": "user-7", "$__range": f"{seconds}s", "$__rate_interval": "660s",
    }.items():  # fmt: skip
        expr = expr.replace(name, value)
    step = max({"1h": 3600, "1d": 86400}.get(panel["interval"], 0), seconds // panel["maxDataPoints"])
    times = {"time": now} if target["instant"] else {"start": now - seconds, "end": now, "step": step}
    kind = "query" if target["instant"] else "query_range"
    data = urllib.parse.urlencode({"query": expr, **times}).encode()
    return urllib.request.Request(f"{url}/api/v1/{kind}", data=data)


def milliseconds(requests: list[urllib.request.Request]) -> float:
    """How long the requests take one after the other."""
    start = time.perf_counter()
    for each in requests:
        with urllib.request.urlopen(each, timeout=60) as response:
            response.read()
    return (time.perf_counter() - start) * 1000


def series() -> Iterator[tuple[str, int, list[str]]]:
    """Name, seconds between samples and the labels of each series."""
    cards = [f'host="gpu01",gpu="{gpu}",UUID="GPU-{gpu}"' for gpu in range(GPUS)]
    slots = [(gpu, part) for gpu in range(GPUS) for part in range(SLICES)]
    sliced = [
        f'host="gpu01",gpu_slot="{gpu}.{part}",gpu="{gpu}",UUID="GPU-{gpu}",GPU_I_ID="{part + 7}",GPU_I_PROFILE="1g.5gb"'
        for gpu, part in slots
    ]
    holders = [
        f'host="gpu01",gpu_slot="{gpu}.{part}",container="c{number}",user="user-{number % USERS}",interface="docker"'
        for number, (gpu, part) in enumerate(slots)
    ]
    users = [f'host="gpu01",user="user-{number}"' for number in range(USERS)]
    profile = ['host="gpu01",GPU_I_PROFILE="1g.5gb"']
    yield "ds01:slot_utilization:ratio", 15, sliced
    yield "ds01:allocation_utilization:ratio", 15, holders
    for name in ("gpu_temperature:celsius", "gpu_power:watts", "gpu_energy:joules"):
        yield f"ds01:{name}", 15, cards
    named = [label.partition(",gpu=")[0] for label in sliced]
    for name in ("held", "used", "wasted"):
        yield f"ds01:slot_{name}:hours10m", 600, named
        yield f"ds01:user_{name}:hours10m", 600, users
        yield f"ds01:user_{name}:gpus", 60, users
    yield "ds01:user_energy:joules10m", 600, users
    for name in ("held", "total", "free"):
        yield f"ds01:slots_{name}:gpus", 60, profile
    yield "ds01:slot_utilization:avg10m", 600, named
    yield "ds01:slot_utilization:each1m", 60, named
    yield "ds01:slot_memory_used:bytes", 15, sliced
    yield (
        "ds01:slot_use:ratio",
        60,
        [label.partition(",container=")[0] + f',user="user-{n % USERS}"' for n, label in enumerate(holders)],
    )
    yield (
        "ds01:slot_holder:info",
        60,
        [
            f'host="gpu01",row="gpu01/{gpu}.{part}",word="user-{n % USERS}"'
            for n, (gpu, part) in enumerate(slots)
        ],
    )
    yield "ds01_gpu_allocated", 30, holders


def fill(folder: Path, now: int) -> None:
    """Let promtool make blocks, two hours at a time: it reads the whole text again for each block."""
    text = folder / "series.om"
    command = [TOOLS / "promtool", "tsdb", "create-blocks-from", "openmetrics", "-q", text, folder / "tsdb"]
    for begin in range((now - DAYS * 86400) // BLOCK * BLOCK, now, BLOCK):
        with text.open("w") as out:
            out.writelines(written(max(begin, now - DAYS * 86400), min(begin + BLOCK, now)))
            out.write("# EOF\n")
        subprocess.run(command, check=True)
    text.unlink()


def written(begin: int, end: int) -> Iterator[str]:
    """All series between two moments as OpenMetrics, the second one left out."""
    for name, step, labels in series():
        yield f"# TYPE {name} unknown\n"
        moments = range((begin + step - 1) // step * step, end, step)
        for start, label in enumerate(labels):
            key = f"{name}{{{label}}} "
            yield "".join([f"{key}{VALUES[(start + time // step) % 97]} {time}\n" for time in moments])


@contextlib.contextmanager
def prometheus(folder: Path) -> Iterator[str]:
    """A Prometheus on the blocks, after it has compacted them as it does in the course of days."""
    (folder / "empty.yml").write_text("{}\n")
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    command = [
        TOOLS / "prometheus", f"--config.file={folder}/empty.yml", f"--storage.tsdb.path={folder}/tsdb",
        f"--web.listen-address={address}", f"--storage.tsdb.retention.time={DAYS + 1}d",
    ]  # fmt: skip
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        settle(f"http://{address}")
        yield f"http://{address}"
    finally:
        process.terminate()
        process.wait()


def settle(url: str) -> None:
    """Wait until the server has compacted: it begins a minute after its start, and blocks then stand still."""
    deadline, since, blocks = time.monotonic() + 300, time.monotonic(), ""
    while time.monotonic() < deadline and time.monotonic() - since < 80:
        with contextlib.suppress(OSError), urllib.request.urlopen(f"{url}/metrics") as answer:
            (line,) = [
                each
                for each in answer.read().decode().splitlines()
                if each.startswith("prometheus_tsdb_blocks_loaded ")
            ]
            blocks, since = (blocks, since) if line == blocks else (line, time.monotonic())
        if not blocks:
            since = time.monotonic()
        time.sleep(0.5)
