"""The report of `make mutate`: what survives needs a reason, and a reason needs a survivor."""

from __future__ import annotations

from tests.rules.mutate import report
from tests.rules.mutations import Mutant

CAUGHT = "a-proof"


def outcome(name, change, proof):
    """One mutant of `gpu.yml` and what caught it."""
    return (("gpu.yml", Mutant(0, name, change, {})), proof)


def reported(capsys, results, accepted, *, everything=True):
    """Exit status and text of a report, with enough mutants caught to reach the goal."""
    caught = [outcome("DS01Other", f"1 -> {number}", CAUGHT) for number in range(50)]
    return report([*caught, *results], accepted, everything=everything), capsys.readouterr().out


def test_a_survivor_needs_a_reason(capsys):
    """One that is excused passes, one that is not fails."""
    survivor = outcome("DS01GPU", "< -> <=", "")

    assert reported(capsys, [survivor], {"DS01GPU": {"< -> <=": "a forecast of exactly 0"}})[0] == 0
    status, said = reported(capsys, [survivor], {})
    assert status == 1
    assert "survivors without a reason: 1" in said


def test_a_reason_without_a_survivor_fails(capsys):
    """An entry whose mutant is caught by now, whose change is gone, or whose rule is gone excuses nothing."""
    accepted = {"DS01GPU": {"< -> <=": "once", "5 -> 6": "once"}, "DS01Gone": {"> -> >=": "once"}}
    status, said = reported(capsys, [outcome("DS01GPU", "< -> <=", CAUGHT)], accepted)

    assert status == 1
    assert "reasons without a survivor: 3" in said
    assert "unused    survivors.yml  DS01Gone" in said


def test_a_run_of_some_files_says_nothing_of_the_others(capsys):
    """With only some files asked for, a rule that was not tried keeps its reasons."""
    accepted = {"DS01Elsewhere": {"> -> >=": "a good one"}}

    assert reported(capsys, [], accepted, everything=False)[0] == 0
