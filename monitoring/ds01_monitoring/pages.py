"""Which addresses of a running stack show something to a person."""

from __future__ import annotations

import getpass
import shlex
import shutil
import socket
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ds01_monitoring import paths
from ds01_monitoring.http import Client, Unreachable

if TYPE_CHECKING:
    from ds01_monitoring.deployment import Deployment

QUERY = "/graph?g0.expr=ds01%3Aallocation_utilization%3Aratio&g0.tab=1"
QUERY_API = "/api/v1/query?query=ds01%3Aallocation_utilization%3Aratio"
REDIRECTS = range(300, 400)
# Job, path, what a person finds there.
CANDIDATES = (
    ("grafana", "/", "dashboards"),
    ("prometheus", QUERY, "who uses what: queries, targets, alerts"),
    ("alertmanager", "/", "alerts and silences"),
)
NO_PAGE = "does not include a web"  # Debian's Alertmanager, on the page that says so.


@dataclass(frozen=True)
class Page:
    """An address for a browser."""

    job: str
    url: str
    shows: str


def pages(deployment: Deployment) -> list[Page]:
    """The addresses that answer with a page."""
    ours, anybody = Client(deployment.password()), Client(None)
    found = [
        Page(job, f"http://localhost:{_port(deployment, job)}{path}", shows)
        for job, path, shows in CANDIDATES
        # Grafana has accounts of its own, and refuses one that it does not know where it would show its login.
        if job in deployment.addresses
        and _has_page(anybody if job == "grafana" else ours, deployment.addresses[job], path)
    ]
    if not any(page.job == "prometheus" for page in found):
        url = f"http://localhost:{_port(deployment, 'prometheus')}{QUERY_API}"
        found.append(Page("prometheus", url, "who uses what, as JSON: this build has no page"))
    return found


def tunnel(found: list[Page], deployment: Deployment) -> str:
    """The command that brings the pages to the reader's own computer."""
    ports = [_port(deployment, page.job) for page in found]
    forwards = " ".join(f"-L {port}:localhost:{port}" for port in ports)
    return f"ssh {forwards} {getpass.getuser()}@{socket.gethostname()}"


def called(name: str) -> str:
    """How this shell calls one of our commands: by its name where PATH has it, else by the launcher's place."""
    if shutil.which(name):
        return name
    clone = paths.data_root()
    launcher = clone / "bin" / name
    if not launcher.exists():
        launcher = Path(sys.argv[0]).with_name(name)
    elif clone == Path.cwd():
        return f"./bin/{name}"
    return shlex.quote(str(launcher))


def _port(deployment: Deployment, job: str) -> int:
    return int(deployment.addresses[job].rpartition(":")[2])


def _has_page(client: Client, address: str, path: str) -> bool:
    try:
        reply = client.get(address, path)
        if reply.status in REDIRECTS and reply.location.startswith("/"):
            reply = client.get(address, reply.location)
    except Unreachable:
        return False
    return reply.status < 400 and NO_PAGE not in reply.text
