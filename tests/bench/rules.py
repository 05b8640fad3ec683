"""Evaluating all rules for 1 000 GPUs of 7 slices with 2 000 allocations, on a real Prometheus with full windows."""

import random
import re
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
from tests.bench.frame import Row
from tests.rules import driver
from tests.rules.proofs import seconds

HOSTS, GPUS, SLICES, ALLOCATIONS, USERS = 125, 8, 7, 2000, 400
IDLE = 0.1
LIMIT_SECONDS = 2.0
WATCH_SECONDS = 260
"""Long enough for two evaluations of the slowest group."""
SLOWEST_SECONDS = 120
"""Groups with a longer interval are evaluated as often as this, so that each is measured."""

WHOLE = {
    "DCGM_FI_DEV_SM_CLOCK": 1410,
    "DCGM_FI_DEV_MEM_CLOCK": 1215,
    "DCGM_FI_DEV_MEMORY_TEMP": 60,
    "DCGM_FI_DEV_GPU_TEMP": 55,
    "DCGM_FI_DEV_POWER_USAGE": 250,
    "DCGM_FI_DEV_ENFORCED_POWER_LIMIT": 400,
    "DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION": 5e9,
    "DCGM_FI_DEV_PCIE_REPLAY_COUNTER": 0,
    "DCGM_FI_DEV_NVLINK_BANDWIDTH_TOTAL": 0,
    "DCGM_FI_DEV_XID_ERRORS": 0,
    "DCGM_FI_DEV_CLOCKS_EVENT_REASONS": 0,
    "DCGM_FI_DEV_ECC_SBE_VOL_TOTAL": 0,
    "DCGM_FI_DEV_ECC_DBE_VOL_TOTAL": 0,
    "DCGM_FI_DEV_UNCORRECTABLE_REMAPPED_ROWS": 0,
    "DCGM_FI_DEV_CORRECTABLE_REMAPPED_ROWS": 0,
    "DCGM_FI_DEV_ROW_REMAP_FAILURE": 0,
    "DCGM_FI_DEV_ROW_REMAP_PENDING": 0,
}
"""Repeated by DCGM in the row of each instance."""


def slots() -> Iterator[tuple[str, str, int, int, bool]]:
    """Host, UUID, GPU index, instance and whether it is busy, for each slice; nobody uses what nobody holds."""
    chosen = random.Random(1)
    held = set(taken())
    for host in range(HOSTS):
        for gpu in range(GPUS):
            for instance in range(SLICES):
                place = (host * GPUS + gpu) * SLICES + instance
                yield (
                    f"h{host:03}",
                    f"GPU-{host:03}-{gpu}",
                    gpu,
                    instance,
                    place in held and chosen.random() > IDLE,
                )


def taken() -> list[int]:
    """The numbers of the slots that are held."""
    return random.Random(2).sample(range(HOSTS * GPUS * SLICES), ALLOCATIONS)


def holders() -> list[tuple[int, str]]:
    """Labels of each allocation, with the number of its slot."""
    rows = list(slots())
    found = []
    for number, index in enumerate(taken()):
        host, _, gpu, instance, _ = rows[index]
        slot = f'host="{host}",gpu_slot="{gpu}.{instance}"'
        found.append((index, f'{slot},container="c{number}",user="u{number % USERS}",interface="docker"'))
    return found


def page() -> bytes:
    """What dcgm-exporter and the allocation exporter would print for all hosts together."""
    lines = []
    for host, uuid, gpu, instance, busy in slots():
        labels = f'host="{host}",gpu="{gpu}",UUID="{uuid}",device="nvidia{gpu}",modelName="NVIDIA A100",GPU_I_ID="{instance + 7}",GPU_I_PROFILE="1g.5gb"'
        used = 0.8 if busy else 0
        lines += [f"{family}{{{labels}}} {value}" for family, value in WHOLE.items()]
        lines += [
            f"DCGM_FI_PROF_GR_ENGINE_ACTIVE{{{labels}}} {used}",
            f"DCGM_FI_PROF_PIPE_TENSOR_ACTIVE{{{labels}}} {used / 2}",
            f"DCGM_FI_PROF_DRAM_ACTIVE{{{labels}}} {used / 2}",
            f"DCGM_FI_DEV_FB_USED{{{labels}}} 3000",
            f"DCGM_FI_DEV_FB_FREE{{{labels}}} 2000",
        ]
        slot = f'host="{host}",gpu_slot="{gpu}.{instance}"'
        lines += [
            f'ds01_gpu_slot_info{{{slot},gpu="{gpu}",UUID="{uuid}",GPU_I_ID="{instance + 7}",GPU_I_PROFILE="1g.5gb"}} 1',
            f"ds01_gpu_slot_fraction{{{slot}}} 0.142857",
        ]
    lines += [f"ds01_gpu_allocated{{{labels}}} 1" for _, labels in holders()]
    lines += [f'node_boot_time_seconds{{host="h{host:03}"}} 0' for host in range(HOSTS)]
    return ("\n".join(lines) + "\n").encode()


def past(until: float) -> Iterator[str]:
    """The recorded series that rules look back on, as OpenMetrics: an hour, at the pace at which they are recorded."""
    rows = list(slots())
    quarter = range(int(until) - 3600, int(until), 15)
    minute = range(int(until) - 3600, int(until), 60)
    lately = range(int(until) - 1800, int(until), 15)
    named = [
        f'host="{host}",gpu_slot="{gpu}.{instance}",gpu="{gpu}",UUID="{uuid}",GPU_I_ID="{instance + 7}",GPU_I_PROFILE="1g.5gb"'
        for host, uuid, gpu, instance, _ in rows
    ]
    cards = sorted({(host, uuid, gpu) for host, uuid, gpu, _, _ in rows})
    held = holders()

    def series(name: str, labels: list[str], times: range) -> Iterator[str]:
        yield f"# TYPE {name} gauge\n"
        for number, label in enumerate(labels):
            value = 0.8 if number % 10 else 0
            yield "".join([f"{name}{{{label}}} {value} {moment}\n" for moment in times])

    yield from series("ds01:slot_utilization:ratio", named, quarter)
    yield from series("ds01:slot_memory_used:bytes", named, quarter)
    whole = [f'host="{host}",gpu="{gpu}",UUID="{uuid}"' for host, uuid, gpu in cards]
    for name in ("ds01:gpu_temperature:celsius", "ds01:gpu_power:watts", "ds01:gpu_energy:joules"):
        yield from series(name, whole, quarter)
    reasons = [f'{label},reason="{reason}"' for label in whole for reason in ("hw_thermal", "power_cap")]
    yield from series("ds01:gpu_throttled:bool", reasons, lately)
    yield f"# TYPE {(name := 'ds01:allocation_utilization:ratio')} gauge\n"
    for index, label in held:
        value = 0.8 if rows[index][4] else 0
        yield "".join([f"{name}{{{label}}} {value} {moment}\n" for moment in lately])
    for name in ("held", "used", "wasted"):
        yield from series(f"ds01:allocation_{name}:gpus", [label for _, label in held], minute)
    yield "# EOF\n"


def measure() -> list[Row]:
    """The median of each group's evaluations, and their sum."""
    tools = driver.promtools()
    if "bookworm" not in tools and "sid" not in tools:
        raise RuntimeError("no Prometheus; `make tools` fetches it")
    rows = []
    for suite, promtool in tools.items():
        with tempfile.TemporaryDirectory(prefix="ds01-bench-") as name:
            groups = _groups(Path(name), promtool)
        note = f"Prometheus of {suite}"
        total = sum(groups.values())
        rows.append(
            Row(
                f"all rules, {HOSTS * GPUS} GPUs x {SLICES} slices, {ALLOCATIONS} allocations",
                total,
                "s",
                LIMIT_SECONDS,
                runs=1,
                note=note,
            )
        )
        every = _intervals()
        rows += [
            Row(f"  group {group}, every {every[group]} s", taken, "s", runs=1, note=note)
            for group, taken in groups.items()
        ]
        load = sum(taken / every[group] for group, taken in groups.items())
        rows.append(Row("  share of the time in which rules are evaluated", load, "", runs=1, note=note))
    return rows


def _intervals() -> dict[str, int]:
    """The seconds between two evaluations of each group."""
    groups = [group for content in driver.render().values() if content for group in content["groups"]]
    return {group["name"]: seconds(str(group["interval"])) for group in groups}


def _groups(folder: Path, promtool: Path) -> dict[str, float]:
    data = folder / "data"
    text = folder / "past.txt"
    with text.open("w", encoding="utf-8") as file:
        file.writelines(past(time.time()))
    subprocess.run(
        [promtool, "tsdb", "create-blocks-from", "openmetrics", text, data], check=True, capture_output=True
    )
    text.unlink()
    for name, content in driver.render().items():
        for group in content["groups"] if content else ():
            group["interval"] = f"{min(seconds(str(group['interval'])), SLOWEST_SECONDS)}s"
        (folder / name).write_text(yaml.safe_dump(content, width=10_000), encoding="utf-8")
    body = page()
    source = ThreadingHTTPServer(("127.0.0.1", 0), _handler(body))
    threading.Thread(target=source.serve_forever, daemon=True).start()
    port = _free_port()
    (folder / "prometheus.yml").write_text(
        yaml.safe_dump(
            {
                "global": {"scrape_interval": "15s", "scrape_timeout": "15s", "evaluation_interval": "15s"},
                "rule_files": [str(folder / name) for name in driver.render()],
                "scrape_configs": [
                    {
                        "job_name": "ds01-exporter",
                        "honor_labels": True,
                        "static_configs": [
                            {"targets": [f"127.0.0.1:{source.server_port}"], "labels": {"host": "all"}}
                        ],
                    }
                ],
            }
        ),
        encoding="utf-8",
    )
    server = subprocess.Popen(
        [
            promtool.with_name("prometheus"),
            f"--config.file={folder}/prometheus.yml",
            f"--storage.tsdb.path={data}",
            f"--web.listen-address=127.0.0.1:{port}",
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        return _watch(f"http://127.0.0.1:{port}/metrics")
    finally:
        server.terminate()
        server.wait()
        source.shutdown()


def _watch(url: str) -> dict[str, float]:
    """Collect each evaluation's duration as it happens; the first of a group, with cold caches, is left out."""
    seen: dict[str, dict[float, float]] = defaultdict(dict)
    started = time.monotonic()
    while time.monotonic() < started + WATCH_SECONDS:
        time.sleep(2)
        try:
            with urllib.request.urlopen(url, timeout=10) as reply:
                metrics = reply.read().decode()
        except OSError:
            continue
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
    return {
        group: statistics.median(
            [taken for _, taken in sorted(evaluations.items())][1:] or evaluations.values()
        )
        for group, evaluations in sorted(seen.items())
    }


def _handler(body: bytes) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
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
