"""The simulated world: its books balance, its counters are integrals, its stories can be seen."""

from __future__ import annotations

import itertools
import statistics
from functools import cache

import pytest

from ds01_demo.happenings import transitions
from ds01_demo.jobs import jobs_between
from ds01_demo.load import DAY
from ds01_demo.scenario import HOUR, MINUTE, PROFILES
from ds01_demo.world import World

START = 20_000 * DAY + 7 * HOUR


@cache
def world(profile: str) -> World:
    """One world per profile for all tests: it has no state."""
    return World(PROFILES[profile])


@pytest.mark.parametrize("profile", sorted(PROFILES))
def test_same_moment_same_world(profile: str) -> None:
    """Two worlds of one profile agree on everything, so history and the live demo do."""
    ours, other = world(profile), World(PROFILES[profile])
    for time in (START, START + 12_345, START + 3 * DAY + 77.5):
        assert [ours.gpu(gpu.index, time) for gpu in ours.gpus] == [
            other.gpu(gpu.index, time) for gpu in other.gpus
        ]
        assert [ours.slot(name, time) for name in ours.slots] == [
            other.slot(name, time) for name in other.slots
        ]
        assert [job.id for job in ours.jobs(time)] == [job.id for job in other.jobs(time)]


@pytest.mark.parametrize("profile", sorted(PROFILES))
def test_memory_is_conserved(profile: str) -> None:
    """Used and free memory of a slot always add up to the same, and neither is negative."""
    for time in range(START, START + DAY, 197):
        for name, slot in world(profile).slots.items():
            reading = world(profile).slot(name, time)
            assert reading.used_mib + reading.free_mib == slot.memory_mib
            assert reading.free_mib >= 0
            assert reading.used_mib >= slot.empty_mib


@pytest.mark.parametrize("profile", sorted(PROFILES))
def test_ratios_stay_within_bounds(profile: str) -> None:
    """No ratio leaves 0 to 1, no card its power limit, no temperature the plausible."""
    for time in range(START, START + DAY, 161):
        for name in world(profile).slots:
            reading = world(profile).slot(name, time)
            assert all(0 <= value <= 1 for value in (reading.utilization, reading.tensor, reading.dram))
        for gpu in world(profile).gpus:
            card = world(profile).gpu(gpu.index, time)
            assert 40 < card.power_watts <= 400
            assert 27 < card.temperature_celsius < 95


def test_energy_is_the_integral_of_power() -> None:
    """Over any span the energy counter grows by power times time, and it never falls."""
    for gpu in world("lively").gpus:
        start, end = START + 5, START + 6 * HOUR + 11
        summed = sum(
            world("lively").gpu(gpu.index, second + 0.5).power_watts for second in range(start, end, 1)
        )
        counted = (
            world("lively").gpu(gpu.index, end).energy_joules
            - world("lively").gpu(gpu.index, start).energy_joules
        )
        assert counted == pytest.approx(summed, rel=1e-6)


def test_a_slot_is_used_only_by_running_containers() -> None:
    """Where no container of a slot runs, the slot shows neither work nor memory."""
    ours = world("lively")
    for time in range(START, START + DAY, 53):
        busy = {job.seat.slot for job in ours.jobs(time) if job.running(time)}
        for name in ours.slots.keys() - busy:
            reading = ours.slot(name, time)
            assert (reading.utilization, reading.used_mib) == (0.0, ours.slots[name].empty_mib)


def test_instances_have_the_ids_of_a_real_card() -> None:
    """GPU instance ids are the card's (1g from 7, 2g from 3, 3g from 1), never the device index."""
    first = {"1g.5gb": range(7, 15), "2g.10gb": range(3, 7), "3g.20gb": range(1, 3)}
    instances = [slot for slot in world("lively").slots.values() if slot.profile]
    assert {slot.profile for slot in instances} == set(first)
    assert all(slot.instance_id in first[slot.profile or ""] for slot in instances)
    for gpu in world("lively").gpus:
        assert sum(slot.fraction for slot in gpu.slots) <= 1


@pytest.mark.parametrize("profile", sorted(PROFILES))
def test_a_container_name_is_never_taken_twice(profile: str) -> None:
    """No two containers of one name exist at once, and every container has an id of its own."""
    jobs = list(jobs_between(PROFILES[profile], START, START + 2 * DAY))
    assert len({job.id for job in jobs}) == len(jobs)
    for name in {job.seat.container for job in jobs}:
        lives = sorted((job.created, job.removed) for job in jobs if job.seat.container == name)
        assert all(before[1] < after[0] for before, after in itertools.pairwise(lives))


def test_transitions_tile_time() -> None:
    """Spans that touch give each transition exactly once."""
    whole = transitions(PROFILES["lively"], START, START + 6 * HOUR)
    pieces = [
        one
        for n in range(72)
        for one in transitions(PROFILES["lively"], START + n * 5 * MINUTE, START + (n + 1) * 5 * MINUTE)
    ]
    assert pieces == whole


def percentile95(profile: str, slot: str, end: float) -> float:
    """The 95th percentile of a slot's utilisation over the 30 minutes before `end`."""
    values = [world(profile).slot(slot, end - age).utilization for age in range(0, 30 * MINUTE, 15)]
    return statistics.quantiles(values, n=100, method="inclusive")[94]


def held_for(profile: str, span: int, end: float) -> set[str]:
    """Slots that were held during all of the `span` seconds before `end`."""
    ours = world(profile)
    return {name for name in ours.slots if all(ours.holders(end - age)[name] for age in range(0, span, 60))}


def test_nobody_wastes_on_the_healthy_server() -> None:
    """No slot that was held for half an hour is under 5 % at the 95th percentile, at any time of the day."""
    for end in range(START, START + DAY, 5 * MINUTE):
        for slot in held_for("healthy", 24 * MINUTE, end):
            assert percentile95("healthy", slot, end) >= 0.05, (slot, end - START)


def test_somebody_wastes_at_any_time_on_the_lively_server() -> None:
    """Whenever the demo starts, a slice is being wasted within its first three minutes."""
    for end in range(START, START + DAY, 10 * MINUTE):
        wasted = [
            slot for slot in held_for("lively", 5 * MINUTE, end) if percentile95("lively", slot, end) < 0.05
        ]
        assert any("." in slot for slot in wasted)


def test_the_healthy_server_stays_cool() -> None:
    """No card of the healthy server comes near the warning of 85 degrees, and none reports an XID error."""
    readings = [
        world("healthy").gpu(gpu.index, time)
        for time in range(START, START + DAY, 30)
        for gpu in world("healthy").gpus
    ]
    assert max(reading.temperature_celsius for reading in readings) < 82
    assert {reading.xid for reading in readings} == {0}


def longest_above(celsius: float, gpu: int) -> int:
    """The longest time in seconds that a card of the lively server stays above `celsius`."""
    longest = current = 0
    for time in range(START, START + DAY, 15):
        hot = world("lively").gpu(gpu, time).temperature_celsius > celsius
        current = current + 15 if hot else 0
        longest = max(longest, current)
    return longest


def test_a_card_overheats_on_the_lively_server() -> None:
    """Card 0 gets hot enough for the warning and for the critical alert, and slows down; no other card does."""
    assert longest_above(85, 0) > 5 * MINUTE
    assert longest_above(90, 0) > 2 * MINUTE
    assert any(world("lively").gpu(0, time).clock_reasons & 0x40 for time in range(START, START + DAY, 15))
    assert [longest_above(85, gpu) for gpu in (1, 2, 3)] == [0, 0, 0]


def test_each_story_of_the_lively_server_happens() -> None:
    """A shared card, an unmanaged container on a slot that nobody holds, a stopped one that keeps its slot."""
    ours = world("lively")
    shared = unmanaged = stopped = 0
    for time in range(START, START + DAY, 5 * MINUTE):
        holders = ours.holders(time)
        shared += any(len({job.seat.user for job in jobs}) > 1 for jobs in holders.values())
        outsiders = [job for job in ours.jobs(time) if job.seat.kind == "unmanaged" and job.running(time)]
        unmanaged += any(not holders[job.seat.slot] for job in outsiders)
        stopped += any(time >= job.stopped for jobs in holders.values() for job in jobs)
    assert min(shared, unmanaged, stopped) > 0
    assert {job.seat.user for job in jobs_between(ours.profile, START, START + DAY)} >= {
        "alice",
        "bea",
        "carlos",
        "dmitri",
        "elif",
        "fatima",
    }
    assert any(ours.gpu(3, time).xid for time in range(START, START + DAY, HOUR))
