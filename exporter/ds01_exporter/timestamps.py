"""Points in time as the allocator's files spell them."""

from __future__ import annotations

import math
import re
from datetime import datetime

_FRACTION = re.compile(r"\.(\d+)")


def parse_timestamp(value: object) -> float | None:
    """Return seconds since the epoch, or None where `value` is no point in time.

    ISO 8601 with `Z`, with an offset, or without either: then it is local time, as the allocator writes it
    (`datetime.now().isoformat()`). A number is taken as seconds since the epoch.
    """
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return _finite(value)
    if not isinstance(value, str):
        return None
    text = value[:-1] + "+00:00" if value[-1:] in {"Z", "z"} else value
    try:
        return datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError, OSError):
        pass
    try:  # Python 3.10 takes three or six digits of a second, and no others
        return datetime.fromisoformat(
            _FRACTION.sub(lambda digits: f".{digits[1]:0<6.6}", text, count=1)
        ).timestamp()
    except (ValueError, OverflowError, OSError):
        return None


def _finite(value: float) -> float | None:
    try:
        seconds = float(value)
    except OverflowError:
        return None
    return seconds if math.isfinite(seconds) else None
