"""The compose runtime: the servers as containers of one Docker Compose project, our own programs beside them on the host."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ds01_monitoring.errors import UserError
from ds01_monitoring.runtime import compose_logs, engine, owner, preflight, processes, shared_files
from ds01_monitoring.runtime.base import ServiceStatus, known
from ds01_monitoring.runtime.compose_status import described
from ds01_monitoring.runtime.control import alone
from ds01_monitoring.runtime.native import SERVERS, NativeRuntime
from ds01_monitoring.runtime.signals import hang_up
from ds01_monitoring.runtime.supervisor import NAME

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ds01_monitoring.context import Context
    from ds01_monitoring.paths import StateDir
    from ds01_monitoring.runtime.base import Say
    from ds01_monitoring.runtime.programs import Programs

FILE = "docker-compose.yaml"
FOLDERS = ("prometheus", "alertmanager", "grafana", "node-exporter")


class ComposeRuntime:
    """The stack of one state directory on this machine's Docker Engine.

    What has to run beside the data (the allocation exporter, gpu-telemetry) is kept up on the host by
    the native runtime's supervisord, from the same rendered configuration.

    Args:
        state: Where the rendered configuration, the secrets and the servers' data lie.
        programs: Where our own programs are found.
    """

    name = "compose"

    def __init__(self, state: StateDir, programs: Programs) -> None:
        self.state = state
        self.host = NativeRuntime(state, programs)
        self.file = state.current / FILE

    # -- Runtime: what each does is said there ----------------------------------------------------------------------------

    def prepare(self, context: Context, say: Say) -> None:
        """See `Runtime.prepare`."""
        say("asking the Docker Engine")
        engine.check()
        if context.demo:
            raise UserError(
                "the demo does not run as containers", hint="monitoring-manage start --demo", exit_code=2
            )
        ours = {process.pid for process in processes.read_all(self.state.run) if process.alive()}
        preflight.check(context, ours)
        preflight.pull_missing(context, say)
        self.state.root.mkdir(parents=True, exist_ok=True)
        self._folders()

    def search_path(self) -> None:
        """See `Runtime.search_path`: the tools of this machine, else those in the images."""
        return

    def up(self, say: Say) -> None:
        """See `Runtime.up`. A container that cannot start, such as one whose GPU is lost, keeps nothing else from running."""
        self._host_release(say)
        try:
            with alone(self.state, say):
                before = {one.service: one.id for one in engine.containers() if one.running}
                say("starting the containers")
                self._up()
                self._reload(
                    {one.service for one in engine.containers() if before.get(one.service) == one.id}, say
                )
        finally:
            self._host_up(say)

    def down(self, say: Say) -> None:
        """See `Runtime.down`. The containers first: an Engine that does not answer then leaves nothing half stopped."""
        with alone(self.state, say):
            say("stopping the containers")
            self._down()
        self.host.down(say)

    def services(self) -> list[str]:
        """See `Runtime.services`."""
        return [*shared_files.read_plan(self.file).services, *self.host.services()]

    def restart(self, service: str | None, say: Say) -> None:
        """See `Runtime.restart`."""
        if service in self.host.services():
            self.host.restart(service, say)
            return
        chosen = [known(service, self.services())] if service else []
        self._host_release(say)
        with alone(self.state, say):
            say(f"restarting {service or 'the containers'}")
            self._up("--force-recreate", *(["--no-deps", *chosen] if chosen else []))
        if not service:
            self.host.down(say)
            self._host_up(say)

    def reload(self, say: Say) -> None:
        """See `Runtime.reload`."""
        self._share_files()
        self._reload(set(SERVERS), say)

    def status(self) -> list[ServiceStatus]:
        """See `Runtime.status`."""
        plan = shared_files.read_plan(self.file)
        there = {one.service: one for one in engine.containers(engine.STATUS_SECONDS)}
        found = [described(name, there.get(name)) for name in plan.services]
        found += [ServiceStatus(name, "not installed", detail=why) for name, why in plan.left_out.items()]
        programs = self.host.services()
        return found + [item for item in self.host.status() if item.name in programs]

    def logs(self, service: str | None, *, tail: int | None, follow: bool) -> Iterator[str]:
        """See `Runtime.logs`."""
        programs = self.host.services()
        if service in {*programs, NAME}:
            return self.host.logs(service, tail=tail, follow=follow)
        if service:
            known(service, [*self.services(), NAME])
        beside = self.host.logs(None, tail=tail, follow=follow) if programs and not service else iter(())
        return compose_logs.lines(self.file, service, beside, tail=tail, follow=follow)

    def update(self, say: Say) -> None:
        """See `Runtime.update`; what cannot be had is told after the rest was renewed."""
        failed = []
        plan = shared_files.read_plan(self.file)
        for service, image in plan.services.items():
            if service == "ds01-exporter" and "/" not in image:  # Built here: `monitoring-manage build`.
                continue
            say(f"pulling {image}")
            try:
                engine.docker("pull", "--quiet", image, timeout=engine.PULL_SECONDS)
            except UserError as error:
                failed.append(f"  {image}: {error.problem}")
        if engine.containers():
            self.up(say)
        if failed:
            raise UserError(
                "\n".join(
                    ["these images could not be renewed, and the ones that are here are used:", *failed]
                ),
                hint="is the registry reachable? Images brought by docker load are renewed in the same way",
            )

    # -- inside -----------------------------------------------------------------------------

    def _up(self, *arguments: str) -> None:
        self._folders()
        plan = self._share_files()
        self._leave_changed_network(plan.subnet)
        engine.compose(
            self.file,
            "up",
            "--detach",
            "--remove-orphans",
            *arguments,
            env=shared_files.marks(self.state, plan),
            subnet=plan.subnet,
        )

    def _down(self) -> None:
        try:
            engine.check()
        except engine.NoDocker:  # It was taken off this machine, and the containers with it.
            return
        if self.file.is_file():
            # Volumes are those that an image declares and nobody uses: the data lies in the state directory.
            engine.compose(self.file, "down", "--remove-orphans", "--volumes")
            return
        ids = [one.id for one in engine.containers()]
        if ids:
            engine.docker("stop", *ids, timeout=engine.CHANGE_SECONDS)
            engine.docker("rm", "--force", "--volumes", *ids, timeout=engine.CHANGE_SECONDS)
        for network in engine.networks():
            if (network.get("Labels") or {}).get(engine.PROJECT_LABEL) == engine.PROJECT:
                engine.docker("network", "rm", network["Id"])

    def _host_release(self, say: Say) -> None:
        """End what is a container, or nothing, from now on: it has the port that the container gets."""
        running = {one.name for one in processes.read_all(self.state.run) if one.alive()}
        if running - {NAME, *self.host.services()}:
            self._host_up(say)

    def _host_up(self, say: Say) -> None:
        if self.host.services():
            self.host.up(say)
        elif self.host.supervisor.process() is not None:
            self.host.down(say)

    def _folders(self) -> None:
        for folder in (
            self.state.run,
            self.state.logs,
            self.state.data,
            *(self.state.data / name for name in FOLDERS),
        ):
            folder.mkdir(parents=True, exist_ok=True)
            folder.chmod(0o700)
        owner.hand_over(self.state, tuple(self.state.data / name for name in FOLDERS))

    def _share_files(self) -> shared_files.Plan:
        plan = shared_files.read_plan(self.file)
        shared_files.copy(self.state, plan)
        return plan

    def _leave_changed_network(self, subnet: str) -> None:
        """A network keeps the subnet that it was made with; with another one it has to be made anew."""
        for network in engine.networks():
            ours = (network.get("Labels") or {}).get(engine.PROJECT_LABEL) == engine.PROJECT
            configs = (network.get("IPAM") or {}).get("Config") or []
            if ours and subnet not in {config.get("Subnet") for config in configs}:
                self._down()

    def _reload(self, services: set[str], say: Say) -> None:
        for one in engine.containers():
            if one.service in services and one.service in SERVERS and one.running:
                say(f"telling {one.service} to read its configuration")
                hang_up(one)
