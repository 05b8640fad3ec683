"""The three forms of gpu-state.json that exist, read into one.

A (what the allocator writes): `gpus` by slot, each with `containers` as names and `users` as counts.
B: the same with `containers` as objects that carry user, allocated_at and interface.
C: `allocations` by container name, where `gpu_id` "1:3" is slot "1.3".
The schema that we accept, and recommend to other allocators, is exporter/gpu-state.schema.json.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from ds01_exporter.timestamps import parse_timestamp

Object = Mapping[str, object]


class StateFormatError(Exception):
    """The document is not a state file that we know; the message names the place and what was expected."""


@dataclass(frozen=True, slots=True)
class Claim:
    """One container on one slot, as the state file has it; empty strings and None are what it does not say.

    Attributes:
        slot: the slot's name, or what stands in its place (a UUID).
        since: seconds since the epoch.
    """

    slot: str
    container: str
    user: str = ""
    interface: str = ""
    since: float | None = None


@dataclass(frozen=True)
class State:
    """What a state file says.

    Attributes:
        slot_users: the users that the slot's `users` object names, by slot.
        slot_uuids: the slot by the UUID that the file gives for it.
        mig_slots: the slots that the file calls MIG instances.
    """

    claims: tuple[Claim, ...] = ()
    slot_users: Mapping[str, frozenset[str]] = field(default_factory=dict)
    slot_uuids: Mapping[str, str] = field(default_factory=dict)
    mig_slots: frozenset[str] = frozenset()


def parse_state(document: object) -> State:
    """Read a decoded JSON document of any of the three forms.

    Raises:
        StateFormatError: it is none of them, or something in it has the wrong type.
    """
    top = _object(document, "the document")
    if "gpus" not in top and "allocations" not in top:
        raise StateFormatError("neither 'gpus' nor 'allocations' is there: an unknown schema")
    slots = {
        _slot_name(key): _object(value, f"gpus.{key}") for key, value in _mapping(top, "gpus", "").items()
    }
    claims = [claim for slot, value in slots.items() for claim in _slot_claims(slot, value)]
    claims += _allocation_claims(_mapping(top, "allocations", ""))
    return State(
        claims=tuple(dict.fromkeys(claims)),
        slot_users={
            slot: frozenset(_mapping(value, "users", f"gpus.{slot}.")) for slot, value in slots.items()
        },
        slot_uuids={
            uuid: slot for slot, value in slots.items() if (uuid := _text(value, "uuid", f"gpus.{slot}."))
        },
        mig_slots=frozenset(slot for slot, value in slots.items() if value.get("type") == "mig_instance"),
    )


def _slot_claims(slot: str, value: Object) -> Iterator[Claim]:
    place = f"gpus.{slot}.containers"
    containers = value.get("containers")
    if containers is None:
        return
    if not isinstance(containers, list):
        raise StateFormatError(f"{place}: {_expected('an array', containers)}")
    for number, entry in enumerate(containers):
        if isinstance(entry, str):
            yield Claim(slot, _container_name(entry, f"{place}[{number}]"))
        elif isinstance(entry, dict):
            yield _claim(slot, entry.get("container", entry.get("name")), entry, f"{place}[{number}]")
        else:
            raise StateFormatError(f"{place}[{number}]: {_expected('a name or an object', entry)}")


def _allocation_claims(allocations: Object) -> Iterator[Claim]:
    for name, value in allocations.items():
        place = f"allocations.{name}"
        entry = _object(value, place)
        slots = entry.get("gpu_id")
        for slot in slots if isinstance(slots, list) else [slots]:
            if not isinstance(slot, (str, int)) or isinstance(slot, bool) or slot == "":
                raise StateFormatError(f"{place}.gpu_id: {_expected('a slot name', slot)}")
            for part in str(slot).split(","):
                yield _claim(_slot_name(part.strip()), name, entry, place)


def _claim(slot: str, container: object, entry: Object, place: str) -> Claim:
    return Claim(
        slot=slot,
        container=_container_name(container, f"{place}.container"),
        user=_text(entry, "user", f"{place}."),
        interface=_text(entry, "interface", f"{place}."),
        since=parse_timestamp(entry.get("allocated_at")),
    )


def _slot_name(text: str) -> str:
    return text.replace(":", ".")


def _container_name(value: object, place: str) -> str:
    if not isinstance(value, str) or not value:
        raise StateFormatError(f"{place}: {_expected('a container name', value)}")
    return value.removeprefix("/")


def _object(value: object, place: str) -> Object:
    if not isinstance(value, dict):
        raise StateFormatError(f"{place}: {_expected('an object', value)}")
    return value


def _mapping(owner: Object, key: str, place: str) -> Object:
    value = owner.get(key)
    return {} if value is None else _object(value, place + key)


def _text(owner: Object, key: str, place: str) -> str:
    value = owner.get(key)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise StateFormatError(f"{place}{key}: {_expected('a string', value)}")
    return value


_JSON_NAMES = {dict: "an object", list: "an array", str: "a string", bool: "a boolean", type(None): "null"}


def _expected(wanted: str, value: object) -> str:
    return f"expected {wanted}, found {_JSON_NAMES.get(type(value), 'a number')}"
