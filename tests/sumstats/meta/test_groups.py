"""Leaving one out is a rerun; groups split Q; the sexes' tests."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from biolmm.errors import ParameterError
from biolmm.sumstats.meta.block import StudyBlock
from biolmm.sumstats.meta.fixed_effects import inverse_variance
from biolmm.sumstats.meta.groups import leave_one_out, subgroups
from biolmm.sumstats.meta.sexes import sex_tests
from oracles.meta import GOLDEN, random_block


def test_leave_one_out_golden() -> None:
    assert leave_one_out(GOLDEN).beta.round(6).tolist() == [[0.128328, 0.101129, 0.158146, 0.114279, 0.101695]]


def test_leave_one_out_is_a_rerun_without_the_study() -> None:
    block, lambdas = random_block(80, 6, seed=1), np.linspace(0.9, 1.4, 6)
    found = leave_one_out(block, lambdas)
    for study in range(6):
        others = np.delete(np.arange(6), study)
        rerun = inverse_variance(block.studies(others), lambdas[others])
        np.testing.assert_allclose(found.beta[:, study], rerun.beta, rtol=1e-13, atol=1e-15)
        np.testing.assert_allclose(found.se[:, study], rerun.se, rtol=1e-13)
        np.testing.assert_allclose(found.q[:, study], rerun.heterogeneity.q, rtol=1e-11, atol=1e-13)
        np.testing.assert_array_equal(found.q_df[:, study], rerun.heterogeneity.df)
        np.testing.assert_allclose(found.neg_log10_p[:, study], rerun.neg_log10_p, rtol=1e-11, atol=1e-14)


def test_groups_split_q() -> None:
    block = random_block(100, 8, seed=2)
    found = subgroups(block, ["a", "b", "a", "c", "b", "a", "c", "b"])
    whole = inverse_variance(block).heterogeneity
    within = np.nansum([each.heterogeneity.q for each in found.groups.values()], axis=0)
    some = ~np.isnan(whole.q)
    np.testing.assert_allclose((within + found.between_q)[some], whole.q[some], rtol=1e-10, atol=1e-11)
    df = np.nansum([each.heterogeneity.df for each in found.groups.values()], axis=0)
    np.testing.assert_array_equal((df + found.between_df)[some], whole.df[some])
    several = found.between_df > 0
    expected = stats.chi2.sf(found.between_q[several], found.between_df[several])
    np.testing.assert_allclose(10 ** -found.between_neg_log10_p[several], expected, rtol=1e-9)
    assert np.isnan(found.between_q[~some]).all()


def test_a_study_may_be_in_no_group() -> None:
    found = subgroups(GOLDEN, ["a", "a", "", "b", "b"])
    assert list(found.groups) == ["a", "b"]
    pair = inverse_variance(GOLDEN.studies([3, 4]))
    np.testing.assert_array_equal(found.groups["b"].beta, pair.beta)


def test_sexes() -> None:
    block = random_block(60, 6, seed=3)
    sexes = "MFMFFM"
    found = sex_tests(block, sexes)
    men, women = (inverse_variance(block.studies([i for i, s in enumerate(sexes) if s == wanted])) for wanted in "MF")
    np.testing.assert_array_equal(found.male.beta, men.beta)
    np.testing.assert_allclose(found.differentiated_chisq, men.z**2 + women.z**2)
    z = (men.beta - women.beta) / np.hypot(men.se, women.se)
    np.testing.assert_allclose(found.heterogeneity_z, z, rtol=1e-12)
    # The difference between the sexes is the Q between them, and GWAMA's form without correlation.
    between = subgroups(block, list(sexes))
    some = between.between_df == 1
    np.testing.assert_allclose(found.heterogeneity_z[some] ** 2, between.between_q[some], rtol=1e-8, atol=1e-10)
    theirs = sex_tests(block, sexes, gwama=True)
    np.testing.assert_allclose(
        theirs.heterogeneity_z[some] ** 2, found.heterogeneity_z[some] ** 2, rtol=1e-8, atol=1e-9
    )
    two_df = stats.chi2.sf(found.differentiated_chisq[some], 2)
    np.testing.assert_allclose(10 ** -found.differentiated_neg_log10_p[some], two_df, rtol=1e-9)


def test_sexes_that_share_relatives() -> None:
    block = StudyBlock([[0.3, 0.1]], se=[[0.1, 0.1]])
    apart, together = sex_tests(block, "MF"), sex_tests(block, "MF", correlation=0.5)
    np.testing.assert_allclose(together.heterogeneity_z, apart.heterogeneity_z * np.sqrt(2))
    controlled = sex_tests(block, "MF", result_lambdas=(4.0, 1.0, 1.0))
    np.testing.assert_allclose(controlled.differentiated_chisq, 1.5**2 + 1)


def test_refusals() -> None:
    with pytest.raises(ParameterError, match="for 5 studies"):
        subgroups(GOLDEN, ["a"])
    with pytest.raises(ParameterError, match="None of 5 studies"):
        subgroups(GOLDEN, [""] * 5)
    with pytest.raises(ParameterError, match="needs both M and F"):
        sex_tests(GOLDEN, "MMMMM")
    with pytest.raises(ParameterError, match="must be M or F"):
        sex_tests(GOLDEN, "MFX??")
    with pytest.raises(ParameterError, match="between -1 and 1"):
        sex_tests(GOLDEN, "MFMFM", correlation=1.0)
