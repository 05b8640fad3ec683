"""What the Andon board says of alerts, asked with promtool of alerts that nobody has to wait for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import yaml
from tests.rules import driver

if TYPE_CHECKING:
    from pathlib import Path

TOOLS = driver.promtools()
LABELS = 'alertname="DS01MIGWaste",host="h",gpu_slot="2.1",severity="warning"'
FIRING = {
    f'ALERTS{{{LABELS},alertstate="firing"}}': "1x10",
    f"ALERTS_FOR_STATE{{{LABELS}}}": "60x10",
}
OLDEST = {"labels": '{alertname="DS01MIGWaste",host="h",gpu_slot="2.1",reason="MIGWaste"}', "value": 240}
NONE = {"labels": "{}", "value": 0}


@pytest.mark.tools
@pytest.mark.parametrize("tool", TOOLS.values(), ids=TOOLS)
@pytest.mark.parametrize(
    ("alertmanager", "expected"),
    [
        pytest.param({'alertmanager_alerts{host="h",state="active"}': "1x10"}, OLDEST, id="unanswered"),
        pytest.param({'alertmanager_alerts{host="h",state="active"}': "0x10"}, NONE, id="answered"),
        pytest.param({}, OLDEST, id="Alertmanager is away"),
    ],
)
def test_the_oldest_alert_is_shown_until_all_are_answered(
    tool: Path,
    alertmanager: dict[str, str],
    expected: dict[str, Any],
    dashboards: dict[str, Any],
    tmp_path: Path,
) -> None:
    """With an alert that nobody has acknowledged its age stands there; with none left, nothing."""
    panels = dashboards["ds01-andon"]["panels"]
    (target,) = next(panel for panel in panels if panel["title"] == "Oldest alert")["targets"]
    case = {
        "rule_files": [],
        "evaluation_interval": "1m",
        "tests": [
            {
                "interval": "1m",
                "input_series": [
                    {"series": name, "values": values} for name, values in {**FIRING, **alertmanager}.items()
                ],
                "promql_expr_test": [
                    {
                        "expr": target["expr"].replace("$host", ".+"),
                        "eval_time": "5m",
                        "exp_samples": [expected],
                    }
                ],
            }
        ],
    }
    (tmp_path / "case.yml").write_text(yaml.safe_dump(case), encoding="utf-8")
    done = driver.promtool(tool, "test", "rules", "case.yml", folder=tmp_path)

    assert done.returncode == 0, done.stdout + done.stderr
