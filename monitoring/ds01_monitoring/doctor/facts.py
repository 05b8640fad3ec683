"""What is known about a machine and its stack, section by section; what cannot be learned says why."""

from __future__ import annotations

import os
import platform
import sys
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ds01_monitoring import command, deployment, detect, http, units
from ds01_monitoring.config.load import config_path, load_settings
from ds01_monitoring.errors import UserError
from ds01_monitoring.health import examine
from ds01_monitoring.install import gpus
from ds01_monitoring.install.place import UNITS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ds01_monitoring.config import Settings
    from ds01_monitoring.deployment import Deployment
    from ds01_monitoring.health import Check, Health
    from ds01_monitoring.paths import StateDir

SECONDS = 20
LOG_LINES = 40
OS_RELEASE = Path("/etc/os-release")


@dataclass
class Facts:
    """What was found.

    Attributes:
        settings: The configuration; None where it has a mistake.
        sections: Title and text of each part of the report, in order.
        checks: Every check of every stack that was started.
        logs: The last lines that each service printed, and what nvidia-smi says.
        storage: Prometheus' own words about its memory: `/api/v1/status/tsdb`.
        driver: What shows that an NVIDIA driver is here; None where none is.
        runtimes: Runtimes that Docker knows; empty where it does not answer.
        lost_links: Links whose lack makes a daemon-reload take GPUs away.
    """

    settings: Settings | None = None
    sections: dict[str, str] = field(default_factory=dict)
    checks: list[Check] = field(default_factory=list)
    logs: dict[str, list[str]] = field(default_factory=dict)
    storage: Mapping[str, Any] = field(default_factory=dict)
    driver: str | None = None
    runtimes: str = ""
    lost_links: list[str] = field(default_factory=list)


def collect(config: Path | None, state: StateDir) -> Facts:
    """Ask everybody; a part that fails does not keep the others from being told."""
    facts = Facts()
    facts.sections["versions"] = _versions()
    facts.sections["configuration"] = _guarded(lambda: _configuration(facts, config))
    facts.sections["GPU and driver"] = _guarded(lambda: _gpus(facts))
    facts.sections["Docker"] = _docker(facts)
    facts.sections["units"] = _units()
    facts.sections["state directory"] = _guarded(lambda: _state(state))
    running = _guarded_list(facts, lambda: deployment.find(state, demo=False))
    if not running:
        facts.sections.setdefault("stack", f"nothing was started from {state.root}")
    for found in running:
        name = "demo" if found.demo else "stack"
        facts.sections[f"{name}: checks"] = _guarded(lambda found=found: _checks(facts, examine(found)))  # type: ignore[misc]
        facts.sections[f"{name}: series in memory"] = _guarded(lambda found=found: _storage(facts, found))  # type: ignore[misc]
        facts.sections[f"{name}: last log lines"] = _guarded(lambda found=found: _logs(facts, found))  # type: ignore[misc]
    return facts


def _guarded(look: Callable[[], str]) -> str:
    try:
        return look()
    except Exception as error:  # noqa: BLE001 - the report is needed most where something is broken.
        return f"not known: {type(error).__name__}: {error}"


def _guarded_list(facts: Facts, look: Callable[[], list[Deployment]]) -> list[Deployment]:
    try:
        return look()
    except UserError as error:
        facts.sections["stack"] = f"not known: {error}"
        return []


def _versions() -> str:
    os_name = (
        dict(line.partition("=")[::2] for line in OS_RELEASE.read_text().splitlines() if "=" in line)
        if OS_RELEASE.exists()
        else {}
    )
    lines = [
        f"ds01-monitoring {version('ds01-monitoring')}, Python {platform.python_version()} ({sys.executable})",
        f"{os_name.get('PRETTY_NAME', 'unknown system').strip(chr(34))}, kernel {platform.release()}, {os.cpu_count()} CPUs",
        f"user id {os.geteuid()}",
    ]
    programs = (("docker", "--version"), ("docker", "compose", "version"), ("systemctl", "--version"))
    lines += [f"{' '.join(program[:-1])}: {_first_line(program)}" for program in programs]
    return "\n".join(lines)


def _first_line(arguments: tuple[str, ...]) -> str:
    return (_said(*arguments).splitlines() or [""])[0]


def _said(*arguments: str) -> str:
    try:
        return command.run(arguments, timeout=SECONDS, check=False).stdout.strip()
    except UserError as error:
        return error.problem


def _configuration(facts: Facts, config: Path | None) -> str:
    """The file without its comments: what somebody wrote down."""
    file = config_path(config)
    lines = file.read_text(encoding="utf-8").splitlines()
    written = [
        line.partition(" #")[0].rstrip()
        for line in lines
        if line.strip() and not line.lstrip().startswith("#")
    ]
    text = "\n".join([f"{file}:", *written])
    try:
        facts.settings = load_settings(config)
    except UserError as error:
        text += f"\nmistake: {error}"
    return text


def _gpus(facts: Facts) -> str:
    facts.driver = detect.driver_found()
    facts.lost_links = gpus.missing_links(gpus.DEV)
    kernel = (
        detect.DRIVER_VERSION.read_text().strip() if detect.DRIVER_VERSION.exists() else "no driver is loaded"
    )
    listed = _said("nvidia-smi", "-L")
    facts.logs["nvidia-smi"] = listed.splitlines()
    links = f"not there: {', '.join(facts.lost_links)}" if facts.lost_links else "nothing is missing"
    return "\n".join(
        (
            f"driver: {facts.driver or 'none'}",
            kernel,
            f"nvidia-smi -L: {listed}",
            f"links in /dev/char: {links}",
        )
    )


def _docker(facts: Facts) -> str:
    facts.runtimes = gpus.engine("info", "--format", "{{json .Runtimes}}").strip()
    if not facts.runtimes:  # `info` of an old client speaks of a nil pointer where no Engine answers.
        return _said("docker", "version", "--format", "{{.Server.Version}}")
    return _said(
        "docker",
        "info",
        "--format",
        "server {{.ServerVersion}}, cgroups {{.CgroupDriver}} v{{.CgroupVersion}}, runtimes {{json .Runtimes}}",
    )


def _units() -> str:
    lines = []
    for unit in ("ds01-exporter", "ds01-monitoring", "gpu-telemetry"):
        installed = (UNITS / f"{unit}.service").exists()
        lines.append(
            f"{unit}: {_first_line(('systemctl', 'is-active', unit)) if installed else 'not installed'}"
        )
    return "\n".join(lines)


def _state(state: StateDir) -> str:
    about = state.root.stat()
    usage = os.statvfs(state.root)
    free = usage.f_bavail * usage.f_frsize / 2**30
    names = ", ".join(sorted(path.name for path in state.root.iterdir()))
    return f"{state.root}: owner {about.st_uid}, mode {about.st_mode & 0o777:o}, {free:.1f} GiB free\nholds {names}"


def _checks(facts: Facts, health: Health) -> str:
    facts.checks += health.checks
    lines = [f"runtime {health.deployment.runtime}, hardware {health.deployment.hardware}"]
    for check in health.checks:
        lines.append(f"{check.state:<8} {check.area:<13} {check.name}: {check.detail}")
        lines += [f"         next: {check.hint}"] if check.hint else []
    return "\n".join(lines)


def _storage(facts: Facts, found: Deployment) -> str:
    client = http.Client(found.password())
    data = client.get(found.addresses["prometheus"], "/api/v1/status/tsdb").json()["data"]
    facts.storage = data
    names = ", ".join(f"{item['name']} {item['value']}" for item in data["seriesCountByMetricName"][:10])
    return f"{data['headStats']['numSeries']} series; most of them: {names}"


def _logs(facts: Facts, found: Deployment) -> str:
    control, texts = found.control(), []
    for service in [status.name for status in control.status() if status.state != "not installed"]:
        lines = list(control.logs(service, tail=LOG_LINES, follow=False))
        facts.logs[service] = lines
        texts += [f"-- {service}", *lines]
    for unit in units.beside(found, control.services()):
        try:
            lines = list(units.lines(unit, tail=LOG_LINES))
        except UserError as error:
            lines = [error.problem]
        facts.logs[unit] = lines
        texts += [f"-- {unit} (journal)", *lines]
    return "\n".join(texts)
