"""One supervisord: started once, spoken to over its socket, and ended with all that it started."""

from __future__ import annotations

import configparser
import hashlib
import http.client
import os
import socket
import stat
import sys
import tempfile
import time
import xmlrpc.client
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ds01_monitoring import command
from ds01_monitoring.errors import UserError
from ds01_monitoring.runtime import processes

if TYPE_CHECKING:
    import signal
    from collections.abc import Mapping, Sequence

    from ds01_monitoring.paths import StateDir

NAME = "supervisord"
CALL_SECONDS = 10
START_SECONDS = 30
# Longer than any stopwaitsecs in supervisord.conf.j2: it kills what does not end.
STOP_SECONDS = 90
SOCKET_PATH_BYTES = 90  # Linux allows 107; supervisord adds its pid while it makes the socket.
NOT_RUNNING, ALREADY_STARTED = 70, 60  # Fault codes of supervisor.xmlrpc.


class Supervisor:
    """The supervisord of one state directory."""

    def __init__(self, state: StateDir) -> None:
        self.state = state
        self.run = state.run
        self.configuration = state.current / "supervisord.conf"

    def process(self) -> processes.Process | None:
        """The supervisord that runs, or None."""
        found = processes.read(self.run, NAME)
        return found if found is not None and found.alive() else None

    def alive(self, name: str) -> bool:
        """Whether the recorded process of this name still runs."""
        found = processes.read(self.run, name)
        return found is not None and found.alive()

    def once(self, name: str, arguments: Sequence[str], search_path: str) -> None:
        """Run a program a single time beside the services; it prints to its log, and `stop` ends it."""
        started = command.spawn_detached(
            [*_child(name), *arguments],
            env={**os.environ, "PATH": search_path, **self._environment()},
            output=self.state.logs / f"{name}.log",
        )
        command.let_go(started)

    def call(self, method: str, *arguments: Any) -> Any:
        """Call one method of supervisord's XML-RPC interface.

        Raises:
            xmlrpc.client.Fault: It refuses.
            OSError: Nobody answers within 10 s.
        """
        with xmlrpc.client.ServerProxy("http://supervisor", transport=_Transport(self.socket())) as server:
            return getattr(server.supervisor, method)(*arguments)

    def answers(self) -> bool:
        """Whether it runs and takes calls."""
        if self.process() is None:
            return False
        try:
            self.call("getPID")
        except (OSError, xmlrpc.client.Error, http.client.HTTPException):
            return False
        return True

    def start(self, environment: Mapping[str, str]) -> None:
        """Start it with the rendered configuration and wait until it takes calls.

        Raises:
            UserError: It ends at once, or takes no calls within 30 s.
        """
        printed = self.state.logs / "supervisord.out"
        started = command.spawn_detached(
            [*_child(NAME), "supervisord", "-n", "-c", str(self.configuration)],
            env={**environment, **self._environment()},
            output=printed,
        )
        deadline = time.monotonic() + START_SECONDS
        while not self.answers():
            if started.poll() is not None or time.monotonic() > deadline:
                said = printed.read_text(errors="replace").strip().splitlines()[-1:] or ["it printed nothing"]
                raise UserError(
                    f"supervisord did not start: {said[0]}", hint=f"read {printed} and {self.state.logs}"
                )
            time.sleep(0.05)
        command.let_go(started)

    def _environment(self) -> dict[str, str]:
        return {
            "DS01_STATE": str(self.state.root),
            "DS01_RUN": str(self.run),
            "DS01_PYTHON": sys.executable,
            "DS01_SOCKET": str(self.socket()),
            "DS01_USER": str(os.geteuid()),
        }

    def stop(self) -> None:
        """End it together with everything that it keeps up; returns when it has ended."""
        found = self.process()
        if found is None:
            return
        # All programs at once: on TERM alone it would end them one after another.
        with suppress(OSError, xmlrpc.client.Error, http.client.HTTPException):
            self.call("stopAllProcesses", False)
        processes.end([found], grace_seconds=STOP_SECONDS)

    def programs(self) -> list[str]:
        """The programs that the rendered configuration names, in its order."""
        parser = configparser.RawConfigParser(interpolation=None)
        try:
            parser.read(self.configuration)
        except configparser.Error as error:
            raise UserError(str(error).splitlines()[0], place=str(self.configuration)) from error
        return [name.partition(":")[2] for name in parser.sections() if name.startswith("program:")]

    def reread(self) -> set[str]:
        """Take over the rendered file where it changed; returns the programs that were started for that."""
        added, changed, removed = self.call("reloadConfig")[0]
        for name in [*changed, *removed]:
            self.stop_program(name)
            self.call("removeProcessGroup", name)
            processes.forget(self.run, name)
        for name in [*changed, *added]:
            self.call("addProcessGroup", name)
        return {*added, *changed}

    def start_program(self, name: str) -> None:
        """Start one program now, whatever pause it is in; returns before it is ready."""
        self._tolerant("startProcess", name, False, but=ALREADY_STARTED)

    def stop_program(self, name: str) -> None:
        """End one program and wait for its end.

        Raises:
            UserError: It does not end within 90 s.
        """
        self._tolerant("stopProcess", name, False, but=NOT_RUNNING)
        deadline = time.monotonic() + STOP_SECONDS
        while self.call("getProcessInfo", name)["statename"] == "STOPPING":
            if time.monotonic() > deadline:
                raise UserError(f"{name} does not end", hint=f"read {self.state.logs / name}.log")
            time.sleep(0.05)

    def signal_program(self, name: str, number: signal.Signals) -> None:
        """Signal one program; one that does not run gets nothing."""
        self._tolerant("signalProcess", name, number.name.removeprefix("SIG"), but=NOT_RUNNING)

    def _tolerant(self, method: str, *arguments: Any, but: int) -> None:
        try:
            self.call(method, *arguments)
        except xmlrpc.client.Fault as fault:
            if fault.faultCode != but:
                raise

    def socket(self) -> Path:
        """Where it takes calls: in `run/`, or in a short private folder where that path is too long."""
        usual = self.run / "supervisor.sock"
        if len(os.fsencode(usual)) <= SOCKET_PATH_BYTES:
            return usual
        folder = Path(tempfile.gettempdir()) / f"ds01-monitoring-{os.geteuid()}"
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o077:
            raise UserError(
                "is not a private folder of yours",
                place=str(folder),
                hint="remove it, or use a shorter --state-dir",
            )
        return folder / f"{hashlib.sha256(os.fsencode(usual)).hexdigest()[:16]}.sock"


def _child(name: str) -> list[str]:
    return [sys.executable, "-m", "ds01_monitoring.runtime.child", name, "--"]


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("supervisor", timeout=CALL_SECONDS)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


class _Transport(xmlrpc.client.Transport):
    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path

    def make_connection(self, host: Any) -> http.client.HTTPConnection:
        connection = _Connection(self._path)
        self._connection = host, connection  # So that `close` finds it.
        return connection
