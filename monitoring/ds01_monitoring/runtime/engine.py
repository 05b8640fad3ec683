"""The Docker Engine as the compose runtime uses it: the program `docker`, with every refusal explained."""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ds01_monitoring import command
from ds01_monitoring.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

PROJECT = "ds01-monitoring"
PROJECT_LABEL = "com.docker.compose.project"
SERVICE_LABEL = "com.docker.compose.service"
FOLDER_LABEL = "com.docker.compose.project.working_dir"
ASK_SECONDS = 20
STATUS_SECONDS = 8
"""Less than `status` gives to each of its checks, so that the Engine's silence is told as such."""

CHANGE_SECONDS = 300
PULL_SECONDS = 1800

_COMPOSE = (
    "Ubuntu 24.04: apt install docker-compose-v2; Debian 13: apt install docker-compose; older systems: the package "
    "docker-compose-plugin of Docker's repository (https://docs.docker.com/compose/install/linux/; the docker-compose "
    "of Debian 12 and Ubuntu 22.04 is version 1). Or set runtime: native"
)
NVIDIA_HINT = (
    "install nvidia-container-toolkit, run `nvidia-ctk runtime configure --runtime=docker` and restart Docker; "
    "or set hardware: nvml, or hardware: none"
)
_NO_IMAGE = (
    r"no such image|manifest unknown|pull access denied|repository does not exist|not found: manifest"
    r"|i/o timeout|no such host|tls handshake|failed to resolve reference|dial tcp|connection refused"
)

PREFIX = r"^.*stderr: (?=nvidia-container-cli)|^(Error response from daemon|error): "
"""What stands before the words that count."""

# What the programs say, what it means, what to do. The first that fits is taken.
EXPLAINED = (
    (
        r"permission denied.*(docker\.sock|daemon socket)",
        "this user may not use the Docker Engine",
        "run it as root, or have an administrator add you to the group docker (which is as good as root)",
    ),
    (
        r"cannot connect to the docker daemon|error during connect|failed to connect to the docker api",
        "the Docker Engine does not answer",
        "systemctl start docker; its log: journalctl -u docker",
    ),
    (
        r"unknown command: docker compose|'compose' is not a docker command|unknown shorthand flag|unknown flag: --(project-name|short)",
        "`docker compose` (v2) is not installed",
        _COMPOSE,
    ),
    (
        r"pool overlaps|invalid pool request|subnet .*overlap|conflicts with existing (route|network)",
        "the subnet {subnet} collides with another network of this machine",
        "set network.subnet in monitoring.yaml to a free one; docker network ls and ip route show what is taken",
    ),
    (
        r"driver/library version mismatch",
        "the NVIDIA driver's kernel module and its library do not match, as after an upgrade",
        "reboot, or unload and load the nvidia modules while no program uses a GPU",
    ),
    (
        r"could not select device driver|unknown runtime specified nvidia|unresolvable cdi",
        "the Docker Engine cannot give GPUs to containers",
        NVIDIA_HINT,
    ),
    (
        r"nvidia-container-cli: ",
        "a container does not get its GPUs: {last}",
        "does nvidia-smi answer on this machine? Until it does, hardware: none leaves out what needs GPUs",
    ),
    (
        r"port is already allocated|address already in use",
        "a port is taken: {last}",
        "stop that program, or give this one other ports under `ports:` (`exporter: {port: …}`) in monitoring.yaml",
    ),
    (
        r"invalid reference format|invalid checksum digest",
        "the name of an image is wrong: {last}",
        "correct it under `images:` in monitoring.yaml: registry/name:tag, or registry/name@sha256:…",
    ),
    (
        _NO_IMAGE,
        "an image could not be had: {last}",
        "is the registry reachable? Name a mirror under `images:` in monitoring.yaml, or bring the image with docker load",
    ),
    (r"no space left on device", "the disk is full: {last}", "docker system df; make room and start again"),
    (
        r"is already in use by container",
        "another container has the name: {last}",
        "docker rm it, if it is a leftover of an older installation",
    ),
    (
        r"container [0-9a-f]{12,} is not running|no such container: ",
        "a container that this needs does not run: {last}",
        "monitoring-manage start",
    ),
    (
        r"bind source path does not exist",
        "a folder that a container needs is missing: {last}",
        "make that folder, or correct its path in monitoring.yaml",
    ),
    (
        r"^no end after \d+ s$",
        "the Docker Engine does not answer in time: {last}",
        "is it stuck, or the machine overloaded? Its log: journalctl -u docker",
    ),
)


class NoDocker(UserError):  # noqa: N818 - reads better where it is caught.
    """There is no Docker on this machine, so nothing runs in it either."""


@dataclass(frozen=True)
class Container:
    """One container of the stack, as the Engine describes it."""

    service: str
    data: Mapping[str, Any]

    @property
    def id(self) -> str:
        """Its long id."""
        return str(self.data["Id"])

    @property
    def state(self) -> Mapping[str, Any]:
        """The part called State: Status, Pid, StartedAt, Health, Error, …."""
        found: Mapping[str, Any] = self.data["State"]
        return found

    @property
    def running(self) -> bool:
        """Whether its process runs now."""
        return bool(self.state["Running"]) and not self.state.get("Restarting")

    @property
    def folder(self) -> str:
        """Where the file lies that it was started from; empty where nothing says so."""
        return str(self.data["Config"]["Labels"].get(FOLDER_LABEL, ""))

    def published(self) -> set[int]:
        """The host's ports that it has."""
        bindings = self.data["HostConfig"].get("PortBindings") or {}
        return {int(one["HostPort"]) for found in bindings.values() for one in found or () if one["HostPort"]}


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """The caller's environment without what changes compose behind the configuration's back."""
    kept = {
        key: value for key, value in os.environ.items() if not key.startswith(("COMPOSE_", "DS01_FILES_"))
    }
    return {**kept, "LC_ALL": "C", **(extra or {})}


def docker(
    *args: str, timeout: float = ASK_SECONDS, subnet: str = "", env: Mapping[str, str] | None = None
) -> str:
    """What a docker command prints.

    Raises:
        NoDocker: There is no such program.
        UserError: It failed; says why and what to do.
    """
    try:
        return command.run(["docker", *args], timeout=timeout, env=environment(env)).stdout
    except command.CommandFailed as error:
        raise explain(error, subnet) from error
    except UserError as error:
        raise NoDocker(
            "the program docker is not here",
            hint="install Docker (https://docs.docker.com/engine/install/), or set runtime: native",
        ) from error


def explain(error: command.CommandFailed, subnet: str = "") -> UserError:
    """The same failure in words for people, as far as it is known; else its last lines."""
    known = meaning(error.output, subnet)
    if known is not None:
        return known
    lines = [line.strip() for line in error.output.splitlines() if line.strip()]
    told = "\n".join(f"  {line}" for line in lines[-3:])
    return UserError(f"docker refused\n{told}", hint="run it again with --debug to see every command")


def meaning(output: str, subnet: str = "") -> UserError | None:
    """What a program's last lines mean and what to do about it, where that is known."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    for pattern, problem, hint in EXPLAINED:
        said = [line for line in lines if re.search(pattern, line, re.IGNORECASE)]
        if said:
            last = re.sub(PREFIX, "", said[-1], flags=re.IGNORECASE)
            problem = problem.replace("{last}", last).replace("{subnet}", subnet or "of the network")  # noqa: PLW2901
            return UserError(problem, hint=hint)
    return None


def compose(
    file: Path,
    *args: str,
    env: Mapping[str, str] | None = None,
    timeout: float = CHANGE_SECONDS,
    subnet: str = "",
) -> str:
    """What `docker compose` prints for the project described by `file`.

    Raises:
        UserError: It failed; says why and what to do.
    """
    return docker(*compose_arguments(file), *args, timeout=timeout, subnet=subnet, env=env)


def compose_arguments(file: Path) -> list[str]:
    """Where every command about the project begins, after `docker`."""
    return [
        "compose",
        "--project-name",
        PROJECT,
        "--project-directory",
        str(file.parent),
        "--file",
        str(file),
    ]


def check(timeout: float = ASK_SECONDS) -> str:
    """The Engine's version, asked for within `timeout` seconds.

    Raises:
        UserError: It does not answer, may not be used, or `docker compose` is missing.
    """
    version = docker("version", "--format", "{{.Server.Version}}", timeout=timeout).strip()
    docker("compose", "version", "--short", timeout=timeout)
    return version


def containers(timeout: float = ASK_SECONDS) -> list[Container]:
    """The containers of the stack, whatever their state; each question is given `timeout` seconds."""
    filtered = ("--filter", f"label={PROJECT_LABEL}={PROJECT}")
    ids = docker("ps", "--all", "--quiet", "--no-trunc", *filtered, timeout=timeout).split()
    if not ids:
        return []
    try:
        found = json.loads(docker("inspect", *ids, timeout=timeout))
    except UserError:  # One ended between the two questions: ask once more.
        ids = docker("ps", "--all", "--quiet", *filtered, timeout=timeout).split()
        found = json.loads(docker("inspect", *ids, timeout=timeout)) if ids else []
    return [Container(data["Config"]["Labels"].get(SERVICE_LABEL, ""), data) for data in found]


def networks() -> list[dict[str, Any]]:
    """All networks of the Engine with their details."""
    ids = docker("network", "ls", "--quiet").split()
    found: list[dict[str, Any]] = json.loads(docker("network", "inspect", *ids)) if ids else []
    return found


def has_image(image: str) -> bool:
    """Whether the image is here."""
    try:
        docker("image", "inspect", "--format", "{{.Id}}", image)
    except UserError:
        return False
    return True


def nvidia() -> bool:
    """Whether the Engine can give GPUs to containers: NVIDIA's runtime is configured, or its hook is installed.

    With neither, Docker answers "could not select device driver" to every request for GPUs: it looks for the
    program nvidia-container-runtime-hook (moby, daemon/nvidia_linux.go).
    """
    import shutil  # noqa: PLC0415 - one look.

    runtimes = json.loads(docker("info", "--format", "{{json .Runtimes}}") or "{}") or {}
    return "nvidia" in runtimes or shutil.which("nvidia-container-runtime-hook") is not None
