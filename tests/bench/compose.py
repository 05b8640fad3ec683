"""The compose runtime on this machine's Engine, with stand-ins for the official images: start, scrape, memory."""

import gzip
import http.client
import os
import tempfile
import time
from base64 import b64encode
from pathlib import Path

from tests.bench.frame import Row, median_seconds
from tests.compose import images
from tests.compose.engine_site import CONTAINERS, EngineSite, inspect, wait_until

from ds01_monitoring.errors import UserError
from ds01_monitoring.runtime import engine, processes

STARTS = 5
CROWDS = (20, 200)
SETTLE_SECONDS = 10
"""For what the Engine still does after it has started hundreds of containers; it is not what is measured."""

MIB = 1 << 20


def measure() -> list[Row]:
    """Measure with the images present; nothing where no Engine answers or a stack of ours runs already."""
    try:
        engine.docker("version")
        plugin = images.compose_plugin()
    except UserError:
        return []
    if engine.containers() or os.geteuid() != 0:
        return []
    with tempfile.TemporaryDirectory(prefix="ds01-bench-") as folder:
        site = EngineSite.make(Path(folder), images.build_all(), plugin)
        try:
            start = median_seconds(site.start, runs=STARTS, before=lambda: site.manage("stop"))
            rows = [Row("start (compose) to everything ready, images present", start, "s", 15, runs=STARTS)]
            rows += [_scrape(site, count) for count in CROWDS]
            return rows + _memory(site)
        finally:
            site.manage("stop", check=False)


def _scrape(site: EngineSite, count: int) -> Row:
    """One scrape of the exporter over its own connection, while `count` containers run."""
    image = site.images["busybox"]
    names = [f"ds01-bench-{number}" for number in range(count)]
    for number, name in enumerate(names):
        labels = (
            "--label",
            "ds01.managed=true",
            "--label",
            "ds01.user=ann",
            "--label",
            f"ds01.gpu.slots={number % 8}",
        )
        engine.docker(
            "create",
            "--name",
            name,
            *labels,
            "--network",
            "none",
            "--entrypoint",
            "/bin/sleep",
            image,
            "3600",
        )
    try:
        engine.docker("start", *names, timeout=600)
        wait_until(
            lambda: gzip.decompress(_ask(site)).count(b"ds01_gpu_allocated{") >= count,
            "all of them in the exporter",
        )
        time.sleep(SETTLE_SECONDS)
        return Row(
            f"scrape of the exporter, {count} containers on the Engine",
            median_seconds(lambda: _ask(site)) * 1000,
            "ms",
            5,
        )
    finally:
        engine.docker("rm", "--force", *names, timeout=600)


def _ask(site: EngineSite) -> bytes:
    """One scrape as Prometheus asks for it: compressed, with the password."""
    token = b64encode(f"ds01:{site.deployment().password()}".encode()).decode()
    connection = http.client.HTTPConnection(site.deployment().addresses["ds01-exporter"], timeout=10)
    try:
        connection.request(
            "GET", "/metrics", headers={"Authorization": f"Basic {token}", "Accept-Encoding": "gzip"}
        )
        return connection.getresponse().read()
    finally:
        connection.close()


def _memory(site: EngineSite) -> list[Row]:
    """Resident memory of each server's process, and of the exporter's."""
    pids = {found["Name"].removeprefix("/ds01-"): found["State"]["Pid"] for found in inspect(*CONTAINERS)}
    exporter = processes.read(site.state.run, "ds01-exporter")
    if exporter is not None:
        pids["ds01-exporter"] = exporter.pid
    return [
        Row(f"memory of {name}", _resident_bytes(pid) / MIB, "MiB", runs=1, note="resident, just started")
        for name, pid in pids.items()
        if name != "grafana"  # A stand-in here.
    ]


def _resident_bytes(pid: int) -> int:
    pages = int((Path("/proc") / str(pid) / "statm").read_text(encoding="utf-8").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")
