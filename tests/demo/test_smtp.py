"""The mail sink, spoken to by the standard library's client."""

from __future__ import annotations

import json
import re
import smtplib
import socket
import subprocess  # noqa: TID251 - the doors are for the programs, not for their tests.
import time
import urllib.request
from email import message_from_bytes, policy
from email.message import EmailMessage
from typing import TYPE_CHECKING

import pytest

from ds01_demo import smtp
from ds01_demo.errors import DemoError
from ds01_demo.smtp import MAX_BYTES, MailSink

from .conftest import promtool

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture
def mailbox(tmp_path: Path) -> Path:
    """Where mails are stored."""
    return tmp_path


@pytest.fixture
def client(mailbox: Path) -> Iterator[smtplib.SMTP]:
    """A client of a sink of its own."""
    with MailSink("127.0.0.1", 0, mailbox) as sink, smtplib.SMTP(*sink.address, timeout=30) as connected:
        yield connected


def stored(mailbox: Path) -> list[EmailMessage]:
    """The mails, oldest first."""
    found = [
        message_from_bytes(path.read_bytes(), policy=policy.default) for path in sorted(mailbox.glob("*.eml"))
    ]
    assert all(isinstance(mail, EmailMessage) for mail in found)
    return found  # type: ignore[return-value]


def test_the_mailbox_does_not_fill_the_disk(
    client: smtplib.SMTP, mailbox: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Anybody on the machine can send to it: the oldest mails go, the newest stays."""
    monkeypatch.setattr(smtp, "KEPT_MAILS", 3)
    for number in range(5):
        client.sendmail("a@demo.example", ["b@demo.example"], f"Subject: {number}\n\ntext")
    assert [mail["Subject"] for mail in stored(mailbox)] == ["2", "3", "4"]

    monkeypatch.setattr(smtp, "KEPT_BYTES", 2000)
    client.sendmail("a@demo.example", ["b@demo.example"], "Subject: 5\n\n" + 1900 * "x")
    assert [mail["Subject"] for mail in stored(mailbox)] == ["5"]


def test_a_mail_arrives_whole(client: smtplib.SMTP, mailbox: Path) -> None:
    """Text, HTML, umlauts and lines that begin with dots are stored as they were sent, with their envelope."""
    mail = EmailMessage()
    mail["From"], mail["To"], mail["Subject"] = (
        "ds01@demo.example",
        "dmitri@demo.example",
        "Slice 2.1 ist unbenutzt - bitte prüfen",
    )
    mail.set_content("first\n.\n..two dots\n")
    mail.add_alternative("<p>ungenutzt</p>", subtype="html")
    client.send_message(mail)
    (found,) = stored(mailbox)
    assert found["Subject"] == mail["Subject"]
    assert (found["X-Envelope-From"], found.get_all("X-Envelope-To")) == (
        "ds01@demo.example",
        ["dmitri@demo.example"],
    )
    plain, html = found.get_body(("plain",)), found.get_body(("html",))
    assert plain is not None
    assert html is not None
    assert plain.get_content() == "first\n.\n..two dots\n"
    assert "ungenutzt" in html.get_content()


def test_several_mails_to_several_people_on_one_connection(client: smtplib.SMTP, mailbox: Path) -> None:
    """Each message is a file of its own that names all its recipients."""
    for number in range(3):
        client.sendmail(
            "a@demo.example", ["b@demo.example", "c@demo.example"], f"Subject: {number}\n\ntext\n"
        )
    assert [mail["Subject"] for mail in stored(mailbox)] == ["0", "1", "2"]
    assert stored(mailbox)[0].get_all("X-Envelope-To") == ["b@demo.example", "c@demo.example"]


def test_rset_forgets_the_envelope(client: smtplib.SMTP, mailbox: Path) -> None:
    """After RSET a message needs MAIL and RCPT again."""
    client.ehlo()
    client.mail("a@demo.example")
    client.rcpt("b@demo.example")
    client.rset()
    assert client.docmd("DATA")[0] == 503
    assert client.noop()[0] == 250
    assert stored(mailbox) == []


@pytest.mark.parametrize(
    ("commands", "status"),
    [
        (["MAIL FROM:<a@demo.example>"], 503),
        (["EHLO x", "RCPT TO:<b@demo.example>"], 503),
        (["EHLO x", "MAIL FROM:a@demo.example"], 501),
        (["EHLO x", "MAIL FROM:<a@demo.example>", "RCPT TO:<nobody>"], 501),
        (["EHLO x", "MAIL FROM:<a@demo.example>", "DATA"], 503),
        (["EHLO x", f"MAIL FROM:<a@demo.example> SIZE={MAX_BYTES + 1}"], 552),
        (["EXPN everybody"], 500),
        (["__init__ x"], 500),
    ],
)
def test_what_is_wrong_is_refused(client: smtplib.SMTP, commands: list[str], status: int) -> None:
    """Commands out of order, malformed or unknown get the code that RFC 5321 gives them."""
    replies = [client.docmd(command)[0] for command in commands]
    assert replies[-1] == status


def test_a_message_that_is_too_large_is_refused_and_the_next_one_taken(
    client: smtplib.SMTP, mailbox: Path
) -> None:
    """A client that lies about the size gets 552 after the data; the connection goes on."""
    client.ehlo()
    client.mail("a@demo.example")
    client.rcpt("b@demo.example")
    large = b"Subject: large\r\n\r\n" + (b"x" * 998 + b"\r\n") * (MAX_BYTES // 998)
    assert client.data(large)[0] == 552
    client.sendmail("a@demo.example", "b@demo.example", "Subject: small\n\ntext\n")
    assert [mail["Subject"] for mail in stored(mailbox)] == ["small"]


def test_a_port_that_is_taken_is_named(mailbox: Path) -> None:
    """A second server on the port is refused with the address in the message."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(DemoError, match=re.escape(f"127.0.0.1:{port}")):
            MailSink("127.0.0.1", port, mailbox)


def test_an_open_connection_does_not_keep_the_server(mailbox: Path) -> None:
    """The sink ends while a client is still connected and silent."""
    with MailSink("127.0.0.1", 0, mailbox) as sink:
        client = socket.create_connection(sink.address, timeout=30)
        assert client.recv(100).startswith(b"220 ")
    assert client.recv(100) == b""
    client.close()


CONFIGURATION = """
global: {{smtp_smarthost: "127.0.0.1:{port}", smtp_from: "ds01@demo.example", smtp_require_tls: false}}
route: {{receiver: mail, group_wait: 0s}}
receivers:
  - name: mail
    email_configs: [{{to: "dmitri@demo.example, admin@demo.example"}}]
"""


@pytest.mark.tools
@pytest.mark.parametrize("suite", ["bookworm", "sid"])
def test_alertmanager_delivers_to_it(suite: str, tmp_path: Path) -> None:
    """A real Alertmanager's mail arrives with its subject and both recipients."""
    program = promtool(suite).with_name("prometheus-alertmanager")
    mailbox, configuration = tmp_path / "mailbox", tmp_path / "alertmanager.yml"
    mailbox.mkdir()
    with MailSink("127.0.0.1", 0, mailbox) as sink, socket.create_server(("127.0.0.1", 0)) as free:
        configuration.write_text(CONFIGURATION.format(port=sink.address[1]), encoding="utf-8")
        address = f"127.0.0.1:{free.getsockname()[1]}"
        free.close()
        command = [program, f"--config.file={configuration}", f"--storage.path={tmp_path / 'data'}"]
        command += [f"--web.listen-address={address}", "--cluster.listen-address="]
        with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
            try:
                alert = [{"labels": {"alertname": "DS01MIGWaste", "user": "dmitri"}}]
                eventually(lambda: post(f"http://{address}/api/v2/alerts", alert))
                eventually(lambda: bool(list(mailbox.glob("*.eml"))))
            finally:
                process.terminate()
    (found,) = stored(mailbox)
    assert "DS01MIGWaste" in found["Subject"]
    assert sorted(found.get_all("X-Envelope-To")) == ["admin@demo.example", "dmitri@demo.example"]


def eventually(condition: Callable[[], bool]) -> None:
    """Wait until `condition` holds."""
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def post(url: str, body: object) -> bool:
    """Whether a JSON body was accepted at `url`."""
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=10):
            return True
    except OSError:
        return False
