"""What the demo has in place of the site's own: files of the simulated server, mail that stays here, a label that says so."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ds01_monitoring.config.model import Dcgm
from ds01_monitoring.config.notify import Mail, Notify, Users

if TYPE_CHECKING:
    from pathlib import Path

    from ds01_monitoring.config import Settings
    from ds01_monitoring.paths import StateDir

HOST = "demo"
WINDOW = "1m"
"""How long a GPU is idle in the demo before somebody hears of it: a newcomer has no half hour."""


def folder(state: StateDir) -> Path:
    """Where `ds01-demo serve --dir` puts the simulated server's files, socket and mailbox."""
    return state.data / "demo"


def settings(site: Settings, state: StateDir) -> Settings:
    """The site's settings with nothing of the site's data or people in them."""
    root = folder(state)
    return site.model_copy(
        update={
            "site": site.site.model_copy(update={"host": HOST}),
            "dcgm": Dcgm(),
            "allocations": site.allocations.model_copy(
                update={
                    "allocator": True,
                    "state_file": root / "state" / "gpu-state.json",
                    "events_file": root / "log" / "events.jsonl",
                    "state_dir": root / "state",
                    "docker": f"unix://{root / 'docker.sock'}",
                }
            ),
            "exporter": site.exporter.model_copy(update={"deployment": "process"}),
            "notify": _notify(site.ports.demo_mail),
            "alerts": site.alerts.model_copy(
                update={"gpu_waste": site.alerts.gpu_waste.model_copy(update={"window": WINDOW})}
            ),
            "prometheus": site.prometheus.model_copy(update={"remote_write": []}),
        }
    )


def _notify(port: int) -> Notify:
    """Mail to the demo's own sink, for the administrator and for the simulated users."""
    domain = "demo.example"
    mail = Mail.model_validate(
        {
            "smarthost": f"127.0.0.1:{port}",
            "from": f"gpu@{domain}",
            "to": [f"admin@{domain}"],
            "require_tls": False,
        }
    )
    return Notify(mail=mail, users=Users(enabled=True, domain=domain, after=WINDOW))


def exporter_environment(state: StateDir) -> dict[str, str]:
    """What the allocation exporter reads in place of the driver and the kernel."""
    root = folder(state)
    return {"DS01_TOPOLOGY": str(root / "topology.json"), "DS01_CGROUP_ROOT": str(root / "cgroup")}
