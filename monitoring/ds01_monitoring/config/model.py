"""The settings: every key of config/monitoring.yaml with its type and default."""

from __future__ import annotations

import ipaddress
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, PrivateAttr, field_validator, model_validator

from ds01_monitoring.config.alerts import Alerts
from ds01_monitoring.config.notify import Notify
from ds01_monitoring.config.types import AbsolutePath, Address, Duration, LabelName, Port, Section, Size

if TYPE_CHECKING:
    from ds01_monitoring.config.yamlfile import Document


class Site(Section):
    """What this installation is called; `host` is the label on everything scraped here."""

    name: str = Field(default="DS01", min_length=1)
    host: str = Field(default_factory=socket.gethostname, min_length=1)
    runbook_url: str = "https://github.com/hertie-data-science-lab/ds01-monitoring/blob/main/docs/alerts.md"


class Dcgm(Section):
    """A dcgm-exporter that already runs (`host:port`), instead of starting one; empty = none."""

    address: Address | Literal[""] = ""


class Allocations(Section):
    """What the exporter reads to know who holds which GPU."""

    allocator: bool = True
    state_file: AbsolutePath = Path("/var/lib/ds01/gpu-state.json")
    events_file: AbsolutePath = Path("/var/log/ds01/events.jsonl")
    state_dir: AbsolutePath = Path("/var/lib/ds01")
    docker: str = Field(default="auto", min_length=1)
    mig_equivalents_per_gpu: float = Field(default=4, gt=0)

    @field_validator("docker")
    @classmethod
    def _docker_is_known(cls, value: str) -> str:
        if value not in {"auto", "none"} and not value.startswith(("unix:///", "/")):
            raise ValueError("must be auto, none, or the Engine's socket like unix:///run/docker.sock")
        return value


class Exporter(Section):
    """How the allocation exporter runs and where it listens; an empty `bind` is chosen by the runtime."""

    deployment: Literal["auto", "systemd", "process", "container"] = "auto"
    port: Port = 9101
    bind: list[str] = Field(default_factory=list)

    @field_validator("bind")
    @classmethod
    def _bind_is_addresses(cls, values: list[str]) -> list[str]:
        for value in values:
            ipaddress.ip_address(value)
        return values


class Ports(Section):
    """Ports on 127.0.0.1."""

    prometheus: Port = 9090
    alertmanager: Port = 9093
    grafana: Port = 3000
    dcgm_exporter: Port = 9400
    node_exporter: Port = 9100
    gpu_telemetry: Port = 9118
    demo_mail: Port = 9025


class Network(Section):
    """The compose bridge; its first address is the host, as containers see it."""

    subnet: str = "172.30.101.0/24"

    @field_validator("subnet")
    @classmethod
    def _subnet_is_large_enough(cls, value: str) -> str:
        network = ipaddress.IPv4Network(value)
        if network.num_addresses < 16:
            raise ValueError(f"{value} has {network.num_addresses} addresses and 16 are needed")
        return value

    @property
    def gateway(self) -> str:
        """The host's address on the bridge."""
        return str(ipaddress.IPv4Network(self.subnet)[1])


class RemoteWrite(Section):
    """One server that gets a copy of every sample."""

    url: str = Field(pattern=r"^https?://")
    username: str = ""
    password_file: AbsolutePath | None = None


class Prometheus(Section):
    """Storage and federation of Prometheus."""

    retention_time: Duration = "7d"
    retention_size: Size = "20GB"
    external_labels: dict[LabelName, str] = Field(default_factory=dict)
    remote_write: list[RemoteWrite] = Field(default_factory=list)
    legacy_names: bool = False


class Grafana(Section):
    """Grafana's administrator and address; without `admin_password_file` a password is generated."""

    admin_user: str = Field(default="admin", min_length=1)
    admin_password_file: AbsolutePath | None = None
    root_url: str = Field(default="http://localhost:3000", pattern=r"^https?://")
    anonymous: Literal["none", "viewer"] = "none"


class Images(Section):
    """Image of each service: a tag or a digest."""

    prometheus: str = "docker.io/prom/prometheus:v3.14.0"
    alertmanager: str = "docker.io/prom/alertmanager:v0.34.0"
    grafana: str = "docker.io/grafana/grafana:13.2.0"
    node_exporter: str = "quay.io/prometheus/node-exporter:v1.12.1"
    dcgm_exporter: str = "nvcr.io/nvidia/k8s/dcgm-exporter:4.6.0-4.8.3-distroless"
    ds01_exporter: str = "ds01-exporter:local"
    python: str = "docker.io/library/python:3.12.12-slim-bookworm"


class Security(Section):
    """`local_auth: false` takes the password off every port, for a machine without other users."""

    local_auth: bool = True


class Settings(Section):
    """The whole file; its fields are the variables at the top of every template."""

    site: Site = Site()
    runtime: Literal["auto", "compose", "native"] = "auto"
    hardware: Literal["auto", "dcgm", "nvml", "none"] = "auto"
    dcgm: Dcgm = Dcgm()
    allocations: Allocations = Allocations()
    exporter: Exporter = Exporter()
    ports: Ports = Ports()
    network: Network = Network()
    prometheus: Prometheus = Prometheus()
    alerts: Alerts = Alerts()
    notify: Notify = Notify()
    grafana: Grafana = Grafana()
    images: Images = Images()
    security: Security = Security()
    _written: Document | None = PrivateAttr(default=None)

    def model_post_init(self, context: Any, /) -> None:
        """Remember the document that is validated, for `place`."""
        self._written = context

    @model_validator(mode="before")
    @classmethod
    def _root_url_follows_the_port(cls, data: Any) -> Any:
        """Links in mails lead to Grafana's own port where the site says nothing else."""
        ports, grafana = (
            (data.get("ports"), data.get("grafana") or {}) if isinstance(data, dict) else (None, {})
        )
        if isinstance(ports, dict) and isinstance(grafana, dict) and ports.get("grafana"):
            return {**data, "grafana": {"root_url": f"http://localhost:{ports['grafana']}", **grafana}}
        return data

    def place(self, key: str) -> str:
        """A key as messages name it: with the file and line where it, or what it belongs to, was written."""
        return f"{self._written.place(key.split('.'))}: {key}" if self._written else key

    def variables(self) -> dict[str, Any]:
        """Field names and values, for the templates."""
        return {name: getattr(self, name) for name in type(self).model_fields}
