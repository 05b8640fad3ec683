"""The command `gpu-telemetry`: a table of commands, each loaded only when it is called; the only printer of errors."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from importlib import import_module
from io import TextIOWrapper
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
    _streams()
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    options = _parser(arguments).parse_args(arguments)
    logging.basicConfig(
        level=logging.DEBUG if options.debug else logging.WARNING,
        format="%(levelname)s: %(message)s",
        stream=sys.stderr,
    )
    try:
        code = cast("Command", import_module(COMMANDS[options.command][0])).execute(options)
        sys.stdout.flush()
    except TelemetryError as error:
        if options.debug:
            raise
        sys.stderr.write(f"error: {error.problem}\n" + (f"  hint: {error.hint}\n" if error.hint else ""))
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # `| head` has seen enough.
        _discard_output()
        return 0
    except OSError as error:
        if options.debug:
            raise
        _discard_output()
        sys.stderr.write(f"error: {error}\n")
        return 1
    return code


def _streams() -> None:
    """Have three standard streams that take any text, whatever we were started with.

    A closed one is /dev/null from here on, else the next file that is opened would become it. Letters that the locale
    does not know are shown as `?`: a sign of a temperature must not end a recording.
    """
    while (number := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass  # The lowest number that is free: one of the three.
    os.close(number)
    sys.stdout = sys.stdout or os.fdopen(1, "w", closefd=False)
    sys.stderr = sys.stderr or os.fdopen(2, "w", closefd=False)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")


def _discard_output() -> None:
    """Python would complain again when it flushes at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


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
