"""`test-alert` tells the truth about the mail server, and silences do what they say."""

from __future__ import annotations

import datetime as dt
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import trustme
from click.testing import CliRunner
from tests.mail.conftest import free_port, wait_for

from ds01_monitoring import silencing, testalert
from ds01_monitoring.api import Prometheus
from ds01_monitoring.cli import manage
from ds01_monitoring.commands.test_alert import sentence
from ds01_monitoring.deployment import Deployment
from ds01_monitoring.errors import UserError
from ds01_monitoring.paths import StateDir
from ds01_monitoring.refusals import Refusal, refusals

USERS = "users: {enabled: true, domain: lab.example, exceptions: [{user: eve, reason: teaches}]}"


def send(running, **options):
    """Send a test alert and return what became of it."""
    options = {"severity": "warning", **options}
    notes = options.pop("notes", running.data / "nflog")
    return testalert.send(running.api, "gpu01", running.log.read_text, notes, **options)


@pytest.mark.parametrize("severity", ["critical", "warning", "info"])
def test_an_accepted_mail_is_reported(alertmanager, mailbox, severity):
    """The server, the recipient and the time are told, the mail is there, and the alert is ended."""
    running = alertmanager(scale=1)
    (delivery,) = send(running, severity=severity)

    assert delivery.accepted
    assert not delivery.doubt
    assert delivery.to == f"admin@example.org by 127.0.0.1:{mailbox.port}"
    assert mailbox.mails[0].subject == f"LAB {severity.upper()}: Test alert"
    text = mailbox.mails[0].part("plain")
    assert text.splitlines()[-1].startswith("Dashboards: ")  # A test has an end, and is no alert to silence.
    wait_for(lambda: not running.api.alerts(alertname=testalert.NAME), "the alert is over")


def test_the_users_way_is_tried(alertmanager, mailbox):
    """With a user it takes the way of that user's waste mail."""
    (delivery,) = send(alertmanager(USERS, scale=1), user="bob")

    assert delivery.accepted
    assert delivery.to.startswith("bob@lab.example by ")
    assert mailbox.mails[0].to == ["bob@lab.example"]
    assert mailbox.mails[0].subject == "LAB Test of the mail about idle GPUs"
    for part in ("plain", "html"):
        assert "nothing is wrong" in mailbox.mails[0].part(part)
        assert "please stop" not in mailbox.mails[0].part(part)


def test_a_wrong_password_is_reported_in_the_servers_words(alertmanager):
    """What the server said stands only in Alertmanager's log; both log formats are read."""
    (delivery,) = send(alertmanager(password="wrong", scale=1))

    assert not delivery.accepted
    assert "535" in delivery.refusal
    assert "5.7.8 Authentication credentials invalid" in delivery.refusal


def test_a_server_that_is_not_there_is_reported(alertmanager, mailbox):
    """Nobody listens: that is said, not that it was sent."""
    mailbox.stop()
    (delivery,) = send(alertmanager(scale=1))

    assert not delivery.accepted
    assert "connection refused" in delivery.refusal


def test_the_address_told_is_the_one_that_alertmanager_runs_with(alertmanager, mailbox):
    """A file that was edited and not reloaded changes nothing of what is told."""
    running = alertmanager(USERS, scale=1)
    running.config.write_text(running.config.read_text().replace("admin@example.org", "new@example.org"))
    (delivery,) = send(running)

    assert delivery.to.startswith("admin@example.org by ")
    assert mailbox.mails[0].to == ["admin@example.org"]


def test_a_certificate_that_is_not_trusted_is_reported(alertmanager, mailbox):
    """A server with another authority's certificate gets no password and no mail."""
    mailbox.ca = trustme.CA()
    (delivery,) = send(alertmanager(scale=1))

    assert not delivery.accepted
    assert "certificate signed by unknown authority" in delivery.refusal


def test_a_server_without_tls_is_reported(alertmanager, mailbox):
    """TLS is required unless the site says otherwise."""
    mailbox.plain = True
    (delivery,) = send(alertmanager(scale=1))

    assert not delivery.accepted
    assert "STARTTLS" in delivery.refusal


@contextmanager
def chat(tmp_path, status, answer):
    """A server that answers every POST so; yields the file with its address."""

    class Chat(BaseHTTPRequestHandler):
        def do_POST(self):
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(status)
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Chat) as server:
        threading.Thread(target=server.serve_forever).start()
        url = tmp_path / "url"
        url.write_text(f"http://127.0.0.1:{server.server_port}/")
        yield url
        server.shutdown()


def test_every_kind_of_receiver_is_followed(alertmanager, suite, tmp_path):
    """Mail, Slack, and with an Alertmanager that has them Teams and the webhook: each accepts, each with its name."""
    more = {"slack": ", channel: '#gpu'"} | ({} if suite.name == "bookworm" else {"teams": "", "webhook": ""})
    with chat(tmp_path, 200, b"ok") as url:
        notify = "\n".join(f"{name}: {{url_file: {url}{rest}}}" for name, rest in more.items())
        deliveries = send(alertmanager(notify, scale=1))

    told = {"slack": "Slack #gpu", "msteamsv2": "Microsoft Teams", "webhook": f"the address in {url}"}
    assert [delivery.integration for delivery in deliveries] == ["email", *list(told)[: len(more)]]
    for delivery in deliveries:
        assert delivery.accepted, sentence(delivery)
        assert not delivery.doubt
        assert delivery.to == told.get(delivery.integration, delivery.to)


def test_a_chat_that_refuses_for_good_is_reported_beside_the_mail(alertmanager, tmp_path):
    """What Alertmanager does not try again is written otherwise in its log; the mail is accepted all the same."""
    with chat(tmp_path, 404, b"no_service") as url:
        mail, slack = send(alertmanager(f"slack: {{url_file: {url}, channel: '#gpu'}}", scale=1))

    assert mail.accepted
    assert (slack.integration, slack.accepted, slack.to) == ("slack", False, "Slack #gpu")
    assert "unexpected status code 404: no_service" in slack.refusal
    assert "notify retry canceled" not in slack.refusal


def test_another_mail_of_the_same_time_is_not_taken_for_ours(alertmanager, mailbox):
    """While the test's own mail is refused, one that is taken for another alert proves nothing."""
    running = alertmanager(USERS, scale=1)
    mailbox.refused.add("bob@lab.example")
    running.post("DS01Other", severity="critical", notify="page")
    (delivery,) = send(running, user="bob")

    wait_for(lambda: mailbox.mails, "the other alert's mail")
    assert not delivery.accepted
    assert "5.1.1 nobody of that name" in delivery.refusal
    assert bool(delivery.doubt) == (running.api.version() < (0, 26))


def test_a_mail_whose_text_is_refused_is_not_called_accepted(alertmanager, mailbox):
    """Alertmanager before 0.28 does not read the server's last word, which is said; later ones do."""
    mailbox.unwanted = "Test alert"
    running = alertmanager(scale=1)
    (delivery,) = send(running)

    if running.api.version() < (0, 28):
        assert "does not read the server's answer to the text of a mail" in sentence(delivery)
    else:
        assert not delivery.accepted
        assert "5.7.1 looks like spam" in delivery.refusal


def test_another_alerts_acceptance_alone_is_called_no_proof(alertmanager, mailbox, tmp_path):
    """Without Alertmanager's notes it is said that something was taken, and that it may have been something else."""
    broken = tmp_path / "notes"
    broken.write_bytes(b"\xff")
    running = alertmanager(scale=1)
    (delivery,) = send(running, notes=broken)

    assert delivery.accepted
    assert "notes cannot be read: cut off at byte 1" in delivery.doubt
    said = sentence(delivery)
    assert said.startswith("email: perhaps accepted for admin@example.org by ")


def test_notes_that_never_come_are_not_waited_for_beyond_the_limit(alertmanager, tmp_path):
    """An Alertmanager that writes its notes too seldom is no proof either."""
    (delivery,) = send(alertmanager(scale=1), notes=tmp_path / "none", timeout=2)

    assert delivery.doubt == "Alertmanager has not noted in 2 s what it was"


def test_nobody_to_hear_it_is_an_error(alertmanager):
    """An excepted user, and any user where notify.users is off, gets no mail: neither does the administrator instead."""
    with pytest.raises(UserError, match="eve gets no mail: named among the exceptions"):
        send(alertmanager(USERS, scale=1), user="eve")


def test_a_users_test_where_users_get_no_mail_is_an_error(alertmanager, mailbox):
    """Waste mail to users is off by default, and the administrators' mail would prove nothing about it."""
    with pytest.raises(UserError, match="bob gets no mail: mail to users is off"):
        send(alertmanager(scale=1), user="bob")

    assert not mailbox.mails


def test_a_silence_that_holds_it_back_is_named(alertmanager):
    """The mail server is not to blame, and nobody waits for it."""
    running = alertmanager(USERS, scale=1)
    silencing.make(running.api, {"user": "bob"}, seconds=3600, reason="on a conference")
    with pytest.raises(UserError, match="on a conference") as caught:
        send(running, user="bob")

    assert "monitoring-manage unsilence" in caught.value.hint


def test_maintenance_does_not_hold_it_back(alertmanager, mailbox):
    """Who asks for a test wants one, whatever else is not to be heard of the host."""
    running = alertmanager(scale=1)
    silencing.make(running.api, {"host": "gpu01"}, seconds=3600, reason="maintenance: new mail server")
    (delivery,) = send(running)

    assert delivery.accepted
    assert mailbox.mails


@pytest.fixture
def cli(alertmanager, tmp_path):
    """`monitoring-manage` on a running Alertmanager of the test's own."""
    running = alertmanager(scale=300)
    state = StateDir(tmp_path / "site")
    address = running.api.url.removeprefix("http://")
    addresses = {"alertmanager": address, "prometheus": f"127.0.0.1:{free_port()}"}
    Deployment(state, "native", "none", False, False, "gpu01", addresses, {}).write()

    def call(*arguments: str, code: int = 0) -> str:
        result = CliRunner().invoke(manage, ["--state-dir", str(state.root), *arguments])
        assert result.exit_code == code, result.output
        return result.output

    call.running = running
    return call


def silenced(running) -> dict[str, bool]:
    """Whether each alert is silenced, by name and user."""
    return {
        f"{alert['labels']['alertname']} {alert['labels'].get('user', '')}".strip(): bool(
            alert["status"]["silencedBy"]
        )
        for alert in running.api.alerts()
    }


def test_a_silence_hits_what_it_names_and_ends(cli):
    """Only the user's alerts are silenced; it is listed with its reason, and `unsilence` ends it."""
    for user in ("ann", "bob"):
        cli.running.post("DS01GPUWaste", severity="warning", notify="mail", user=user)
    said = cli("silence", "--user", "ann", "--for", "2d", "--reason", "[red]holiday[/red]")
    assert "1 alert matches it now" in said
    wait_for(
        lambda: silenced(cli.running) == {"DS01GPUWaste ann": True, "DS01GPUWaste bob": False},
        "ann is silenced",
    )

    listed = cli("silences")
    assert 'user="ann"' in listed
    assert "[red]holiday[/red]" in listed
    identifier = said.split("(id ")[1][:8]
    cli("unsilence", identifier)
    wait_for(lambda: not any(silenced(cli.running).values()), "nobody is silenced")
    assert "No silence is in force" in cli("silences")


def test_the_same_silence_twice_is_one_silence(cli):
    """The second takes the place of the first and says so; one of something else stands beside it."""
    cli("silence", "--user", "ann", "--for", "2d", "--reason", "first")
    cli("silence", "--user", "ann", "--host", "gpu01", "--for", "2d", "--reason", "narrower")
    said = cli("silence", "--user", "ann", "--for", "3h", "--reason", "second")

    assert "(first)" in said
    listed = cli("silences")
    assert "first" not in listed
    assert "second" in listed
    assert "narrower" in listed
    for number in ("one", "two"):
        said = cli("maintenance", "start", "--for", "2h", "--reason", number)
    assert "in place of" in said
    assert cli("maintenance", "end").count("Ended:") == 1


def test_a_silence_of_somebody_whom_nobody_knows_is_made_with_a_question(cli, monkeypatch):
    """A mistyped user hides nothing: no series has the name. Without Prometheus, that is said."""
    arguments = ("silence", "--user", "anne", "--for", "1h", "--reason", "x")
    assert "Whether there is such a user is unknown: Prometheus" in cli(*arguments)

    monkeypatch.setattr(Prometheus, "label_values", lambda *_: ["ann", "bob"])
    assert 'No series has user="anne": mistyped? (did you mean ann?)' in cli(*arguments)
    assert "mistyped" not in cli("silence", "--user", "bob", "--for", "1h", "--reason", "x")


def test_a_silence_of_an_alert_that_does_not_exist_is_refused(cli, tmp_path):
    """A mistyped name would hide nothing, so it is refused with the name that was meant."""
    state = StateDir(tmp_path / "site")
    folder = state.rendered / "one" / "prometheus" / "rules"
    folder.mkdir(parents=True)
    (folder / "waste.yml").write_text("groups: [{name: g, rules: [{alert: DS01GPUWaste, expr: up}]}]")
    state.current.symlink_to("one")

    said = cli("silence", "--alert", "DS01GPUWast", "--for", "1h", "--reason", "x", code=1)
    assert "no such alert" in said
    assert "did you mean DS01GPUWaste?" in said
    cli("silence", "--alert", "DS01GPUWaste", "--for", "1h", "--reason", "x")


@pytest.mark.parametrize(
    ("arguments", "code", "problem"),
    [
        (["silence", "--for", "2d", "--reason", "x"], 2, "say what to silence"),
        (["silence", "--user", "a", "--for", "soon", "--reason", "x"], 2, "is no duration"),
        (["silence", "--user", "a", "--for", "2d"], 2, "--reason"),
        (["silence", "--user", "a", "--for", "2d", "--reason", " "], 2, "say why in a few words"),
        (["silence", "--user", "a", "--for", "367d", "--reason", "x"], 2, "must not be longer than 366d"),
        (["silence", "--user", "a", "--for", "9999999d", "--reason", "x"], 2, "must not be longer than 366d"),
        (["unsilence", ""], 1, "no silence in force"),
        (["unsilence", "nothing"], 1, "no silence in force"),
        (["ack", "DS01XidCritical"], 1, "does not fire"),
        (["maintenance", "end"], 1, "no maintenance is under way"),
    ],
)
def test_mistakes_are_explained(cli, arguments, code, problem):
    """Each wrong call says what is wrong."""
    assert problem in cli(*arguments, code=code)


def test_an_acknowledged_alert_is_quiet_and_a_new_one_is_not(cli):
    """`ack` silences exactly what fires now."""
    cli.running.post("DS01XidCritical", severity="critical", notify="page", gpu="0", xid="79")
    assert "gpu=0 xid=79" in cli("ack", "DS01XidCritical", "--reason", "card ordered")
    cli.running.post("DS01XidCritical", severity="critical", notify="page", gpu="1", xid="79")

    def states() -> dict[str, bool]:
        return {
            alert["labels"]["gpu"]: bool(alert["status"]["silencedBy"]) for alert in cli.running.api.alerts()
        }

    wait_for(lambda: states() == {"0": True, "1": False}, "one acknowledged, one not")


def test_the_heartbeat_is_nothing_to_acknowledge(cli):
    """It always fires, and its end is an alarm outside: that is said, and what to do for who wants it all the same."""
    cli.running.post("DS01Watchdog", severity="none", notify="heartbeat")
    said = cli("ack", "DS01Watchdog", "--for", "30d", code=2)

    assert "whose end is an alarm outside" in said
    assert "monitoring-manage silence --alert DS01Watchdog" in said
    assert "No silence is in force" in cli("silences")


def test_maintenance_silences_the_host_but_not_the_heartbeat(cli):
    """During maintenance nobody is told anything of the host; the watchdog goes on."""
    cli.running.post("DS01HostDown", severity="critical", notify="page")
    cli.running.post("DS01Watchdog", severity="none", notify="heartbeat")
    assert "nobody is told" in cli("maintenance", "start", "--for", "2h", "--reason", "new cards")
    wait_for(
        lambda: silenced(cli.running) == {"DS01HostDown": True, "DS01Watchdog": False}, "the host is silenced"
    )
    assert "Ended: maintenance: new cards" in cli("maintenance", "end")
    wait_for(lambda: not any(silenced(cli.running).values()), "the host is heard again")


def test_a_silence_of_the_host_spares_the_heartbeat_too(cli):
    """The outside service would raise the alarm; the watchdog is silenced by its own name alone."""
    cli.running.post("DS01HostDown", severity="critical", notify="page")
    cli.running.post("DS01Watchdog", severity="none", notify="heartbeat")
    said = cli("silence", "--host", "gpu01", "--for", "2h", "--reason", "moved")
    assert "1 alert matches it now" in said
    wait_for(
        lambda: silenced(cli.running) == {"DS01HostDown": True, "DS01Watchdog": False}, "the host is silenced"
    )
    assert "in place of" not in cli("maintenance", "start", "--for", "1h", "--reason", "new cards")
    cli("maintenance", "end")
    assert "moved" in cli("silences")
    said = cli("silence", "--alert", "DS01Watchdog", "--for", "2h", "--reason", "the outside service moves")
    assert "hears nothing until then, and raises the alarm" in said
    wait_for(lambda: all(silenced(cli.running).values()), "the watchdog is silenced")


def test_a_list_that_is_piped_is_not_cut_off(cli):
    """What is silenced is there whole, however narrow the output."""
    cli("silence", "--user", "a" * 60, "--for", "2h", "--reason", "b" * 60)
    listed = cli("silences")

    assert "…" not in listed
    assert (listed.count("a"), listed.count("b")) >= (60, 60)


def test_refusals_are_read_from_both_log_formats():
    """The newest line about this alert counts, and lines about others do not."""
    old = (
        "ts=2026-01-01T10:00:00.500Z caller=notify.go:732 level=warn component=dispatcher receiver=admins integration=email[0] "
        'msg="Notify attempt failed, will retry later" attempts=1 err="*smtp.plainAuth auth: 535 \\"no\\""'
    )
    earlier = old.replace("T10", "T09").replace("email", "webhook")
    new = (
        'time=2026-01-01T00:00:00Z level=WARN source=notify.go:860 msg="Notify attempt failed, will retry later" '
        'component=dispatcher receiver=admins integration=slack[0] aggrGroup="{}:{test=\\"abc\\"}" attempts=1 err="status 404"'
    )
    other = new.replace("abc", "xyz").replace("404", "500")
    for_good = (
        'ts=2026-01-01T10:00:01Z caller=dispatch.go:352 level=error component=dispatcher msg="Notify for alerts failed" '
        'num_alerts=1 err="admins/webhook[0]: notify retry canceled due to unrecoverable error after 1 attempts: '
        'unexpected status code 400; admins/msteamsv2[1]: notify retry canceled after 3 attempts: status 410"'
    )
    elsewhere = for_good.replace("admins/", "digest/").replace("410", "411")
    since = dt.datetime(2026, 1, 1, 10, tzinfo=dt.timezone.utc)

    log = f"{earlier}\n{old}\n{new}\n{other}\n{for_good}\n{elsewhere}"
    found = refusals(log, "abc", "admins", since)
    assert found == {
        "email": Refusal('*smtp.plainAuth auth: 535 "no"', certain=False),
        "slack": Refusal("status 404", certain=True),
        "webhook": Refusal("unexpected status code 400", certain=False),
        "msteamsv2": Refusal("status 410", certain=False),
    }
