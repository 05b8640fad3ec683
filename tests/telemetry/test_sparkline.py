"""The one-line drawing of a history."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpu_telemetry import sparkline


def test_documented_values_are_drawn_on_the_percent_scale():
    """The history of the original documentation has its place on a scale from 0 to 100."""
    assert sparkline([45, 67, 82, 91, 88, 75, 60]) == "▄▆▇▇▇▆▅"


def test_steady_low_load_does_not_look_full():
    """The scale is fixed, so a flat 3 % stays at the bottom."""
    assert sparkline([3, 3, 3]) == "▁▁▁"


def test_unknown_is_a_gap():
    """A reading that could not be had is a gap, not a zero."""
    assert sparkline([0, None, 100, float("nan")]) == "▁ █ "


def test_values_outside_the_scale_are_drawn_at_its_ends():
    """A power reading above its limit does not raise."""
    assert sparkline([-5, 320], maximum=300) == "▁█"


def test_nothing_gives_nothing():
    """An empty history is an empty line."""
    assert sparkline([]) == ""


@pytest.mark.parametrize("maximum", [0, -1, float("nan")])
def test_a_scale_must_have_a_length(maximum):
    """A scale that ends at or below zero is a mistake of the caller."""
    with pytest.raises(ValueError, match="must end above zero"):
        sparkline([1], maximum=maximum)


@given(st.lists(st.none() | st.floats(), max_size=50))
def test_every_value_takes_one_column(values):
    """Whatever is drawn, columns stay aligned."""
    assert len(sparkline(values)) == len(values)
