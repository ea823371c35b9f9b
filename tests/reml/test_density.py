"""Traces from probes against the definition, the honesty of their error, and how few a masked set needs."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from numpy.typing import NDArray

from biolmm.linalg.krylov import Eigenpairs
from biolmm.linalg.lanczos import Lanczos
from biolmm.linalg.operators import Restriction
from biolmm.reml.density import MIN_PROBES, N_MOMENTS, Density, ProbeCounts, probe_counts, share_of_whole
from biolmm.reml.likelihood import ProbeMoments, TraceMeasure
from biolmm.reml.probing import ProbeSet
from oracles import dense
from oracles.spectra import single
from oracles.toy import structured_calls

N = 100
K = dense.relatedness(structured_calls(500, N))
PRODUCT = single(K)
H2 = np.array([0.1, 0.4, 0.7])


def masked(n_missing: int) -> Restriction:
    """Return a random set of samples with an intercept."""
    observed = np.ones(N, dtype=bool)
    observed[np.random.default_rng(1).choice(N, n_missing, replace=False)] = False
    return Restriction(observed, (observed / np.sqrt(observed.sum()))[:, None])


EVERYONE = masked(0)


def eigen(restriction: Restriction, n_pairs: int) -> tuple[NDArray[np.float64], Eigenpairs]:
    """Return the eigenvalues of PKP over the range of P, and the leading pairs."""
    P = np.diag(restriction.observed.astype(float)) - restriction.basis @ restriction.basis.T
    values, vectors = np.linalg.eigh(P @ K @ P)
    values, vectors = values[::-1], vectors[:, ::-1]
    kept = slice(0, n_pairs)
    pairs = Eigenpairs(values[kept], vectors[:, kept].astype(np.float32), np.zeros(n_pairs))
    return values[: restriction.rank], pairs


def signs(seed: int, n: int = 512) -> NDArray[np.float32]:
    return np.random.default_rng(seed).choice(np.array([-1, 1], np.float32), (N, n))


def probe_set(restriction: Restriction, seed: int = 0, known: Density | None = None, n_pairs: int = 2) -> ProbeSet:
    values, pairs = eigen(restriction, n_pairs)
    drawn = signs(seed)
    return ProbeSet(restriction, pairs, float(values.sum()), lambda which: drawn[:, list(which)], known)


def run(probes: ProbeSet, n_probes: int, n_steps: int, n_moments: int) -> int:
    """Take products until the probes are ready; return the columns spent."""
    spent = 0
    U = probes.pairs.vectors.astype(np.float64)
    while not probes.ready(n_probes, n_steps, n_moments):
        for recursion in probes.going():
            product = probes.restriction.project(PRODUCT(recursion.current))
            spent += product.shape[1]
            recursion.take((product - U @ (U.T @ product)).astype(np.float32))
        probes.collect()
    return spent


def scores(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return d log(h²λ + 1 − h²)/dh² with a leading axis over h²."""
    at = H2.reshape(-1, *[1] * values.ndim)
    return np.asarray((values - 1) / (at * values + 1 - at))


@pytest.mark.parametrize("n_missing", [0, 4, 20, 50])
def test_traces_are_unbiased_and_their_error_is_what_it_says(n_missing: int) -> None:
    """Over 40 draws of the probes: z-scores of mean 0 and root mean square 1, paired with the whole cohort or not."""
    restriction = masked(n_missing)
    truth = scores(eigen(restriction, 0)[0]).sum(axis=1)
    z, share = [], share_of_whole(1 - n_missing / N) if n_missing else 1.0
    counts = probe_counts(share, 0)
    for seed in range(40):
        whole = probe_set(EVERYONE, seed)
        run(whole, 0, 1, counts.whole)
        probes = probe_set(restriction, seed)
        run(probes, counts.probes, 10, counts.moments)
        measure = probes.measure(whole.density if n_missing else None, counts, 10)
        mean, error = measure.estimate(scores(measure.values), scores(measure.nodes))
        z.append((mean - truth) / error)
    rms = np.sqrt(np.mean(np.square(z), axis=0))
    # Six probes leave five degrees of freedom at worst: Student's t has a root mean square of √(5/3) = 1.29 there; and
    # 40 draws are off by 11 %, three times that at most.
    assert np.all((rms > 0.67) & (rms < 1.29 * 1.33)), rms
    assert np.all(np.abs(np.mean(z, axis=0)) < 3.3 * rms / np.sqrt(40)), np.mean(z, axis=0)


def test_pairing_saves_probes() -> None:
    """At 4 % missing, six paired probes and the cohort's 32 do far better than the six alone."""
    restriction = masked(4)
    counts = probe_counts(share_of_whole(1 - 4 / N), 0)
    assert counts == ProbeCounts(MIN_PROBES, MIN_PROBES, N_MOMENTS)
    paired, alone = [], []
    truth = scores(eigen(restriction, 0)[0]).sum(axis=1)
    for seed in range(40):
        whole, probes = probe_set(EVERYONE, seed), probe_set(restriction, seed)
        run(whole, 0, 1, counts.whole)
        run(probes, counts.probes, 8, counts.moments)
        for found, of_whole in ((paired, whole.density), (alone, None)):
            measure = probes.measure(of_whole, counts, 8)
            found.append(measure.estimate(scores(measure.values), scores(measure.nodes))[0] - truth)
    gain = np.mean(np.square(alone), axis=0) / np.mean(np.square(paired), axis=0)
    # With correlation ρ = 0.96³ = 0.88 in the quadratic part: 1/6 against (1 − ρ)/6 + ρ/32, a gain of 3.5.
    assert gain[0] > 2, gain


def test_enough_steps_are_the_definition() -> None:
    """Probes that are the whole identity, scaled: nothing is left to chance, whatever the control variates."""
    _, pairs = eigen(EVERYONE, 0)
    start = EVERYONE.project(np.eye(N) * np.sqrt(N)).astype(np.float32)
    recursion = Lanczos(start)
    for _ in range(25):
        recursion.advance(lambda X: EVERYONE.project(K @ X.astype(np.float64)).astype(np.float32))
    alpha, beta = np.array(recursion.alpha).T, np.array(recursion.beta).T
    powers = np.column_stack([np.ones(N), alpha[:, 0], alpha[:, 0] ** 2 + beta[:, 0] ** 2])
    density = Density(alpha, beta, recursion.norms, np.full(N, 25), recursion.norms[:, None] ** 2 * powers)
    values = eigen(EVERYONE, 0)[0]
    measure = density.measure(EVERYONE, pairs, float(values.sum()))
    mean, _ = measure.estimate(scores(measure.values), scores(measure.nodes))
    np.testing.assert_allclose(mean, scores(values).sum(axis=1), rtol=1e-4)
    assert measure.moments is not None
    square, _ = measure.moments.estimate(np.array([0.0, 0.0, 1.0]))
    assert square == pytest.approx((values**2).sum(), rel=1e-5)


def test_probes_are_the_same_in_whatever_order_they_are_asked_for() -> None:
    """Steps, probes and moments added bit by bit, out of a known density too short, and all at once."""
    at_once = probe_set(EVERYONE)
    run(at_once, 12, 7, 64)
    bit_by_bit = probe_set(EVERYONE)
    for n_probes, n_steps, n_moments in ((0, 1, 20), (6, 2, 32), (6, 4, 32), (12, 4, 64), (12, 7, 64)):
        run(bit_by_bit, n_probes, n_steps, n_moments)
    short = probe_set(EVERYONE)
    run(short, 6, 3, 32)
    opened = probe_set(EVERYONE, known=short.density)
    run(opened, 12, 7, 64)
    for other in (bit_by_bit, opened):
        for name in ("alpha", "beta", "norms", "moments"):
            np.testing.assert_allclose(
                getattr(other.density, name), getattr(at_once.density, name), rtol=1e-3, atol=1e-3
            )
        np.testing.assert_array_equal(other.density.steps, at_once.density.steps)


def test_columns_are_spent_once() -> None:
    """The moments' probes take one step, and nothing is computed again while it is held."""
    probes = probe_set(EVERYONE)
    assert run(probes, 6, 3, 32) == 32 + 2 * 6
    assert run(probes, 6, 3, 32) == 0
    assert run(probes, 6, 5, 32) == 2 * 6
    assert run(probes, 12, 5, 64) == 6 + 32 + 4 * 6
    known = probe_set(EVERYONE, known=probes.density)
    assert run(known, 12, 5, 64) == 0


def test_a_measure_of_fewer_steps_is_the_one_it_was_then() -> None:
    probes = probe_set(EVERYONE)
    counts = probe_counts(1.0, 0)
    run(probes, 6, 4, 32)
    then = probes.measure(None, counts, 4)
    run(probes, 12, 9, 64)
    now = probes.measure(None, counts, 4)
    np.testing.assert_array_equal(now.nodes, then.nodes)
    np.testing.assert_array_equal(now.weights, then.weights)


def test_a_remainder_of_few_dimensions_ends_its_recursions() -> None:
    """Two dimensions take two steps; none takes none, and there is nothing to estimate."""
    for left in (2, 0):
        probes = probe_set(EVERYONE, n_pairs=EVERYONE.rank - left)
        assert run(probes, 6, 20, 32) <= 32 + 6 * left
        measure = probes.measure(None, probe_counts(1.0, 0), 20)
        values = eigen(EVERYONE, 0)[0]
        mean, _ = measure.estimate(scores(measure.values), scores(measure.nodes))
        np.testing.assert_allclose(mean, scores(values).sum(axis=1), rtol=1e-3)


def test_the_fewer_are_missing_the_fewer_probes_are_needed() -> None:
    counts = [probe_counts(share_of_whole(observed), 0) for observed in (0.99, 0.9, 0.7, 0.3)]
    assert all(a.moments <= b.moments for a, b in pairwise(counts))
    assert counts[0].moments == MIN_PROBES
    assert counts[-1].moments == N_MOMENTS
    doubled = probe_counts(share_of_whole(0.9), 2)
    assert doubled == ProbeCounts(*(4 * count for count in counts[1]))


def random_moments(seed: int) -> TraceMeasure:
    rng = np.random.default_rng(seed)
    nodes, weights = rng.uniform(0.1, 4, (6, 5)), rng.uniform(0, 10, (6, 5))
    moments = ProbeMoments(rng.uniform(0, 9, (20, 3)))
    return TraceMeasure(rng.uniform(5, 9, 3), nodes, weights, 40, 51.0, moments)


@pytest.mark.parametrize("seed", range(3))
def test_a_parabola_has_the_moments_estimate_and_error(seed: int) -> None:
    """Σλ² comes from the moments, less what of it is a line; lines stay exact."""
    measure = random_moments(seed)
    f = [2 + 3 * at + 0.5 * at**2 for at in (measure.values, measure.nodes)]
    line = [measure.values, measure.nodes]
    mean, error = measure.estimate(np.array([f[0], line[0]]), np.array([f[1], line[1]]))
    assert mean[1] == pytest.approx(measure.values.sum() + 51, rel=1e-12)
    assert error[1] < 1e-8 * error[0]
    W = measure.weights.ravel()
    design = np.vander(measure.nodes.ravel(), 2, increasing=True)
    by_line = np.linalg.lstsq(design * np.sqrt(W)[:, None], measure.nodes.ravel() ** 2 * np.sqrt(W), rcond=None)[0]
    assert measure.moments is not None
    rest = measure.moments.own @ np.array([-by_line[0], -by_line[1], 1.0])
    squares = by_line @ [40, 51.0] + rest.mean()
    assert mean[0] == pytest.approx(f[0].sum() + 2 * 40 + 3 * 51 + 0.5 * squares, rel=1e-9)
    assert error[0] == pytest.approx(0.5 * rest.std(ddof=1) / np.sqrt(20), rel=1e-6)


def test_pairing_is_a_difference_and_a_mean() -> None:
    rng = np.random.default_rng(0)
    own, whole, p = rng.uniform(0, 1, (8, 3)), rng.uniform(0, 1, (30, 3)), np.array([0.3, -1.0, 2.0])
    mean, variance = ProbeMoments(own, whole, 0.8).estimate(p)
    assert mean == pytest.approx((own @ p).mean() - 0.8 * (whole[:8] @ p).mean() + 0.8 * (whole @ p).mean())
    apart = own @ p - 0.8 * whole[:8] @ p
    assert variance == pytest.approx(apart.var(ddof=1) / 8 + 0.64 * (whole @ p).var(ddof=1) / 30)
