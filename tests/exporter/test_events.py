"""The event log: both spellings, a window that slides, rotation, truncation, torn and malformed lines."""

import gzip
import json
import os
import shutil
import time
from datetime import datetime, timezone

import pytest

from ds01_exporter import events as events_module
from ds01_exporter import log_follow
from ds01_exporter.event_window import MAX_TYPES, WINDOW_SECONDS, EventWindow
from ds01_exporter.events import Events, parse_event
from ds01_exporter.log_follow import LogFollower, find_start, rotated_files

HOUR = 3600.0


def line(event_type="gpu.allocated", ago=0.0, **details):
    """An event of the first spelling, `ago` seconds old."""
    stamp = datetime.fromtimestamp(time.time() - ago, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    return json.dumps({"ts": stamp, "event": event_type, **details}) + "\n"


def later_line(event_type="gpu.allocate", ago=0.0):
    """An event of the second spelling."""
    stamp = datetime.fromtimestamp(time.time() - ago, timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    return json.dumps({"timestamp": stamp, "event_type": event_type, "schema_version": "1"}) + "\n"


@pytest.fixture
def log(tmp_path):
    """The path of an event log that is not there yet."""
    return tmp_path / "events.jsonl"


def append(path, text):
    """Add to a file, as writers of the log do."""
    with path.open("a", encoding="utf-8") as file:
        file.write(text)


def counts(source):
    """The counts of a source, as a dictionary."""
    reading = source.reading()
    return None if reading is None else dict(reading[0])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"ts":"1970-01-01T00:01:00Z","event":"gpu.allocated","gpu":1.2}', ("gpu.allocated", 60.0)),
        (
            '{"timestamp":"1970-01-01T00:00:01.250000Z","event_type":"container.create"}',
            ("container.create", 1.25),
        ),
        ('{"timestamp":"1970-01-01T01:00:00.5+01:00","event_type":"x"}', ("x", 0.5)),
        ('{"ts":60,"event":"x"}', ("x", 60.0)),
        ('{"ts":"1970-01-01T00:01:00Z"}', None),
        ('{"event":"x"}', None),
        ('{"ts":"yesterday","event":"x"}', None),
        ('{"ts":"1970-01-01T00:01:00Z","event":7}', None),
        ('{"ts":NaN,"event":"x"}', None),
        ('["ts"]', None),
        ("{", None),
        ("[" * 100_000, None),
    ],
)
def test_both_spellings_are_read(text, expected):
    """`ts` and `event`, or `timestamp` and `event_type`; whatever lacks one of them is no event."""
    assert parse_event(text.encode()) == expected


def test_counts_both_spellings_of_the_last_day(log):
    """Events within 24 hours count by type, older ones do not."""
    log.write_text(
        line("old", 25 * HOUR)
        + line("gpu.allocated", 23 * HOUR)
        + later_line("gpu.allocated", HOUR)
        + line("health.check")
    )
    source = Events(log)
    source.tick()

    assert counts(source) == {"gpu.allocated": 2, "health.check": 1}


def test_the_window_slides():
    """An event leaves the window 24 hours after it happened, not when something else happens."""
    now = [1_000_000.0]
    window = EventWindow(clock=lambda: now[0])
    for second in (0, 10, 10, 20):
        window.add("x", now[0] - WINDOW_SECONDS + second + 1)
    assert window.counts() == {"x": 4}
    now[0] += 11
    assert window.counts() == {"x": 1}
    now[0] += 10
    assert window.counts() == {}


def test_events_out_of_order_and_from_the_future_are_counted_in_their_time():
    """Order does not matter; a stamp far ahead counts when its time has come, and makes no last gpu event."""
    now = [1_000_000.0]
    window = EventWindow(clock=lambda: now[0])
    for ago in (5, 500, 50, 500, -7200):
        window.add("gpu.x", now[0] - ago)
    assert window.counts() == {"gpu.x": 4}
    assert window.last_gpu_event == now[0] - 5
    now[0] += 7200
    assert window.counts() == {"gpu.x": 5}
    assert window.last_gpu_event == now[0]


def test_a_flood_of_event_types_is_bounded():
    """Types beyond the limit are counted together."""
    window = EventWindow()
    for number in range(MAX_TYPES + 50):
        window.add(f"type.{number}", time.time())

    assert len(window.counts()) == MAX_TYPES + 1
    assert window.counts()["other"] == 50


def test_malformed_lines_are_counted_and_the_others_read(log):
    """A bad line costs itself only; blank lines are nothing."""
    log.write_bytes(line("a").encode() + b"nonsense\n\n\xff\xfe\n" + b"{}\n" + line("a").encode())
    source = Events(log)
    source.tick()

    assert counts(source) == {"a": 2}
    assert source.reading()[1] == 3


def test_a_torn_last_line_is_read_when_it_is_whole(log):
    """Half a line is neither lost nor rejected."""
    text = line("a")
    log.write_text(line("b") + text[:20])
    source = Events(log)
    source.tick()
    assert counts(source) == {"b": 1}
    append(log, text[20:-1])
    source.tick()
    assert counts(source) == {"b": 1}
    append(log, "\n" + line("b"))
    source.tick()

    assert counts(source) == {"a": 1, "b": 2}
    assert source.reading()[1] == 0


def test_follows_rotation_by_renaming(log):
    """Lines written to the old file after it was renamed are read, then those of the new one; none twice."""
    log.write_text(line("a"))
    source = Events(log)
    source.tick()
    writer = log.open("a")
    log.rename(log.with_suffix(".jsonl.1"))
    source.tick()
    writer.write(line("a"))
    writer.flush()
    append(log, line("b"))
    source.tick()
    writer.write(line("a"))
    writer.close()
    append(log, line("b"))
    source.tick()

    assert counts(source) == {"a": 3, "b": 2}


def test_follows_truncation(log):
    """A file that was emptied is read from its beginning, even when it has grown past the old place."""
    log.write_text(line("a") * 3)
    source = Events(log)
    source.tick()
    log.write_text("")
    source.tick()
    append(log, line("b"))
    source.tick()
    assert counts(source) == {"a": 3, "b": 1}
    log.write_text(line("c") * 10)
    source.tick()

    assert counts(source) == {"a": 3, "b": 1, "c": 10}


def test_rotated_files_are_read_back(log):
    """On start the rotated files of the last day count too, compressed or not, each once."""
    log.write_text(line("now"))
    log.with_name("events.jsonl.1").write_text(line("first", 20 * HOUR) * 2)
    with gzip.open(log.with_name("events.jsonl.2.gz"), "wt") as file:
        file.write(line("older", 30 * HOUR) + line("second", 23 * HOUR))
    log.with_name("events-20260130.jsonl").write_text(line("dated", HOUR))
    with gzip.open(log.with_name("events.jsonl.1.gz"), "wt") as file:  # being compressed just now
        file.write(line("first", 20 * HOUR))
    log.with_name("other.jsonl.1").write_text(line("other", HOUR))
    old = log.with_name("events.jsonl.9")
    old.write_text(line("impossible"))
    os.utime(old, (0, 0))
    source = Events(log)
    source.tick()

    assert counts(source) == {"now": 1, "first": 2, "second": 1, "dated": 1}


def test_a_damaged_archive_does_not_hide_the_rest(log, caplog):
    """An archive that cannot be read is logged; what else there is counts."""
    log.write_text(line("now"))
    log.with_name("events.jsonl.1.gz").write_bytes(gzip.compress(line("lost").encode())[:30])
    source = Events(log)
    source.tick()

    assert counts(source) == {"now": 1}
    assert "events.jsonl.1.gz cannot be read back" in caplog.text


def test_reads_back_only_what_the_day_needs(log, monkeypatch):
    """Of a log with years before the last day, only the end is read."""
    monkeypatch.setattr(log_follow, "STEP_BYTES", 4096)
    old = line("old", 100 * HOUR) * 5000
    log.write_text(old + line("new", HOUR) * 100)
    descriptor = os.open(log, os.O_RDONLY)
    start = find_start(
        descriptor, time.time() - WINDOW_SECONDS, lambda text: (parse_event(text) or (0, None))[1]
    )
    os.close(descriptor)

    assert len(old) - 4 * 4096 < start <= len(old)
    source = Events(log)
    source.tick()
    assert counts(source) == {"new": 100}


def test_the_start_is_found_past_lines_out_of_order(log, monkeypatch):
    """A few lines with an old stamp among new ones do not end the search."""
    monkeypatch.setattr(log_follow, "STEP_BYTES", 4096)
    log.write_text(line("new", HOUR) * 300 + line("jumped", 100 * HOUR) * 20 + line("new", HOUR) * 300)
    source = Events(log)
    source.tick()

    assert counts(source) == {"new": 600}


def test_an_endless_line_is_rejected_once(log, monkeypatch):
    """A line without end costs bounded memory and one rejection, and the next line is read."""
    monkeypatch.setattr(log_follow, "MAX_LINE_BYTES", 1000)
    monkeypatch.setattr(log_follow, "CHUNK_BYTES", 512)
    log.write_text(line("a"))
    source = Events(log)
    source.tick()
    for _ in range(10):
        append(log, "x" * 900)
        source.tick()
    append(log, "\n" + line("a"))
    source.tick()

    assert counts(source) == {"a": 2}
    assert source.reading()[1] == 1


def test_a_missing_log_fails_and_comes_back(log, monkeypatch):
    """No log is a failure with no counts; a gap between rename and the next line is none."""
    source = Events(log)
    source.tick()
    assert source.health.success is False
    assert source.reading() is None
    log.write_text(line("a"))
    source.tick()
    assert counts(source) == {"a": 1}
    log.unlink()
    source.tick()
    assert source.health.success is True
    monkeypatch.setattr(log_follow, "MISSING_SECONDS", -1.0)
    source.tick()
    assert source.health.success is False
    assert source.reading() is None


@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo])
def test_something_else_in_the_place_of_the_log(log, make):
    """A directory or a pipe is said to be no file, and nothing hangs."""
    make(log)
    source = Events(log)
    source.tick()

    assert source.health.success is False


def test_a_clock_that_jumps_has_the_log_read_again(log, monkeypatch):
    """After the clock was set, the window is filled anew; rejected lines are not counted twice."""
    log.write_text(line("a", 30 * HOUR) + "nonsense\n" + line("b"))
    source = Events(log)
    source.tick()
    assert counts(source) == {"b": 1}
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() - 10 * HOUR)
    source.tick()
    assert counts(source) == {"a": 1}
    monkeypatch.setattr(time, "time", real)
    source.tick()

    assert counts(source) == {"b": 1}
    assert source.reading()[1] == 1


def test_the_last_gpu_event_is_the_newest_of_its_kind(log):
    """Only gpu.* events count for it, also one that is older than the window's beginning in the same file."""
    log.write_text(line("gpu.released", 30 * HOUR) + line("health.check"))
    source = Events(log)
    source.tick()
    assert source.reading()[2] == pytest.approx(time.time() - 30 * HOUR, abs=30)
    append(log, later_line("gpu.allocate", 60))
    source.tick()
    assert source.reading()[2] == pytest.approx(time.time() - 60, abs=30)


def test_a_rejection_is_no_event_that_the_state_must_follow(log):
    """Who is refused a GPU changes nothing in the state file, which would look stale beside such an event."""
    log.write_text(line("gpu.released", 2 * HOUR))
    append(log, later_line("gpu.rejected", 60) + later_line("gpu.reject", 30))
    source = Events(log)
    source.tick()
    assert source.reading()[2] == pytest.approx(time.time() - 2 * HOUR, abs=30)


def test_follower_gives_each_line_once_through_many_rotations(log):
    """Whatever the order of writing, polling and rotating, no line is lost or repeated."""
    seen = []
    log.touch()
    follower = LogFollower(log, seen.append, lambda _: time.time())
    follower.read_back(0)
    for number in range(60):
        append(log, f"{number}\n")
        if number % 3 == 0:
            follower.poll()
        if number % 7 == 0:
            follower.poll()
            shutil.move(log, log.with_name("events.jsonl.1"))
            log.touch()
    follower.poll()
    follower.close()

    assert [int(text) for text in seen] == list(range(60))


def test_rotated_files_are_told_from_others(log):
    """Only names that a rotation makes are taken, without the log itself."""
    for name in (
        "events.jsonl",
        "events.jsonl.1",
        "events.jsonl-20260101.gz",
        "events.txt",
        "events2.jsonl",
        "x",
    ):
        log.with_name(name).touch()

    found = rotated_files(log, 0, (0, 0))
    assert {path.name for path in found} == {"events.jsonl.1", "events.jsonl-20260101.gz"}


def test_the_log_is_read_in_the_background(site, scrape, monkeypatch):
    """A scrape is answered while the log is still being read back, and does not guess."""
    site.events_file.write_text(line("a"))
    monkeypatch.setattr(events_module.LogFollower, "read_back", lambda *_: time.sleep(0.3))
    exporter = site.exporter(events_file=site.events_file, start=True)
    result = scrape(exporter)

    assert result.of("ds01_events_24h_total") == {}
    assert result.of("ds01_event_lines_rejected_total") == {}
    assert result.success("events") is None
