"""Windows: how they are written, and where they end."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from biolmm.errors import ParameterError
from biolmm.ld import Window


@pytest.mark.parametrize(
    ("text", "size", "in_bp"),
    [
        ("500", 500, False),
        ("1000kb", 1_000_000, True),
        ("1.5 Mb", 1_500_000, True),
        ("0.5kb", 500, True),
        ("7bp", 7, True),
    ],
)
def test_windows_as_people_write_them(text: str, size: int, in_bp: bool) -> None:
    window = Window.parse(text)
    assert (window.size, window.in_bp) == (size, in_bp)
    assert Window.parse(str(window).removesuffix(" variants")) == window


@pytest.mark.parametrize("text", ["", "kb", "-5", "1e3", "0.0001kb", "1.5", "500gb", "9" * 400])
def test_what_is_no_window_is_refused(text: str) -> None:
    with pytest.raises(ParameterError, match=r"is not a window. Give a number of variants or a length"):
        Window.parse(text)


@pytest.mark.parametrize("text", ["0", "1", "0kb"])
def test_windows_of_one_variant_are_refused(text: str) -> None:
    with pytest.raises(ParameterError, match="never holds two variants"):
        Window.parse(text)


@given(st.lists(st.integers(1, 50), min_size=1, max_size=40), st.integers(2, 45), st.booleans(), st.integers(1, 44))
def test_ends_are_the_definition(positions: list[int], size: int, in_bp: bool, step: int) -> None:
    position = np.sort(np.array(positions, np.int64))
    m, window = len(position), Window(size, in_bp)
    step = 1 if in_bp else min(step, size)
    ends = window.ends(position, step)
    for w, end in enumerate(ends):
        start = w * step
        assert end == (np.count_nonzero(position <= position[start] + size) if in_bp else min(start + size, m))
    assert ends[-1] == m
