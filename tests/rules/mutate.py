"""`make mutate`: changes the rendered rules one place at a time and asks the unit tests whether they notice.

A mutant that no case catches is a survivor: a condition that nobody proved. Those that cannot matter are listed
with the reason in survivors.yml; any other makes the run fail when fewer than 95 % are caught.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from tests.rules import driver
from tests.rules.mutations import Mutant, mutants

if TYPE_CHECKING:
    from collections.abc import Sequence

GOAL = 0.95
SURVIVORS = Path(__file__).parent / "survivors.yml"
OWN_CASES = {"allocation": "allocation allocation_alerts", "gpu": "gpu_days gpu", "inventory": "gpu"}


def cases_for(file: str) -> list[Path]:
    """The case files that load a rule file, the likeliest to notice first."""
    stem = file.removesuffix(".yml")
    first = OWN_CASES.get(stem, stem).split()
    using = [case for case in driver.CASES if file in yaml.safe_load(case.read_text("utf-8"))["rule_files"]]
    return sorted(using, key=lambda case: (case.stem not in first, case.stem != stem, case.stem))


class Workshop:
    """The rendered rules and the case files in a folder, for mutants to borrow from."""

    def __init__(self, folder: Path, tool: Path) -> None:
        self.folder = folder
        self.tool = tool
        self.rendered = driver.render()
        driver.write(self.rendered, folder)
        driver.install(driver.CASES, folder)

    def caught_by(self, file: str, mutant: Mutant) -> str | None:
        """The case that notices the mutant, an empty string if none does, None if it is no rule at all."""
        changed = {file: {"groups": _with(self.rendered[file]["groups"], mutant)}}
        with tempfile.TemporaryDirectory(prefix="ds01-mutant-") as name:
            folder = Path(name)
            for original in self.folder.iterdir():
                if original.name != file:
                    (folder / original.name).symlink_to(original)
            driver.write(changed, folder)
            for case in cases_for(file):
                outcome = driver.run_case(self.tool, case, folder, "")
                if "could not parse expression" in outcome.output:
                    return None
                if not outcome.passed:
                    return case.stem
        return ""


def _with(groups: list[dict[str, Any]], mutant: Mutant) -> list[dict[str, Any]]:
    seen = 0
    changed = []
    for group in groups:
        rules = list(group["rules"])
        if seen <= mutant.index < seen + len(rules):
            rules[mutant.index - seen] = mutant.rule
        seen += len(rules)
        changed.append({**group, "rules": rules})
    return changed


def main(arguments: Sequence[str] | None = None) -> int:
    """Run and report; 0 when the goal is met."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="*", help="rule files without .yml; all of them by default")
    parser.add_argument("--jobs", type=int, default=2, help="how many at a time")
    options = parser.parse_args(arguments)
    tools = driver.promtools()
    if not tools:
        sys.stderr.write("error: no promtool\n  hint: `make tools` fetches it\n")
        return 2
    accepted = yaml.safe_load(SURVIVORS.read_text("utf-8")) or {}
    with tempfile.TemporaryDirectory(prefix="ds01-rules-") as name, ThreadPoolExecutor(options.jobs) as pool:
        workshop = Workshop(Path(name), next(iter(tools.values())))
        work = [
            (file, mutant)
            for file, content in workshop.rendered.items()
            if not options.files or file.removesuffix(".yml") in options.files
            for mutant in mutants(driver.rules_of({file: content}))
        ]
        outcomes = pool.map(lambda item: workshop.caught_by(*item), work)
        total = caught = explained = 0
        for (file, mutant), case in zip(work, outcomes, strict=True):
            total += case is not None
            caught += bool(case)
            if case == "":
                reason = accepted.get(mutant.name, {}).get(mutant.change)
                explained += reason is not None
                say(
                    f"survived  {file}  {mutant.name}",
                    f"    {mutant.change}",
                    f"    reason: {reason or 'none'}",
                )
    share = caught / total if total else 1.0
    say(
        f"{total} mutants, {caught} caught ({share:.1%}), {explained} survivors with a reason, "
        f"{total - caught - explained} without"
    )
    return 0 if share >= GOAL else 1


def say(*lines: str) -> None:
    """Print at once: a run takes minutes."""
    sys.stdout.write("\n".join(lines) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
