"""Figures of components draw what they are given, however little it is."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from biolmm.plots.scree import component_pairs, variance_explained
from biolmm.plots.style import to_png


@pytest.mark.parametrize(("n_components", "n_panels"), [(0, 1), (1, 1), (2, 1), (4, 6), (9, 15)])
def test_all_pairs_of_the_first_six_are_drawn(n_components: int, n_panels: int) -> None:
    pcs = pd.DataFrame({f"PC{i + 1}": np.linspace(-1, 1, 20) for i in range(n_components)}, index=range(20))
    figure = component_pairs(pcs, np.arange(20) < 5)
    assert sum(axes.get_visible() for axes in figure.axes) == n_panels
    assert to_png(figure, dpi=40).startswith(b"\x89PNG")


def test_shares_are_percent_and_unsettled_ones_hollow() -> None:
    table = pd.DataFrame({"component": ["PC1", "PC2"], "share": [0.2, 0.1], "settled": [True, False]})
    figure = variance_explained(table)
    solid, hollow = figure.axes[0].lines
    assert (list(solid.get_ydata()), list(hollow.get_ydata())) == ([20.0], [10.0])
    assert hollow.get_markerfacecolor() == "white"
    assert to_png(variance_explained(table[:0]), dpi=40).startswith(b"\x89PNG")
