"""Serves the readings: Prometheus metrics, the REST API with its description, and a health page."""

from __future__ import annotations

import json
import threading
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING

from gpu_telemetry import api, dcgm, exposition, openapi, plain
from gpu_telemetry.errors import TelemetryError
from gpu_telemetry.exposition import Family
from gpu_telemetry.httpd import BindError, PasswordFileError, Request, Response, Server, read_password
from gpu_telemetry.latest import STALE_AFTER_INTERVALS, BackgroundSampler, Latest, State

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from typing_extensions import Self

    from gpu_telemetry.monitor import GpuMonitor

DEFAULT_PORT = 9118
DEFAULT_INTERVAL_SECS = 30.0
LOOPBACK = ("127.0.0.1",)

JSON = "application/json"

INDEX = f"""GPU telemetry

/metrics                          Prometheus
{api.PATH}   the last sample as JSON
/openapi.json                     description of the JSON pages
/healthz                          200 while samples can be read, else 503
"""


class Pages:
    """Answers the pages from the last sample; nothing that is asked touches the hardware.

    Args:
        latest: Where the last sample is.
        prefix: Plain metric names with this prefix; None for the names of dcgm-exporter.
        placeholders: Shows a placeholder GPU, marked as simulated, in the REST answer where nothing can be read.
        password: Whether the server asks for one.

    Raises ValueError when a metric's name cannot begin with the prefix.
    """

    def __init__(
        self, latest: Latest, *, prefix: str | None = None, placeholders: bool = False, password: bool = False
    ) -> None:
        self._latest = latest
        self._prefix = None if prefix is None else plain.check_prefix(prefix)
        self._placeholders = placeholders
        self._description = json.dumps(openapi.document(password=password)).encode()

    @property
    def routes(self) -> Mapping[str, Callable[[Request], Response]]:
        """What `httpd.Server` needs."""
        return {
            "/": lambda _: Response(INDEX.encode()),
            "/metrics": lambda _: Response(self.metrics(), exposition.CONTENT_TYPE),
            api.PATH: lambda _: Response(
                api.document(self._latest.state(), placeholders=self._placeholders), JSON
            ),
            "/openapi.json": lambda _: Response(self._description, JSON),
            "/healthz": lambda _: self._health(),
        }

    def metrics(self) -> bytes:
        """The Prometheus page; the readings of a sample that is too old, or failed, are absent."""
        state = self._latest.state()
        if self._prefix is None:
            readings = dcgm.families(state.fresh) if state.fresh else []
            return exposition.render([*readings, *_own_families(state)])
        readings = plain.families(self._prefix, state.fresh) if state.fresh else []
        return exposition.render([*readings, *plain.own_families(self._prefix, state)])

    def _health(self) -> Response:
        state = self._latest.state()
        last = (
            None
            if state.last_success is None
            else datetime.fromtimestamp(state.last_success, tz=timezone.utc)
        )
        body = {
            "status": state.status,
            "sample_age_seconds": None if state.age_seconds is None else round(state.age_seconds, 3),
            "last_success": None if last is None else api.utc(last),
        }
        return Response(json.dumps(body).encode() + b"\n", JSON, 200 if state.status == "ok" else 503)


class PrometheusExporter:
    """An HTTP server for the metrics of one monitor, for use inside another program.

    `with PrometheusExporter(prefix="train", port=9118).register_gpu_metrics(monitor): …`

    Args:
        prefix: Plain names with this prefix (`train_gpu_power_watts{device="0"}`); None for dcgm-exporter's names.
        port: 0 takes any free one, see `port`.
        bind: Addresses to listen on; loopback unless told otherwise.
        password_file: File with the password that every page asks for, as the user ds01.
        interval_secs: Seconds between two samples.
        stale_after_secs: Age from which a sample is not shown any more; three intervals by default.
        placeholders: See `Pages`.

    Raises:
        ValueError: The prefix cannot begin a metric's name, or the interval is not above zero.
        TelemetryError: The password file cannot be used.
    """

    def __init__(
        self,
        prefix: str | None = None,
        port: int = DEFAULT_PORT,
        *,
        bind: Iterable[str] = LOOPBACK,
        password_file: str | Path | None = None,
        interval_secs: float = DEFAULT_INTERVAL_SECS,
        stale_after_secs: float | None = None,
        placeholders: bool = False,
    ) -> None:
        if not interval_secs > 0:
            raise ValueError(f"the interval must be above zero, not {interval_secs} s")
        self._password = _password(password_file)
        self._interval = interval_secs
        self.latest = Latest(stale_after_secs or interval_secs * STALE_AFTER_INTERVALS)
        self._pages = Pages(
            self.latest, prefix=prefix, placeholders=placeholders, password=self._password is not None
        )
        self._bind = tuple(bind)
        self._port = port
        self._monitor: GpuMonitor | None = None
        self._sampler: BackgroundSampler | None = None
        self._server: Server | None = None
        self._thread: threading.Thread | None = None

    def register_gpu_metrics(self, monitor: GpuMonitor) -> Self:
        """Serves the readings of this monitor; it is sampled in the background from `start` on."""
        self._monitor = monitor
        return self

    @property
    def port(self) -> int:
        """The port that is listened on; the one asked for before `start`."""
        return self._server.port if self._server else self._port

    def render(self) -> str:
        """The Prometheus page as it would be served now."""
        return self._pages.metrics().decode()

    def open(self) -> Server:
        """Listens and begins to sample; the caller runs `serve_forever` of what is returned.

        Raises TelemetryError when an address or the port cannot be had.
        """
        try:
            self._server = Server(
                self._pages.routes,
                bind=self._bind,
                port=self._port,
                password=self._password,
                realm="GPU telemetry",
            )
        except BindError as error:
            raise TelemetryError(str(error), hint="choose another with --bind or --port") from error
        if self._monitor is not None:
            self._sampler = BackgroundSampler(self._monitor, self._interval, self.latest.put)
            self._sampler.start()
        return self._server

    def start(self) -> Self:
        """Serves in a thread of its own until `stop`; raises as `open` does. Nothing happens if it serves already."""
        if self._server is None:
            server = self.open()
            self._thread = threading.Thread(target=server.serve_forever, name="exporter", daemon=True)
            self._thread.start()
        return self

    def stop(self) -> None:
        """Ends serving and sampling; may be started again."""
        if self._server is not None and not self._server.stopping.is_set():
            self._server.stop()
        if self._thread is not None:
            self._thread.join()
        if self._sampler is not None:
            self._sampler.stop()
        self._server = self._thread = self._sampler = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()


def _password(path: str | Path | None) -> str | None:
    if path is None:
        return None
    try:
        return read_password(Path(path))
    except PasswordFileError as error:
        raise TelemetryError(
            str(error), hint="write the password into its first line", exit_code=2
        ) from error


def _own_families(state: State) -> list[Family]:
    """How the sampling fares, in the words of the allocation exporter, so that its alerts see both."""
    collector = exposition.labels({"collector": "gpu_telemetry"})
    simulated = float(bool(state.sample and state.sample.simulated))
    rows = (
        ("ds01_collector_success", "Whether the collector's last run succeeded.", collector, float(state.status == "ok")),
        ("ds01_collector_duration_seconds", "How long the collector's last run took.", collector, state.duration_seconds),
        ("ds01_collector_last_success_timestamp_seconds", "When the collector last succeeded.", collector, state.last_success),
        ("ds01_gpu_telemetry_sample_age_seconds", "Age of the last sample of the GPUs.", "", state.age_seconds),
        ("ds01_gpu_telemetry_simulated", "Whether the readings of the GPUs are made up.", "", simulated),
    )  # fmt: skip
    return [
        Family(name, "gauge", text, [(labelled, value)])
        for name, text, labelled, value in rows
        if value is not None
    ]
