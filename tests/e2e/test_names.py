"""What `check` believes about series and labels, against what a running Prometheus has."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from ds01_monitoring.check.catalogue import FREE_FORM, Catalogue
from ds01_monitoring.rules import read

from .site import wait_until

if TYPE_CHECKING:
    from .site import Site

pytestmark = pytest.mark.tools


def test_the_labels_that_are_inferred_are_those_that_are_there(site: Site) -> None:
    """No series of the running stack is unknown, has a label too many, or lacks one it must have."""
    wait_until(lambda: site.query("ds01:allocation_utilization:ratio"), "the rules have recorded the join")
    tree = site.state.current.resolve()
    catalogue = Catalogue(list(read(tree)), tree / "dcgm" / "counters.csv")

    wrong = {}
    for series in site.query(
        '{__name__=~".+", __name__!~"DCGM_.*"}'
    ):  # A dcgm-exporter may export more than we read.
        labels = set(series["metric"])
        name = series["metric"]["__name__"]
        known = catalogue.lookup(name)
        if name in FREE_FORM:
            continue
        if known is None:
            wrong[name] = "unknown"
        elif known.possible is not None and labels - known.possible - {"__name__"}:
            wrong[name] = f"has {sorted(labels - known.possible - {'__name__'})} besides"
        elif known.required - labels:
            wrong[name] = f"lacks {sorted(known.required - labels)}"

    machine = {name for name in wrong if name.startswith("node_") and wrong[name] == "unknown"}
    assert {name: text for name, text in wrong.items() if name not in machine} == {}
