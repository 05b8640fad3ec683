"""Command line of the simulated GPU server.

ds01-demo serve --dir DIR --dcgm-port 9400 --password-file FILE [--smtp-port PORT]
                  [--profile lively|healthy|whole] [--speed X]
  ds01-demo mailbox-serve --dir DIR --port PORT
  ds01-demo history --output FILE [--hours 24] [--step 60] [--end TIME] [--host demo] [--target JOB=ADDRESS]...
  ds01-demo backfill --data-dir DIR --rules FILE... [--promtool FILE] [--prometheus FILE] [the options of history]

`start --demo` runs `backfill` in the background, when its Prometheus starts for the first time, with one --target
for each job, so that filled and live series are the same.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from .backfill import Programs, backfill, before_first_scrape, write
from .clock import Clock
from .errors import DemoError
from .history import OPTIONAL, TARGETS, Span
from .scenario import PROFILES
from .serve import Options, serve, serve_mailbox
from .world import World

if TYPE_CHECKING:
    from collections.abc import Sequence

_BACKGROUND = 10
"""How far `backfill` steps back (nice) behind the servers that it fills the past of."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry of `ds01-demo`. Exit status: 0 done, 1 failed, 2 wrong usage."""
    options = _parser().parse_args(arguments)
    level = logging.DEBUG if options.debug else logging.INFO
    logging.basicConfig(level=level, format="%(levelname)s %(message)s", stream=sys.stderr)
    try:
        options.run(options)
    except DemoError as error:
        sys.stderr.write(f"error: {error}\n" + (f"  hint: {error.hint}\n" if error.hint else ""))
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="ds01-demo", description="A simulated GPU server for DS01 Monitoring."
    )
    parser.add_argument("--debug", action="store_true", help="log every request")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_serve(commands.add_parser("serve", help="run the simulated server until SIGTERM"))
    _add_mailbox(commands.add_parser("mailbox-serve", help="run only the mail sink until SIGTERM"))
    _add_history(commands.add_parser("history", help="write the past as OpenMetrics text for promtool"))
    _add_backfill(commands.add_parser("backfill", help="put the past into a Prometheus data directory"))
    return parser


def _add_history(parser: argparse.ArgumentParser) -> None:
    _add_span(parser)
    parser.add_argument("--output", type=Path, required=True, help="file for the OpenMetrics text")
    parser.set_defaults(
        run=lambda options: write(World(PROFILES[options.profile]), _span(options), options.output)
    )


def _add_backfill(parser: argparse.ArgumentParser) -> None:
    _add_span(parser)
    parser.add_argument(
        "--data-dir", type=Path, required=True, help="Prometheus' data directory, in use or not"
    )
    parser.add_argument(
        "--rules", type=Path, nargs="+", default=[], help="rules files whose recorded series to fill"
    )
    parser.add_argument("--promtool", default="promtool", help="program (default %(default)s)")
    parser.add_argument("--prometheus", default="prometheus", help="program (default %(default)s)")
    parser.set_defaults(run=_backfill)


def _backfill(options: argparse.Namespace) -> None:
    os.nice(_BACKGROUND)
    programs = Programs(options.promtool, options.prometheus)
    world = World(PROFILES[options.profile])
    data = options.data_dir.absolute()
    if options.end is None:
        options.end = before_first_scrape(data)
    backfill(world, _span(options), data, options.rules, programs)


def _add_span(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--hours", type=float, default=24, help="how far to reach back (default %(default)s)")
    parser.add_argument("--step", type=int, default=60, help="seconds between scrapes (default %(default)s)")
    parser.add_argument(
        "--end",
        type=int,
        help="last moment, s since the epoch (default: now; for backfill when the server began to write)",
    )
    parser.add_argument("--host", default="demo", help="the host label (default %(default)s)")
    parser.add_argument(
        "--target",
        type=_target,
        action="append",
        default=[],
        metavar="JOB=ADDRESS",
        help="a scraped job and its instance label; replaces the default addresses of its job",
    )
    _add_profile(parser)


def _target(text: str) -> tuple[str, str]:
    job, equals, address = text.partition("=")
    jobs = (*TARGETS, *OPTIONAL)
    if not equals or job not in jobs:
        raise argparse.ArgumentTypeError(f"{text}: want JOB=ADDRESS with a JOB of {', '.join(jobs)}")
    return job, address


def _span(options: argparse.Namespace) -> Span:
    if options.step < 1 or options.hours <= 0:
        raise DemoError(
            "--step must be at least 1 and --hours more than 0", hint="the defaults are 60 and 24"
        )
    last = int(time.time()) if options.end is None else options.end
    end = last - last % options.step
    start = end - int(options.hours * 3600) // options.step * options.step
    return Span(start, end, options.step, options.host, TARGETS | dict(options.target))


def _add_mailbox(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--dir", type=Path, required=True, help="where each mail is stored as a file; made if missing"
    )
    parser.add_argument("--port", type=int, default=1025, help="port on 127.0.0.1 (default %(default)s)")
    parser.set_defaults(run=lambda options: serve_mailbox(options.dir, options.port))


def _add_serve(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--dir", type=Path, required=True, help="where files and the Docker socket go; made if missing"
    )
    parser.add_argument(
        "--dcgm-bind", default="127.0.0.1", help="address of dcgm-exporter (default %(default)s)"
    )
    parser.add_argument(
        "--dcgm-port", type=int, default=9400, help="port of dcgm-exporter (default %(default)s)"
    )
    parser.add_argument("--password-file", type=Path, help="ask for user ds01 and the password in this file")
    parser.add_argument(
        "--smtp-port", type=int, help="store mail that comes to this port on 127.0.0.1 in DIR/mailbox"
    )
    _add_profile(parser)
    parser.add_argument("--speed", type=_speed, default=1.0, help="world seconds per second (default 1)")
    parser.set_defaults(run=_serve)


def _add_profile(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--profile", choices=sorted(PROFILES), default="lively", help="what happens on the server"
    )


def _speed(text: str) -> float:
    value = float(text)
    if not 0 < value <= 3600:
        raise argparse.ArgumentTypeError(f"{text}: want more than 0 and at most 3600")
    return value


def _serve(options: argparse.Namespace) -> None:
    clock = Clock(speed=options.speed, start=time.time())
    serve(
        Options(
            root=options.dir.absolute(),
            profile=options.profile,
            dcgm_bind=options.dcgm_bind,
            dcgm_port=options.dcgm_port,
            password_file=options.password_file,
            smtp_port=options.smtp_port,
            speed=options.speed,
        ),
        clock,
    )


if __name__ == "__main__":
    sys.exit(main())
