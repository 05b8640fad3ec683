"""`make mutate`: changes the rendered rules one place at a time and asks the unit tests whether they notice.

A mutant that no case catches is a survivor: a condition that nobody proved. Those that cannot matter are listed
with the reason in survivors.yml; any other makes the run fail, and so does an entry there that excuses nothing, and a
share under 95 %.
"""

from __future__ import annotations

import argparse
import functools
import sys
import tempfile
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from tests.rules import driver
from tests.rules.mutations import Mutant, mutants
from tests.rules.proofs import Proof, Reading, lay_out, split

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

GOAL = 0.95
SURVIVORS = Path(__file__).parent / "survivors.yml"


class Workshop:
    """The rendered rules and their proofs, for mutants to be tried on."""

    def __init__(self, tool: Path) -> None:
        self.tool = tool
        self.rendered = driver.render()
        self.reading = Reading(self.rendered)
        self.all_proofs = split(driver.CASES)

    @functools.cache  # noqa: B019 - a workshop lives as long as the program.
    def proofs(self, file: str, name: str) -> list[Proof]:
        """The proofs to try a changed rule on, in order."""
        return self.reading.proofs(self.all_proofs, file, name)

    def caught_by(self, file: str, mutant: Mutant) -> str | None:
        """The proof that notices the mutant, an empty string if none does, None if it is no rule at all."""
        files = {**self.rendered, file: {"groups": _with(self.rendered[file]["groups"], mutant)}}
        for proof in self.proofs(file, mutant.name):
            with tempfile.TemporaryDirectory(prefix="ds01-mutant-") as name:
                case = lay_out(proof, files, self.reading, Path(name))
                done = driver.promtool(self.tool, "test", "rules", case.name, folder=Path(name))
            if "could not parse expression" in done.stdout + done.stderr:
                return None
            if done.returncode:
                return proof.name
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
    with ThreadPoolExecutor(options.jobs) as pool:
        workshop = Workshop(next(iter(tools.values())))
        work = [
            (file, mutant)
            for file, content in workshop.rendered.items()
            if content and (not options.files or file.removesuffix(".yml") in options.files)
            for mutant in mutants(driver.rules_of({file: content}))
        ]
        outcomes = pool.map(lambda item: workshop.caught_by(*item), work)
        accepted = yaml.safe_load(SURVIVORS.read_text("utf-8")) or {}
        return report(zip(work, outcomes, strict=True), accepted, everything=not options.files)


def report(
    results: Iterable[tuple[tuple[str, Mutant], str | None]],
    accepted: Mapping[str, Mapping[str, str]],
    *,
    everything: bool,
) -> int:
    """Print the survivors as they are found, then a line for each file and one for all; the exit status.

    Args:
        results: Each mutant with its file, and what caught it.
        accepted: Reasons by the rule's name and the change.
        everything: The mutants are those of all files, so that a rule without any is no rule.
    """
    caught: Counter[str] = Counter()
    total: Counter[str] = Counter()
    unused = {(name, change) for name, changes in accepted.items() for change in changes}
    tried: set[str] = set()
    unexplained = 0
    for (file, mutant), proof in results:
        total[file] += proof is not None
        caught[file] += bool(proof)
        tried.add(mutant.name)
        if proof == "":
            unused.discard((mutant.name, mutant.change))
            reason = accepted.get(mutant.name, {}).get(mutant.change)
            unexplained += reason is None
            say(f"survived  {file}  {mutant.name}", f"    {mutant.change}", f"    reason: {reason or 'none'}")
    for file, count in total.items():
        say(f"{file}: {caught[file]} of {count}")
    unused = {entry for entry in unused if everything or entry[0] in tried}
    for name, change in sorted(unused):
        say(f"unused    {SURVIVORS.name}  {name}", f"    {change}", "    is caught, or no mutant any more")
    share = caught.total() / total.total() if total.total() else 1.0
    say(f"survivors without a reason: {unexplained}", f"reasons without a survivor: {len(unused)}")
    say(f"{caught.total()} of {total.total()} mutants caught ({100 * share:.1f} %)")
    return 0 if share >= GOAL and not unexplained and not unused else 1


def say(*lines: str) -> None:
    """Print at once: a run takes minutes."""
    sys.stdout.write("\n".join(lines) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
