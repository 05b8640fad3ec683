"""`gpu-telemetry export`: Prometheus metrics and the REST API over HTTP."""

from __future__ import annotations

import sys
from signal import SIGHUP, SIGINT, SIGTERM
from typing import TYPE_CHECKING

from gpu_telemetry.commands import add_backend_options, interval, monitor_of
from gpu_telemetry.errors import TelemetryError
from gpu_telemetry.exporter import DEFAULT_INTERVAL_SECS, DEFAULT_PORT, LOOPBACK, PrometheusExporter

if TYPE_CHECKING:
    import argparse

STOP_SIGNALS = (SIGTERM, SIGINT, SIGHUP)


def configure(parser: argparse.ArgumentParser) -> None:
    """See `gpu_telemetry.cli.Command`."""
    add_backend_options(parser)
    add_server_options(parser)
    parser.add_argument(
        "--interval",
        type=interval,
        default=DEFAULT_INTERVAL_SECS,
        metavar="TIME",
        help="time between two samples, as 500ms, 30s or 2m (default: 30s)",
    )


def add_server_options(parser: argparse.ArgumentParser) -> None:
    """Options of every command that serves."""
    parser.add_argument(
        "--port", type=int, default=DEFAULT_PORT, help="TCP port (default: %(default)s; 0: any free one)"
    )
    parser.add_argument(
        "--bind",
        action="append",
        metavar="ADDRESS",
        help="listen on this address; may be given several times (default: 127.0.0.1)",
    )
    parser.add_argument(
        "--password-file",
        metavar="FILE",
        help="ask for the password in the first line of this file, user name ds01; on a shared host loopback is not private",
    )
    parser.add_argument(
        "--prefix",
        metavar="NAME",
        help='plain metric names, NAME_gpu_power_watts{device="0"}, instead of DCGM\'s',
    )
    parser.add_argument(
        "--stale-after",
        type=interval,
        metavar="TIME",
        help="do not show a sample that is older (default: three intervals)",
    )
    parser.add_argument(
        "--placeholders",
        action="store_true",
        help="where no GPU can be read, show one marked as simulated in the REST answer",
    )


def exporter_of(options: argparse.Namespace) -> PrometheusExporter:
    """The exporter that the options of `add_server_options` ask for. Raises TelemetryError for a wrong one."""
    try:
        return PrometheusExporter(
            options.prefix,
            options.port,
            bind=options.bind or LOOPBACK,
            password_file=options.password_file,
            interval_secs=options.interval,
            stale_after_secs=options.stale_after,
            placeholders=options.placeholders,
        )
    except ValueError as error:
        raise TelemetryError(f"--prefix: {error}", exit_code=2) from error


def execute(options: argparse.Namespace) -> int:
    """Serve until SIGTERM, SIGINT or SIGHUP; returns 0 then."""
    exporter = exporter_of(options)
    with monitor_of(options) as monitor:
        server = exporter.register_gpu_metrics(monitor).open()
        server.stop_on_signals(*STOP_SIGNALS)
        sys.stderr.write(f"serving on {', '.join(options.bind or LOOPBACK)} port {server.port}\n")
        server.serve_forever()
        exporter.stop()
    return 0
