"""Who holds what: the state file, Docker, the container metadata and the topology, brought together."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ds01_exporter.interfaces import INTERFACES, detect_interface
from ds01_exporter.metadata import Metadata
from ds01_exporter.state_format import Claim, State
from ds01_exporter.topology import SlotTable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from ds01_exporter.containers import Container

CONFLICTS = ("no_container", "no_entry", "unknown_slot", "two_owners")


@dataclass(frozen=True)
class Sources:
    """What is known at this moment; None is a source that is switched off or does not answer."""

    state: State | None = None
    containers: tuple[Container, ...] | None = None
    metadata: Mapping[str, Metadata] = field(default_factory=dict)
    slots: SlotTable | None = None


@dataclass(frozen=True, slots=True)
class Holder:
    """One container on one slot; `since` is seconds since the epoch, None where no source says."""

    slot: str
    container: str
    user: str
    interface: str
    since: float | None

    @property
    def labels(self) -> tuple[str, str, str, str]:
        """The values of the labels gpu_slot, container, user, interface."""
        return (self.slot, self.container, self.user, self.interface)


@dataclass(frozen=True, slots=True)
class Identity:
    """How a running container is named in the series about it."""

    container: str
    user: str
    interface: str


@dataclass(frozen=True, slots=True)
class Unmanaged:
    """A container that was given GPUs past the allocator."""

    container: str
    user: str
    running: bool


@dataclass(frozen=True)
class View:
    """What the sources say together; None is what cannot be said without Docker.

    Attributes:
        conflicts: number of contradictions by kind; a kind is absent while the sources to compare are.
        managed: running containers of the allocator, by container id.
    """

    holders: tuple[Holder, ...] = ()
    conflicts: Mapping[str, int] = field(default_factory=dict)
    containers: Mapping[tuple[str, str], int] | None = None
    running_by_user: Mapping[str, int] | None = None
    mig_equivalents: Mapping[str, float] = field(default_factory=dict)
    unmanaged: tuple[Unmanaged, ...] = ()
    managed: Mapping[str, Identity] = field(default_factory=dict)


class _Names:
    """Finds a container by its name, its id, or the short id that the state file may hold."""

    def __init__(self, containers: tuple[Container, ...]) -> None:
        self._by_name = {one.id: one for one in containers} | {one.id[:12]: one for one in containers}
        self._by_name |= {one.name: one for one in containers}

    def find(self, name: str) -> Container | None:
        return self._by_name.get(name)


def merge(sources: Sources, mig_equivalents_per_gpu: float) -> View:
    """Bring the sources together.

    Each field comes from the first source that knows it: Docker label, state file's container object, container
    metadata, the only key of the slot's `users`; else it is empty. A stopped container holds its slot only while
    the state file names it.
    """
    return _Merge(sources).view(mig_equivalents_per_gpu)


class _Merge:
    def __init__(self, sources: Sources) -> None:
        self._sources = sources
        self._state = sources.state or State()
        self._slots = sources.slots or SlotTable()
        self._containers = sources.containers or ()
        self._names = _Names(self._containers)
        self._claims: dict[tuple[str, str], Claim] = {}
        self._docker: dict[tuple[str, str], Container] = {}
        self._claims_by_container: dict[str, Claim] = {}

    def view(self, mig_equivalents_per_gpu: float) -> View:
        for claim in self._state.claims:
            container = self._names.find(claim.container)
            name = container.name if container else claim.container
            self._claims.setdefault((self._slot_name(claim.slot), name), claim)
            self._claims_by_container.setdefault(name, claim)
        for container in self._containers:
            for mark in container.slot_marks() if container.running else ():
                self._docker[self._slot_name(mark), container.name] = container
        holders = tuple(self._holder(*key) for key in self._claims | self._docker)
        known = self._sources.containers is not None
        return View(
            holders=holders,
            conflicts=dict(self._conflicts()),
            containers=self._count() if known else None,
            running_by_user=self._running_by_user(holders) if known else None,
            mig_equivalents=self._equivalents(holders, mig_equivalents_per_gpu),
            unmanaged=tuple(self._unmanaged(holders)),
            managed={
                one.id: self._identity(one)
                for one in self._containers
                if one.running and self._is_managed(one)
            },
        )

    def _slot_name(self, mark: str) -> str:
        return self._slots.name_of(mark, self._state.slot_uuids)

    def _holder(self, slot: str, name: str) -> Holder:
        claim = self._claims.get((slot, name))
        container = self._names.find(name)
        metadata = self._sources.metadata.get(name, Metadata())
        since = (container.since if container else None, claim.since if claim else None, metadata.since)
        return Holder(
            slot=slot,
            container=name,
            user=self._user(name, container, claim) or self._only_user(slot),
            interface=self._interface(name, container, claim),
            since=next((one for one in since if one is not None), None),
        )

    def _user(self, name: str, container: Container | None, claim: Claim | None) -> str:
        by_label = container.user if container else ""
        return by_label or (claim.user if claim else "") or self._sources.metadata.get(name, Metadata()).user

    def _only_user(self, slot: str) -> str:
        users = self._state.slot_users.get(slot, frozenset())
        return next(iter(users)) if len(users) == 1 else ""

    def _interface(self, name: str, container: Container | None, claim: Claim | None) -> str:
        claimed = (claim.interface if claim else "") or self._sources.metadata.get(name, Metadata()).interface
        return detect_interface(name, container.labels if container else {}, claimed)

    def _identity(self, container: Container) -> Identity:
        claim = self._claims_by_container.get(container.name)
        user = self._user(container.name, container, claim) or (self._only_user(claim.slot) if claim else "")
        return Identity(container.name, user, self._interface(container.name, container, claim))

    def _is_managed(self, container: Container) -> bool:
        return container.managed or container.name in self._claims_by_container

    def _conflicts(self) -> Iterator[tuple[str, int]]:
        state_known, docker_known = self._sources.state is not None, self._sources.containers is not None
        if state_known and docker_known:
            yield "no_container", sum(self._names.find(name) is None for _, name in self._claims)
            yield "no_entry", len(self._docker.keys() - self._claims.keys())
        if self._sources.slots is not None:
            held = {slot for slot, _ in self._claims | self._docker}
            yield "unknown_slot", len(held - self._slots.by_name.keys())
        if state_known:
            yield "two_owners", sum(len(self._owners(*key)) > 1 for key in self._claims)

    def _owners(self, slot: str, name: str) -> set[str]:
        """Return the users that the sources name for one container on one slot."""
        claim, container = self._claims[slot, name], self._names.find(name)
        named = {
            claim.user,
            container.user if container else "",
            self._sources.metadata.get(name, Metadata()).user,
        }
        owners = named - {""}
        of_slot = self._state.slot_users.get(claim.slot, frozenset())
        return owners | of_slot if owners and of_slot and not owners <= of_slot else owners

    def _count(self) -> dict[tuple[str, str], int]:
        counts = {(status, interface): 0 for status in ("running", "stopped") for interface in INTERFACES}
        for container in self._containers:
            claim = self._claims_by_container.get(container.name)
            interface = self._interface(container.name, container, claim)
            counts["running" if container.running else "stopped", interface] += 1
        return counts

    def _running_by_user(self, holders: tuple[Holder, ...]) -> dict[str, int]:
        counts = Counter({holder.user: 0 for holder in holders})
        counts.update(self._identity(one).user for one in self._containers if one.running)
        del counts[""]
        return dict(counts)

    def _equivalents(self, holders: tuple[Holder, ...], per_gpu: float) -> dict[str, float]:
        totals: dict[str, float] = {}
        for user, slot in dict.fromkeys((holder.user, holder.slot) for holder in holders if holder.user):
            totals[user] = totals.get(user, 0.0) + (1.0 if self._is_mig(slot) else per_gpu)
        return totals

    def _is_mig(self, slot: str) -> bool:
        known = self._slots.by_name.get(slot)
        if known is not None:
            return known.mig_uuid is not None
        return slot in self._state.mig_slots or "." in slot or slot.startswith("MIG-")

    def _unmanaged(self, holders: tuple[Holder, ...]) -> Iterator[Unmanaged]:
        holding = {holder.container for holder in holders}
        for container in self._containers:
            given = container.details is not None and container.details.has_gpus
            through_allocator = container.name in holding or any(container.slot_marks())
            # Without the state file a container of the allocator may hold a slot that only the file tells.
            unknown = self._sources.state is None and container.managed
            if given and not through_allocator and not unknown:
                yield Unmanaged(container.name, container.guessed_user, container.running)
