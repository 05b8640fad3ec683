"""The command `gpu-telemetry`: a table of commands, each loaded only when it is called; the only printer of errors."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from importlib import import_module
from typing import TYPE_CHECKING, Protocol, cast

from gpu_telemetry.errors import TelemetryError

if TYPE_CHECKING:
    from collections.abc import Sequence


class Command(Protocol):
    """A module of `gpu_telemetry.commands`: it describes its options, and does its work."""

    def configure(self, parser: argparse.ArgumentParser) -> None:
        """Add the command's options."""

    def execute(self, options: argparse.Namespace) -> int:
        """Do it; returns the exit code."""


# Name: (module with `configure` and `execute`, what it does). One line adds a command.
COMMANDS = {
    "list": ("gpu_telemetry.commands.listing", "the GPUs and MIG devices of this machine"),
    "watch": ("gpu_telemetry.commands.watch", "a live view in the terminal"),
    "record": ("gpu_telemetry.commands.record", "write readings to files"),
    "summary": ("gpu_telemetry.commands.summary", "utilisation, memory and energy of recordings, per device"),
    "tail": ("gpu_telemetry.commands.tail", "the last readings of a recording"),
    "export": ("gpu_telemetry.commands.export", "serve Prometheus metrics and the REST API"),
    "agent": (
        "gpu_telemetry.commands.agent",
        "serve all the time, record while there is load or an allocation",
    ),
    "stress": ("gpu_telemetry.commands.stress", "keep one GPU busy, to see dashboards and alerts move"),
    "hook": ("gpu_telemetry.commands.hook", "tell that a GPU was allocated or released"),
    "run": ("gpu_telemetry.commands.run", "run a command and record it for its whole life"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code: 0 done, 1 failed, 2 wrong usage, 3 something optional is missing."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    options = _parser(arguments).parse_args(arguments)
    logging.basicConfig(
        level=logging.DEBUG if options.debug else logging.WARNING,
        format="%(levelname)s: %(message)s",
        stream=sys.stderr,
    )
    try:
        return cast("Command", import_module(COMMANDS[options.command][0])).execute(options)
    except TelemetryError as error:
        if options.debug:
            raise
        sys.stderr.write(f"error: {error.problem}\n" + (f"  hint: {error.hint}\n" if error.hint else ""))
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # `| head` has seen enough. Python would complain when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _parser(arguments: Sequence[str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="gpu-telemetry",
        description="Readings of NVIDIA GPUs, straight from the driver.",
        allow_abbrev=False,
    )
    parser.add_argument("--debug", action="store_true", help="log what is done, and show tracebacks")
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    called = next((each for each in arguments if not each.startswith("-")), None)
    for name, (module, summary) in COMMANDS.items():
        command = subparsers.add_parser(
            name, help=summary, description=f"{summary[0].upper()}{summary[1:]}.", allow_abbrev=False
        )
        # Only the command that is called is loaded: `list` must not wait for what `export` imports.
        if name == called:
            cast("Command", import_module(module)).configure(command)
    return parser
