"""Series with a past, as a Prometheus is given them: lines for promtool, or its remote-write message."""

import re
import struct
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

VALUES = [0.3 + number * 7919 % 1000 / 2000 for number in range(97)]
"""A cycle that no compression takes for a constant, above the line under which a GPU counts as wasted."""
PAIR = re.compile(r'(\w+)="([^"]*)"')


@dataclass(frozen=True)
class Past:
    """The past of the series of one name.

    Attributes:
        name: the metric's.
        labels: those of each series.
        step: seconds between two samples.
        reach: how many seconds some rule looks back.
        zero: the numbers of the series that are always 0.
    """

    name: str
    labels: Sequence[str]
    step: int
    reach: int
    zero: Collection[int] = ()

    def times(self, begin: int, end: int, now: int) -> range:
        """When there is a sample from `begin` until before `end`, in Unix time."""
        return range(-(-max(begin, now - self.reach) // self.step) * self.step, end, self.step)

    def value(self, number: int, at: int) -> float:
        """The value of one of the series at a moment."""
        return 0.0 if number in self.zero else VALUES[(at // self.step + number) % len(VALUES)]

    def openmetrics(self, begin: int, end: int, now: int) -> Iterator[str]:
        """The samples between two moments as lines of OpenMetrics."""
        yield f"# TYPE {self.name} gauge\n"
        times = self.times(begin, end, now)
        for number, labels in enumerate(self.labels):
            for at in times:
                yield f"{self.name}{{{labels}}} {self.value(number, at)} {at}\n"

    def written(self, begin: int, end: int, now: int) -> Iterator[bytes]:
        """The samples between two moments, each series as a field of Prometheus' remote-write message."""
        times = self.times(begin, end, now)
        shapes: dict[tuple[bool, int], bytes] = {}
        for number, labels in enumerate(self.labels):
            shape = (number in self.zero, number % len(VALUES))
            if shape not in shapes:
                values = [(self.value(number, at), at) for at in times]
                shapes[shape] = b"".join(
                    field(2, b"\x09" + struct.pack("<d", value) + b"\x10" + varint(at * 1000))
                    for value, at in values
                )
            if times:
                named = {"__name__": self.name, **dict(PAIR.findall(labels))}
                pairs = (field(1, _text(1, name) + _text(2, named[name])) for name in sorted(named))
                yield field(1, b"".join(pairs) + shapes[shape])


def message(series: Sequence[bytes]) -> bytes:
    """A remote-write request of series from `Past.written`, packed as snappy wants it, with nothing compressed.

    One literal: https://github.com/google/snappy/blob/main/format_description.txt, section 2.1.
    """
    content = b"".join(series)
    return varint(len(content)) + b"\xfc" + struct.pack("<I", len(content) - 1) + content


def varint(number: int) -> bytes:
    """A number as protobuf and snappy write it."""
    parts = []
    while number > 0x7F:
        parts.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*parts, number])


def field(number: int, content: bytes) -> bytes:
    """A protobuf field of bytes."""
    return varint(number << 3 | 2) + varint(len(content)) + content


def _text(number: int, content: str) -> bytes:
    return field(number, content.encode())
