"""Blocks: what they refuse, signed statistics, patterns of missing studies."""

from __future__ import annotations

import numpy as np
import pytest

from biolmm.errors import ParameterError
from biolmm.sumstats.meta.block import StudyBlock, check_lambdas, missingness_patterns


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("se", 0.0),
        ("se", -1.0),
        ("se", np.inf),
        ("n", 0.0),
        ("eaf", 1.1),
        ("eaf", -0.1),
        ("neg_log10_p", -1.0),
        ("z", np.inf),
    ],
)
def test_impossible_numbers_are_refused_with_their_place(name: str, value: float) -> None:
    good = np.full((2, 3), 0.5)
    bad = good.copy()
    bad[1, 2] = value
    with pytest.raises(ParameterError, match=rf"{name} is .* at variant 1 of study 2"):
        StudyBlock(good, **{name: bad})


def test_shapes_must_agree() -> None:
    with pytest.raises(ParameterError, match=r"se has shape \(1, 2\) but its beta \(1, 3\)"):
        StudyBlock(np.zeros((1, 3)), se=np.ones((1, 2)))


def test_z_is_taken_before_p_and_p_before_beta_over_se() -> None:
    block = StudyBlock(
        [[-0.2, -0.2, -0.2, np.nan, -0.0]],
        se=[[0.1, 0.1, 0.1, np.nan, 0.1]],
        neg_log10_p=[[np.nan, 1.3010299956639813, 1.0, 2.0, 0.0]],
        z=[[np.nan, np.nan, 5.0, np.nan, np.nan]],
    )
    np.testing.assert_allclose(block.z_scores(), [[-2.0, -1.959963984540054, 5.0, np.nan, 0.0]], rtol=1e-12)
    assert np.signbit(block.z_scores()[0, 4])


def test_lambdas() -> None:
    assert check_lambdas([0.9, 1.2], 2).tolist() == [1.0, 1.2]
    assert check_lambdas(None, 2).tolist() == [1.0, 1.0]
    for wrong in ([1.0], [0.0, 1.0], [np.nan, 1.0]):
        with pytest.raises(ParameterError):
            check_lambdas(wrong, 2)


def test_patterns_cover_every_row_once() -> None:
    present = np.random.default_rng(1).random((200, 5)) < 0.5
    seen = np.zeros(200, int)
    for studies, rows in missingness_patterns(present):
        expected = np.isin(np.arange(5), studies)
        assert (present[rows] == expected).all()
        seen[rows] += 1
    assert (seen == present.any(axis=1)).all()
    assert list(missingness_patterns(np.zeros((0, 5), bool))) == []
