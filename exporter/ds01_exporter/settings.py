"""The exporter's settings: each is a flag and an environment variable, and a wrong value is refused."""

from __future__ import annotations

import argparse
import ipaddress
import math
import sys
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from ds01_exporter.docker import Docker, DockerHostError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

OFF = "none"


@dataclass(frozen=True)
class Settings:
    """The settings; None switches a source off.

    Attributes:
        topology: a file, `nvml` for the driver, or None.
        mig_equivalents_per_gpu: what a whole GPU counts in ds01_user_mig_allocated, where a slice is 1.
    """

    bind: tuple[str, ...] = ("127.0.0.1",)
    port: int = 9101
    password_file: Path | None = None
    state_file: Path | None = Path("/var/lib/ds01/gpu-state.json")
    state_dir: Path | None = Path("/var/lib/ds01")
    events_file: Path | None = Path("/var/log/ds01/events.jsonl")
    docker_host: str | None = "unix:///var/run/docker.sock"
    topology: str | None = "nvml"
    cgroup_root: Path = Path("/sys/fs/cgroup")
    mig_equivalents_per_gpu: float = 4.0
    log_level: str = "info"


def _addresses(text: str) -> tuple[str, ...]:
    addresses = tuple(part.strip() for part in text.split(","))
    for address in addresses:
        if address != "localhost":
            try:
                ipaddress.ip_address(address)
            except ValueError as error:
                raise argparse.ArgumentTypeError(
                    f"{address!r} is not an IP address; give one or several, separated by commas"
                ) from error
    return addresses


def _port(text: str) -> int:
    if not text.isascii() or not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port: a number from 0 (any free one) to 65535")
    return int(text)


def _positive(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 < number < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0")
    return number


def _source(text: str) -> Path | None:
    return None if text == OFF else Path(text)


def _docker_host(text: str) -> str | None:
    if text == OFF:
        return None
    try:
        Docker(text)
    except DockerHostError as error:
        raise argparse.ArgumentTypeError(f"{error}, or {OFF}") from error
    return text


def _topology(text: str) -> str | None:
    return None if text == OFF else text


def _level(text: str) -> str:
    levels = ("debug", "info", "warning", "error")
    if text.lower() not in levels:
        raise argparse.ArgumentTypeError(f"{text!r} is not one of {', '.join(levels)}")
    return text.lower()


# (flag, environment variable, attribute, reader, help); the default is the attribute's in Settings.
_OPTIONS: tuple[tuple[str, str, str, Callable[[str], Any], str], ...] = (
    ("--bind", "DS01_EXPORTER_BIND", "bind", _addresses, "addresses to listen on, separated by commas; they need not exist yet"),
    ("--port", "DS01_EXPORTER_PORT", "port", _port, "port to listen on"),
    ("--password-file", "DS01_EXPORTER_PASSWORD_FILE", "password_file", Path, "ask for basic auth: user name ds01, and the password in this file's first line"),
    ("--state-file", "DS01_STATE_FILE", "state_file", _source, f"the allocator's state file, or {OFF}"),
    ("--state-dir", "DS01_STATE_DIR", "state_dir", _source, f"the allocator's directory, which holds container-metadata/, or {OFF}"),
    ("--events-file", "DS01_EVENTS_FILE", "events_file", _source, f"the allocator's event log, or {OFF}"),
    ("--docker-host", "DOCKER_HOST", "docker_host", _docker_host, f"the Docker Engine: unix:///path, tcp://address:port, or {OFF}"),
    ("--topology", "DS01_TOPOLOGY", "topology", _topology, f"where the GPU slots come from: nvml (the driver), a file that `gpu-telemetry list --json` printed, or {OFF}"),
    ("--cgroup-root", "DS01_CGROUP_ROOT", "cgroup_root", Path, "where the cgroup file systems are mounted"),
    ("--mig-equivalents-per-gpu", "DS01_MIG_EQUIVALENTS_PER_GPU", "mig_equivalents_per_gpu", _positive, "MIG-equivalents of a whole GPU; a slice is 1"),
    ("--log-level", "DS01_LOG_LEVEL", "log_level", _level, "debug, info, warning or error"),
)  # fmt: skip


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        sys.stderr.write(f"error: {message}\n  hint: {self.prog} --help lists every setting\n")
        self.exit(2)


def _parser() -> _Parser:
    parser = _Parser(
        prog="ds01-exporter",
        allow_abbrev=False,
        description="Tells Prometheus who holds which GPU or MIG slice of this machine.",
        epilog="A flag goes before its environment variable, which goes before the default; an empty variable counts as not set.",
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {package_version()}")
    for flag, variable, attribute, reader, text in _OPTIONS:
        default = getattr(Settings, attribute)
        shown = ",".join(default) if isinstance(default, tuple) else "" if default is None else f"{default}"
        about = f"{text} [${variable}; default: {shown.removesuffix('.0') or 'not set'}]"
        parser.add_argument(
            flag,
            dest=attribute,
            type=reader,
            default=argparse.SUPPRESS,
            metavar="VALUE",
            help=about.replace("%", "%%"),
        )
    return parser


def read_settings(arguments: Sequence[str], environment: Mapping[str, str]) -> Settings:
    """Return the settings of a command line and an environment; exits with 2 and a message on a wrong value."""
    parser = _parser()
    chosen = vars(parser.parse_args(arguments))
    for _, variable, attribute, reader, _ in _OPTIONS:
        if attribute not in chosen and (text := environment.get(variable)):
            try:
                chosen[attribute] = reader(text)
            except argparse.ArgumentTypeError as error:
                parser.error(f"environment variable {variable}: {error}")
    return Settings(**chosen)


def package_version() -> str:
    """Return the version of the installed package."""
    return version("ds01-monitoring")
