"""A server at work, on which nobody wastes anything, wakes nobody up."""

from __future__ import annotations

import subprocess  # noqa: TID251 - the doors are for the programs, not for their tests.
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
import requests
from tests.rules import driver

from ds01_demo.backfill import private_server
from ds01_demo.load import DAY
from ds01_monitoring.config.types import duration_seconds

if TYPE_CHECKING:
    from pathlib import Path

END = 20_000 * DAY
HOURS = 27
"""A day, and the hours that the longest window of an alert looks back."""
STEP = 60


@dataclass(frozen=True)
class Firing:
    """One alert from when it fires until it is over."""

    alert: str
    notify: str
    labels: str
    start: float


def firings(rule: dict[str, Any], url: str) -> list[Firing]:
    """When an alert would have fired in the last day: its expression every minute, then its `for`."""
    parameters = {"query": rule["expr"], "start": END - DAY, "end": END, "step": STEP}
    answer = requests.post(f"{url}/api/v1/query_range", parameters, timeout=120)
    assert answer.ok, f"{rule['alert']}: {answer.text}"
    lasting = duration_seconds(rule.get("for", "0s"))
    keep = duration_seconds(rule.get("keep_firing_for", "0s"))
    found = []
    for series in answer.json()["data"]["result"]:
        labels = " ".join(f"{name}={value}" for name, value in sorted(series["metric"].items()))
        since = last = None
        over = None
        for at, _ in series["values"]:
            if last is None or at > last + STEP:
                since = at
            last = at
            if at - since >= lasting and (over is None or at > over + keep + STEP):
                found.append(Firing(rule["alert"], rule["labels"]["notify"], labels, at))
            if at - since >= lasting:
                over = at
    return found


@pytest.mark.tools
@pytest.mark.timeout(900)
def test_a_healthy_week_is_quiet(tmp_path: Path) -> None:
    """The healthy profile gives no page and at most 3 mails to the administrators in a week.

    The simulated world repeats every day, so that a day's alerts are a seventh of a week's.
    """
    promtool = next(iter(driver.promtools().values()), None)
    if promtool is None:
        pytest.skip("no promtool: `make tools` fetches it")
    files = driver.render(jobs=[job for job in driver.JOBS if job != "grafana"])  # The demo has none.
    folder, data = tmp_path / "rules", tmp_path / "data"
    driver.write(files, folder)
    command = [sys.executable, "-m", "ds01_demo", "backfill", "--profile", "healthy", "--hours", str(HOURS)]
    command += ["--end", str(END), "--data-dir", str(data), "--promtool", str(promtool)]
    command += ["--prometheus", str(promtool.with_name("prometheus"))]
    subprocess.run([*command, "--rules", *map(str, sorted(folder.glob("*.yml")))], check=True, timeout=800)
    with private_server(str(promtool.with_name("prometheus")), tmp_path) as url:
        fired = [one for rule in driver.rules_of(files) if "alert" in rule for one in firings(rule, url)]

    pages = [one for one in fired if one.notify == "page"]
    mails = [one for one in fired if one.notify == "mail"]
    assert not pages, "\n".join(map(str, pages))
    weekly = [one for one in fired if one.notify == "digest"]  # One mail for all of them.
    assert len(mails) * 7 + bool(weekly) <= 3, "\n".join(map(str, [*mails, *weekly]))
