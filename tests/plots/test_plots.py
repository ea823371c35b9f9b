from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from biolmm.plots.heritability import h2_bars
from biolmm.plots.manhattan import manhattan
from biolmm.plots.qq import qq
from biolmm.plots.structure import pc_scatter, scree
from biolmm.plots.style import to_inline_svg, to_png
from biolmm.plots.thin import thin_to_grid
from biolmm.schema import H2_COLUMNS


def scan(contigs: tuple[str, ...], n: int, top: float = 12.0) -> pd.DataFrame:
    rng = np.random.default_rng(5)
    frame = pd.DataFrame(
        {
            "chromosome": np.repeat(contigs, n),
            "base_pair_location": np.tile(np.sort(rng.integers(1, 10**8, n)), len(contigs)),
            "neg_log_10_p_value": rng.exponential(0.43, n * len(contigs)),
            "rsid": [f"rs{i}" for i in range(n * len(contigs))],
        }
    )
    if len(frame):
        frame.loc[len(frame) // 2, "neg_log_10_p_value"] = top
    return frame


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for axes in figure.axes for text in axes.texts]


@pytest.mark.parametrize("top", [0.5, 12.0, 64.0, 70.0, 1000.0, 217_150.0])
@pytest.mark.parametrize(("contigs", "n"), [(("1",), 1), (("1", "2", "X"), 300), (("7",), 50), ((), 0)])
def test_manhattan_draws_whatever_it_gets(contigs: tuple[str, ...], n: int, top: float) -> None:
    frame = scan(contigs, n, top)
    figure = manhattan(frame, frame[frame["neg_log_10_p_value"] > 7.3], title="a $x$ <b>")
    assert to_png(figure, dpi=40).startswith(b"\x89PNG")


def test_manhattan_without_any_p_value_says_so() -> None:
    frame = scan(("1",), 4).assign(neg_log_10_p_value=np.nan)
    assert texts(manhattan(frame)) == ["no variant has a p-value"]


def test_manhattan_compresses_only_what_lies_far_above() -> None:
    assert "compressed scale" not in texts(manhattan(scan(("1", "2"), 50, top=60.0)))
    figure = manhattan(scan(("1", "2"), 50, top=1000.0))
    assert "compressed scale" in texts(figure)
    axes = figure.axes[0]
    place = axes.transAxes.inverted().transform(axes.transData.transform([(0, 50), (0, 1000)]))[:, 1]
    # The first 50 units keep at least half of the picture, and the top is inside.
    assert 0.5 < place[0] < place[1] < 1.0


def test_labels_are_the_strongest_and_never_overlap() -> None:
    frame = scan(("1", "2"), 200)
    frame["neg_log_10_p_value"] += 8
    figure = manhattan(frame, frame, max_labels=6)
    figure.draw_without_rendering()
    labels = [text for text in figure.axes[0].texts if text.get_text().startswith("rs")]
    boxes = [label.get_window_extent() for label in labels]
    assert 2 <= len(labels) <= 6
    assert labels[0].get_text() == frame["rsid"].iloc[int(frame["neg_log_10_p_value"].argmax())]
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[i + 1 :])


def test_contigs_stand_in_genome_order() -> None:
    axes = manhattan(scan(("X", "10", "2"), 20)).axes[0]
    assert [label.get_text() for label in axes.texts] == ["2", "10", "X"]


def test_thinning_keeps_extremes_and_drops_what_is_covered() -> None:
    rng = np.random.default_rng(2)
    x, y = rng.uniform(size=(2, 200_000))
    y[77] = np.nan
    kept = thin_to_grid(x, y, 40, 30)
    assert kept.size <= 40 * 30
    assert 77 not in kept
    assert np.all(np.diff(kept) > 0)
    drawn = set(zip((x[kept] * 39).astype(int), (y[kept] * 29).astype(int), strict=True))
    assert len(drawn) > 0.9 * 40 * 30 * 0.9
    assert thin_to_grid(np.empty(0), np.empty(0)).size == 0


@pytest.mark.parametrize("values", [[], [np.nan], [0.3], [0.1, 900.0, 2.0]])
def test_qq_draws_whatever_it_gets(values: list[float]) -> None:
    assert to_png(qq(values, lambda_gc=1.02, n_samples=10), dpi=40)


def test_qq_states_lambda_and_numbers() -> None:
    assert "λ = 1.020\n3 variants\n1,000 samples" in texts(qq([0.1, 0.2, 0.3], lambda_gc=1.02, n_samples=1000))


def test_bars_have_one_row_a_trait_and_names_are_no_formulas() -> None:
    h2 = pd.DataFrame({name: [0.2, 0.0] for name in H2_COLUMNS}).assign(
        trait=[r"$\frac$", "b"], h2_mc_se=[0.01, np.nan]
    )
    figure = h2_bars(h2)
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == [r"$\frac$", "b"]
    assert to_png(figure, dpi=40)
    assert to_png(h2_bars(h2.head(0)), dpi=40)


@pytest.mark.parametrize(("n_pcs", "n_panels"), [(0, 1), (1, 1), (2, 1), (3, 1), (4, 2), (9, 2)])
def test_components_are_drawn_in_pairs(n_pcs: int, n_panels: int) -> None:
    rng = np.random.default_rng(0)
    pcs = pd.DataFrame({"sample_id": list("abc")} | {f"PC{i + 1}": rng.normal(size=3) for i in range(n_pcs)})
    figure = pc_scatter(pcs)
    assert len(figure.axes) == n_panels
    assert to_png(figure, dpi=40)


def test_scree_draws() -> None:
    assert to_png(scree(pd.DataFrame({"component": [1, 2], "eigenvalue": [9.0, 1.2], "residual": [0, 0]})), dpi=40)
    assert to_png(scree(pd.DataFrame({"component": [], "eigenvalue": [], "residual": []})), dpi=40)


def test_inline_svg_is_self_contained_repeatable_and_escaped() -> None:
    frame = scan(("1", "2"), 5_000)
    first, again = (to_inline_svg(manhattan(frame, title="<script>&"), "s") for _ in range(2))
    other = to_inline_svg(manhattan(frame), "t")
    assert first == again
    assert "http" not in first
    assert "<script>" not in first
    assert "&lt;script&gt;&amp;" in first
    ids = [set(re.findall(r'id="([a-z]\w{8,})"', svg)) for svg in (first, other)]
    assert ids[0]
    assert not ids[0] & ids[1]
    # 10,000 points are one picture, not 10,000 elements.
    assert len(first) < 300_000
