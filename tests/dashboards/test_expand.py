"""The expander: what a spec may say, where its mistakes are reported, and what becomes of each kind of panel."""

import json
from pathlib import Path

import pytest

from ds01_monitoring.config import Settings
from ds01_monitoring.dashboards import expand
from ds01_monitoring.errors import ConfigError

HERE = Path(__file__).parent
SPEC = """\
uid: small
title: Small
description: A small one.
range: 6h
refresh: 1m
rows:
  - height: 4
    panels:
      - stat: GPUs
        description: How many.
        query: sum(gpus)
        novalue: none
"""


def spec(**replaced):
    """SPEC with some of its text replaced; a keyword is the text before the colon."""
    lines = SPEC
    for old, new in replaced.items():
        lines = lines.replace(f"{old}:", f"{new}:")
    return lines


def expanded(text=SPEC):
    """The dashboard of a spec that stands in the file small.yml."""
    return expand(text, "small.yml", Settings())


def test_golden(update_golden):
    """Each kind of panel expands to the JSON in kinds.json."""
    golden = HERE / "kinds.json"
    text = json.dumps(expanded((HERE / "kinds.yml").read_text()), indent=2, ensure_ascii=False) + "\n"
    if update_golden:
        golden.write_text(text)

    assert golden.read_text() == text


@pytest.mark.parametrize(
    ("text", "place", "words"),
    [
        (spec(novalue="unti: x\n        novalue"), "small.yml:12", "unti: unknown key"),
        (spec(refresh="refrsh"), "small.yml:5", "did you mean refresh?"),
        (spec(height="hight"), "small.yml:7", "did you mean height?"),
        (SPEC.replace("novalue: none", ""), "small.yml:9", "novalue is missing"),
        (spec(stat="stats"), "small.yml:9", "has none"),
        (spec(novalue="table: x\n        novalue"), "small.yml:9", "stat and table"),
        (spec(novalue="width: 25\n        novalue"), "small.yml:8", "more than 24"),
        (spec(novalue="columns: {a: b}\n        novalue"), "small.yml:12", "only a table"),
        (spec(novalue="axis: [1]\n        novalue"), "small.yml:12", "[from, to]"),
        (spec(novalue="thresholds: {85: red}\n        novalue"), "small.yml:12", "base is missing"),
        (spec(novalue="thresholds: {base: red, hot: red}\n        novalue"), "small.yml:12", "no number"),
        (spec(novalue="mappings: {1: held}\n        novalue"), "small.yml:12", "must be a list"),
        (spec(novalue="mappings: {1: [held]}\n        novalue"), "small.yml:12", "[words, colour]"),
        (SPEC.replace("range: 6h", "range: soon"), "small.yml:4", "no duration"),
        (SPEC.replace("sum(gpus)", "{a: x}\n        legend: b"), "small.yml:12", "are the legends"),
        (spec(rows="variables: {host: {label: a, query: b}}\nrows"), "small.yml:6", "host already"),
        (SPEC.replace("height: 4", "height: -2"), "small.yml:7", "whole number from 1"),
        (SPEC.replace("height: 4", "height: 2.5"), "small.yml:7", "whole number from 1"),
        (spec(novalue="width: 0\n        novalue"), "small.yml:12", "whole number from 1"),
        (SPEC.replace("sum(gpus)", "{}"), "small.yml:11", "asks nothing"),
        (spec(rows="variables: {gpu: {label: a, query: b, all: 1}}\nrows"), "small.yml:6", "true or false"),
        (SPEC + "  extra: [", "small.yml:", "not YAML"),
        ("[]", "small.yml", "must be a mapping"),
    ],
)
def test_a_mistake_is_reported_with_its_line(text, place, words):
    """Whatever no dashboard has is an error that names the line and what would be right."""
    with pytest.raises(ConfigError) as caught:
        expanded(text)

    assert caught.value.place.startswith(place)
    assert words in f"{caught.value.problem} {caught.value.hint}"


def test_panels_fill_the_row():
    """Panels without a width share what the others leave, and no two overlap."""
    panels = "\n".join(f"      - {{text: '{n}', raw: {{}}}}" for n in range(7))
    grids = [panel["gridPos"] for panel in expanded(SPEC + panels)["panels"]]

    assert sum(grid["w"] for grid in grids) == 24
    assert [sum(grid["w"] for grid in grids[:index]) for index in range(8)] == [grid["x"] for grid in grids]


def test_raw_is_merged_over_everything():
    """`raw` replaces single values deep inside and leaves their neighbours alone."""
    raw = "raw: {fieldConfig: {defaults: {unit: watt}}, options: {textMode: name}}\n        novalue"
    (panel,) = expanded(spec(novalue=raw))["panels"]

    assert panel["fieldConfig"]["defaults"]["unit"] == "watt"
    assert panel["fieldConfig"]["defaults"]["noValue"] == "none"
    assert panel["options"]["textMode"] == "name"
    assert panel["options"]["colorMode"] == "value"


def test_every_dashboard_has_the_host_variable_and_the_annotations():
    """Servers can be chosen, and alerts and maintenance are marked, without a word in the spec."""
    made = expanded()

    assert [variable["name"] for variable in made["templating"]["list"]] == ["host"]
    assert [mark["name"] for mark in made["annotations"]["list"]] == ["Alerts", "Maintenance"]


def test_alerts_of_a_user_only():
    """A dashboard about one user marks that user's alerts, not everybody's."""
    made = expanded(spec(rows="variables: {user: {label: User, query: 'label_values(a, user)'}}\nrows"))

    assert 'user="$user"' in made["annotations"]["list"][0]["expr"]


def test_expanding_does_not_share_anything():
    """What is done to one dashboard does not show in the next one."""
    expanded()["panels"][0]["options"]["reduceOptions"]["calcs"].append("max")

    assert expanded()["panels"][0]["options"]["reduceOptions"]["calcs"] == ["lastNotNull"]
