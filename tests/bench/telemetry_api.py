"""gpu-telemetry's server: GET gpu-metrics at 200 requests a second, and a scrape; 8 GPUs of the simulated driver.

Requests are sent at fixed moments whether or not the ones before them have been answered, and each is timed from
the moment at which it was due: a server that stalls cannot hide the requests that it kept waiting.
"""

import http.client
import json
import os
import statistics
import subprocess  # noqa: TID251 - the program is what is measured
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.bench.frame import RUNS, Row, median_seconds
from tests.telemetry.nvml_fake import card, driver

GPUS = 8
RATE, SECONDS, CONNECTIONS = 200, 15, 8
PROMISE_MS = 5.0
URL = "/api/v1/monitoring/gpu-metrics"
BARE = """
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
class Handler(BaseHTTPRequestHandler):
    protocol_version, wbufsize, disable_nagle_algorithm = "HTTP/1.1", 65536, True
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", "2048")
        self.end_headers()
        self.wfile.write(b"x" * 2048)
    def log_message(self, *_):
        pass
server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
print(server.server_port, flush=True)
server.serve_forever()
"""
SITE = Path(__file__).parents[1] / "telemetry/fake_site"


def measure() -> list[Row]:
    """Ask a running server; the figures hold for the whole way, client included."""
    with _bare_server() as port:
        bare = statistics.quantiles(_latencies(port), n=100)
    with _server() as port:
        late = _latencies(port)
        scrape = median_seconds(lambda: _get(http.client.HTTPConnection("127.0.0.1", port), "/metrics"))
    percentiles = statistics.quantiles(late, n=100)
    note = f"{CONNECTIONS} kept connections, {GPUS} GPUs, p50 {percentiles[49] * 1000:.2f} ms, max {max(late) * 1000:.1f} ms"
    return [
        Row(f"GET gpu-metrics p99 at {RATE} requests/s", percentiles[98] * 1000, "ms", PROMISE_MS, runs=len(late), note=note),
        Row("the same from a bare http.server", bare[98] * 1000, "ms", runs=len(late), note="what machine and client cost in this run"),
        Row(f"GET /metrics of {GPUS} GPUs, new connection", scrape * 1000, "ms", runs=RUNS),
    ]  # fmt: skip


def _latencies(port: int) -> list[float]:
    """Seconds from when each request was due until its answer was read."""
    taken: list[float] = []
    begin = time.perf_counter() + 0.2
    total = RATE * SECONDS

    def client(first: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port)
        _get(connection, URL)
        for number in range(first, total, CONNECTIONS):
            due = begin + number / RATE
            time.sleep(max(due - time.perf_counter(), 0))
            _get(connection, URL)
            taken.append(time.perf_counter() - due)
        connection.close()

    threads = [threading.Thread(target=client, args=(first,)) for first in range(CONNECTIONS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return taken


def _get(connection: http.client.HTTPConnection, path: str) -> None:
    connection.request("GET", path)
    answer = connection.getresponse()
    if answer.status != http.HTTPStatus.OK or not answer.read():
        raise RuntimeError(f"{path} answered {answer.status}")


@contextmanager
def _bare_server() -> Iterator[int]:
    server = subprocess.Popen([sys.executable, "-c", BARE], stdout=subprocess.PIPE, text=True)
    try:
        yield int(server.stdout.readline()) if server.stdout else 0
    finally:
        server.terminate()
        server.wait(10)


@contextmanager
def _server() -> Iterator[int]:
    with tempfile.TemporaryDirectory() as folder:
        state = Path(folder) / "driver.json"
        state.write_text(json.dumps(driver(*(card(index) for index in range(GPUS)))))
        environment = {key: value for key, value in os.environ.items() if key != "CUDA_VISIBLE_DEVICES"}
        server = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "gpu_telemetry",
                "export",
                "--backend",
                "nvml",
                "--port",
                "0",
                "--interval",
                "1s",
            ],
            stderr=subprocess.PIPE,
            text=True,
            env=environment | {"FAKE_NVML_STATE": str(state), "PYTHONPATH": str(SITE)},
        )
        try:
            yield int(server.stderr.readline().split()[-1]) if server.stderr else 0
        finally:
            server.terminate()
            server.wait(10)
