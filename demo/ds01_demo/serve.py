"""Run the simulated server: files, Docker socket, dcgm-exporter and mail sink, until SIGTERM or SIGINT."""

from __future__ import annotations

import contextlib
import logging
import signal
import threading
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

from . import dcgm
from .engine import Engine
from .errors import DemoError
from .files import Files, Layout
from .httpd import EngineServer, MetricsServer
from .scenario import PROFILES
from .smtp import MailSink
from .world import World

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from socketserver import BaseServer

    from .clock import Clock

TICK = 2.0
"""Seconds from one update of the files to the next."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Options:
    """What `ds01-demo serve` was asked for. Port 0 is any free port; `smtp_port` None is no mail sink."""

    root: Path
    profile: str
    dcgm_bind: str
    dcgm_port: int
    password_file: Path | None
    smtp_port: int | None
    speed: float


def serve(options: Options, clock: Clock) -> None:
    """Serve until a signal ends it. Raises DemoError for what the user can mend."""
    stopping = stop_on_signal()
    password = read_password(options.password_file) if options.password_file else None
    layout = Layout(options.root)
    layout.claim()
    world = World(PROFILES[options.profile])
    files = Files(layout, world, clock)
    files.begin(clock.now())
    with ExitStack() as running:
        address = (options.dcgm_bind, options.dcgm_port)
        metrics = MetricsServer(address, lambda: dcgm.text(world, clock.now(), clock), password)
        running.enter_context(_in_background(metrics))
        engine = EngineServer(layout.socket, Engine(world, clock), clock, stopping)
        running.callback(layout.socket.unlink, missing_ok=True)
        running.enter_context(_in_background(engine))
        if options.smtp_port is not None:
            sink = running.enter_context(MailSink("127.0.0.1", options.smtp_port, layout.mailbox))
            log.info("mail sink on %s:%d", *sink.address)
        log.info(
            "profile %s in %s, dcgm-exporter on %s:%d",
            options.profile,
            options.root,
            *metrics.server_address[:2],
        )
        while not stopping.wait(TICK):
            files.follow(clock.now())


def serve_mailbox(directory: Path, port: int) -> None:
    """Run the mail sink alone until a signal ends it. Raises DemoError."""
    stopping = stop_on_signal()
    directory.mkdir(parents=True, exist_ok=True)
    with MailSink("127.0.0.1", port, directory) as sink:
        log.info("mail sink on %s:%d", *sink.address)
        stopping.wait()


def stop_on_signal() -> threading.Event:
    """An event that SIGTERM and SIGINT set."""
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    return stopping


@contextlib.contextmanager
def _in_background(server: BaseServer) -> Iterator[None]:
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def read_password(path: Path) -> str:
    """The password in the first line of `path`. Raises DemoError when there is none."""
    try:
        password = path.read_text(encoding="utf-8").split("\n", 1)[0].strip()
    except (OSError, UnicodeDecodeError) as error:
        raise DemoError(f"{path}: cannot read the password: {error}", hint="check --password-file") from error
    if not password:
        raise DemoError(f"{path}: the password file is empty", hint="write a password into its first line")
    return password
