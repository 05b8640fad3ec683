"""The live terminal view: what it reads, and that it fits into 80 x 24."""

import io

import pytest
from rich.console import Console
from rich.text import Text

from ds01_monitoring import board
from ds01_monitoring.board import Alert, Board, Row
from ds01_monitoring.watch import BARS, View, sparkline

NOW = 1_800_000_000.0
GIB = 2**30


class Answers:
    """Stands for Prometheus: answers by a word that is in the query."""

    def __init__(self, **instant):
        self.instant = instant

    def query(self, expression):
        """The samples of the first word that is in the query."""
        return next(
            (
                [{"metric": labels, "value": [NOW, str(value)]} for labels, value in samples]
                for word, samples in self.instant.items()
                if word in expression
            ),
            [],
        )

    def query_range(self, expression, *, start, end, step):
        """A ramp that ends now, with its first half missing."""
        moments = range(int(start), int(end) + 1, step)
        return [
            {
                "metric": {"host": "h", "gpu_slot": "1.0"},
                "values": [[moment, "0.5"] for moment in moments[len(moments) // 2 :]],
            }
        ]


def shown(view, *, width=80, height=24, encoding="utf-8"):
    """The lines of a view in a window."""
    out = io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors="replace")
    console = Console(file=out, width=width, height=height, legacy_windows=False)
    console.print(view, height=height, end="")
    out.flush()
    return out.buffer.getvalue().decode(encoding).splitlines()


def view(rows=(), alerts=(), *, trouble="", seen=True):
    """A view of these rows and alerts."""
    made = Board(NOW, list(rows), list(alerts)) if seen else None
    return View(made, headline=Text("gpu01: healthy"), trouble=trouble, below=0.05, warm=(85, 90))


def slots(count):
    """So many slots of a large server."""
    return [
        Row(
            "gpu01",
            f"{n // 7}.{n % 7}",
            [f"user-{n}"],
            [0.5] * 20,
            2 * GIB,
            10 * GIB,
            60 + n % 40,
            n % 3 == 0,
        )
        for n in range(count)
    ]


def test_reading():
    """Slots come in the order of their numbers, holders are named, and what nobody reports stays unknown."""
    of = {"host": "h"}
    server = Answers(
        slot_held=[({**of, "gpu_slot": slot}, 1) for slot in ("2", "1.0")],
        slot_info=[({**of, "gpu_slot": slot}, 1) for slot in ("10", "2", "1.0")],
        ds01_gpu_allocated=[({**of, "gpu_slot": "1.0", "user": user}, 1) for user in ("bob", "ann")],
        memory_used=[({**of, "gpu_slot": "1.0"}, 3 * GIB)],
        temperature=[({**of, "gpu": "1"}, 66)],
        p95=[({**of, "gpu_slot": "1.0"}, 1)],
    )
    rows = board.read(server, now=NOW, below=0.05).rows

    assert [row.name for row in rows] == ["1.0", "2", "10"]
    assert rows[0].holders == ("ann", "bob")
    assert rows[0].wasted is True
    assert rows[0].temperature_celsius == 66
    assert rows[0].history[-1] == 0.5
    assert rows[0].history[0] is None
    assert rows[1] == Row("h", "2")
    assert rows[2] == Row("h", "10", None)


def test_a_slot_nobody_can_be_asked_about_is_not_free():
    """What cannot be known does not look like an invitation."""
    text = "\n".join(shown(view([Row("h", "0", None), Row("h", "1")])))

    assert text.count("unknown") == 1
    assert text.count("free") == 1


def test_alerts_are_ordered():
    """The gravest alert stands first, then the oldest."""
    server = Answers(
        ALERTS=[
            ({"alertname": "A", "severity": "warning", "gpu_slot": "1.0"}, 5),
            ({"alertname": "B", "severity": "warning", "host": "h"}, 1),
            ({"alertname": "C", "severity": "critical", "gpu": "3"}, 9),
        ]
    )

    assert [(alert.name, alert.about) for alert in board.alerts(server)] == [
        ("C", "GPU 3"),
        ("B", "h"),
        ("A", "1.0"),
    ]


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
@pytest.mark.parametrize("count", [1, 10, 56])
@pytest.mark.parametrize("firing", [0, 3, 30])
def test_it_fits(count, firing, encoding):
    """Whatever there is, 24 lines of 80 columns hold it, and what is left out is counted."""
    alerts = [Alert("warning", f"DS01Alert{n}", "gpu01 1.0 " + "long" * 30, NOW - 600) for n in range(firing)]
    lines = shown(view(slots(count), alerts), encoding=encoding)

    assert len(lines) <= 24
    assert all(len(line.rstrip()) <= 80 for line in lines)
    assert lines[0].startswith("gpu01: healthy")
    assert any("used" in line or "wasted" in line for line in lines)
    text = "\n".join(lines)
    assert ("more slots" in text) == (count == 56)
    assert ("more alerts" in text) == (firing == 30)


def test_foreign_names_stay_text():
    """A user who is called like rich's markup neither paints nor breaks the screen."""
    lines = shown(view([Row("h", "0", ["[red]x[/] [/nonsense]"])]))

    assert any("[red]x[/] [/nonsense]" in line for line in lines)


def test_unknown_is_not_zero():
    """A slot without telemetry has dashes instead of zeros, and one without a holder is free."""
    (line,) = [each for each in shown(view([Row("h", "0")])) if each.startswith("0")]

    assert line.split() == ["0", "-", "-", "-", "free"]


def test_trouble_takes_the_place_of_the_board():
    """When nothing can be read, the reason is shown and no old figure."""
    lines = shown(view(trouble="Prometheus at http://127.0.0.1:9090: does not answer", seen=False))

    assert any("does not answer" in line for line in lines)


def test_sparkline():
    """Each value has its character, out-of-range ones the outermost, missing ones a blank."""
    assert sparkline([0, 1, None, 2, -1]) == f"{BARS[0]}{BARS[-1]} {BARS[-1]}{BARS[0]}"
