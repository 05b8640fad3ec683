"""Every query of every panel and variable, on a real Prometheus that has watched the demo."""

from __future__ import annotations

import re
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.dashboards import server

from ds01_monitoring import board, efficiency
from ds01_monitoring.api import Prometheus

if TYPE_CHECKING:
    from collections.abc import Iterator

SUITES = server.suites()
pytestmark = [
    pytest.mark.tools,
    pytest.mark.skipif(not SUITES, reason="no Prometheus: `make tools` fetches it"),
]

RANGE = int(server.HOURS * 3600) - 600
ALWAYS = {
    "$gpu": ".+",
    "$user": server.WASTER["user"],
    "$__range": f"{RANGE}s",
    "$__rate_interval": "60s",
}
EMPTY_WHEN_WELL = {("ds01-overview", "What fires"), ("ds01-user", "My alerts"), ("nvidia-dcgm", "XID errors")}
"""Panels that say in words that all is well; the lively demo has something for each."""
KNOWN_ANYWAY = {
    ("ds01-overview", "Firing alerts"),
    ("ds01-user", "My alerts"),
    ("ds01-andon", "Oldest alert"),
}
"""Panels whose 0 is true also where nothing is watched: that no alert fires."""
NEED_TELEMETRY = {
    ("ds01-overview", "Utilisation by slot"),
    ("ds01-overview", "Temperature by GPU"),
    ("ds01-overview", "Power by GPU"),
    ("ds01-overview", "GPUs"),
    ("nvidia-dcgm", "Utilisation"),
    ("nvidia-dcgm", "Errors by card"),
}
LIMITS = {"percentunit": 1, "celsius": 120, "watt": 4 * 500, "kwatth": 50, "hertz": 3e9, "bytes": 1e12}
"""The largest value that is possible on the demo's server, by unit."""


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """A short path, as unix sockets need."""
    with tempfile.TemporaryDirectory(prefix="ds01-") as made:
        yield Path(made)


@pytest.fixture(scope="module", params=SUITES)
def lively(request: pytest.FixtureRequest, folder: Path) -> Iterator[server.Watched]:
    """A server with whole GPUs and MIG slices, used, idle and shared."""
    (folder / request.param).mkdir()
    with server.watched(folder / request.param, request.param) as running:
        yield running


@pytest.fixture(scope="module")
def whole(folder: Path) -> Iterator[server.Watched]:
    """A server without MIG."""
    (folder / "whole").mkdir()
    with server.watched(folder / "whole", SUITES[0], profile="whole") as running:
        yield running


@pytest.fixture(scope="module")
def blind(folder: Path) -> Iterator[server.Watched]:
    """A server whose dcgm-exporter has never answered."""
    (folder / "blind").mkdir()
    with server.watched(folder / "blind", SUITES[0], dcgm=False) as running:
        yield running


def answers(
    running: server.Watched, dashboard: dict[str, Any], host: str = ".+"
) -> Iterator[tuple[dict[str, Any], str, list[Any]]]:
    """Each panel with each of its queries and the series that come back; errors and warnings fail."""
    now = int(time.time())
    for panel in dashboard["panels"]:
        for target in panel.get("targets", []):
            expr = filled(target["expr"], host)
            if target["instant"]:
                answer = running.get("query", query=expr, time=now)
            else:
                step = 3600 if panel["interval"] == "1h" else 86400 if panel["interval"] == "1d" else 60
                end = (now // step + 1) * step
                answer = running.get(
                    "query_range", query=expr, start=end - max(RANGE, step), end=end, step=step
                )
            place = f"{dashboard['uid']}: {panel['title']}: {expr}"
            assert answer["status"] == "success", f"{place}: {answer.get('error')}"
            assert not answer.get("warnings"), f"{place}: {answer['warnings']}"
            yield panel, place, answer["data"]["result"]


def filled(expr: str, host: str = ".+") -> str:
    """The query with Grafana's variables filled in; none may be left."""
    for name, value in {**ALWAYS, "$host": host}.items():
        expr = expr.replace(name, value)
    assert "$" not in re.sub(r'"\$\d"', "", expr), expr
    return expr


def numbers(series: list[Any]) -> list[float]:
    """All values of an answer."""
    pairs = [pair for one in series for pair in (one.get("values") or [one["value"]])]
    return [float(value) for _, value in pairs]


def shown(running: server.Watched, dashboards: dict[str, Any]) -> set[tuple[str, str]]:
    """The panels that show data; each query has run without error or warning, each value is in range."""
    found = set()
    for uid, dashboard in dashboards.items():
        for panel, place, series in answers(running, dashboard):
            if series:
                found.add((uid, panel["title"]))
            limit = LIMITS.get(panel["fieldConfig"]["defaults"].get("unit"))
            for value in numbers(series) if limit else []:
                assert 0 <= value <= limit * 1.001, f"{place}: {value}"
    return found


def every_panel(dashboards: dict[str, Any]) -> set[tuple[str, str]]:
    """All panels that ask something."""
    return {
        (uid, panel["title"])
        for uid, each in dashboards.items()
        for panel in each["panels"]
        if "targets" in panel
    }


def test_every_panel_shows_data(lively: server.Watched, dashboards: dict[str, Any]) -> None:
    """With MIG and whole GPUs, each panel has data, without a warning, and shares, degrees and watts are possible ones."""
    assert every_panel(dashboards) - shown(lively, dashboards) == set()


def test_every_column_has_values(lively: server.Watched, dashboards: dict[str, Any]) -> None:
    """No query of a table is empty: each column is filled for somebody."""
    for dashboard in dashboards.values():
        for panel, place, series in answers(lively, dashboard):
            assert series or panel["type"] != "table", place


def test_lights_and_timelines_have_their_labels(lively: server.Watched, dashboards: dict[str, Any]) -> None:
    """Grafana names a light by the one label `row`, and a line of a timeline of words by `row`, too."""
    wanted = {"rowsToFields": {"row"}, "groupingToMatrix": {"row", "word"}}
    for dashboard in dashboards.values():
        for panel, place, series in answers(lively, dashboard):
            for step in panel.get("transformations", []):
                labels = wanted.get(step["id"], set())
                assert all(labels <= one["metric"].keys() for one in series), place
                assert step["id"] != "rowsToFields" or all(labels == one["metric"].keys() for one in series)


def test_power_is_counted_once(lively: server.Watched, dashboards: dict[str, Any]) -> None:
    """The power of a card in MIG mode, which every instance repeats, is in the overview's sum once."""
    (query,) = (
        target["expr"]
        for panel in dashboards["ds01-overview"]["panels"]
        if panel["title"] == "Power"
        for target in panel["targets"]
    )
    (total,) = lively.vector(filled(query))
    (once,) = lively.vector("sum(max by (UUID) (DCGM_FI_DEV_POWER_USAGE))")
    (repeated,) = lively.vector("sum(DCGM_FI_DEV_POWER_USAGE)")

    assert float(total["value"][1]) == pytest.approx(float(once["value"][1]), rel=0.25)
    assert float(repeated["value"][1]) > 1.3 * float(once["value"][1])


def test_hours_are_given_out_once(lively: server.Watched, dashboards: dict[str, Any]) -> None:
    """All users together have held no more GPU-hours than the server has."""
    held = next(
        panel for panel in dashboards["ds01-efficiency"]["panels"] if panel["title"] == "GPU-hours held"
    )
    (total,) = lively.vector(filled(held["targets"][0]["expr"]))

    assert 0 < float(total["value"][1]) <= 4 * (RANGE + 600) / 3600


def test_the_report_agrees_with_the_dashboard(lively: server.Watched, dashboards: dict[str, Any]) -> None:
    """`monitoring-manage report` and the efficiency report count the same hours."""
    held = next(
        panel for panel in dashboards["ds01-efficiency"]["panels"] if panel["title"] == "GPU-hours held"
    )
    (total,) = lively.vector(filled(held["targets"][0]["expr"]))
    found = efficiency.read(Prometheus("Prometheus", lively.url), now=time.time(), since=RANGE)

    assert sum(line.held_hours for line in found.users) == pytest.approx(float(total["value"][1]), rel=0.2)
    assert sum(line.held_hours for line in found.slots) == pytest.approx(float(total["value"][1]), rel=0.2)
    assert next(
        line for line in found.users if line.name == server.WASTER["user"]
    ).share_wasted == pytest.approx(1, abs=0.1)


def test_every_variable_has_values(lively: server.Watched, dashboards: dict[str, Any]) -> None:
    """Each variable offers something to choose, the one who wastes among the users."""
    for dashboard in dashboards.values():
        for variable in dashboard["templating"]["list"]:
            match = re.fullmatch(r"label_values\((.*), (\w+)\)", variable["query"]["query"])
            assert match, variable["query"]
            answer = lively.get(
                "series", **{"match[]": filled(match[1]), "start": time.time() - RANGE, "end": time.time()}
            )
            values = {series[match[2]] for series in answer["data"]}
            assert values, variable["name"]
            if variable["name"] == "user":
                assert server.WASTER["user"] in values


def test_every_annotation_answers(lively: server.Watched, dashboards: dict[str, Any]) -> None:
    """The alerts marked on the graphs come from a query that works and finds the one that fires."""
    for dashboard in dashboards.values():
        expr = filled(dashboard["annotations"]["list"][0]["expr"])
        assert lively.vector(expr), expr


def test_what_a_mail_to_users_hangs_on_is_no_alert_to_look_at(
    lively: server.Watched, dashboards: dict[str, Any]
) -> None:
    """DS01UserWaste lasts a day beyond what it tells; the panels and the live view show the alerts about the slots."""
    assert lively.vector('ALERTS{alertname="DS01UserWaste", alertstate="firing"}')
    expressions = [each["annotations"]["list"][0]["expr"] for each in dashboards.values()]
    series = [one for expr in expressions for one in lively.vector(filled(expr))]
    series += [one for each in dashboards.values() for _, _, found in answers(lively, each) for one in found]
    mine = next(each for each in dashboards["ds01-user"]["panels"] if each["title"] == "My alerts")
    (count,) = lively.vector(filled(mine["targets"][0]["expr"]))
    (slots,) = lively.vector(
        f'count(ALERTS{{user="{server.WASTER["user"]}", alertstate="firing", gpu_slot!=""}})'
    )

    assert "DS01UserWaste" not in {one["metric"].get("alertname") for one in series}
    assert count["value"][1] == slots["value"][1]
    assert "DS01UserWaste" not in {alert.name for alert in board.alerts(Prometheus("Prometheus", lively.url))}


def test_a_server_without_mig(whole: server.Watched, dashboards: dict[str, Any]) -> None:
    """Without MIG the same panels have data, except those that say in words that all is well."""
    assert every_panel(dashboards) - shown(whole, dashboards) - EMPTY_WHEN_WELL == set()


def test_a_server_that_nobody_watches_has_no_figures(
    lively: server.Watched, dashboards: dict[str, Any]
) -> None:
    """What is unknown is not 0: only how many alerts fire is known, and a timeline has a row that says what is missing."""
    found = {
        (uid, panel["title"]): series
        for uid, each in dashboards.items()
        for panel, _, series in answers(lively, each, host="gone")
        if series
    }
    timelines = {
        (uid, panel["title"])
        for uid, each in dashboards.items()
        for panel in each["panels"]
        if panel["type"] == "state-timeline"
    }

    assert found.keys() == KNOWN_ANYWAY | timelines
    assert {value for title in timelines for value in numbers(found[title])} == {-1}


def test_a_server_without_telemetry(blind: server.Watched, dashboards: dict[str, Any]) -> None:
    """With dcgm-exporter down no query fails; the panels about hardware say so, the others keep their data."""
    kept = {("ds01-overview", "Held"), ("ds01-overview", "Who holds what"), ("ds01-monitoring", "Targets")}
    deadline = time.monotonic() + 120
    empty = every_panel(dashboards) - shown(blind, dashboards)
    while (
        kept & empty and time.monotonic() < deadline
    ):  # Rules follow rules, a quarter of a minute after each other.
        time.sleep(1)
        empty = every_panel(dashboards) - shown(blind, dashboards)

    assert not kept & empty
    assert empty >= NEED_TELEMETRY
    assert "0" not in {light["value"][1] for light in blind.vector("ds01:gpu_light:state")}
    for uid, title in empty:
        panel = next(each for each in dashboards[uid]["panels"] if each["title"] == title)
        assert panel["fieldConfig"]["defaults"]["noValue"]
