"""The allocation exporter: scrapes, memory, idle CPU, start-up, reading back a large event log.

8 GPUs in 7 slices each, 60 containers, 50 users, 100 000 events within 24 hours; then 10 000 allocations; then a log
of 1 GB. Scrapes are asked as Prometheus asks: OpenMetrics, gzip, one kept connection.
"""

import http.client
import json
import os
import shutil
import socket
import statistics
import subprocess  # noqa: TID251 - the programs are what is measured
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timezone
from pathlib import Path

from tests.bench.frame import RUNS, Row, median_seconds
from tests.exporter.fake_docker import FakeDocker, container

GPUS, SLICES, CONTAINERS, USERS, EVENTS = 8, 7, 60, 50, 100_000
IDLE_SECONDS = 20.0
LOG_BYTES = 1 << 30
HEADERS = {
    "Accept": "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
    "Accept-Encoding": "gzip",
}
NODE_EXPORTERS = (
    *(
        Path(__file__).parents[2] / ".tools" / suite / "usr/bin/prometheus-node-exporter"
        for suite in ("bookworm", "sid")
    ),
    *(Path(found) for name in ("prometheus-node-exporter", "node_exporter") if (found := shutil.which(name))),
)


class Machine:
    """The files of a simulated server, and its Docker Engine."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.state_file = root / "gpu-state.json"
        self.events_file = root / "events.jsonl"
        self.docker = FakeDocker(root / "docker.sock")
        self.slots = [f"{gpu}.{index}" for gpu in range(GPUS) for index in range(SLICES)]
        self.flags = [
            f"--state-file={self.state_file}",
            f"--state-dir={root}",
            f"--events-file={self.events_file}",
            f"--topology={root / 'topology.json'}",
            f"--cgroup-root={root / 'cgroup'}",
            f"--docker-host={self.docker.host}",
        ]

    def write(self) -> None:
        """Write everything."""
        (self.root / "topology.json").write_text(json.dumps(self._topology()))
        self.write_state(0)
        self.write_events()
        (self.root / "cgroup").mkdir(exist_ok=True)
        (self.root / "cgroup" / "cgroup.controllers").write_text("cpu memory\n")
        for number in range(CONTAINERS):
            slot = self.slots[number % len(self.slots)]
            labels = {f"other.label.{key}": "x" * 40 for key in range(20)} | {
                "ds01.managed": "true",
                "ds01.user": f"user{number % USERS:02}",
                "ds01.gpu.slots": slot,
                "ds01.gpu.allocated_at": "2026-01-30T10:00:00Z",
            }
            self.docker.containers.append(container(number, f"job{number}._.{number}", labels=labels))
            self._cgroup(self.docker.containers[-1]["Id"])

    def write_state(self, turn: int) -> None:
        """Write a state file that differs from turn to turn."""
        gpus = {
            slot: {"type": "mig_instance", "uuid": f"MIG-{slot}", "containers": [], "users": {}}
            for slot in self.slots
        }
        for number in range(CONTAINERS):
            slot = gpus[self.slots[number % len(self.slots)]]
            slot["containers"].append(f"job{number}._.{number}")
            slot["users"][f"user{number % USERS:02}"] = 1
        gpus[self.slots[turn % len(self.slots)]]["containers"].append(f"another._.{turn}")
        self._replace(self.state_file, json.dumps({"gpus": gpus, "mig_enabled": True}, indent=2))

    def write_many(self, allocations: int) -> None:
        """Write a state file with so many allocations."""
        entries = [
            {
                "container": f"job{number}._.{number}",
                "user": f"user{number % USERS:02}",
                "allocated_at": "2026-01-30T10:00:00Z",
            }
            for number in range(allocations)
        ]
        gpus = {
            slot: {"containers": entries[place :: len(self.slots)]} for place, slot in enumerate(self.slots)
        }
        self._replace(self.state_file, json.dumps({"gpus": gpus}))

    def write_events(self, ahead_bytes: int = 0) -> None:
        """Write the event log: so many bytes of last year's, then a day's."""
        with self.events_file.open("w", encoding="utf-8") as file:
            if ahead_bytes:
                old = "".join(self._event(time.time() - 3e7 + number, number) for number in range(10_000))
                for _ in range(ahead_bytes // len(old) + 1):
                    file.write(old)
            first = time.time() - 23.9 * 3600
            for number in range(EVENTS):
                file.write(self._event(first + number * 23.8 * 3600 / EVENTS, number))

    @staticmethod
    def _event(stamp: float, number: int) -> str:
        kinds = ("gpu.allocated", "gpu.released", "container.started", "container.stopped", "health.check")
        text = datetime.fromtimestamp(stamp, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
        return f'{{"ts": "{text}", "event": "{kinds[number % 5]}", "user": "user{number % USERS:02}", "gpu": 1.2}}\n'

    @staticmethod
    def _replace(path: Path, text: str) -> None:
        path.with_suffix(".new").write_text(text)
        path.with_suffix(".new").rename(path)

    def _cgroup(self, container_id: str) -> None:
        folder = self.root / "cgroup" / "docker" / container_id
        folder.mkdir(parents=True)
        stat = "".join(f"field_{number} 123456789\n" for number in range(40))
        (folder / "cpu.stat").write_text("usage_usec 123456789\nuser_usec 1\nsystem_usec 2\n")
        (folder / "memory.current").write_text("8589934592\n")
        (folder / "memory.stat").write_text(stat + "inactive_file 4096\n")
        (folder / "memory.max").write_text("17179869184\n")
        (folder / "memory.events").write_text("low 0\nhigh 0\nmax 0\noom 0\noom_kill 0\n")

    @staticmethod
    def _topology() -> dict[str, object]:
        def mig(gpu: int, index: int) -> dict[str, object]:
            uuid = f"MIG-{gpu:08}-0000-0000-0000-{index:012}"
            return {
                "index": index,
                "uuid": uuid,
                "gpu_instance_id": 13 - index,
                "profile": "1g.5gb",
                "compute_slices": 1,
            }

        gpus = [
            {
                "index": gpu,
                "uuid": f"GPU-{gpu:08}-0000-0000-0000-000000000000",
                "compute_slices": 7,
                "mig_enabled": True,
                "mig_devices": [mig(gpu, index) for index in range(SLICES)],
            }
            for gpu in range(GPUS)
        ]
        return {"schema": "gpu-telemetry/list/1", "gpus": gpus}


@contextmanager
def running(
    program: list[str], port: int
) -> Iterator[tuple[subprocess.Popen[bytes], http.client.HTTPConnection]]:
    """Run a server until the block ends; yields it with a connection, once it listens."""
    process = subprocess.Popen(program, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        while connection.sock is None:
            assert process.poll() is None, f"{program[0]} has ended"
            with suppress(ConnectionRefusedError):
                connection.connect()
            time.sleep(0.005)
        yield process, connection
    finally:
        connection.close()
        process.terminate()
        process.wait(30)


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


def exporter(*flags: str) -> tuple[list[str], int]:
    """Return the exporter's command line and its port."""
    port = free_port()
    return [sys.executable, "-m", "ds01_exporter", f"--port={port}", *flags], port


def scrape(connection: http.client.HTTPConnection) -> bytes:
    """Ask once, as Prometheus does."""
    connection.request("GET", "/metrics", headers=HEADERS)
    response = connection.getresponse()
    body = response.read()
    assert response.status == 200
    return body


def plain(connection: http.client.HTTPConnection) -> str:
    """Return the text."""
    connection.request("GET", "/metrics")
    return connection.getresponse().read().decode()


def settled(connection: http.client.HTTPConnection) -> None:
    """Wait until every source has been read."""
    needed = ("ds01_events_24h_total{", "ds01_container_memory_bytes{", "ds01_gpu_allocated{")
    while any(name not in plain(connection) for name in needed):
        time.sleep(0.05)


def resident_mb(process: subprocess.Popen[bytes]) -> float:
    """Return the resident memory of a process in MB."""
    fields = Path(f"/proc/{process.pid}/status").read_text().splitlines()
    return int(next(line.split()[1] for line in fields if line.startswith("VmRSS"))) / 1000


def cpu_seconds(process: subprocess.Popen[bytes]) -> float:
    """Return the CPU time of a process and of its threads that have ended, in the kernel's ticks of 10 ms."""
    fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def measure() -> list[Row]:
    """Measure everything that the exporter promises."""
    root = Path(tempfile.mkdtemp(prefix="ds01-bench-"))
    try:
        machine = Machine(root)
        machine.write()
        with machine.docker.running():
            return [*normal(machine), *many(machine), *large_log(machine)]
    finally:
        shutil.rmtree(root)


def normal(machine: Machine) -> Iterator[Row]:
    """Yield what holds at the normal size."""
    case = f"{GPUS * SLICES} slices, {CONTAINERS} containers"
    command, port = exporter(*machine.flags)
    with running(command, port) as (process, connection):
        settled(connection)
        yield from against_node_exporter(connection, case)
        turns = iter(range(1, 1000))
        changed = median_seconds(lambda: scrape(connection), before=lambda: machine.write_state(next(turns)))
        yield Row(f"scrape, state file changed ({case})", changed * 1000, "ms", 15)
        yield Row(f"resident memory ({case})", resident_mb(process), "MB", 40, runs=1)
        before, start = cpu_seconds(process), time.monotonic()
        time.sleep(IDLE_SECONDS)
        share = (cpu_seconds(process) - before) / (time.monotonic() - start) * 100
        yield Row(f"idle CPU, over {IDLE_SECONDS:.0f} s", share, "% of a core", 0.2, runs=1)


def against_node_exporter(connection: http.client.HTTPConnection, case: str) -> Iterator[Row]:
    """Yield the time of an unchanged scrape, and how many of them node_exporter's own takes."""
    program = next((path for path in NODE_EXPORTERS if path.exists()), None)
    if program is None:
        ours = median_seconds(lambda: scrape(connection)) * 1000
        yield Row(
            f"scrape, nothing changed ({case})",
            ours,
            "ms",
            note="no node_exporter to compare with: make tools",
        )
        return
    port = free_port()
    with running([str(program), f"--web.listen-address=127.0.0.1:{port}"], port) as (_, other):
        mine, theirs = [], []
        for _ in range(2 * RUNS):  # in turn, so that the machine's other load hits both
            theirs.append(median_seconds(lambda: scrape(other), runs=1))
            mine.append(median_seconds(lambda: scrape(connection), runs=1))
    ours, node = statistics.median(mine) * 1000, statistics.median(theirs) * 1000
    yield Row(f"scrape, nothing changed ({case})", ours, "ms", runs=2 * RUNS)
    yield Row(
        "node_exporter's scrape over ours",
        node / ours,
        "times",
        5,
        at_least=True,
        runs=2 * RUNS,
        note=f"{node:.1f} ms",
    )


def many(machine: Machine) -> Iterator[Row]:
    """Yield what holds with 10 000 allocations."""
    machine.write_many(10_000)
    command, port = exporter(*machine.flags)
    with running(command, port) as (process, connection):
        settled(connection)
        os.utime(machine.state_file, (1, 1))
        scrape(connection)
        unchanged = median_seconds(lambda: scrape(connection)) * 1000
        yield Row("scrape, nothing changed (10 000 allocations)", unchanged, "ms", 5)
        yield Row("resident memory (10 000 allocations)", resident_mb(process), "MB", 60, runs=1)


def large_log(machine: Machine) -> Iterator[Row]:
    """Yield how fast the exporter starts beside a log of 1 GB, and how fast it has read back what it needs."""
    machine.write_state(0)
    machine.write_events(ahead_bytes=LOG_BYTES)
    first, read_back = [], []
    for _ in range(RUNS):
        command, port = exporter(*machine.flags)
        start = time.perf_counter()
        with running(command, port) as (_, connection):
            scrape(connection)
            first.append(time.perf_counter() - start)
            while "ds01_events_24h_total{" not in plain(connection):
                time.sleep(0.05)
            read_back.append(time.perf_counter() - start)
    yield Row("start to first scrape, log of 1 GB", statistics.median(first), "s", 1)
    yield Row(
        "start to events counted, log of 1 GB, 100 000 lines of the day", statistics.median(read_back), "s", 5
    )
