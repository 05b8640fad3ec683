"""The command `ds01-exporter`: serves the metrics until it is told to end."""

from __future__ import annotations

import logging
import os
import signal
import sys
import time
from typing import TYPE_CHECKING

from prometheus_client import ProcessCollector

from ds01_exporter.app import Exporter
from ds01_exporter.exposition import content_type, wants_openmetrics
from ds01_exporter.settings import package_version, read_settings
from gpu_telemetry.httpd import BindError, PasswordFileError, Request, Response, Server, read_password

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

log = logging.getLogger("ds01_exporter")

_INDEX = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>DS01 exporter</title></head>
<body><h1>DS01 exporter</h1>
<p>Version {version}. Tells Prometheus who holds which GPU or MIG slice of this machine.</p>
<ul><li><a href="metrics">Metrics</a></li><li><a href="health">Health</a></li></ul></body></html>
"""


def main() -> int:
    """Run the exporter; return 0 after SIGTERM or SIGINT, 1 if it cannot listen."""
    settings = read_settings(sys.argv[1:], os.environ)
    _log_to_stderr(settings.log_level)
    try:
        password = read_password(settings.password_file) if settings.password_file else None
    except PasswordFileError as error:
        return _refused(str(error), "--password-file names a file with the password in its first line", 2)
    exporter = Exporter(settings, process=ProcessCollector(registry=None))
    try:
        server = Server(routes(exporter), bind=settings.bind, port=settings.port, password=password)
    except BindError as error:
        return _refused(str(error), "choose another with --bind and --port, or end what listens there", 1)
    server.stop_on_signals(signal.SIGTERM, signal.SIGINT)
    exporter.start()
    log.info("listening on %s port %d", ", ".join(settings.bind), server.port)
    server.serve_forever()
    exporter.stop()
    log.info("ended")
    return 0


def routes(exporter: Exporter) -> Mapping[str, Callable[[Request], Response]]:
    """Return the pages that the server has."""
    index = _INDEX.format(version=package_version()).encode()

    def metrics(request: Request) -> Response:
        openmetrics = wants_openmetrics(request.headers.get("accept", ""))
        compress = request.accepts_gzip
        body = exporter.scrape(openmetrics=openmetrics, compress=compress)
        headers = {"Vary": "Accept, Accept-Encoding"} | ({"Content-Encoding": "gzip"} if compress else {})
        return Response(body, content_type(openmetrics=openmetrics), headers=headers)

    return {
        "/": lambda _: Response(index, "text/html; charset=utf-8"),
        "/health": lambda _: Response(b"OK\n"),
        "/metrics": metrics,
    }


def _log_to_stderr(level: str) -> None:
    logging.Formatter.converter = time.gmtime
    logging.basicConfig(
        level=level.upper(), format="%(asctime)s %(levelname)s %(message)s", datefmt="%Y-%m-%dT%H:%M:%SZ"
    )


def _refused(problem: str, hint: str, code: int) -> int:
    sys.stderr.write(f"error: {problem}\n  hint: {hint}\n")
    return code


if __name__ == "__main__":
    sys.exit(main())
