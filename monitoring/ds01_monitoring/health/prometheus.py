"""What Prometheus knows about the rest: targets, rules, alerts on their way."""

from __future__ import annotations

import re
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

from ds01_monitoring.health.checks import Check
from ds01_monitoring.health.servers import last_reload
from ds01_monitoring.http import Unreachable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ds01_monitoring.deployment import Deployment
    from ds01_monitoring.http import Client

RULE = re.compile(r"^[ -]*(alert|record):", re.MULTILINE)
WINDOW = "10m"
# Prometheus hands what it discovered to its parts every 5 s; until then it knows neither targets nor Alertmanagers.
SETTLING_SECONDS = 20
# The plain failed counter stays 0 while a server refuses and Alertmanager tries again.
REQUESTS = f"sum by (integration) (increase(alertmanager_notification_requests_total[{WINDOW}]))"
REFUSED = f"sum by (integration) (increase(alertmanager_notification_requests_failed_total[{WINDOW}]))"
SENT = f"sum(increase(prometheus_notifications_sent_total[{WINDOW}]))"
SEND_ERRORS = f"sum(increase(prometheus_notifications_errors_total[{WINDOW}]))"


def _ask(deployment: Deployment, client: Client, path: str, **query: str) -> Any:
    reply = client.get(deployment.addresses["prometheus"], f"/api/v1/{path}", **query)
    answer = reply.json()
    if reply.status != 200 or answer.get("status") != "success":
        raise Unreachable(f"Prometheus answers {reply.status}: {answer.get('error', 'no reason given')}")
    return answer["data"]


def _query(deployment: Deployment, client: Client, expression: str, label: str = "") -> dict[str, float]:
    """The value of each series of an instant query, by one of its labels."""
    result = _ask(deployment, client, "query", query=expression)["result"]
    return {item["metric"].get(label, ""): float(item["value"][1]) for item in result}


def _settling(deployment: Deployment, client: Client) -> bool:
    """Whether Prometheus read its configuration so recently that it need not know everything in it yet."""
    loaded = last_reload(client, deployment, "prometheus")
    return loaded is not None and time.time() - loaded[1] < SETTLING_SECONDS


def targets(deployment: Deployment, client: Client) -> Iterator[Check]:
    """Every scrape target; one that was not scraped yet is pending."""
    active = _ask(deployment, client, "targets", state="active")["activeTargets"]
    by_job: dict[str, dict[str, Any]] = {target["labels"]["job"]: target for target in active}
    settling = not by_job.keys() >= deployment.addresses.keys() and _settling(deployment, client)
    for job in deployment.addresses:
        target = by_job.get(job)
        if target is None and settling:
            yield Check("targets", job, "pending", "Prometheus has just read its configuration")
        elif target is None:
            hint = "monitoring-manage reload"
            yield Check("targets", job, "failed", "Prometheus does not know it", hint)
        elif target["health"] == "up":
            yield Check("targets", job, "ok", target["scrapeUrl"])
        elif target["health"] == "unknown":
            yield Check("targets", job, "pending", "not scraped yet")
        else:
            detail = f"{target['scrapeUrl']}: {target['lastError']}"
            yield Check("targets", job, "failed", detail, f"monitoring-manage logs {job}")


def rules(deployment: Deployment, client: Client) -> Iterator[Check]:
    """Every rendered rule file is loaded, and every rule evaluates."""
    groups = _ask(deployment, client, "rules")["groups"]
    loaded = {group["file"].rpartition("/")[2] for group in groups}
    for file in sorted((deployment.state.current / "prometheus" / "rules").glob("*.yml")):
        # Prometheus does not tell of a file whose groups are empty.
        if file.name not in loaded and RULE.search(file.read_text()):
            yield Check("rules", file.name, "failed", "not loaded", "monitoring-manage reload")
    every = [(group["name"], rule) for group in groups for rule in group["rules"]]
    for group, rule in every:
        if rule["health"] == "err":
            place = f"{group}: {rule['name']}"
            hint = "mend the expression and run monitoring-manage reload"
            yield Check("rules", place, "failed", rule.get("lastError", "does not evaluate"), hint)
    counts = Counter(rule["health"] for _, rule in every)
    if counts["unknown"]:
        yield Check(
            "rules", "evaluation", "pending", f"{counts['unknown']} of {len(every)} not evaluated yet"
        )
    elif not counts["err"]:
        yield Check("rules", "evaluation", "ok", f"{len(every)} rules evaluate")


def alerting(deployment: Deployment, client: Client) -> Iterator[Check]:
    """Prometheus reaches Alertmanager."""
    known = _ask(deployment, client, "alertmanagers")["activeAlertmanagers"]
    if not known and _settling(deployment, client):
        yield Check("alerting", "alertmanager", "pending", "Prometheus has just read its configuration")
        return
    if not known:
        hint = "monitoring-manage reload"
        yield Check("alerting", "alertmanager", "failed", "Prometheus knows no Alertmanager", hint)
        return
    sent = _query(deployment, client, SENT).get("", 0)
    errors = _query(deployment, client, SEND_ERRORS).get("", 0)
    if errors > 0 and sent - errors <= 0:
        detail = f"none of the alerts of the last {WINDOW} reached it"
        yield Check("alerting", "alertmanager", "failed", detail, "monitoring-manage logs alertmanager")
    else:
        yield Check("alerting", "alertmanager", "ok", known[0]["url"])


def notifications(deployment: Deployment, client: Client) -> Iterator[Check]:
    """The receivers accepted what Alertmanager sent in the last 10 minutes."""
    requests = _query(deployment, client, REQUESTS, "integration")
    refused = _query(deployment, client, REFUSED, "integration")
    busy = {name: count for name, count in requests.items() if count > 0}
    if not busy and not _somebody_hears(deployment):
        detail = "none configured: alerts are visible and nobody is told; set `notify` in monitoring.yaml"
        yield Check("notifications", "receivers", "absent", detail)
    elif not busy:
        yield Check("notifications", "receivers", "ok", f"nothing was sent in the last {WINDOW}")
    for name, count in busy.items():
        failed = refused.get(name, 0)
        if failed > 0 and count - failed < 0.5:  # `increase` extrapolates; half a request is none.
            hint = "monitoring-manage logs alertmanager has the server's words"
            detail = f"every attempt of the last {WINDOW} was refused"
            yield Check("notifications", name, "failed", detail, hint)
        else:
            yield Check("notifications", name, "ok", f"accepted in the last {WINDOW}")


def _somebody_hears(deployment: Deployment) -> bool:
    """Whether the rendered Alertmanager configuration has a receiver that sends anything."""
    file = deployment.state.current / "alertmanager" / "alertmanager.yml"
    return not file.exists() or bool(
        re.search(r"^ +\w+_configs:", file.read_text(encoding="utf-8"), re.MULTILINE)
    )
