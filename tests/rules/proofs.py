"""The unit tests one by one, and which of them can notice a change of a rule: what makes a mutation run short."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import yaml
from tests.rules import driver
from tests.rules.mutations import UNITS

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

WORD = re.compile(r"[A-Za-z_:][\w:]*")


@dataclass(frozen=True)
class Proof:
    """One test of a case file, in a file of its own."""

    path: Path
    rule_files: frozenset[str]
    names: frozenset[str]
    """The alerts and series that it asks for."""
    seconds: int
    """How much time it simulates."""


def seconds(span: str) -> int:
    """A duration such as `1h30m`."""
    return sum(int(count) * UNITS[unit] for count, unit in re.findall(r"(\d+)([smhd])", span))


def _names(test: dict[str, Any]) -> frozenset[str]:
    alerts = {check["alertname"] for check in test.get("alert_rule_test", [])}
    series = {word for check in test.get("promql_expr_test", []) for word in WORD.findall(check["expr"])}
    return frozenset(alerts | series)


def split(cases: Iterable[Path], folder: Path) -> list[Proof]:
    """Write each test of the case files into a file of its own in `folder`."""
    proofs = []
    for case in cases:
        content = yaml.safe_load(case.read_text("utf-8"))
        for number, test in enumerate(content["tests"]):
            path = folder / f"{case.stem}-{number}.yml"
            path.write_text(yaml.safe_dump({**content, "tests": [test]}, sort_keys=False), "utf-8")
            checks = test.get("alert_rule_test", []) + test.get("promql_expr_test", [])
            span = max(seconds(str(check["eval_time"])) for check in checks)
            proofs.append(Proof(path, frozenset(content["rule_files"]), _names(test), span))
    return proofs


def dependents(name: str, files: dict[str, dict[str, Any]]) -> set[str]:
    """The rule's name and the names of all rules that read it, directly or through others."""
    readers = {
        rule.get("alert") or rule["record"]: set(WORD.findall(rule["expr"]))
        for rule in driver.rules_of(files)
    }
    found = {name}
    while True:
        read = found | ({"ALERTS"} if any(not each.startswith("ds01:") for each in found) else set())
        more = {reader for reader, words in readers.items() if words & read} - found
        if not more:
            return found
        found |= more


def able(proofs: Iterable[Proof], file: str, name: str, files: dict[str, dict[str, Any]]) -> list[Proof]:
    """The proofs that ask for a rule or for what is made from it: those that name it first, the short ones first."""
    touched = dependents(name, files)
    chosen = [proof for proof in proofs if file in proof.rule_files and proof.names & touched]
    return sorted(chosen, key=lambda proof: (name not in proof.names, proof.seconds, proof.path.name))
