"""The unit tests one by one, and which of them can notice a change of a rule: what makes a mutation run short."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import yaml
from tests.rules import driver
from tests.rules.mutations import UNITS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

WORD = re.compile(r"[A-Za-z_:][\w:]*")


@dataclass(frozen=True, eq=False)
class Proof:
    """One test of a case file."""

    name: str
    content: dict[str, Any]
    """A case file with this test alone."""

    @property
    def rule_files(self) -> list[str]:
        """The rule files that it loads."""
        return list(self.content["rule_files"])

    @property
    def checks(self) -> list[dict[str, Any]]:
        """What it asks for."""
        test = self.content["tests"][0]
        return [*test.get("alert_rule_test", []), *test.get("promql_expr_test", [])]

    @property
    def names(self) -> set[str]:
        """The alerts and series that it asks for."""
        return {name for check in self.checks for name in asked(check)}

    @property
    def seconds(self) -> int:
        """How much time it simulates."""
        return max(seconds(str(check["eval_time"])) for check in self.checks)

    def about(self, names: set[str]) -> Proof:
        """The same with nothing but the checks that ask for one of `names`."""
        test = dict(self.content["tests"][0])
        for kind in ("alert_rule_test", "promql_expr_test"):
            if kind in test:
                test[kind] = [check for check in test[kind] if asked(check) & names]
        return Proof(self.name, {**self.content, "tests": [test]})


def asked(check: dict[str, Any]) -> set[str]:
    """The alert or the series that a check asks for."""
    return {check["alertname"]} if "alertname" in check else set(WORD.findall(check["expr"]))


def seconds(span: str) -> int:
    """A duration such as `1h30m`."""
    return sum(int(count) * UNITS[unit] for count, unit in re.findall(r"(\d+)([smhd])", span))


def split(cases: Iterable[Path]) -> list[Proof]:
    """Every test of the case files, alone."""
    contents = ((case.stem, yaml.safe_load(case.read_text("utf-8"))) for case in cases)
    return [
        Proof(f"{stem}-{number}", {**content, "tests": [test]})
        for stem, content in contents
        for number, test in enumerate(content["tests"])
    ]


class Reading:
    """Which rule reads which."""

    def __init__(self, files: dict[str, dict[str, Any]]) -> None:
        self.reads: dict[str, set[str]] = {}
        for rule in driver.rules_of(files):
            self.reads.setdefault(name_of(rule), set()).update(WORD.findall(rule["expr"]))
        alerts = {name for name in self.reads if not name.startswith("ds01:")}
        for words in self.reads.values():
            words.update(alerts if "ALERTS" in words else ())

    def dependents(self, name: str) -> set[str]:
        """A rule's name and the names of all rules that read it, directly or through others."""
        return _closure({name}, lambda found: {each for each, words in self.reads.items() if words & found})

    def sources(self, names: set[str]) -> set[str]:
        """The names of the rules that `names` are made from, and themselves."""
        return _closure(names, lambda found: {word for each in found for word in self.reads.get(each, ())})

    def proofs(self, proofs: Iterable[Proof], file: str, name: str) -> list[Proof]:
        """The proofs that ask for a rule or for what is made from it, cut down to that; the likeliest and shortest first."""
        touched = self.dependents(name)
        chosen = [
            proof.about(touched) for proof in proofs if file in proof.rule_files and proof.names & touched
        ]
        return sorted(chosen, key=lambda proof: (name not in proof.names, proof.seconds, proof.name))


def name_of(rule: dict[str, Any]) -> str:
    """The alert or the series that a rule makes."""
    return str(rule.get("alert") or rule["record"])


def _closure(names: set[str], further: Callable[[set[str]], set[str]]) -> set[str]:
    while more := further(names) - names:
        names = names | more
    return names


def lay_out(proof: Proof, files: dict[str, dict[str, Any]], reading: Reading, folder: Path) -> Path:
    """Write a proof and the rules that it needs, of those that it loads, into `folder`; return the proof's file."""
    needed = reading.sources(proof.names)
    for file in proof.rule_files:
        groups = [
            {**group, "rules": [rule for rule in group["rules"] if name_of(rule) in needed]}
            for group in files[file]["groups"]
        ]
        driver.write({file: {"groups": groups}}, folder)
    order = [group["name"] for file in proof.rule_files for group in files[file]["groups"]]
    path = folder / "case.yml"
    path.write_text(yaml.safe_dump({"group_eval_order": order, **proof.content}, sort_keys=False), "utf-8")
    return path
