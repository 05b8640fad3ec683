"""The efficiency report: its figures, and its four forms."""

import csv
import datetime as dt
import io
import json
import re
from html.parser import HTMLParser

import click.testing
import pytest

from ds01_monitoring import efficiency, efficiency_formats
from ds01_monitoring.commands import report as command
from ds01_monitoring.efficiency import Line, Report

NOW = dt.datetime(2026, 3, 4, 12, tzinfo=dt.timezone.utc)
EVIL = '<script>alert("[bold]&")</script>'
REPORT = Report(
    start=NOW - dt.timedelta(days=7),
    end=NOW,
    users=[Line("ann", 10, 2, 7, 3.25), Line(EVIL, 4, None, None, None), Line("bob", 1, 1, 0, 0.5)],
    slots=[Line("gpu01/0", 14, 3, 7, 3.75)],
    days={dt.date(2026, 3, 3): (1, 4), dt.date(2026, 3, 4): (2, 3)},
)


class Answers:
    """Stands for Prometheus: remembers what it was asked, answers by the series in the query."""

    def __init__(self, *, since=0, **values):
        self.values = values
        self.since = since
        self.asked = []

    def query(self, expression, *, at, timeout):
        """One series for each value whose name is in the query."""
        self.asked.append(expression)
        name = re.search(r"ds01:(\w+):", expression)[1]
        return [{"metric": labels, "value": [at, str(value)]} for labels, value in self.values.get(name, [])]

    def query_range(self, expression, *, start, end, step, timeout):
        """Something at each moment from `since` on."""
        moments = [start + step * number for number in range(int((end - start) // step) + 1)]
        recorded = [[moment, "1"] for moment in moments if moment >= self.since]
        return [{"metric": {}, "values": recorded}] if recorded else []


def test_minutes_become_hours_and_watts_energy():
    """60 recorded minutes are an hour, a kilowatt for an hour is a kilowatt-hour, and nothing known stays unknown."""
    ann, bob = {"user": "ann"}, {"user": "bob"}
    server = Answers(
        user_held=[(ann, 600), (bob, 60)],
        user_used=[(ann, 120)],
        user_wasted=[(ann, 420)],
        user_power=[(ann, 60000)],
    )

    found = efficiency.read(server, now=NOW.timestamp(), since=86400)

    assert found.users == [Line("ann", 10, 2, 7, 1), Line("bob", 1, None, None, None)]


def test_slots_are_in_the_order_of_their_numbers():
    """Slot 10 comes after slot 2."""
    slots = ["10", "2.10", "2.9", "2"]
    server = Answers(allocation_held=[({"host": "gpu01", "gpu_slot": slot}, 60) for slot in slots])
    found = efficiency.read(server, now=NOW.timestamp(), since=86400)

    assert [line.name for line in found.slots] == ["gpu01/2", "gpu01/2.9", "gpu01/2.10", "gpu01/10"]


@pytest.mark.parametrize(
    ("since", "begins"), [(0, None), (NOW.timestamp() - 7200, NOW - dt.timedelta(hours=2)), (1e12, None)]
)
def test_a_record_that_does_not_reach_back_is_said(since, begins):
    """Whoever asks for more than was kept, or than there was, is told from when on the figures are."""
    found = efficiency.read(Answers(since=since), now=NOW.timestamp(), since=30 * 86400)

    if begins is None:
        assert found.recorded_from is None
        assert not efficiency_formats.record(found)
    else:
        assert abs(found.recorded_from - begins) < dt.timedelta(hours=1)
        assert efficiency_formats.record(found).startswith("The record begins on 2026-03-04")
        assert json.loads(efficiency_formats.as_json(found))["recorded_from"]


def test_a_record_that_has_just_begun_is_seen():
    """In the first minutes of a server the figures of a week are said to be those of minutes."""
    found = efficiency.read(Answers(since=NOW.timestamp() - 50), now=NOW.timestamp(), since=7 * 86400)

    assert efficiency_formats.record(found).startswith("The record begins on 2026-03-04 at 1")


@pytest.mark.parametrize(("since", "said"), [(0, "Nobody held a GPU"), (1e12, "Nothing was recorded")])
def test_nothing_recorded_is_not_nobody(since, said):
    """That nobody held a GPU is said only where somebody looked."""
    found = efficiency.read(Answers(since=since), now=NOW.timestamp(), since=86400)

    assert efficiency_formats.nobody(found).startswith(said)
    assert said in efficiency_formats.as_html(found, site="Lab")


def test_a_user_who_held_nothing_is_told_from_a_misspelt_one():
    """The names of those who held something stand beside."""

    class One(Answers):
        def query(self, expression, *, at, timeout):
            return [] if "user=" in expression else super().query(expression, at=at, timeout=timeout)

    server = One(user_held=[({"user": "bob"}, 1), ({"user": "ann"}, 1)])
    found = efficiency.read(server, now=NOW.timestamp(), since=86400, user="an")

    assert efficiency_formats.nobody(found) == "This user held no GPU in this time. Who did: ann, bob."


@pytest.mark.parametrize(("held", "cell"), [(9.994, "9.99 h"), (10, "10.0 h")])
def test_hours_of_a_short_time_have_two_decimals(held, cell):
    """A few minutes of a slice are not 0.0 h."""
    report = Report(NOW, NOW, [Line("ann", held)], [], {})

    assert f"<td>{cell}</td>" in efficiency_formats.as_html(report, site="Lab")


def test_a_user_is_asked_for_literally():
    """A name is put into the query as text, whatever stands in it."""
    server = Answers(user_held=[({"user": 'a"b\\c'}, 60)])
    efficiency.read(server, now=NOW.timestamp(), since=86400, user='a"b\\c')

    assert all('user="a\\"b\\\\c"' in query for query in server.asked)


def test_days_cover_exactly_the_span():
    """The first day begins with the span and the last one ends with it."""
    server = Answers(user_wasted=[({}, 60)])
    found = efficiency.read(server, now=NOW.timestamp(), since=36 * 3600)
    lengths = [
        int(match[1]) for query in server.asked if (match := re.search(r"wasted.*\[(\d+)s\]\)\) / 60", query))
    ]

    assert list(found.days) == [dt.date(2026, 3, 3), dt.date(2026, 3, 4)]
    assert lengths == [24 * 3600, 12 * 3600]


@pytest.mark.parametrize(
    ("line", "share"), [(Line("a", 9, 2, 6), 0.75), (Line("a", 9), None), (Line("a", 0, 0, 0), None)]
)
def test_share_wasted(line, share):
    """The share counts what was measured; without a measurement there is none."""
    assert line.share_wasted == share


def test_json_has_null_for_unknown():
    """JSON holds every figure, null where nothing is known."""
    document = json.loads(efficiency_formats.as_json(REPORT))

    assert document["users"][0]["wasted_hours"] == 7
    assert document["users"][1]["used_hours"] is None
    assert document["days"][1] == {"day": "2026-03-04", "used_hours": 2, "wasted_hours": 3}


def test_csv_reads_back():
    """CSV has users and slots, empty where nothing is known, and any name survives it."""
    rows = list(csv.DictReader(io.StringIO(efficiency_formats.as_csv(REPORT))))

    assert [(row["kind"], row["name"]) for row in rows] == [
        ("user", "ann"), ("user", EVIL), ("user", "bob"), ("slot", "gpu01/0"),
    ]  # fmt: skip
    assert rows[1]["used_hours"] == ""


class Tags(HTMLParser):
    """Collects the tags of a page and the addresses it points to."""

    def __init__(self):
        super().__init__()
        self.tags = set()
        self.addresses = set()

    def handle_starttag(self, tag, attrs):
        """One tag."""
        self.tags.add(tag)
        self.addresses |= {value for name, value in attrs if name in {"src", "href", "xlink:href"}}


def test_the_page_needs_nothing_else_and_runs_nothing():
    """The page has its charts inside, no script, no address to load, and foreign names stay text."""
    page = efficiency_formats.as_html(REPORT, site="<b>Lab</b>")
    seen = Tags()
    seen.feed(page)

    assert "svg" in seen.tags
    assert not seen.tags & {"script", "b", "img", "link", "iframe"}
    assert not seen.addresses
    assert "&lt;script&gt;" in page


def test_an_empty_report_says_so():
    """Without a holder the page has no empty charts but a sentence."""
    page = efficiency_formats.as_html(Report(NOW, NOW, [], [], {}), site="Lab")

    assert "Nobody held a GPU" in page
    assert "<svg" not in page


def test_a_span_must_be_one():
    """The command refuses a time span of nothing."""
    result = click.testing.CliRunner().invoke(command.report, ["--since", "0d"])

    assert result.exit_code == 2
    assert "longer than zero" in result.output
