"""A real Alertmanager with the rendered configuration, and a real SMTP server that asks for TLS and a password."""

from __future__ import annotations

import asyncio
import email
import email.policy
import re
import socket
import ssl
import subprocess  # noqa: TID251 - the doors are for the programs, not for their tests.
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest
import requests
import trustme
import yaml
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult

from ds01_monitoring import context
from ds01_monitoring.api import Alertmanager
from ds01_monitoring.config.load import parse_settings
from ds01_monitoring.config.types import duration_seconds
from ds01_monitoring.paths import StateDir
from ds01_monitoring.runtime import packages
from ds01_monitoring.templates import Templates

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from email.message import EmailMessage
    from pathlib import Path

PASSWORD = "right-password"


def wait_for(condition: Callable[[], object], what: str, seconds: float = 60) -> None:
    """Wait until the condition holds; fail with `what` when it never does."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"never happened: {what}"
        time.sleep(0.05)


def free_port() -> int:
    """A port on loopback that nobody uses now."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@dataclass
class Envelope:
    """One mail as it arrived: whom it was for, and what it said."""

    to: list[str]
    message: EmailMessage
    at: float = field(default_factory=time.monotonic)

    @property
    def subject(self) -> str:
        """The decoded subject."""
        return str(self.message["subject"])

    def part(self, kind: str) -> str:
        """The text of the `plain` or `html` part."""
        body = self.message.get_body((kind,))
        assert body is not None, f"the mail has no {kind} part"
        return str(body.get_content())


@dataclass
class Mailbox:
    """What an SMTP server took; it wants STARTTLS, unless it is `plain`, and the user `gpu` with PASSWORD."""

    port: int
    ca: trustme.CA
    mails: list[Envelope] = field(default_factory=list)
    refused: set[str] = field(default_factory=set)
    plain: bool = False
    transports: list[asyncio.BaseTransport] = field(default_factory=list)
    unwanted: str = "nothing has this subject"
    controller: Controller | None = None

    async def handle_RCPT(self, server, session, envelope, address, options):  # noqa: N802 - aiosmtpd's name.
        """Take the address, unless it is one of those refused."""
        if address in self.refused:
            return "550 5.1.1 nobody of that name"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server, session, envelope):  # noqa: N802 - aiosmtpd's name.
        """Keep the mail, unless its subject is the unwanted one."""
        message = email.message_from_bytes(envelope.content, policy=email.policy.default)
        if self.unwanted in str(message["subject"]):
            return "554 5.7.1 looks like spam"
        self.mails.append(Envelope(sorted(envelope.rcpt_tos), message))
        return "250 kept"

    def _authenticate(self, server, session, envelope, mechanism, data):
        return AuthResult(success=data.login == b"gpu" and data.password == PASSWORD.encode(), handled=False)

    def start(self) -> None:
        """Begin to listen."""
        tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self.ca.issue_cert("127.0.0.1").configure_cert(tls)
        mailbox = self

        class Session(SMTP):
            def connection_made(self, transport):
                mailbox.transports.append(transport)
                super().connection_made(transport)

        class Server(Controller):
            def factory(self):
                return Session(
                    mailbox,
                    tls_context=None if mailbox.plain else tls,
                    require_starttls=not mailbox.plain,
                    auth_required=not mailbox.plain,
                    auth_exclude_mechanism=["LOGIN"],  # Its prompts are not those that Alertmanager knows.
                    authenticator=mailbox._authenticate,
                )

        self.controller = Server(self, hostname="127.0.0.1", port=self.port)
        self.controller.start()

    def stop(self) -> None:
        """Stop listening; what arrived stays."""
        if self.controller:
            asyncio.run_coroutine_threadsafe(self._hang_up(), self.controller.loop).result(10)
            self.controller.stop()
            self.controller = None

    async def _hang_up(self) -> None:
        """End every connection; aiosmtpd forgets those of clients that break off the handshake.

        Debian 12's Python 3.11.2 fails on an encrypted one that is closed already.
        """
        for transport in self.transports:
            if not transport.is_closing():
                transport.abort()
        self.transports.clear()
        await asyncio.sleep(0)  # The loop closes the sockets in its next turn.

    def for_whom(self, address: str) -> list[Envelope]:
        """The mails that went to this address."""
        return [mail for mail in self.mails if address in mail.to]


@pytest.fixture
def mailbox() -> Iterator[Mailbox]:
    """A running SMTP server."""
    box = Mailbox(free_port(), trustme.CA())
    box.start()
    yield box
    box.stop()


@dataclass
class Running:
    """An Alertmanager of this test's own."""

    api: Alertmanager
    log: Path
    config: Path
    data: Path
    launch: Callable[[], subprocess.Popen[bytes]]
    process: subprocess.Popen[bytes] | None = None

    def begin(self) -> None:
        """Start it, and wait until it answers."""
        process = self.process = self.launch()
        wait_for(lambda: ready(self.api.url) or process.poll() is not None, "Alertmanager is ready")
        assert process.poll() is None, self.log.read_text()

    def stop(self, *, lose_power: bool = False) -> None:
        """End it; without power it writes nothing more."""
        assert self.process is not None
        (self.process.kill if lose_power else self.process.terminate)()
        self.process.wait()

    def post(self, name: str, *, firing: bool = True, summary: str = "", **labels: str) -> None:
        """Raise or end an alert, as Prometheus does."""
        now = time.time()
        stamp = lambda at: time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at))  # noqa: E731
        self.api.post_alerts(
            [
                {
                    "labels": {"alertname": name, "host": "gpu01", **labels},
                    "annotations": {"summary": summary or name, "description": f"description of {name}"},
                    "startsAt": stamp(now - 60),
                    "endsAt": stamp(now + 600 if firing else now - 1),
                }
            ]
        )


@pytest.fixture(params=["bookworm", "sid"])
def suite(request) -> Path:
    """The folder with the programs of Debian 12, and with those of today."""
    from pathlib import Path as RealPath

    return packages.fetch(request.param, RealPath(__file__).parents[2] / ".tools")


@pytest.fixture
def alertmanager(tmp_path: Path, mailbox: Mailbox, suite: Path) -> Iterator[Callable[..., Running]]:
    """Start Alertmanager with a site's `notify` section; `scale` divides every time in its routes."""
    begun: list[Running] = []

    def start(notify: str = "", *, password: str = PASSWORD, scale: float = 1000) -> Running:
        settings = parse_settings(_site(tmp_path, mailbox, notify, password))
        state = StateDir(tmp_path / "state")
        rendered = context.resolve(settings, state, runtime="native", hardware="dcgm")
        for name in ("alertmanager/alertmanager.yml", "alertmanager/templates/mail.tmpl"):
            target = tmp_path / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(Templates().render(f"{name}.j2", rendered.variables()), encoding="utf-8")
        file = tmp_path / "alertmanager" / "alertmanager.yml"
        file.write_text(_scaled(file.read_text(encoding="utf-8"), scale), encoding="utf-8")
        port, log, data = free_port(), tmp_path / "alertmanager.log", tmp_path / "data"
        command = [
            str(suite / "usr" / "bin" / "prometheus-alertmanager"),
            f"--config.file={file}",
            f"--storage.path={data}",
            "--data.retention=336h",
            "--data.maintenance-interval=1s",
            f"--web.listen-address=127.0.0.1:{port}",
            "--cluster.listen-address=",
        ]

        def launch() -> subprocess.Popen[bytes]:
            with log.open("ab") as sink:
                return subprocess.Popen(command, cwd=tmp_path, stdout=sink, stderr=subprocess.STDOUT)

        api = Alertmanager("Alertmanager", f"http://127.0.0.1:{port}")
        running = Running(api, log, file, data, launch)
        begun.append(running)
        running.begin()
        return running

    yield start
    for running in begun:
        running.stop()


def ready(url: str) -> bool:
    """Whether the server at this address says that it is ready."""
    try:
        return requests.get(url + "/-/ready", timeout=5).ok
    except requests.ConnectionError:
        return False


def _site(folder: Path, mailbox: Mailbox, notify: str, password: str) -> str:
    secret, authority = folder / "smtp_password", folder / "ca.pem"
    secret.write_text(password)
    mailbox.ca.cert_pem.write_to_path(authority)
    site = {
        "site": {"host": "gpu01", "name": "LAB"},
        "runtime": "native",
        "notify": {
            "mail": {
                "smarthost": f"127.0.0.1:{mailbox.port}",
                "from": "gpu@example.org",
                "to": ["admin@example.org"],
                "username": "gpu",
                "password_file": str(secret),
                "ca_file": str(authority),
            },
            **(yaml.safe_load(notify) or {}),
        },
    }
    return yaml.safe_dump(site)


def _scaled(text: str, scale: float) -> str:
    """Every time of the routes, divided: a day of 86 s at 1000."""

    def shorter(match: re.Match[str]) -> str:
        return f"{match[1]}{max(1, round(duration_seconds(match[2]) / scale * 1000))}ms"

    return re.sub(r"((?:group_wait|group_interval|repeat_interval): )(\w+)", shorter, text)
