"""Pruning: the definition, other ways to cut the work, PLINK 2, and limit cases."""

from __future__ import annotations

import pickle
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from biolmm.chunks import threads
from biolmm.errors import MemoryBudgetError, ParameterError, VariantMismatchError
from biolmm.files.encoding import Encoding, dosages_from_rows, rows_from_calls, rows_from_dosages
from biolmm.ld import PruneConfig, Window, plan_prune, prune
from oracles.pruning import MemoryData, linked_calls, naive_prune
from oracles.toy import Toy

THRESHOLDS = ("0.25", "0.5", "0.2", "0.9", "0.0", "0.04", "0.64")


def data_of(
    calls: NDArray[np.int8],
    encoding: Encoding = Encoding.CALLS,
    contig: NDArray[np.integer] | None = None,
    position: NDArray[np.integer] | None = None,
    chunk_variants: int = 64,
) -> MemoryData:
    """Hold calls in memory, a variant each thousand base pairs of one contig if nothing else is said."""
    contig = np.zeros(len(calls), np.int32) if contig is None else contig.astype(np.int32)
    return MemoryData(
        rows=rows_from_calls(calls, encoding),
        n_samples=calls.shape[1],
        encoding=encoding,
        contig_id=tuple(str(i + 1) for i in range(max([0, *contig]) + 1)),
        variant_contig=contig,
        variant_position=np.asarray(1000 * np.arange(1, len(calls) + 1) if position is None else position, np.int64),
        chunk_variants=chunk_variants,
    )


def codes(data: MemoryData) -> tuple[NDArray[np.int64], int]:
    """Give genotypes as whole numbers, negative = missing, and their largest value."""
    dosages = dosages_from_rows(data.rows, data.encoding, data.n_samples).astype(np.float64) * data.encoding.steps
    return np.where(np.isnan(dosages), -1, np.rint(dosages)).astype(np.int64), 2 * data.encoding.steps


@st.composite
def cases(draw: st.DrawFn) -> tuple[MemoryData, PruneConfig, str]:
    """Draw few samples, so that thresholds and frequencies are often met exactly, on up to three contigs with gaps."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    m, n = draw(st.integers(1, 40)), draw(st.sampled_from([3, 8, 31, 32, 33, 64, 70]))
    missing = draw(st.sampled_from([0.0, 0.05, 0.4]))
    calls = linked_calls(rng, m, n, likeness=draw(st.sampled_from([0.5, 0.9, 0.99])), missing=missing)
    calls[rng.random(m) < 0.1] = draw(st.sampled_from([0, 1, 2, -9]))
    encoding = draw(st.sampled_from(Encoding))
    contig = np.sort(rng.integers(0, 3, m))
    position = np.concatenate([np.sort(rng.integers(1, 40, np.count_nonzero(contig == c))) * 500 for c in range(3)])
    data = data_of(calls, encoding, contig, position, chunk_variants=draw(st.integers(1, 50)))
    if encoding.is_dosage and draw(st.booleans()):
        dosages = np.where(calls < 0, np.nan, np.clip(calls + rng.normal(0, 0.2, calls.shape), 0, 2))
        data = replace(data, rows=rows_from_dosages(dosages, encoding))
    if draw(st.booleans()):
        window, step = Window(draw(st.integers(1, 12)) * 500, in_bp=True), 1
    else:
        window = Window(draw(st.integers(2, 30)))
        step = draw(st.integers(1, window.size))
    threshold = draw(st.sampled_from(THRESHOLDS))
    return data, PruneConfig(window, step, float(threshold)), threshold


@given(cases(), st.data())
@settings(max_examples=150, deadline=None)
def test_the_definition(case: tuple[MemoryData, PruneConfig, str], more: st.DataObject) -> None:
    """Also for some of the samples in any order, and some of the variants."""
    data, config, threshold = case
    genotypes, top = codes(data)
    samples = variants = None
    if more.draw(st.booleans()):
        samples = np.array(more.draw(st.permutations(range(data.n_samples)))[: 1 + data.n_samples // 2])
        variants = np.flatnonzero(np.random.default_rng(1).random(data.n_variants) < 0.7)
    chosen = np.arange(data.n_variants) if variants is None else variants
    expected = np.zeros(data.n_variants, dtype=bool)
    expected[chosen] = naive_prune(
        genotypes[chosen][:, slice(None) if samples is None else samples],
        top, data.variant_contig[chosen], data.variant_position[chosen], config.window, config.step, threshold,
    )  # fmt: skip
    assert prune(data, config, samples=samples, variants=variants).tolist() == expected.tolist()


def test_no_linked_pair_is_left_and_nothing_goes_without_reason() -> None:
    """Stated without the order of PLINK: r² by NumPy, far from the threshold."""
    calls = linked_calls(np.random.default_rng(5), 400, 500, missing=0.0)
    calls = calls[calls.std(axis=1) > 0][:300]
    kept = prune(data_of(calls), PruneConfig(Window(40_000, in_bp=True), 1, 0.3))
    near = np.abs(np.subtract.outer(np.arange(300), np.arange(300))) <= 40
    r2 = np.corrcoef(calls) ** 2 * near
    np.fill_diagonal(r2, 0)
    assert 20 < kept.sum() < 280
    assert r2[np.ix_(kept, kept)].max() <= 0.3 + 1e-9
    assert (r2[~kept].max(axis=1) > 0.3 - 1e-9).all()


@pytest.mark.parametrize("encoding", Encoding)
def test_chunks_and_workers_do_not_matter(encoding: Encoding) -> None:
    calls = linked_calls(np.random.default_rng(2), 700, 90)
    contig = np.repeat([0, 1, 2], [400, 1, 299])
    config = PruneConfig(Window(50), 7, 0.2)
    data = data_of(calls, encoding, contig)
    found = []
    for chunk_variants in (1, 13, 64, 1000):
        for n_threads in (1, 3):
            with threads(n_threads):
                found.append(prune(replace(data, chunk_variants=chunk_variants), config))
    assert 0 < found[0].sum() < 700
    assert all((each == found[0]).all() for each in found[1:])


def test_a_store(toy: Toy) -> None:
    calls = np.where(toy.calls == 3, -9, toy.calls.astype(np.int8)).astype(np.int8)
    config = PruneConfig(Window(100), 10, 0.1)
    kept = prune(toy.store, config)
    assert 0 < kept.sum() < len(calls)
    assert (kept == prune(data_of(calls, contig=toy.contigs), config)).all()


def test_dosages_of_calls_are_calls_and_alleles_may_be_swapped() -> None:
    calls = linked_calls(np.random.default_rng(3), 200, 77)
    config = PruneConfig(Window(30), 1, 0.2)
    kept = prune(data_of(calls), config)
    swapped = np.where(calls < 0, calls, 2 - calls)
    swapped[::2] = calls[::2]
    for other in (calls, swapped):
        for encoding in Encoding:
            assert (prune(data_of(other, encoding), config) == kept).all()


def test_hard_calls_of_dosages() -> None:
    rng = np.random.default_rng(4)
    calls = linked_calls(rng, 200, 77)
    near = np.where(calls < 0, np.nan, np.clip(calls + rng.uniform(-0.09, 0.09, calls.shape), 0, 2))
    data = replace(data_of(calls, Encoding.DOSAGE16), rows=rows_from_dosages(near, Encoding.DOSAGE16))
    config = PruneConfig(Window(30), 1, 0.2)
    rounded = prune(data, replace(config, hard_calls=True))
    assert (rounded == prune(data_of(calls), config)).all()
    assert (rounded != prune(data, config)).any()


def test_variants_that_do_not_vary_go_and_push_nobody_out() -> None:
    calls = np.array([[0] * 6, [-9] * 6, [1] * 6, [2] * 5 + [-9], [0, 1, 2, 0, 1, 2], [0, 1, 2, 0, 1, 2]], np.int8)
    assert prune(data_of(calls), PruneConfig(Window(6), 1, 0.5)).tolist() == [False] * 4 + [True, False]
    assert prune(data_of(calls[:1])).tolist() == [False]


def test_the_rarer_minor_allele_goes_and_of_equals_the_later() -> None:
    common, rare = [0, 1, 2, 2, 1, 1, 0, 0], [0, 0, 1, 1, 0, 0, 0, 0]
    config = PruneConfig(Window(2), 1, 0.1)
    assert prune(data_of(np.array([rare, common], np.int8)), config).tolist() == [False, True]
    assert prune(data_of(np.array([common, rare], np.int8)), config).tolist() == [True, False]
    mirrored = [2 - x for x in common]
    assert prune(data_of(np.array([common, mirrored], np.int8)), config).tolist() == [True, False]


def test_nothing_to_choose_from() -> None:
    calls = linked_calls(np.random.default_rng(6), 5, 9)
    assert not prune(data_of(calls), variants=np.array([], np.int64)).any()
    assert prune(data_of(calls[:0])).tolist() == []


def test_wrong_requests_are_refused() -> None:
    data = data_of(linked_calls(np.random.default_rng(6), 5, 9))
    with pytest.raises(ParameterError, match="at least one sample"):
        prune(data, samples=np.array([], np.int64))
    with pytest.raises(ParameterError, match="samples are 0 to 8, but 3 to 9 are chosen"):
        prune(data, samples=np.array([3, 9]))
    back = replace(data, variant_position=np.array([1, 2, 9, 5, 6]))
    with pytest.raises(
        VariantMismatchError, match=r"memory.zarr is not sorted: on contig 1 variant v3 at 5 follows v2 at 9"
    ):
        prune(back)
    assert prune(back, PruneConfig(Window(5))).shape == (5,)
    for r2 in (-0.1, 1.0, float("nan")):
        with pytest.raises(ParameterError, match="r2 is"):
            PruneConfig(r2=r2)
    with pytest.raises(ParameterError, match="step is 2 but must be 1"):
        PruneConfig(Window(5, in_bp=True), 2)
    for step in (0, 6):
        with pytest.raises(ParameterError, match=f"step is {step} but must be between 1 and"):
            PruneConfig(Window(5), step)


def test_the_plan_holds_what_the_pool_holds() -> None:
    """300 variants a thousand base pairs apart, windows of 51: with a chunk of 64, 115 rows of 16 bytes are held."""
    data = data_of(linked_calls(np.random.default_rng(6), 300, 64))
    plan = plan_prune(data, PruneConfig(Window(50_000, in_bp=True)), n_workers=4)
    assert plan.n_tasks == 1
    assert plan.read_bytes == 300 * 16
    assert plan.needs[0].n_bytes == (51 + 64) * 16
    with pytest.raises(MemoryBudgetError, match="prune would use"):
        plan.check(1000)


def test_settings_travel_to_workers() -> None:
    config = PruneConfig(Window(50), 7, 0.2)
    assert pickle.loads(pickle.dumps(config)) == config


@pytest.fixture(scope="module")
def plink() -> str:
    found = shutil.which("plink2")
    if found is None:
        pytest.skip("plink2 is not installed")
    return found


@pytest.mark.parametrize(
    ("window", "step", "r2", "missing"),
    [("50", 5, 0.2, 0.03), ("120", 1, 0.5, 0.0), ("2", 1, 0.1, 0.3), ("40kb", 1, 0.2, 0.03), ("7kb", 1, 0.05, 0.0)],
)
def test_equals_plink(tmp_path: Path, plink: str, window: str, step: int, r2: float, missing: float) -> None:
    """Two contigs, an invariant variant among them, repeated positions, and gaps that no window bridges."""
    rng = np.random.default_rng(11)
    m, n = 600, 211
    calls = linked_calls(rng, m, n, missing=missing)
    calls[100] = 2
    contig = np.repeat([0, 1], [350, 250])
    position = np.concatenate([np.sort(rng.integers(1, 400, 350)), np.sort(rng.integers(1, 900, 250))]) * 500
    position[50:350] += 100_000
    write_bed(tmp_path / "c", calls, contig, position)
    size = [window.removesuffix("kb"), "kb"] if window.endswith("kb") else [window]
    command = [plink, "--bfile", "c", "--indep-pairwise", *size, str(step), str(r2), "--out", "c"]
    subprocess.run([*command, "--threads", "1", "--memory", "640"], check=True, capture_output=True, cwd=tmp_path)
    theirs = (tmp_path / "c.prune.in").read_text().split()
    kept = prune(data_of(calls, contig=contig, position=position), PruneConfig(Window.parse(window), step, r2))
    assert 0 < len(theirs) < m
    assert [f"v{i}" for i in np.flatnonzero(kept)] == theirs


def write_bed(
    prefix: Path, calls: NDArray[np.int8], contig: NDArray[np.integer], position: NDArray[np.integer]
) -> None:
    """Write a PLINK file set from its table of codes: 2 copies of A1 = 0, missing = 1, 1 copy = 2, none = 3."""
    m, n = calls.shape
    code = np.zeros((m, -(-n // 4) * 4), np.uint8)
    code[:, :n] = np.array([3, 2, 0, 1], np.uint8)[np.where(calls < 0, 3, calls)]
    packed = code[:, 0::4] | code[:, 1::4] << 2 | code[:, 2::4] << 4 | code[:, 3::4] << 6
    prefix.with_suffix(".bed").write_bytes(b"\x6c\x1b\x01" + packed.tobytes())
    bim = "".join(f"{c + 1}\tv{i}\t0\t{p}\tA\tG\n" for i, (c, p) in enumerate(zip(contig, position, strict=True)))
    prefix.with_suffix(".bim").write_text(bim)
    prefix.with_suffix(".fam").write_text("".join(f"0 s{i} 0 0 0 -9\n" for i in range(n)))
