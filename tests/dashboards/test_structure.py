"""Every generated dashboard is what Grafana's own published schema asks for, and what we ask for beyond it."""

import json
from pathlib import Path

import jsonschema
import pytest

SCHEMA = Path(__file__).parent / "schema"
OF_THE_DATASOURCE = {"expr", "step", "titleFormat", "textFormat", "tagKeys", "useValueForTime"}
"""Fields of an annotation that belong to the Prometheus data source, whose types are not in the package."""


def check(value, name):
    """Raise where `value` is not what the schema file says."""
    jsonschema.Draft7Validator(json.loads((SCHEMA / f"{name}.json").read_text())).validate(value)


def panels_of(dashboard):
    """The panels of a dashboard, without its headings."""
    return [panel for panel in dashboard["panels"] if panel["type"] != "row"]


def test_the_dashboard_fits_the_schema(any_dashboard):
    """Dashboard, variables, links, annotations and the frame of each panel have the published fields and no other."""
    for mark in any_dashboard["annotations"]["list"]:
        for key in OF_THE_DATASOURCE:
            mark.pop(key, None)

    check(any_dashboard, "dashboard")


def test_options_fit_the_schema_of_their_panel(any_dashboard):
    """Each panel's options and field settings have the published fields and no other, none that is required missing."""
    for panel in panels_of(any_dashboard):
        name = panel["type"].replace("-", "")
        check(panel["options"], f"{name}-options")
        custom = panel["fieldConfig"]["defaults"]["custom"]
        if (SCHEMA / f"{name}-fieldconfig.json").exists():
            check(custom, f"{name}-fieldconfig")
        else:
            assert custom == {}


def test_ids_and_places_are_whole(any_dashboard):
    """Ids and refIds are unique, nothing overlaps, nothing stands beyond the 24 columns."""
    ids = [panel["id"] for panel in any_dashboard["panels"]]
    assert len(ids) == len(set(ids))
    taken = set()
    for panel in any_dashboard["panels"]:
        grid = panel["gridPos"]
        cells = {(grid["x"] + x, grid["y"] + y) for x in range(grid["w"]) for y in range(grid["h"])}
        assert grid["x"] + grid["w"] <= 24
        assert not cells & taken
        taken |= cells
        refs = [target["refId"] for target in panel.get("targets", [])]
        assert len(refs) == len(set(refs))


def test_every_query_names_the_datasource_and_the_server(any_dashboard):
    """No query falls to a default data source, and every selector of the ones that ship can be narrowed to a server."""
    for panel in panels_of(any_dashboard):
        for target in panel.get("targets", []):
            assert target["datasource"] == {"type": "prometheus", "uid": "prometheus"}
            if any_dashboard["uid"] != "kinds":
                assert target["expr"].count("{") == target["expr"].count('host=~"$host"')


def test_every_panel_explains_itself(any_dashboard):
    """Each panel says what it shows and what stands there without data; `No data` alone explains nothing."""
    for panel in panels_of(any_dashboard):
        if panel["type"] == "text":
            continue
        assert panel["description"].endswith("."), panel["title"]
        assert panel["fieldConfig"]["defaults"]["noValue"], panel["title"]


def test_what_is_unknown_is_not_green(any_dashboard):
    """Where there is no value, a light or number is grey: the colour below the first threshold is that of no value too."""
    for panel in panels_of(any_dashboard):
        defaults = panel["fieldConfig"]["defaults"]
        if panel["type"] in {"stat", "bargauge"} and defaults["color"]["mode"] == "thresholds":
            assert defaults["thresholds"]["steps"][0]["color"] in {"text", "#6e7681"}, panel["title"]


def test_the_dashboards_that_the_document_names(dashboards):
    """Uid and title are those that links and people know; all are in one tag and none can be edited."""
    titles = {
        "ds01-overview": "DS01 Overview",
        "ds01-user": "DS01 My Usage",
        "nvidia-dcgm": "NVIDIA DCGM GPU Metrics",
        "ds01-andon": "DS01 Andon Board",
        "ds01-efficiency": "DS01 Efficiency Report",
        "ds01-monitoring": "DS01 Monitoring Health",
    }
    assert titles == {uid: dashboard["title"] for uid, dashboard in dashboards.items()}
    for dashboard in dashboards.values():
        assert dashboard["tags"] == ["ds01"]
        assert dashboard["editable"] is False


def test_the_schema_refuses(dashboards):
    """The schema is strict: a made-up field or a panel without its required ones does not pass."""
    panel = panels_of(dashboards["ds01-overview"])[0]
    with pytest.raises(jsonschema.ValidationError):
        check({**panel["options"], "unheardOf": 1}, "stat-options")
    with pytest.raises(jsonschema.ValidationError):
        check({key: value for key, value in panel["options"].items() if key != "wideLayout"}, "stat-options")
