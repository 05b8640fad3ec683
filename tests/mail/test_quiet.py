"""Quiet hours mean the same to Alertmanager and to the backtest; the backtest counts what would have been sent."""

from __future__ import annotations

import datetime as dt
import subprocess  # noqa: TID251 - the doors are for the programs, not for their tests.
from zoneinfo import ZoneInfo

import pytest
from tests.mail.conftest import free_port, ready, wait_for

from ds01_monitoring import quiet
from ds01_monitoring.api import Prometheus
from ds01_monitoring.backtest import BACK_WITHIN, STEP, recorded_since, replay
from ds01_monitoring.commands.backtest import show, tell
from ds01_monitoring.config.load import parse_settings
from ds01_monitoring.errors import UserError

QUIET = """
notify:
  mail: {smarthost: "mail.lab.example:587", from: gpu@lab.example, to: [admin@lab.example]}
  users: {enabled: true, domain: lab.example, exceptions: [{user: eve, reason: teaches}]}
  quiet_hours:
    time_zone: Europe/Berlin
    begin: '18:00'
    end: '08:00'
    days: [saturday, sunday]
    holidays: [{first: 2026-12-24, last: 2027-02-02}]
"""


@pytest.mark.parametrize(
    ("moment", "expected"),
    [
        ("2026-11-23 07:59", True),
        ("2026-11-23 08:00", False),
        ("2026-11-23 17:59", False),
        ("2026-11-23 18:00", True),
        ("2026-11-22 12:00", True),  # A Sunday.
        ("2026-12-24 12:00", True),
        ("2027-02-02 12:00", True),
        ("2027-02-03 12:00", False),
    ],
)
def test_quiet_hours_workdays_and_holidays(moment, expected):
    """The clock and the days are those of the time zone; both ends of a holiday count."""
    quiet_hours = parse_settings(QUIET).notify.quiet_hours
    at = dt.datetime.strptime(moment, "%Y-%m-%d %H:%M").replace(tzinfo=ZoneInfo("Europe/Berlin"))

    assert quiet.is_quiet(quiet_hours, at) == expected


def test_alertmanager_gets_the_same_as_intervals():
    """A night is cut at midnight and a holiday at the ends of months, each in the time zone."""
    parts = quiet.time_intervals(parse_settings(QUIET).notify.quiet_hours)

    assert {"Europe/Berlin"} == {part.pop("location") for part in parts}
    assert parts == [
        {"weekdays": ["saturday", "sunday"]},
        {"times": [{"start_time": "18:00", "end_time": "24:00"}]},
        {"times": [{"start_time": "00:00", "end_time": "08:00"}]},
        {"years": ["2026"], "months": ["12"], "days_of_month": ["24:31"]},
        {"years": ["2027"], "months": ["1"], "days_of_month": ["1:31"]},
        {"years": ["2027"], "months": ["2"], "days_of_month": ["1:2"]},
    ]


class Recorded:
    """A Prometheus that knows when users were idle and when at work, on slot 0 or on `user/slot`."""

    def __init__(self, idle: dict[str, list[float]], busy: dict[str, list[float]]) -> None:
        self.idle, self.busy = idle, busy

    def query_range(self, expression, **_):
        """The matrix of whichever was asked for."""
        series = self.idle if "quantile_over_time" in expression else self.busy
        return [
            {
                "metric": {"host": "gpu01", "user": who.split("/")[0], "gpu_slot": f"{who}/0".split("/")[1]},
                "values": [[at, "1"] for at in times],
            }
            for who, times in series.items()
        ]


def test_the_backtest_counts_one_mail_a_day_outside_quiet_hours(capsys):
    """A weekend of waste is one mail on Monday morning; the excepted user is none; who was back is counted."""
    zone = ZoneInfo("Europe/Berlin")
    saturday = dt.datetime(2026, 11, 21, tzinfo=zone).timestamp()
    monday = dt.datetime(2026, 11, 23, 8, tzinfo=zone).timestamp()
    looks = [saturday + step * STEP for step in range(3 * 86400 // STEP)]
    recorded = Recorded(
        {"ann": looks, "bob": [monday + 3600], "eve": looks},
        {"bob": [monday + 3600 + BACK_WITHIN], "ann": [monday - 60]},
    )
    settings = parse_settings(QUIET)
    mails = replay(recorded, settings, now=looks[-1], since=7 * 86400, below=0.05, window="2h")

    assert [("ann", monday, False), ("bob", monday + 3600, True)] == [
        (mail.user, mail.at, mail.back) for mail in mails
    ]
    show(mails, since=7 * 86400, below=0.05, window=7200)
    said = capsys.readouterr().out
    assert "2 mails to 2 users; 1 went back to work within 30 min" in said


@pytest.mark.parametrize(
    ("users", "mailed"),
    [
        ("domain: lab.example", "ann"),
        ("enabled: true, dry_run: true, domain: lab.example", "ann"),
        ("addresses: {bob: b@lab.example}", "bob"),
        ("addresses: {bob: b@lab.example}, domain: lab.example, exceptions: [{user: ann, reason: r}]", "bob"),
        ("after: 2h", "ann"),  # Nothing yet of where to: there will be a domain.
    ],
)
def test_the_backtest_counts_for_users_only_what_they_would_get(users, mailed, capsys):
    """What is no user's name, or has no address, goes to the administrators, at any hour."""
    night = dt.datetime(2026, 11, 23, 3, tzinfo=ZoneInfo("Europe/Berlin")).timestamp()
    foreign = {name: [night] for name in ("x@evil.example,ann", "", "Bob")}
    recorded = Recorded({mailed: [night, night + 8 * 3600], **foreign}, {})
    settings = parse_settings(
        QUIET.replace("enabled: true, domain: lab.example, exceptions: [{user: eve, reason: teaches}]", users)
    )
    mails = replay(recorded, settings, now=night + 86400, since=86400, below=0.05, window="2h")

    assert [mail.at for mail in mails if mail.user == mailed] == [night + 8 * 3600]
    show(mails, since=86400, below=0.05, window=7200)
    said = capsys.readouterr().out
    assert "1 mail to 1 user;" in said
    assert f"  {mailed} on gpu01: 1," in said
    assert "to the administrators: 3, as no address is known for '', 'Bob', 'x@evil.example,ann'" in said


def test_the_backtest_looks_at_the_slots_that_the_mail_would_have_been_about():
    """Who works on one GPU and lets another lie idle has not gone back to work on that one."""
    at = 100 * 86400.0
    working = [at + step * STEP for step in range(-10, 10)]
    recorded = Recorded(
        {"ann/1": [at], "bob/1": [at], "bob/2": [at]},
        {"ann/0": working, "bob/0": working, "bob/2": [at + STEP]},
    )
    mails = replay(recorded, parse_settings(""), now=at, since=86400, below=0.05, window="2h")

    assert [(mail.user, mail.back) for mail in mails] == [("ann", False), ("bob", True)]


def test_the_backtest_knows_how_far_its_record_goes():
    """A server that has recorded for an hour does not speak of a week, and one without a record of nothing."""
    assert (
        recorded_since(Recorded({}, {"ann": [5000.0, 5300.0], "bob": [4700.0]}), now=6000, since=9000) == 4700
    )
    assert recorded_since(Recorded({}, {}), now=6000, since=9000) is None


@pytest.mark.parametrize(
    ("since", "window", "said"),
    [
        (7 * 86400, 7200, "In the last 7 days, with the line at 0.05 for 2 h"),
        (5400, 90, "90 min, with the line at 0.05 for 90 s"),
    ],
)
def test_the_backtest_writes_times_for_people(since, window, said, capsys):
    """No `0.0167 h`."""
    show([], since=since, below=0.05, window=window)
    assert said in capsys.readouterr().out


def test_a_backtest_with_a_time_zone_that_does_not_exist_says_so():
    """It comes before the check of what is to be put in force, and from a file that nobody has checked yet."""
    settings = parse_settings(QUIET.replace("Europe/Berlin", "Europe/Berln"))
    recorded = Recorded({"ann": [86400.0]}, {})

    with pytest.raises(UserError, match="there is no time zone 'Europe/Berln'"):
        replay(recorded, settings, now=86400, since=86400, below=0.05, window="2h")


def test_a_backtest_of_more_than_is_recorded_is_refused():
    """Three hours of record say nothing of GPUs that are idle for a day: that is no `0 mails`."""
    now = dt.datetime.now(dt.timezone.utc).timestamp()
    recorded = Recorded({}, {"ann": [now - 3 * 3600, now - 60]})
    settings = parse_settings(QUIET)

    with pytest.raises(UserError, match=r"recorded for 3 h, which is less than a GPU must be idle \(24 h\)"):
        tell(recorded, settings, since=7 * 86400, below=0.05, window="24h")
    tell(recorded, settings, since=7 * 86400, below=0.05, window="2h")


@pytest.fixture
def prometheus(suite, tmp_path):
    """A real Prometheus that has recorded nothing."""
    address, file = f"127.0.0.1:{free_port()}", tmp_path / "prometheus.yml"
    file.write_text("")
    options = [f"--config.file={file}", f"--storage.tsdb.path={tmp_path}", f"--web.listen-address={address}"]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen([str(suite / "usr" / "bin" / "prometheus"), *options], stderr=log)
    wait_for(lambda: ready(f"http://{address}") or process.poll() is not None, "Prometheus is ready")
    yield Prometheus("Prometheus", f"http://{address}")
    process.terminate()
    process.wait()


@pytest.mark.tools
@pytest.mark.parametrize("days", [1, 39, 400])
def test_a_backtest_looks_back_further_than_prometheus_answers_at_once(prometheus, days):
    """Each look at the past once, in order, and no series twice; it refuses more than 11 000 looks in one answer."""
    end = 1_800_000_000.5
    looks = [end - days * 86400 + count * STEP for count in range(days * 86400 // STEP + 1)]
    (row,) = prometheus.query_range("time()", start=looks[0], end=end, step=STEP)

    assert [(at, float(value)) for at, value in row["values"]] == [(at, at) for at in looks]
    assert recorded_since(prometheus, now=end, since=days * 86400) is None
