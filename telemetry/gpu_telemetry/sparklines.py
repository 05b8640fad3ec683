"""Draws a short history of readings in one line of text."""

import math
from collections.abc import Iterable

GLYPHS = "▁▂▃▄▅▆▇█"
GAP = " "


def sparkline(values: Iterable[float | None], maximum: float = 100) -> str:
    """One glyph per value on a fixed scale from 0 to `maximum` (default: percent).

    The scale does not follow the values, so that two lines can be compared and a steady 3 % does not
    look like a full load. A value outside the scale is drawn at its end; None (and NaN), a reading that
    could not be had, is a gap. No values give an empty string.

    Raises ValueError when `maximum` is not above zero.
    """
    if not maximum > 0:
        raise ValueError(f"the scale must end above zero, not at {maximum}")
    return "".join(_glyph(value, maximum) for value in values)


def _glyph(value: float | None, maximum: float) -> str:
    if value is None or math.isnan(value):
        return GAP
    share = min(max(value / maximum, 0.0), 1.0)
    return GLYPHS[math.floor(share * (len(GLYPHS) - 1) + 0.5)]
