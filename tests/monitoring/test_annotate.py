"""What is added to every alert mechanically."""

from __future__ import annotations

import pytest
import yaml

from ds01_monitoring.annotate import annotate
from ds01_monitoring.errors import ConfigError

RULES = """\
groups:
  - name: a
    rules:
      - alert: DS01One
        # Why it is so.
        expr: up{job="x"} == 0
        labels:
          severity: warning
          notify: mail
        annotations:
          summary: "{{ $labels.host }} is down."
      - record: ds01:x:y
        expr: up
      - alert: DS01Two
        expr: up
        labels: {severity: info, notify: dashboard}
        annotations: {summary: two}
"""


def alerts(text, **options):
    """The annotated text, and its alerts by name."""
    options = {"place": "a.yml.j2", "runbook_url": "https://docs/alerts.md", "notify": {}} | options
    out = annotate(text, **options)
    return out, {rule["alert"]: rule for rule in yaml.safe_load(out)["groups"][0]["rules"] if "alert" in rule}


def test_every_alert_gets_a_link_to_its_section():
    """Block and flow mappings alike; everything else stays as it was written."""
    text, found = alerts(RULES)

    assert found["DS01One"]["annotations"]["runbook_url"] == "https://docs/alerts.md#ds01one"
    assert found["DS01Two"]["annotations"]["runbook_url"] == "https://docs/alerts.md#ds01two"
    assert [line for line in text.splitlines() if "runbook_url: " not in line] == [
        line for line in RULES.splitlines() if "annotations: {" not in line
    ]


def test_a_link_that_is_there_stays():
    """A rule that brings its own runbook keeps it."""
    _, found = alerts(RULES.replace("summary: two", "runbook_url: https://elsewhere, summary: two"))

    assert found["DS01Two"]["annotations"]["runbook_url"] == "https://elsewhere"


def test_the_site_decides_who_hears_an_alert():
    """`alerts.notify` stands above the label that the rule has."""
    _, found = alerts(RULES, notify={"DS01One": "digest", "DS01Two": "page"})

    assert found["DS01One"]["labels"] == {"severity": "warning", "notify": "digest"}
    assert found["DS01Two"]["labels"]["notify"] == "page"


def test_an_alert_without_annotations_is_a_mistake():
    """An alert that tells nobody what to do is refused where it stands."""
    with pytest.raises(ConfigError, match=r"a\.yml\.j2: alert DS01One has no annotations"):
        alerts("groups: [{name: a, rules: [{alert: DS01One, expr: up, labels: {severity: info}}]}]")
