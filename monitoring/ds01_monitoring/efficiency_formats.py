"""The efficiency report as a table for the terminal, as CSV, JSON and as one HTML page that needs nothing else."""

from __future__ import annotations

import csv
import html
import io
import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from rich.table import Table

    from ds01_monitoring.efficiency import Line, Report

HEADINGS = ("held", "used", "wasted", "share wasted", "energy")
CSV_COLUMNS = ("kind", "name", "held_hours", "used_hours", "wasted_hours", "share_wasted", "energy_kwh")
CHARTED = 20
"""Users in the chart; the table has all of them."""
UPRIGHT = 8
"""Bars whose names have room beside each other."""

_EXPLAINED = "GPU-hours: one whole GPU for an hour is 1. Held = used + wasted + the time without telemetry."
_STYLE = """
body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#222}
table{border-collapse:collapse;width:100%}th,td{padding:.3rem .6rem;border-bottom:1px solid #ddd;text-align:right}
td{white-space:nowrap}th:first-child,td:first-child{text-align:left}h1,h2{font-weight:600}
.wide{overflow-x:auto}.wide svg{width:100%;min-width:32rem;height:auto}
"""


def as_json(report: Report) -> str:
    """All figures, unrounded; null where something is not known."""
    document: dict[str, Any] = {
        "start": report.start.isoformat(timespec="seconds"),
        "end": report.end.isoformat(timespec="seconds"),
        "recorded_from": report.recorded_from and report.recorded_from.isoformat(timespec="seconds"),
        "users": [_entry(line) for line in report.users],
        "slots": [_entry(line) for line in report.slots],
        "days": [
            {"day": day.isoformat(), "used_hours": used, "wasted_hours": wasted}
            for day, (used, wasted) in report.days.items()
        ],
    }
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def as_csv(report: Report) -> str:
    """Users and slots, one line each; empty where something is not known."""
    out = io.StringIO()
    writer = csv.DictWriter(out, CSV_COLUMNS, lineterminator="\n")
    writer.writeheader()
    for kind, lines in (("user", report.users), ("slot", report.slots)):
        writer.writerows({"kind": kind, **_entry(line)} for line in lines)
    return out.getvalue()


def as_tables(report: Report) -> list[Table]:
    """One table of users, and one of slots where the report has them."""
    from rich.table import Table  # noqa: PLC0415 - 60 ms that only a table needs.
    from rich.text import Text  # noqa: PLC0415

    tables = []
    for kind, lines in (("User", report.users), ("Slot", report.slots)):
        if not lines:
            continue
        table = Table(kind, box=None, pad_edge=False)
        for heading in HEADINGS:
            table.add_column(heading.capitalize(), justify="right")
        for cells in _rows(lines):
            # Text, because a name is a foreign string and rich would read its markup.
            table.add_row(*map(Text, cells))
        tables.append(table)
    return tables


def as_html(report: Report, *, site: str) -> str:
    """One page with its charts inside, without scripts and without anything from elsewhere."""
    title = f"GPU efficiency of {html.escape(site)}"
    parts = [
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>',
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style></head><body>',
        f"<h1>{title}</h1><p>{span(report)}. {record(report)} {_EXPLAINED}</p>",
    ]
    if not report.users:
        parts.append(f"<p>{html.escape(nobody(report))}</p>")
    else:
        parts += [_chart(_users_chart, report), "<h2>Users</h2>", _html_table("User", report.users)]
    if report.days:
        parts.append(_chart(_days_chart, report))
    if report.slots:
        parts += ["<h2>Slots</h2>", _html_table("Slot", report.slots)]
    return "\n".join([*parts, "</body></html>\n"])


def span(report: Report) -> str:
    """The time that the report is about."""
    return f"{report.start:%Y-%m-%d %H:%M} to {report.end:%Y-%m-%d %H:%M} UTC"


def record(report: Report) -> str:
    """A sentence where the record does not reach back as far as asked, else nothing."""
    begins = report.recorded_from
    return "" if begins is None else f"The record begins on {begins:%Y-%m-%d at %H:%M} UTC."


def nobody(report: Report) -> str:
    """What is said where there is no user to report."""
    if not report.recorded:
        return "Nothing was recorded in this time. monitoring-status tells whether everything runs."
    if not report.others:
        return "Nobody held a GPU in this time."
    names = ", ".join(name or "(no name)" for name in report.others[:CHARTED])
    return f"This user held no GPU in this time. Who did: {names}{', …' if report.others[CHARTED:] else ''}."


def _users_chart(report: Report) -> Any:
    lines = report.users[:CHARTED]
    chart = _stacked(f"GPU-hours by user{'' if len(report.users) <= CHARTED else ', the most wasteful'}")
    chart.x_labels = [line.name for line in lines]
    chart.add("used", [line.used_hours for line in lines])
    chart.add("wasted", [line.wasted_hours for line in lines])
    return chart


def _days_chart(report: Report) -> Any:
    chart = _stacked("GPU-hours by day (UTC)")
    chart.x_labels = [f"{day:%a %d %b}" for day in report.days]
    chart.add("used", [used for used, _ in report.days.values()])
    chart.add("wasted", [wasted for _, wasted in report.days.values()])
    return chart


def _stacked(title: str) -> Any:
    import pygal  # noqa: PLC0415 - only a page needs charts.
    from pygal.style import Style  # noqa: PLC0415

    style = Style(
        colors=("#3a8f4d", "#e08a1e"),
        background="white",
        plot_background="white",
        font_family="system-ui, sans-serif",
        guide_stroke_color="#ddd",
        major_guide_stroke_color="#ccc",
        opacity=".85",
    )
    return pygal.StackedBar(
        title=title, style=style, height=360, js=[], legend_at_bottom=True,
        formatter=lambda hours: f"{hours:.1f} h", show_y_guides=True, disable_xml_declaration=True,
    )  # fmt: skip


def _chart(draw: Callable[[Report], Any], report: Report) -> str:
    chart = draw(report)
    chart.add_xml_filter(_without_scripts)
    if len(chart.x_labels) > UPRIGHT:
        chart.x_label_rotation = 30
    return f'<div class="wide">{chart.render(is_unicode=True)}</div>'


def _without_scripts(tree: Any) -> Any:
    """Pygal writes a script into every chart, for tooltips that `js=[]` has switched off."""
    for parent in list(tree.iter()):
        for child in [each for each in parent if str(each.tag).endswith("script")]:
            parent.remove(child)
    return tree


def _html_table(kind: str, lines: Sequence[Line]) -> str:
    head = "".join(f"<th>{cell}</th>" for cell in (kind, *(heading.capitalize() for heading in HEADINGS)))
    rows = "".join(
        "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in cells) + "</tr>"
        for cells in _rows(lines)
    )
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>'


def _rows(lines: Sequence[Line]) -> Iterator[tuple[str, ...]]:
    """The cells of each line; the hours of a short time have two decimals."""
    digits = 1 if max(line.held_hours for line in lines) >= 10 else 2
    return (_cells(line, digits) for line in lines)


def _cells(line: Line, digits: int) -> tuple[str, ...]:
    share = line.share_wasted
    return (
        line.name or "(no name)",
        _hours(line.held_hours, digits),
        _hours(line.used_hours, digits),
        _hours(line.wasted_hours, digits),
        "-" if share is None else f"{share:.0%}",
        "-" if line.energy_kwh is None else f"{line.energy_kwh:.{digits}f} kWh",
    )


def _hours(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f} h"


def _entry(line: Line) -> dict[str, object]:
    return {
        "name": line.name,
        "held_hours": line.held_hours,
        "used_hours": line.used_hours,
        "wasted_hours": line.wasted_hours,
        "share_wasted": line.share_wasted,
        "energy_kwh": line.energy_kwh,
    }
