"""The report as one text."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING

from ds01_monitoring.doctor import causes, mask
from ds01_monitoring.doctor.facts import collect

if TYPE_CHECKING:
    from pathlib import Path

    from ds01_monitoring.doctor.causes import Cause
    from ds01_monitoring.paths import StateDir

LEAST_CAUSES = "none of the known ones shows; the checks and log lines below may tell"


def make(config: Path | None, state: StateDir) -> tuple[str, list[Cause]]:
    """The report without secrets, and the likely causes in it, as free of them."""
    facts = collect(config, state)
    secrets = mask.known(facts.settings, (state, state.demo))
    found = [
        causes.Cause(cause.situation, mask.mask(cause.evidence, secrets), cause.remedy)
        for cause in causes.likely(facts)
    ]
    told = "\n".join(f"* {cause.situation}\n  {cause.evidence}\n  next: {cause.remedy}" for cause in found)
    now = dt.datetime.now(dt.timezone.utc).isoformat(timespec="seconds")
    parts = {"likely causes": told or LEAST_CAUSES, **facts.sections}
    text = "\n\n".join(f"== {title}\n{body}" for title, body in parts.items())
    return mask.mask(
        f"DS01 Monitoring, report of {now}. Secrets are replaced by {mask.MASK}.\n\n{text}\n", secrets
    ), found
