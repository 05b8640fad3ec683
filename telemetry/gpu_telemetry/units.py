"""Sizes and times as people write them in options."""

from __future__ import annotations

import re
from argparse import ArgumentTypeError

_SIZES = {
    "": 1,
    "B": 1,
    "KIB": 1024,
    "MIB": 1024**2,
    "GIB": 1024**3,
    "KB": 1000,
    "MB": 1000**2,
    "GB": 1000**3,
}
_TIMES = {"": 1.0, "ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def size(text: str) -> int:
    """Bytes of "64MiB", "2GB" or "1000".

    Raises:
        ArgumentTypeError: It is no such size, or not above 0.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([A-Za-z]*)", text.strip())
    factor = _SIZES.get(match[2].upper()) if match else None
    if match is None or factor is None or not float(match[1]):
        raise ArgumentTypeError(f"{text!r} is no size such as 64MiB or 2GB")
    return int(float(match[1]) * factor)


def age(text: str) -> float:
    """Seconds of "100ms", "90", "30s", "15m", "24h" or "30d".

    Raises:
        ArgumentTypeError: It is no such time, or not above 0.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d|)", text.strip())
    if match is None or not float(match[1]):
        raise ArgumentTypeError(f"{text!r} is no time such as 30s, 24h or 30d")
    return float(match[1]) * _TIMES[match[2]]
