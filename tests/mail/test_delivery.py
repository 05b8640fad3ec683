"""Who gets which mail, from a real Alertmanager through a real SMTP server."""

from __future__ import annotations

import datetime as dt
import re
from pathlib import Path

from tests.mail.conftest import wait_for

from ds01_monitoring.config.notify import LONGEST_PAUSE
from ds01_monitoring.config.types import duration_seconds

ROOT = Path(__file__).parents[2]

USERS = """
users:
  enabled: true
  domain: lab.example
  addresses: {ann: ann.smith@lab.example}
  exceptions: [{user: eve, reason: teaches with an idle GPU}]
"""


def test_each_severity_arrives_once(alertmanager, mailbox):
    """A critical, a warning and an info alert are one mail each to the administrators, and one more each when they end."""
    running = alertmanager(scale=300)
    for severity, notify in (("critical", "page"), ("warning", "mail"), ("info", "mail")):
        running.post(
            f"DS01{severity.title()}", severity=severity, notify=notify, summary=f"the {severity} one"
        )
    wait_for(lambda: len(mailbox.mails) >= 3, "three mails")
    for severity in ("critical", "warning", "info"):
        running.post(
            f"DS01{severity.title()}",
            firing=False,
            severity=severity,
            notify="page" if severity == "critical" else "mail",
        )
    wait_for(
        lambda: sum("resolved" in mail.subject for mail in mailbox.mails) >= 3, "three mails that it is over"
    )

    subjects = sorted(mail.subject for mail in mailbox.mails)
    assert subjects == [
        "LAB CRITICAL: the critical one",
        "LAB INFO: the info one",
        "LAB WARNING: the warning one",
        "LAB resolved: DS01Critical",
        "LAB resolved: DS01Info",
        "LAB resolved: DS01Warning",
    ]
    assert all(mail.to == ["admin@example.org"] for mail in mailbox.mails)


def test_the_subject_is_about_what_still_fires(alertmanager, mailbox):
    """Where one of a group is over and another is not, the subject names and counts those that are not."""
    running = alertmanager(scale=300)
    for slot in ("1.0", "2.0", "3.0"):
        running.post("DS01MIGWaste", severity="warning", notify="mail", gpu_slot=slot, summary=f"slot {slot}")
    wait_for(lambda: any("(and 2 more)" in mail.subject for mail in mailbox.mails), "the mail about three")
    mailbox.mails.clear()
    running.post("DS01MIGWaste", firing=False, severity="warning", notify="mail", gpu_slot="1.0")
    wait_for(lambda: mailbox.mails, "the mail about two and one that is over")

    assert mailbox.mails[0].subject == "LAB WARNING: slot 2.0 (and 1 more)"


def test_nobody_hears_what_is_for_the_dashboard(alertmanager, mailbox):
    """An alert with notify=dashboard, the watchdog, and waste for users who are not mailed stay silent."""
    running = alertmanager(scale=300)
    running.post("DS01CapacityLow", severity="info", notify="dashboard")
    running.post("DS01Watchdog", severity="none", notify="heartbeat")
    running.post("DS01UserWaste", severity="none", notify="user", user="ann")
    running.post("DS01Last", severity="critical", notify="page")
    wait_for(lambda: mailbox.mails, "the last alert's mail")

    assert [mail.subject for mail in mailbox.mails] == ["LAB CRITICAL: DS01Last"]


def test_foreign_text_stays_text(alertmanager, mailbox):
    """Markup in a container's name is shown, not obeyed; both parts of the mail say what, where, whose and what to do."""
    running = alertmanager(scale=300)
    running.post(
        "DS01GPUWaste",
        severity="warning",
        notify="mail",
        topic="waste",
        user="ann",
        gpu_slot="1.0",
        container='<img src="x">',
    )
    wait_for(lambda: mailbox.mails, "the mail")

    html, text = mailbox.mails[0].part("html"), mailbox.mails[0].part("plain")
    assert "<img" not in html
    assert "&lt;img src=&#34;x&#34;&gt;" in html
    for part in (html, text):
        for word in ("description of DS01GPUWaste", "gpu01", "1.0", "ann", "/d/ds01-overview"):
            assert word in part
    assert 'name="viewport"' in html


def test_the_users_mail_reaches_that_user_only(alertmanager, mailbox):
    """A plain name gets mail at the domain, a listed one at its address, an excepted one none."""
    running = alertmanager(USERS, scale=300)
    for user in ("bob", "ann", "eve"):
        running.post("DS01UserWaste", severity="none", notify="user", topic="waste", user=user)
        running.post(
            "DS01MIGWaste", severity="warning", notify="mail", topic="waste", user=user, gpu_slot="1.0"
        )
    running.post("DS01Last", severity="critical", notify="page")
    wait_for(lambda: len(mailbox.mails) >= 3, "two users' mails and the last alert")

    assert sorted(mail.to for mail in mailbox.mails) == [
        ["admin@example.org"],
        ["ann.smith@lab.example"],
        ["bob@lab.example"],
    ]
    mail = mailbox.for_whom("bob@lab.example")[0]
    assert mail.subject == "LAB A GPU that you hold is idle"
    assert "/d/ds01-user?var-user=bob" in mail.part("plain")
    assert "description of DS01UserWaste" in mail.part("html")


def test_a_claimed_name_is_mailed_to_nobody(alertmanager, mailbox):
    """A user label that is no plain name reaches the administrators, with the reason."""
    running = alertmanager(USERS, scale=300)
    for user in ("x@evil.example,ann", "UNI\\ann", "a b", ""):
        running.post("DS01UserWaste", severity="none", notify="user", topic="waste", user=user)
    wait_for(lambda: len(mailbox.mails) >= 4, "four mails to the administrators")

    assert {("admin@example.org",)} == {tuple(mail.to) for mail in mailbox.mails}
    assert any(
        '"x@evil.example,ann" is no user name that mail can be sent to' in mail.part("plain")
        for mail in mailbox.mails
    )


def test_a_name_without_an_address_says_what_is_missing(alertmanager, mailbox):
    """Where only addresses are given, a good name that is not among them is not called a bad one."""
    running = alertmanager("users: {enabled: true, addresses: {ann: ann@lab.example}}", scale=300)
    running.post("DS01UserWaste", severity="none", notify="user", topic="waste", user="bob")
    wait_for(lambda: mailbox.mails, "the mail")

    assert mailbox.mails[0].to == ["admin@example.org"]
    assert 'no address is known for "bob"' in mailbox.mails[0].part("plain")
    assert "notify.users.domain" in mailbox.mails[0].part("plain")


def test_a_dry_run_shows_the_administrators_the_users_mail(alertmanager, mailbox):
    """With dry_run the administrators get, marked, what the user would have read; a claimed name is told as ever."""
    running = alertmanager(USERS + "  dry_run: true\n", scale=300)
    for user in ("bob", "eve", "x@evil.example,ann"):
        running.post("DS01UserWaste", severity="none", notify="user", topic="waste", user=user)
    running.post("DS01MIGWaste", severity="warning", notify="mail", topic="waste", user="bob", gpu_slot="1.0")
    wait_for(
        lambda: len(mailbox.mails) >= 3,
        "bob's mail, the one about the claimed name and the administrators' own",
    )

    assert {("admin@example.org",)} == {tuple(mail.to) for mail in mailbox.mails}
    mails = {mail.subject: mail for mail in mailbox.mails}
    assert set(mails) == {
        "LAB A GPU that you hold is idle (dry run: not sent to bob)",
        "LAB idle GPU: DS01UserWaste",
        "LAB WARNING: DS01MIGWaste",
    }
    rehearsal = mails["LAB A GPU that you hold is idle (dry run: not sent to bob)"]
    for part in ("plain", "html"):
        for words in (
            "would have got the following",
            "Hello bob",
            "description of DS01UserWaste",
            "please stop",
        ):
            assert words in rehearsal.part(part)
    assert "is no user name" in mails["LAB idle GPU: DS01UserWaste"].part("plain")


def test_a_dry_run_keeps_quiet_hours(alertmanager, mailbox):
    """In quiet hours no user would get a mail, so none is shown."""
    always = "quiet_hours: {time_zone: UTC, days: [monday, tuesday, wednesday, thursday, friday, saturday, sunday]}\n"
    running = alertmanager(USERS + "  dry_run: true\n" + always, scale=300)
    running.post("DS01UserWaste", severity="none", notify="user", topic="waste", user="bob")
    running.post("DS01UserWaste", severity="none", notify="user", topic="waste", user="a b")
    wait_for(lambda: mailbox.mails, "the mail about the name that is none")
    running.post("DS01Last", severity="critical", notify="page")
    wait_for(lambda: len(mailbox.mails) >= 2, "the last alert's mail")

    assert [mail.subject for mail in mailbox.mails] == [
        "LAB idle GPU: DS01UserWaste",
        "LAB CRITICAL: DS01Last",
    ]


def test_one_mail_a_day_however_often_it_flaps(alertmanager, mailbox):
    """Ten cycles of idle and busy and four more slots within a day are one mail; the next day's waste is the second."""
    day = 20
    running = alertmanager(USERS, scale=86400 / day)

    def hidden(*, over: bool) -> None:
        running.post("DS01UserWasteOver", firing=over, severity="none", notify="dashboard", user="bob")
        wait_for(
            lambda: all(
                bool(alert["status"]["inhibitedBy"]) == over
                for alert in running.api.alerts(alertname="DS01UserWaste")
            ),
            f"inhibited: {over}",
        )

    def wasted(slots: int) -> None:
        said = f"bob holds {slots} idle GPUs"
        running.post("DS01UserWaste", severity="none", notify="user", topic="waste", user="bob", summary=said)

    wasted(1)
    wait_for(lambda: mailbox.mails, "the first mail")
    for cycle in range(10):
        hidden(over=True)
        wasted(1 + min(cycle, 4))
        hidden(over=False)
    wait_for(lambda: len(mailbox.mails) >= 2, "the mail of the next day")

    first, second = (mail.at for mail in mailbox.mails[:2])
    assert second - first > 0.75 * day


def test_what_lasts_is_told_again_after_an_hour(alertmanager, mailbox):
    """The mail about a critical alert comes again at the twelfth look of five minutes, not at the eleventh or thirteenth."""
    look = 2.5
    running = alertmanager(scale=300 / look)
    running.post("DS01Critical", severity="critical", notify="page")
    wait_for(lambda: len(mailbox.mails) >= 2, "the mail after an hour")

    first, second = (mail.at for mail in mailbox.mails[:2])
    assert round((second - first) / look) == 12


def digest_on(days: int) -> str:
    """Settings with the digest's day that many days from now."""
    day = dt.datetime.now(dt.timezone.utc) + dt.timedelta(days=days)
    return f"digest: {{day: {day:%A}, begin: '00:00'}}".lower()


def test_the_digest_comes_once_on_its_day_whatever_is_restarted(alertmanager, mailbox):
    """Hours after the time set, through restart, power loss and reload, with other words: one mail."""
    running = alertmanager(digest_on(0), scale=300)

    def again(number: int) -> None:
        """Tell Alertmanager the same as before, and something else after it."""
        running.post("DS01Digest", severity="none", notify="digest", summary=f"{number} alerts")
        running.post("DS01UnmanagedGPUContainer", severity="warning", notify="digest", container=f"c{number}")
        running.post(f"DS01Last{number}", severity="critical", notify="page")
        wait_for(lambda: f"LAB CRITICAL: DS01Last{number}" in subjects(), "the mail after it")

    def subjects() -> list[str]:
        return [mail.subject for mail in mailbox.mails]

    again(1)
    wait_for(lambda: "LAB week: 1 alerts" in subjects(), "the digest")
    log = running.data / "nflog"
    wait_for(lambda: log.exists() and b"DS01Digest" in log.read_bytes(), "the note about it on disk")
    running.stop()
    running.begin()
    again(2)
    running.api.call("POST", "/-/reload")
    again(3)
    running.stop(lose_power=True)
    running.begin()
    again(4)

    assert [subject for subject in subjects() if "Last" not in subject] == ["LAB week: 1 alerts"]


def test_no_digest_on_other_days(alertmanager, mailbox):
    """What is for the digest waits for its day."""
    running = alertmanager(digest_on(3), scale=300)
    running.post("DS01Digest", severity="none", notify="digest")
    running.post("DS01UnmanagedGPUContainer", severity="warning", notify="digest")
    running.post("DS01Last", severity="critical", notify="page")
    wait_for(lambda: mailbox.mails, "the last alert's mail")

    assert [mail.subject for mail in mailbox.mails] == ["LAB CRITICAL: DS01Last"]


def test_a_power_loss_does_not_forget_what_was_sent(alertmanager, mailbox):
    """What was sent is on disk soon after; without power from then on, the same is not sent again."""
    running = alertmanager(scale=300)
    running.post("DS01First", severity="info", notify="mail")
    wait_for(lambda: mailbox.mails, "the first mail")
    log = running.data / "nflog"
    wait_for(lambda: log.exists() and b"DS01First" in log.read_bytes(), "the note about it on disk")
    running.stop(lose_power=True)
    running.begin()
    running.post("DS01First", severity="info", notify="mail")
    running.post("DS01Second", severity="critical", notify="page")
    wait_for(lambda: len(mailbox.mails) >= 2, "the mail after the loss")

    assert [mail.subject for mail in mailbox.mails] == ["LAB INFO: DS01First", "LAB CRITICAL: DS01Second"]


def test_both_runtimes_keep_what_was_sent_alike():
    """Twice the longest pause for as long as notes are kept, and seconds until a note is on disk."""
    for template in ("supervisord.conf.j2", "docker-compose.yaml.j2"):
        text = (ROOT / "monitoring" / template).read_text(encoding="utf-8")
        flags = dict(re.findall(r"--(data[.]\S+?)=(\w+)", text))
        assert duration_seconds(flags["data.retention"]) >= 2 * LONGEST_PAUSE, template
        assert duration_seconds(flags["data.maintenance-interval"]) <= 30, template


def test_a_server_that_was_away_gets_the_mail_later(alertmanager, mailbox):
    """Nothing is lost while the SMTP server is down, even when Alertmanager has given a whole round of attempts up."""
    mailbox.stop()
    running = alertmanager(scale=300)
    running.post("DS01Critical", severity="critical", notify="page")
    given_up = re.compile("notify retry canceled .*after [0-9]+ attempts.*connection refused")
    wait_for(lambda: given_up.search(running.log.read_text()), "a round of attempts given up")
    mailbox.start()
    wait_for(lambda: mailbox.mails, "the mail", seconds=120)
