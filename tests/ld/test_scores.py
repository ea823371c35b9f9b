"""LD scores: the dense definition, other ways to cut the work, and limit cases."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from biolmm.chunks import threads
from biolmm.errors import MemoryBudgetError, ParameterError, VariantMismatchError
from biolmm.files.encoding import Encoding, dosages_from_rows, rows_from_calls, rows_from_dosages
from biolmm.files.genetic_map import GeneticMap
from biolmm.ld.scores import LdScoreConfig, Reach, ld_scores, plan_ld_scores
from oracles.ldsc import dense_ld_scores
from oracles.pruning import MemoryData, linked_calls


def data_of(
    calls: NDArray[np.int8], position: NDArray[np.integer], contig: NDArray[np.integer] | None = None,
    encoding: Encoding = Encoding.CALLS, chunk_variants: int = 64,
) -> MemoryData:  # fmt: skip
    """Hold calls in memory."""
    contig = np.zeros(len(calls), np.int32) if contig is None else contig.astype(np.int32)
    names = tuple(str(i + 1) for i in range(max([0, *contig]) + 1))
    return MemoryData(rows_from_calls(calls, encoding), calls.shape[1], encoding, names, contig,
                      np.asarray(position, np.int64), chunk_variants)  # fmt: skip


def expected(data: MemoryData, config: LdScoreConfig, place: NDArray[np.float64], A: NDArray[np.float64],
             samples: NDArray[np.int64] | slice = slice(None)) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:  # fmt: skip
    """Compute LD scores by the definition, of the variants that vary and are common enough."""
    dosages = dosages_from_rows(data.rows, data.encoding, data.n_samples).astype(np.float64)[:, samples]
    with np.errstate(all="ignore"):
        known = np.isfinite(dosages)
        mean = np.where(known, dosages, 0).sum(axis=1) / np.maximum(known.sum(axis=1), 1)
        kept = np.array([len(set(row[~np.isnan(row)].tolist())) > 1 for row in dosages])
    kept &= np.minimum(mean, 2 - mean) / 2 >= config.min_maf
    if config.window.unit == "variants":
        place = np.concatenate([np.arange(np.count_nonzero(kept & (data.variant_contig == c))) for c in range(3)])
    else:
        place = place[kept]
    if not kept.any():
        return kept, np.zeros((0, A.shape[1]))
    contig = data.variant_contig[kept].astype(float)
    if kept.sum() == 1:
        return kept, A[kept]
    return kept, dense_ld_scores(dosages[kept], place.astype(float), contig, config.window.size, A[kept])


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_the_definition(draw: st.DataObject) -> None:
    """Single precision of r: an r² is right to about 1e-6, and a score is a sum of as many as there are neighbours."""
    rng = np.random.default_rng(draw.draw(st.integers(0, 2**32)))
    m, n = draw.draw(st.integers(2, 60)), draw.draw(st.sampled_from([5, 31, 33, 200, 1100]))
    calls = linked_calls(rng, m, n, likeness=draw.draw(st.sampled_from([0.5, 0.95])), missing=0.05)
    calls[rng.random(m) < 0.1] = draw.draw(st.sampled_from([0, 1, 2, -9]))
    encoding = draw.draw(st.sampled_from(Encoding))
    contig = np.sort(rng.integers(0, 3, m))
    position = np.concatenate([np.sort(rng.integers(1, 50, np.count_nonzero(contig == c))) * 500 for c in range(3)])
    data = data_of(calls, position, contig, encoding, draw.draw(st.integers(1, 40)))
    if encoding.is_dosage:
        noisy = np.where(calls < 0, np.nan, np.clip(calls + rng.normal(0, 0.2, calls.shape), 0, 2))
        data = replace(data, rows=rows_from_dosages(noisy, encoding))
    genetic_map = GeneticMap(
        "map", {str(c + 1): (np.array([0.0, 5e3, 25e3]), np.array([0.0, 0.4, 0.5])) for c in range(3)}
    )
    window = draw.draw(st.sampled_from([Reach(5000, "bp"), Reach(1), Reach(7), Reach(0.1, "cM"), Reach(10**9, "bp")]))
    config = LdScoreConfig(window, draw.draw(st.sampled_from([0.0, 0.1])))
    A = np.column_stack([np.ones(m), rng.integers(0, 2, m), rng.normal(size=m)])
    place = position.astype(float)
    if window.unit == "cM":
        place = np.concatenate([genetic_map.at("1", position[contig == c]) for c in range(3)])
    samples = np.sort(rng.permutation(n)[: max(4, n // 2)]) if draw.draw(st.booleans()) else None
    kept, scores = expected(data, config, place, A, slice(None) if samples is None else samples)
    if not kept.any():
        with pytest.raises(VariantMismatchError, match="None of"):
            ld_scores(data, config, samples=samples)
        return
    found = ld_scores(data, config, samples=samples, annotations=A, names=("a", "b", "c"), genetic_map=genetic_map)
    assert found.variants.tolist() == np.flatnonzero(kept).tolist()
    assert found.n_left_out == m - kept.sum()
    np.testing.assert_allclose(found.scores, scores, rtol=1e-5, atol=1e-5 * len(scores))
    np.testing.assert_allclose(found.sizes(common=False), A[kept].sum(axis=0))
    np.testing.assert_allclose(found.overlap(common=True), A[kept][found.common].T @ A[kept][found.common])


@pytest.mark.parametrize("encoding", Encoding)
def test_chunks_and_workers_do_not_change_a_bit(encoding: Encoding) -> None:
    calls = linked_calls(np.random.default_rng(2), 2700, 40)
    contig = np.repeat([0, 1], [2400, 300])
    position = np.concatenate([np.arange(1, 2401), np.arange(1, 301)]) * 100
    found = []
    for chunk_variants in (7, 64, 5000):
        for n_threads in (1, 3):
            with threads(n_threads):
                data = data_of(calls, position, contig, encoding, chunk_variants)
                found.append(ld_scores(data, LdScoreConfig(Reach(9000, "bp"))).scores)
    assert all(np.array_equal(found[0], each) for each in found[1:])
    rest = ld_scores(data, LdScoreConfig(Reach(9000, "bp")), variants=np.flatnonzero(contig == 1))
    assert np.array_equal(rest.scores, found[0][-len(rest.scores) :])


def test_many_blocks_are_as_the_definition() -> None:
    calls = linked_calls(np.random.default_rng(3), 1700, 150, missing=0.0)
    calls = calls[calls.std(axis=1) > 0]
    data = data_of(calls, np.arange(1, len(calls) + 1))
    found = ld_scores(data, LdScoreConfig(Reach(700)))
    dense = dense_ld_scores(
        calls.astype(float), np.arange(len(calls)), np.zeros(len(calls)), 700, np.ones((len(calls), 1))
    )
    # About ten in single precision, from which the expectation of ten is taken: 1e-6 of it is left as an error.
    np.testing.assert_allclose(found.scores, dense, rtol=1e-5, atol=1e-5)


def test_exchanged_alleles_and_order_of_samples_do_not_matter() -> None:
    rng = np.random.default_rng(4)
    calls = linked_calls(rng, 90, 80)
    position = np.arange(1, 91) * 1000
    swapped = np.where((rng.random(90) < 0.5)[:, None] & (calls >= 0), 2 - calls, calls).astype(np.int8)
    one = ld_scores(data_of(calls, position)).scores
    np.testing.assert_allclose(ld_scores(data_of(swapped, position)).scores, one, rtol=2e-5)
    np.testing.assert_allclose(ld_scores(data_of(calls[:, rng.permutation(80)], position)).scores, one, rtol=2e-5)


def test_independent_variants_have_a_score_of_one() -> None:
    """E[r²_adj] = 0: the mean over 2,000 × 99 pairs is within five standard errors."""
    calls = np.random.default_rng(5).binomial(2, 0.4, (2000, 500)).astype(np.int8)
    found = ld_scores(data_of(calls, np.arange(1, 2001)), LdScoreConfig(Reach(50)))
    pairs = (found.scores[:, 0] - 1).sum() / (2000 * 99)
    assert abs(pairs) < 5 * np.sqrt(2) / 500 / np.sqrt(2000 * 99 / 2)


def test_what_cannot_be_computed_is_refused() -> None:
    calls = linked_calls(np.random.default_rng(6), 20, 30)
    data = data_of(calls, np.arange(1, 21) * 10)
    with pytest.raises(ParameterError, match="needs a genetic map"):
        ld_scores(data, LdScoreConfig(Reach.parse("1cM")))
    with pytest.raises(ParameterError, match="at least 3 samples"):
        ld_scores(data, samples=np.array([1, 2]))
    with pytest.raises(ParameterError, match="annotations are"):
        ld_scores(data, annotations=np.ones((3, 1)))
    with pytest.raises(VariantMismatchError, match="10 follows 200"):
        ld_scores(replace(data, variant_position=np.roll(data.variant_position, 1)))
    with pytest.raises(VariantMismatchError, match="no contig 1"):
        ld_scores(data, LdScoreConfig(Reach(1, "cM")), genetic_map=GeneticMap("m", {}))
    for text in ("", "0", "1.5", "abc", "0cM", "-3kb"):
        with pytest.raises(ParameterError, match="is not a window"):
            Reach.parse(text)


def test_the_plan_names_what_is_held() -> None:
    data = data_of(linked_calls(np.random.default_rng(7), 600, 50), np.arange(1, 601))
    plan = plan_ld_scores(data, LdScoreConfig(Reach(100)), n_workers=2)
    assert plan.flop >= 2 * 50 * 600 * 100 and plan.peak_bytes > 4 * 600 * 100
    with pytest.raises(MemoryBudgetError, match="LD scores"):
        plan.check(1000)


@pytest.mark.parametrize("encoding", [Encoding.CALLS, Encoding.DOSAGE8])
def test_no_more_is_held_than_planned(encoding: Encoding) -> None:
    calls = np.random.default_rng(8).integers(0, 3, (3000, 1500)).astype(np.int8)
    data = data_of(calls, np.arange(1, 3001), encoding=encoding, chunk_variants=200)
    config = LdScoreConfig(Reach(300))
    ld_scores(data, LdScoreConfig(Reach(2)), variants=np.arange(50))  # compiled
    tracemalloc.start()
    with threads(2):
        ld_scores(data, config)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    planned = plan_ld_scores(data, config, n_workers=2).peak_bytes
    assert 0.2 * planned < peak < planned
