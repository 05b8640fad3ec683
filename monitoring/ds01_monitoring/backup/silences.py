"""Silences as Alertmanager stores them, so that a restore keeps their ids and needs no running server.

Alertmanager writes its file every now and then (ours every 15 s) and when it ends; what its API says is newer. The file is a sequence
of MeshSilence messages, each after its length (silence/silencepb/silence.proto in prometheus/alertmanager).
"""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

VARINT, BYTES = 0, 2
EQUAL, REGEXP, NOT_EQUAL, NOT_REGEXP = range(4)


def encode(silences: Iterable[Mapping[str, Any]]) -> bytes:
    """The file that holds these silences, as `GET /api/v2/silences` gives them; expired ones are left out."""
    return b"".join(
        _with_length(_mesh(silence)) for silence in silences if silence["status"]["state"] != "expired"
    )


def _mesh(silence: Mapping[str, Any]) -> bytes:
    end = _timestamp(silence["endsAt"])
    inner = [
        _text(1, silence["id"]),
        *(_message(2, _matcher(matcher)) for matcher in silence["matchers"]),
        _message(3, _timestamp(silence["startsAt"])),
        _message(4, end),
        _message(5, _timestamp(silence["updatedAt"])),
        _text(8, silence["createdBy"]),
        _text(9, silence["comment"]),
    ]
    return _message(1, b"".join(inner)) + _message(2, end)


def _matcher(matcher: Mapping[str, Any]) -> bytes:
    regexp, equal = matcher["isRegex"], matcher.get("isEqual", True)
    kind = (REGEXP if equal else NOT_REGEXP) if regexp else (EQUAL if equal else NOT_EQUAL)
    return _number(1, kind) + _text(2, matcher["name"]) + _text(3, matcher["value"])


def _timestamp(text: str) -> bytes:
    """google.protobuf.Timestamp of an RFC 3339 time; the API gives milliseconds."""
    moment = dt.datetime.fromisoformat(text.replace("Z", "+00:00"))
    return _number(1, int(moment.timestamp())) + _number(2, moment.microsecond * 1000)


def _message(field: int, content: bytes) -> bytes:
    return _varint(field << 3 | BYTES) + _with_length(content)


def _text(field: int, text: str) -> bytes:
    return _message(field, text.encode())


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3 | VARINT) + _varint(value) if value else b""


def _with_length(content: bytes) -> bytes:
    return _varint(len(content)) + content


def _varint(value: int) -> bytes:
    found = bytearray()
    while value > 0x7F:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*found, value])
