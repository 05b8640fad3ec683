"""Gives the demo a past of 24 hours, in the background, so that no panel stays bare."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from ds01_monitoring.runtime.binaries import find
from ds01_monitoring.runtime.supervisor import Supervisor

if TYPE_CHECKING:
    from ds01_monitoring.context import Context

NAME = "ds01-demo-past"


def begin(context: Context, search_path: str) -> bool:
    """Start to fill the demo's Prometheus with its past; False where it has one, or is being given one.

    It ends by itself after a minute or two, or with `stop`. Prometheus finds the finished blocks within
    a minute.
    """
    data = context.state.data / "prometheus"
    promtool, prometheus = find("promtool", search_path), find("prometheus", search_path)
    supervisor = Supervisor(context.state)
    if any(data.glob("*/meta.json")) or supervisor.alive(NAME) or promtool is None or prometheus is None:
        return False
    for scratch in context.state.data.glob(".ds01-demo-*"):  # Of one that was cut short.
        shutil.rmtree(scratch, ignore_errors=True)
    rules = sorted((context.state.current / "prometheus" / "rules").glob("*.yml"))
    targets = [f"--target={job}={context.addresses[job]}" for job in context.jobs]
    # Nice: the services, and whoever trains here, come first.
    command = ["nice", "-n", "15", "ds01-demo", "backfill", f"--data-dir={data}", *targets]
    tools = [f"--promtool={promtool}", f"--prometheus={prometheus}"]
    supervisor.once(NAME, [*command, *tools, "--rules", *map(str, rules)], search_path)
    return True
