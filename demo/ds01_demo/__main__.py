"""Command line of the simulated GPU server.

ds01-demo serve --dir DIR --dcgm-port 9400 --password-file FILE [--smtp-port PORT]
                  [--profile lively|healthy|whole] [--speed X]
  ds01-demo mailbox-serve --dir DIR --port PORT
"""

from __future__ import annotations

import argparse
import logging
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from .clock import Clock
from .errors import DemoError
from .scenario import PROFILES
from .serve import Options, serve, serve_mailbox

if TYPE_CHECKING:
    from collections.abc import Sequence


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
    return parser


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
