"""Alertmanager's own notes of what it has sent: the file `nflog` in its storage folder.

A note is made when a server has taken a notification, for one group of alerts at one integration; nothing else that
Alertmanager shows says that much. The file is a sequence of `MeshEntry` messages, each after its length (nflogpb/nflog.proto,
the same in 0.25 and 0.33 but for a field at the end). It is replaced as a whole every `--data.maintenance-interval`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_LONGEST = 10
"""Bytes of a varint at most."""
_WIDTHS = {_FIXED64: 8, _FIXED32: 4}


@dataclass(frozen=True)
class Note:
    """One notification that was taken.

    Attributes:
        group: The group of alerts: its route, and its labels as in `{host="gpu01"}`.
        receiver: The name of the receiver.
        integration: `email`, `slack`, `msteamsv2`, `webhook`, …
        at: When it was taken, Unix time.
    """

    group: str
    receiver: str
    integration: str
    at: float


def read(content: bytes) -> Iterator[Note]:
    """The notes in the file's content.

    Raises:
        ValueError: This is no such file, or it is cut off.
    """
    position = 0
    while position < len(content):
        length, position = _varint(content, position)
        entry = _message(_message(_piece(content, position, length))[1])
        receiver, stamp = _message(entry[2]), _message(entry[5])
        yield Note(
            group=entry[1].decode(),
            receiver=receiver[1].decode(),
            integration=receiver[2].decode(),
            at=_number(stamp.get(1)) + _number(stamp.get(2)) / 1e9,
        )
        position += length


def _message(content: bytes) -> _Fields:
    """The fields of a message by number; of a repeated one the last."""
    fields, position = _Fields(), 0
    while position < len(content):
        key, position = _varint(content, position)
        kind = key & 7
        if kind == _VARINT:
            value, end = _varint(content, position)
            fields[key >> 3] = value.to_bytes(_LONGEST, "big")
        elif kind == _BYTES:
            length, position = _varint(content, position)
            fields[key >> 3] = _piece(content, position, length)
            end = position + length
        elif kind in _WIDTHS:
            end = position + _WIDTHS[kind]
        else:
            raise ValueError(f"wire type {kind} at byte {position}")
        position = end
    return fields


class _Fields(dict[int, bytes]):
    """Fields by number; bytes of a message or string, or a varint's value in ten bytes."""

    def __missing__(self, number: int) -> bytes:
        raise ValueError(f"field {number} is missing")


def _number(field: bytes | None) -> int:
    """A varint's value; proto3 leaves out what is 0."""
    return int.from_bytes(field or b"", "big")


def _piece(content: bytes, position: int, length: int) -> bytes:
    if position + length > len(content):
        raise ValueError(f"cut off at byte {len(content)}")
    return content[position : position + length]


def _varint(content: bytes, position: int) -> tuple[int, int]:
    """The number at a position, and the position after it."""
    value = shift = 0
    while position < len(content) and shift < _LONGEST * 7:
        byte = content[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7
    raise ValueError(f"cut off at byte {position}, or no number")
