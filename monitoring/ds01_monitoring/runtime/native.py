"""The native runtime: this host's own programs under supervisord."""

from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING, Any

from ds01_monitoring.errors import UserError
from ds01_monitoring.paths import StateDir
from ds01_monitoring.runtime import accounts, child, logfiles, ports, processes
from ds01_monitoring.runtime.base import ServiceStatus, State, known
from ds01_monitoring.runtime.control import alone
from ds01_monitoring.runtime.supervisor import NAME, Supervisor

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ds01_monitoring.context import Context
    from ds01_monitoring.runtime.base import Say
    from ds01_monitoring.runtime.ports import Listener
    from ds01_monitoring.runtime.programs import Programs

SERVERS = ("prometheus", "alertmanager")
"""Those that read their configuration anew on SIGHUP."""

READS_PASSWORD_AT_START = ("ds01-exporter", "gpu-telemetry")

SCREENFUL = 20
GRACE_SECONDS = 60
OFTEN_STARTS, OFTEN_SECONDS = 3, 600


class NativeRuntime:
    """The services of one state directory as processes of this host.

    Args:
        state: Where the rendered configuration lies and everything else goes.
        programs: The servers' programs; the demo shares its parent's.
    """

    name = "native"

    def __init__(self, state: StateDir, programs: Programs) -> None:
        self.state = state
        self.programs = programs
        self.supervisor = Supervisor(state)

    # -- Runtime: what each does is said there ----------------------------------------------------------------------------

    def prepare(self, context: Context, say: Say) -> None:
        """See `Runtime.prepare`."""
        self.programs.fetch(say)
        self._free_ports(context)

    def search_path(self) -> str:
        """See `Runtime.search_path`."""
        return self.programs.path()

    def up(self, say: Say) -> None:
        """See `Runtime.up`."""
        with alone(self.state, say):
            self._up(say)

    def down(self, say: Say) -> None:
        """See `Runtime.down`."""
        with alone(self.state, say):
            self._down(say)

    def services(self) -> list[str]:
        """See `Runtime.services`."""
        return self.supervisor.programs()

    def restart(self, service: str | None, say: Say) -> None:
        """See `Runtime.restart`."""
        with alone(self.state, say):
            if service is None:
                self._down(say)
                self._up(say)
            else:
                self._restart_one(known(service, self.services()), say)

    def reload(self, say: Say) -> None:
        """See `Runtime.reload`."""
        moved = self._moved()
        for server in moved:
            self._replace(server, say, "it may be another user's now")
        for server in (name for name in self.supervisor.programs() if name in SERVERS and name not in moved):
            say(f"telling {server} to read its configuration")
            self.supervisor.signal_program(server, signal.SIGHUP)

    def status(self) -> list[ServiceStatus]:
        """See `Runtime.status`."""
        if self.supervisor.answers():
            found = [self._described(item) for item in self.supervisor.call("getAllProcessInfo")]
        else:
            found = [self._stray(name) for name in self.supervisor.programs()]
        if "grafana" not in {item.name for item in found}:
            found.append(ServiceStatus("grafana", "not installed", detail="optional in the native runtime"))
        return found

    def logs(self, service: str | None, *, tail: int | None, follow: bool) -> Iterator[str]:
        """See `Runtime.logs`."""
        everything = [*self.services(), NAME]
        names = [known(service, everything)] if service else everything
        files = {name: self.state.logs / f"{name}.log" for name in names}
        count = SCREENFUL if tail is None else tail
        width = max(map(len, names))
        for name, line in logfiles.follow(files, count) if follow else logfiles.last(files, count):
            yield line if service else f"{name:<{width}} | {line}"

    def update(self, say: Say) -> None:
        """See `Runtime.update`."""
        self.programs.update(say)
        if self.supervisor.process() is not None:
            say("restarting with them")
            self.restart(None, say)

    # -- inside -----------------------------------------------------------------------------

    def _up(self, say: Say) -> None:
        for folder in (self.state.run, self.state.logs, self.state.data, self.state.data / "node-exporter"):
            folder.mkdir(parents=True, exist_ok=True)
            folder.chmod(0o700)
        if self.supervisor.answers():
            self._apply(say)
            return
        self._clear(say)
        accounts.assign(self.state, self.programs.path())
        say("starting the services")
        self.supervisor.start({**_inherited(), "PATH": self.programs.path()})

    def _down(self, say: Say) -> None:
        say("stopping the services")
        self.supervisor.stop()
        self._clear(say)
        for process in processes.read_all(self.state.run):
            processes.forget(self.state.run, process.name)

    def _restart_one(self, service: str, say: Say) -> None:
        if not self.supervisor.answers():
            raise UserError("nothing runs, so nothing can be restarted", hint="monitoring-manage start")
        before = processes.read(self.state.run, service)
        self._apply(say)
        if processes.read(self.state.run, service) == before:
            self._replace(service, say, "asked for")

    def _free_ports(self, context: Context) -> None:
        """Refuse ports that somebody else listens on, with the name of who does."""
        wanted = {
            int(address.rpartition(":")[2]): job
            for job, address in context.addresses.items()
            if job in context.jobs
        }
        settings = context.settings
        if context.demo:
            wanted[settings.ports.demo_mail] = "ds01-demo"
        if settings.dcgm.address and not context.demo:
            wanted = {port: job for port, job in wanted.items() if job != "dcgm-exporter"}
        if not context.extra.get("supervise_exporter", True):
            wanted.pop(settings.exporter.port, None)
        if context.extra.get("telemetry_unit", False):
            wanted.pop(settings.ports.gpu_telemetry, None)
        ours = {process.pid for process in processes.read_all(self.state.run) if process.alive()}
        taken = {
            port: listener for port, listener in ports.listeners(wanted).items() if listener.pid not in ours
        }
        if taken:
            told = "; ".join(
                f"{port} ({wanted[port]}) by {listener}" for port, listener in sorted(taken.items())
            )
            raise UserError(f"ports are taken: {told}", hint=_port_hint(self.state, taken.values()))

    def _apply(self, say: Say) -> None:
        """Bring a running supervisord to the rendered configuration; what did not change is not disturbed."""
        accounts.assign(self.state, self.programs.path())
        changed = self.supervisor.reread()
        for item in self.supervisor.call("getAllProcessInfo"):
            name = item["name"]
            if item["statename"] in {"STOPPED", "EXITED", "FATAL", "BACKOFF"} and name not in changed:
                say(f"starting {name}")
                self.supervisor.start_program(name)
        for name in self._stale() - changed:
            self._replace(name, say, "its settings or its password changed")
        self.reload(say)

    def _replace(self, name: str, say: Say, why: str) -> None:
        say(f"restarting {name}: {why}")
        self.supervisor.stop_program(name)
        processes.forget(self.state.run, name)
        self.supervisor.start_program(name)

    def _moved(self) -> set[str]:
        """Servers that run as somebody else than they should: their configuration may name other secrets now."""
        decided = accounts.assign(self.state, self.programs.path())
        running = ((name, processes.read(self.state.run, name)) for name in decided)
        return {
            name
            for name, process in running
            if process and process.alive() and process.environment != child.mark(decided[name].uid)
        }

    def _stale(self) -> set[str]:
        """Services that run with other settings than the rendered environment file has, or with another password."""
        found = set()
        programs = self.supervisor.programs()
        for name in (program for program in READS_PASSWORD_AT_START if program in programs):
            process = processes.read(self.state.run, name)
            if process is not None and self._password_is_newer(process):
                found.add(name)
        process = processes.read(self.state.run, "ds01-exporter")
        file = self.state.current / "exporter.env"
        if process is not None and file.is_file() and process.name in programs:
            found |= (
                {process.name} if child.digest(child.read_environment(file)) != process.environment else set()
            )
        return found

    def _password_is_newer(self, process: processes.Process) -> bool:
        try:
            written = (self.state.secrets / "http_password").stat().st_mtime
        except FileNotFoundError:
            return False
        return process.alive() and written > process.started()

    def _clear(self, say: Say) -> None:
        """End what a killed or hanging supervisord left behind, so that nothing ever runs twice."""
        left = [process for process in processes.read_all(self.state.run) if process.alive()]
        # supervisord first: it would start again what is ended under its hands.
        left.sort(key=lambda process: process.name != NAME)
        if left:
            say(f"ending what was left running: {', '.join(process.name for process in left)}")
        for process in left:
            processes.end([process], grace_seconds=GRACE_SECONDS)

    def _described(self, item: dict[str, Any]) -> ServiceStatus:
        name, process = item["name"], processes.read(self.state.run, item["name"])
        recent = [start for start in process.starts if time.time() - start < OFTEN_SECONDS] if process else []
        state: State = {
            "RUNNING": "running",
            "STARTING": "starting",
            "STOPPING": "stopped",
            "STOPPED": "stopped",
        }.get(item["statename"], "failing")  # type: ignore[assignment]
        account = accounts.read(self.state).get(name)
        detail = account.why if account else ""
        if state == "failing" or (state != "stopped" and len(recent) > OFTEN_STARTS):
            state = "failing"
            detail = f"started {len(recent)} times in the last 10 min; last words: {self._last_words(name)}"
        return ServiceStatus(
            name, state, item["pid"] or None, float(item["start"]) if item["pid"] else None, detail
        )

    def _stray(self, name: str) -> ServiceStatus:
        process = processes.read(self.state.run, name)
        if process is None or not process.alive():
            return ServiceStatus(name, "stopped")
        return ServiceStatus(
            name,
            "stray",
            process.pid,
            process.started(),
            "supervisord has ended; `monitoring-manage start` mends that",
        )

    def _last_words(self, name: str) -> str:
        lines = [
            line for _, line in logfiles.last({name: self.state.logs / f"{name}.log"}, 5) if line.strip()
        ]
        return lines[-1] if lines else "none"


def _port_hint(state: StateDir, taken: Iterable[Listener]) -> str:
    """What to do about taken ports; another stack of ours is the likely reason."""
    pids = {listener.pid for listener in taken}
    for other, command in (
        (state.demo, "monitoring-manage stop --demo"),
        (StateDir(state.root.parent), "monitoring-manage stop"),
    ):
        if any(process.pid in pids and process.alive() for process in processes.read_all(other.run)):
            return command
    return "stop that program, or give this one other ports under `ports:` (`exporter: {port: …}`) in monitoring.yaml"


def _inherited() -> dict[str, str]:
    """The caller's environment, without what would change our programs behind the configuration's back."""
    return {
        key: value for key, value in os.environ.items() if not key.startswith(("DS01_", "GF_", "SUPERVISOR_"))
    }
