"""What is measured, against the definitions; chunks, workers and encodings change nothing."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import fisher_exact

from biolmm.chunks import threads
from biolmm.errors import InputFileError, ParameterError, SampleMismatchError, TraitError
from biolmm.files.encoding import Encoding
from biolmm.qc import QcConfig, QcResult, measure_quality, plan_qc
from biolmm.qc.samples import robust_z
from oracles.quality import MemoryGenotypes, sample_f, variant_definition

CONTIGS = ("1", "2", "X", "Y", "MT")


def draw_genotypes(n_variants: int, n_samples: int, seed: int, contigs: tuple[str, ...] = CONTIGS) -> MemoryGenotypes:
    """Draw calls of all sorts: some missing, some variants all missing or monomorphic, sexes of three kinds."""
    rng = np.random.default_rng(seed)
    frequency = rng.choice([0.0, 0.01, 0.3, 0.5, 1.0], n_variants)
    calls = rng.binomial(2, frequency[:, None], (n_variants, n_samples)).astype(float)
    calls[rng.random(calls.shape) < rng.choice([0.0, 0.1, 1.0], (n_variants, 1), p=[0.5, 0.4, 0.1])] = np.nan
    places = tuple(sorted(rng.choice(contigs, n_variants).tolist(), key=CONTIGS.index))
    return MemoryGenotypes(calls, rng.integers(0, 3, n_samples).astype(np.int8), places)


def assert_is_the_definition(data: MemoryGenotypes, found: QcResult) -> None:
    """Compare all that has a definition; a dozen roundings."""
    dense = [variant_definition(g, data.sex, contig) for g, contig in zip(data.dosages, data.contigs, strict=True)]
    for name in dense[0]:
        expected = np.array([row[name] for row in dense], float)
        np.testing.assert_allclose(found.variants.columns[name], expected, rtol=1e-13, err_msg=name)
    calls = np.where(np.abs(data.dosages - np.rint(data.dosages)) <= 0.1 + 1e-6, np.rint(data.dosages), np.nan)
    contig = np.array(data.contigs)
    table = found.samples.table
    for name, chosen in (("f", np.isin(contig, ["1", "2"])), ("x_f", contig == "X")):
        expected = sample_f(calls[chosen], data.sex, on_x=name == "x_f")
        # Expectations are rounded to 2⁻³⁸ each, and F divides by their sum, which is at least about 2/N.
        np.testing.assert_allclose(table[name], expected, atol=data.n_samples * data.n_variants * 2**-38, err_msg=name)
    expected_here = (contig != "Y")[:, None] | (data.sex == 1)
    np.testing.assert_array_equal(table["n"], expected_here.sum(axis=0))
    np.testing.assert_array_equal(table["n_missing"], (expected_here & np.isnan(data.dosages)).sum(axis=0))
    np.testing.assert_array_equal(table["n_het"], (calls[np.isin(contig, ["1", "2"])] == 1).sum(axis=0))
    haploid = (contig == "MT")[:, None] | (np.isin(contig, ["X", "Y"])[:, None] & (data.sex == 1))
    np.testing.assert_array_equal(table["n_hap_het"], (haploid & (calls == 1)).sum(axis=0))
    np.testing.assert_array_equal(table["n_singletons"], singletons(calls[np.isin(contig, ["1", "2"])]))


def singletons(calls: NDArray[np.float64]) -> NDArray[np.int64]:
    """Count for each sample the alleles that exist once, in this sample."""
    counts = np.zeros(calls.shape[1], np.int64)
    for g in calls:
        n_alt, n_ref = np.nansum(g), np.nansum(2 - g)
        if 1 in (n_alt, n_ref):
            counts[np.flatnonzero(g == 1)[0]] += 1
    return counts


def same(one: QcResult, other: QcResult) -> None:
    """Require the same bits."""
    pd.testing.assert_frame_equal(one.samples.table, other.samples.table, check_exact=True)
    for name, values in one.variants.columns.items():
        np.testing.assert_array_equal(values, other.variants.columns[name], err_msg=name)
    np.testing.assert_array_equal(one.variants.reasons, other.variants.reasons)
    assert one.verdicts == other.verdicts


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 40), st.integers(1, 45), st.integers(0, 2**32 - 1))
def test_is_the_definition(n_variants: int, n_samples: int, seed: int) -> None:
    data = draw_genotypes(n_variants, n_samples, seed)
    assert_is_the_definition(data, measure_quality(data))


@settings(deadline=None, max_examples=30)
@given(st.sampled_from([Encoding.DOSAGE8, Encoding.DOSAGE16]), st.integers(0, 2**32 - 1))
def test_of_whole_dosages_is_that_of_calls(encoding: Encoding, seed: int) -> None:
    data = draw_genotypes(30, 37, seed)
    same(measure_quality(data), measure_quality(replace(data, encoding=encoding)))


@pytest.mark.parametrize("encoding", [Encoding.DOSAGE8, Encoding.DOSAGE16])
def test_of_dosages_is_the_definition(encoding: Encoding) -> None:
    """Dosages on the encoding's grid, so that nothing is rounded; three quarters are not near a whole number."""
    rng = np.random.default_rng(4)
    data = draw_genotypes(60, 41, 9)
    moved = np.where(rng.random(data.dosages.shape) < 0.4, data.dosages, rng.integers(0, 255, data.dosages.shape) / 127)
    on_grid = np.rint(moved * encoding.steps) / encoding.steps
    on_grid[np.isnan(data.dosages)] = np.nan
    data = replace(data, dosages=on_grid, encoding=encoding, info=np.linspace(0, 1, 60, dtype=np.float32))
    found = measure_quality(data)
    assert_is_the_definition(data, found)
    np.testing.assert_array_equal(found.variants.columns["r2"], data.info / 2)
    assert found.variants.n_flagged["imputation"] == int((data.info < 0.3).sum())


def test_chunks_and_workers_change_nothing() -> None:
    data = draw_genotypes(500, 70, 2)
    config = QcConfig(by_sex=True)
    whole = measure_quality(replace(data, chunk_variants=500), config)
    for chunk_variants in (1, 3, 64, 499):
        with threads(3 if chunk_variants == 3 else 1):
            same(whole, measure_quality(replace(data, chunk_variants=chunk_variants), config))


def test_some_samples_are_measured_as_if_alone() -> None:
    data = draw_genotypes(80, 50, 3)
    kept = np.arange(50) % 3 != 0
    alone = replace(data, dosages=data.dosages[:, kept], sex=data.sex[kept])
    names = data.sample_id
    by_keep = measure_quality(data, QcConfig(keep=tuple(names[kept].tolist())))
    same(by_keep, measure_quality(data, QcConfig(remove=tuple(names[~kept].tolist()))))
    expected = measure_quality(alone)
    for name, values in expected.variants.columns.items():
        np.testing.assert_array_equal(by_keep.variants.columns[name], values, err_msg=name)
    assert by_keep.samples.table["sample_id"].tolist() == names[kept].tolist()
    mine, theirs = (t.samples.table.drop(columns="sample_id") for t in (by_keep, expected))
    pd.testing.assert_frame_equal(mine, theirs, check_exact=True)


def test_missingness_of_cases_and_sexes() -> None:
    data = draw_genotypes(60, 90, 6)
    rng = np.random.default_rng(1)
    values = rng.choice([1.0, 2.0, np.nan], 90, p=[0.4, 0.4, 0.2])
    traits = pd.DataFrame({"IID": data.sample_id, "age": rng.normal(size=90), "cc": values}).sample(
        frac=1, random_state=1
    )
    found = measure_quality(data, QcConfig(by_sex=True, min_missing_p=0.9), traits=traits, trait="cc")
    assert (found.trait, found.n_cases, found.n_controls) == ("cc", int((values == 2).sum()), int((values == 1).sum()))
    contig = np.array(data.contigs)
    for name, first, second in (
        ("missing_p_cases", values == 2, values == 1),
        ("missing_p_sexes", data.sex == 1, data.sex == 2),
    ):
        expected = []
        for g, where in zip(data.dosages, contig, strict=True):
            here = data.sex == 1 if where == "Y" else np.ones(90, bool)
            table = [
                [np.sum(np.isnan(g) & in_group & here), np.sum(~np.isnan(g) & in_group & here)]
                for in_group in (first, second)
            ]
            skip = name == "missing_p_sexes" and where == "Y"
            expected.append(np.nan if skip else fisher_exact(np.array(table, int))[1])
        np.testing.assert_allclose(found.variants.columns[name], expected, rtol=1e-10)
    assert found.variants.n_flagged["missing_by_case"] > 0


@pytest.mark.parametrize(
    ("columns", "trait", "says"),
    [
        ({"a": [0, 1, 2, 1]}, None, "3 different values, but cases and controls are two"),
        ({"a": [0, 1, 0, 1], "b": [0, 1, 0, 1]}, None, "has 2 traits: name the one"),
        ({"a": [0, 1, 0, 1]}, "A1C", "No trait 'A1C'"),
        ({"a": [1, 1, 1, 1]}, None, "No variation"),
    ],
)
def test_refuses_traits_that_are_no_cases(columns: dict[str, list[int]], trait: str | None, says: str) -> None:
    data = draw_genotypes(5, 4, 0)
    with pytest.raises(TraitError, match=says):
        measure_quality(data, traits=pd.DataFrame({"IID": data.sample_id, **columns}), trait=trait)


def test_sexes_are_told_by_x() -> None:
    rng = np.random.default_rng(8)
    sex = np.array([1, 2] * 20 + [0, 0], np.int8)
    truly = sex.copy()
    truly[[0, 1, 40, 41]] = 2, 1, 1, 2  # two swapped, and two unknown
    calls = rng.binomial(2, 0.5, (400, 42)).astype(float)
    calls[:, truly == 1] = 2 * rng.binomial(1, 0.5, (400, int((truly == 1).sum())))
    data = MemoryGenotypes(calls, sex, ("X",) * 400)
    table = measure_quality(data).samples.table
    assert (table["genetic_sex"] == np.where(truly == 1, "male", "female")).all()
    assert table.index[table["flagged_for"].str.contains("sex_mismatch")].tolist() == [0, 1]
    few = measure_quality(replace(data, dosages=calls[:20], contigs=("X",) * 20))
    assert set(few.samples.table["genetic_sex"]) == {"unknown"}
    assert not few.samples.n_flagged["sex_mismatch"] and not few.samples.n_flagged["sex_ambiguous"]
    assert next(v for v in few.verdicts if v.name == "Sex").level == "none"


def test_the_pseudo_autosomal_region_is_diploid_with_a_build() -> None:
    data = replace(draw_genotypes(20, 30, 5, contigs=("X",)), chunk_variants=20)
    positions = np.where(np.arange(20) < 10, 100_000, 10_000_000)
    shifted = type("Shifted", (MemoryGenotypes,), {"variant_position": property(lambda self: positions)})
    data = shifted(data.dosages, data.sex, data.contigs)
    found = measure_quality(data, QcConfig(build="GRCh38")).variants
    assert found.ploidy.tolist() == [0] * 10 + [1] * 10
    dense = [variant_definition(g, data.sex, "1")["effect_allele_frequency"] for g in data.dosages[:10]]
    np.testing.assert_allclose(found.columns["effect_allele_frequency"][:10], dense, rtol=1e-13)


def test_thresholds_flag() -> None:
    rng = np.random.default_rng(12)
    calls = rng.binomial(2, rng.uniform(0.2, 0.8, (400, 1)), (400, 300)).astype(float)
    calls[0, :7] = np.nan
    calls[1] = np.where(calls[1] == 1, 2, calls[1])
    calls[2] = 0
    calls[2, 5] = 1
    calls[:, 10] = np.where(rng.random(400) < 0.6, 1, calls[:, 10])
    calls[:, 11] = np.where((calls[:, 11] == 1) & (rng.random(400) < 0.6), 2, calls[:, 11])
    calls[:10, 12] = np.nan
    found = measure_quality(MemoryGenotypes(calls, np.zeros(300, np.int8), ("1",) * 400), QcConfig(min_maf=0.01))
    assert found.variants.n_flagged == {
        "call_rate": 1, "hwe": 1, "frequency": 1, "imputation": 0, "missing_by_case": 0, "missing_by_sex": 0,
    }  # fmt: skip
    assert np.flatnonzero(found.variants.flagged).tolist() == [0, 1, 2]
    flagged = found.samples.table["flagged_for"]
    assert flagged[flagged != ""].to_dict() == {10: "het_excess", 11: "het_deficit", 12: "call_rate"}


def test_one_sample_and_nothing_called() -> None:
    """A lone sample has F = 0 where it varies at all; nobody is an outlier among themselves."""
    alone = measure_quality(MemoryGenotypes(np.array([[1.0], [0.0], [np.nan]]), np.array([2], np.int8), ("1",) * 3))
    assert alone.samples.table.loc[0, ["n_het", "n_missing", "n_singletons"]].tolist() == [1, 1, 1]
    assert alone.samples.table.loc[0, "f"] == pytest.approx(0, abs=2**-38)
    nothing = measure_quality(MemoryGenotypes(np.full((9, 5), np.nan), np.ones(5, np.int8), ("1",) * 9))
    assert np.isnan(nothing.samples.table["f"]).all() and (nothing.samples.table["call_rate"] == 0).all()
    assert nothing.variants.n_flagged["call_rate"] == 9 and nothing.variants.n_flagged["hwe"] == 0
    with pytest.raises(InputFileError, match="memory holds no variants"):
        measure_quality(MemoryGenotypes(np.empty((0, 5)), np.ones(5, np.int8), ()))
    with pytest.raises(SampleMismatchError):
        measure_quality(draw_genotypes(5, 5, 0), QcConfig(keep=("nobody",)))


def test_a_deviation_needs_a_spread() -> None:
    """Where most values are equal, the least spread is what sampling makes."""
    values = np.array([0.0] * 20 + [3.0, np.nan])
    assert np.nan_to_num(robust_z(values, 0.5), nan=-1).tolist() == [0.0] * 20 + [6.0, -1.0]
    assert np.isnan(robust_z(np.array([np.nan]), 1.0)).all()


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"min_hwe_p": 1.5}, "min_hwe_p is 1.5 but must be between 0 and 1"),
        ({"min_sample_call_rate": float("nan")}, "min_sample_call_rate is nan"),
        ({"max_abs_f": -1}, "max_abs_f is -1 but must be at least 0"),
        ({"min_mac": -2}, "min_mac is -2"),
        ({"max_female_x_f": 0.9}, "above min_male_x_f = 0.8"),
        ({"build": "hg17"}, "hg17"),
    ],
)
def test_refuses_thresholds_out_of_range(wrong: dict[str, object], says: str) -> None:
    with pytest.raises(ParameterError, match=says):
        QcConfig(**wrong)


def test_plan() -> None:
    data = draw_genotypes(500, 70, 2)
    plan = plan_qc(data, n_workers=2)
    assert plan.n_passes == 1
    assert plan.read_bytes == 500 * 24
    assert plan.n_tasks == len(range(0, 72, 1))
    assert plan_qc(replace(data, encoding=Encoding.DOSAGE16), 2).peak_bytes > plan.peak_bytes
