"""Turns families into exposition text, and keeps it until the source behind it changes.

`generate_latest` costs 12 ms for 1000 series, so each part of a scrape is encoded only when its key changes; an
unchanged scrape joins bytes. The parts are deflated one by one as well, and joined to one gzip stream.
"""

from __future__ import annotations

import struct
import zlib
from typing import TYPE_CHECKING

from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, choose_encoder, generate_latest
from prometheus_client.openmetrics.exposition import CONTENT_TYPE_LATEST as CONTENT_TYPE_OPENMETRICS
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Sequence

    from prometheus_client.core import Metric

_EOF = b"# EOF\n"
_GZIP_HEAD = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"  # RFC 1952: deflate, no name, no time
_DEFLATE_END = b"\x03\x00"  # RFC 1951: an empty last block


class _Families:
    """What the encoders ask for: something with a `collect` method."""

    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families


def wants_openmetrics(accept: str) -> bool:
    """Whether prometheus_client's negotiation chooses OpenMetrics for an Accept header."""
    try:
        return choose_encoder(accept)[1].startswith("application/openmetrics-text")
    except (TypeError, ValueError):  # a version that is not a number
        return False


def content_type(*, openmetrics: bool) -> str:
    """Return the Content-Type of a format."""
    return CONTENT_TYPE_OPENMETRICS if openmetrics else CONTENT_TYPE_PLAIN_0_0_4


class Encoded:
    """A piece of exposition text, and its deflated form once somebody has asked for it."""

    def __init__(self, text: bytes) -> None:
        self.text = text
        self._deflated: bytes | None = None

    @property
    def deflated(self) -> bytes:
        """The text as deflate blocks that end on a byte and refer to nothing before them."""
        if self._deflated is None:
            compressor = zlib.compressobj(3, zlib.DEFLATED, -zlib.MAX_WBITS)
            self._deflated = compressor.compress(self.text) + compressor.flush(zlib.Z_SYNC_FLUSH)
        return self._deflated


def encode(families: Iterable[Metric], *, openmetrics: bool) -> Encoded:
    """Encode families with prometheus_client's encoder, without OpenMetrics' end mark."""
    if openmetrics:
        return Encoded(generate_openmetrics(_Families(families)).removesuffix(_EOF))  # type: ignore[no-untyped-call]
    return Encoded(generate_latest(_Families(families)))


class Part:
    """One source's share of a scrape, encoded again only when `key()` changes."""

    def __init__(self, key: Callable[[], Hashable], families: Callable[[], Iterable[Metric]]) -> None:
        self._key = key
        self._families = families
        self._kept: dict[bool, tuple[Hashable, Encoded]] = {}

    def encoded(self, *, openmetrics: bool) -> Encoded:
        """Return the part in one of the two formats."""
        key = self._key()
        kept = self._kept.get(openmetrics)
        if kept is not None and (kept[0] is key or kept[0] == key):
            return kept[1]
        result = encode(self._families(), openmetrics=openmetrics)
        self._kept[openmetrics] = (key, result)
        return result


class GzipJoiner:
    """Joins encoded pieces to one gzip stream; remembers the checksum of the pieces that stay the same."""

    def __init__(self) -> None:
        self._sums: list[tuple[Encoded, int]] = []

    def join(self, pieces: Sequence[Encoded]) -> bytes:
        """Return the pieces, in their order, as one gzip stream."""
        checksum = 0
        for place, piece in enumerate(pieces):
            if place < len(self._sums) and self._sums[place][0] is piece:
                checksum = self._sums[place][1]
                continue
            del self._sums[place:]
            checksum = zlib.crc32(piece.text, checksum)
            self._sums.append((piece, checksum))
        length = sum(len(piece.text) for piece in pieces) & 0xFFFFFFFF
        trailer = struct.pack("<II", checksum, length)
        return b"".join((_GZIP_HEAD, *(piece.deflated for piece in pieces), _DEFLATE_END, trailer))
