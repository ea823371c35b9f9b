"""Every term against its dense definition, and against the contract of operators."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import gamma, kv

from biolmm.covariance import Covariance, Kernel, Term
from biolmm.covariance.epistasis import epistasis_bytes, epistasis_kernel
from biolmm.covariance.features import FeatureKernel
from biolmm.covariance.genetic import GenotypePanel
from biolmm.covariance.groups import GroupKernel, RepeatedKernel
from biolmm.covariance.haplotypes import Haplotypes
from biolmm.covariance.interaction import InteractionKernel, category_columns, standardised_environment
from biolmm.covariance.noise import category_noise, common_noise, covariate_noise
from biolmm.covariance.pedigree import Pedigree, PedigreeKernel
from biolmm.covariance.spatial import SpatialKernel, covariance_function, globe_points, range_grid
from biolmm.covariance.terms import DenseKernel, DiagonalKernel, check_matrix
from biolmm.errors import InputFileError, MemoryBudgetError, ParameterError, SampleMismatchError
from biolmm.files.encoding import Encoding
from biolmm.files.genotypes import SampleTable, VariantTable, as_strings
from biolmm.store.read import GenotypeStore
from biolmm.store.write import StoreWriter
from contracts import EPS32, check_operator, draw
from oracles import dense
from oracles.toy import Toy, make_toy, operator_of

N = 61
RNG = np.random.default_rng(5)
LABELS = RNG.integers(0, 3, N)
SLOPE = RNG.standard_normal(N)
FEATURES = RNG.standard_normal((N, 40)) + 3
PLACES = RNG.uniform(0, 10, (N, 2))
POSITIVE = (lambda A: A @ A.T)(RNG.standard_normal((N, N)))
INDIVIDUAL = RNG.integers(0, 20, N)
ALLELES = RNG.integers(0, 2, (2, N, 80)).astype(float)

Definition = NDArray[np.float64]


def same_label() -> Definition:
    return np.array([[float(a == b) for b in LABELS] for a in LABELS])


def similarity(values: Definition) -> Definition:
    W = (values - values.mean(axis=0)) / values.std(axis=0)
    return W @ W.T / W.shape[1]


def distances() -> Definition:
    return np.array([[np.hypot(*(a - b)) for b in PLACES] for a in PLACES])


def centred() -> Definition:
    return (SLOPE - SLOPE.mean()) / SLOPE.std()


CASES: dict[str, tuple[Callable[[], Kernel], Callable[[], Definition]]] = {
    "diagonal": (lambda: DiagonalKernel(SLOPE**2), lambda: np.diag(SLOPE**2)),
    "user": (lambda: DenseKernel(POSITIVE), lambda: POSITIVE),
    "group": (lambda: GroupKernel(LABELS), same_label),
    "features": (lambda: FeatureKernel.standardised(FEATURES), lambda: similarity(FEATURES)),
    "epistasis": (lambda: epistasis_kernel(DenseKernel(POSITIVE), 2**40), lambda: POSITIVE**2),
    "matern": (lambda: SpatialKernel(PLACES, 2.0, "matern12"), lambda: np.exp(-distances() / 2)),
    "gaussian": (lambda: SpatialKernel(PLACES, 2.0, "gaussian"), lambda: np.exp(-((distances() / 2) ** 2) / 2)),
    "maternal": (lambda: Haplotypes(*ALLELES).kernel("maternal"), lambda: similarity(ALLELES[0])),
    "imprinting": (lambda: Haplotypes(*ALLELES).kernel("difference"), lambda: similarity(ALLELES[1] - ALLELES[0])),
    "slope": (
        lambda: InteractionKernel(DenseKernel(POSITIVE), standardised_environment(SLOPE)),
        lambda: np.diag(centred()) @ POSITIVE @ np.diag(centred()),
    ),
    "categories": (
        lambda: InteractionKernel(DenseKernel(POSITIVE), category_columns(LABELS)),
        lambda: POSITIVE * same_label(),
    ),
    "features in categories": (
        lambda: InteractionKernel(FeatureKernel.standardised(FEATURES), category_columns(LABELS)),
        lambda: similarity(FEATURES) * same_label(),
    ),
    "repeated": (
        lambda: RepeatedKernel(DenseKernel(POSITIVE[:20, :20]), INDIVIDUAL),
        lambda: np.array([[POSITIVE[a, b] for b in INDIVIDUAL] for a in INDIVIDUAL]),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_term_is_its_definition(name: str) -> None:
    make, define = CASES[name]
    kernel, expected = make(), define()
    expected = expected / np.mean(np.diag(expected))
    term = Term.normalised(name, kernel)
    size = np.abs(expected).max()
    # Features and environments are kept in single precision.
    np.testing.assert_allclose(term.dense(), expected, atol=8 * EPS32 * size)
    np.testing.assert_allclose(term.diagonal(), np.diag(expected), atol=8 * EPS32 * size)
    assert term.trace == pytest.approx(N, rel=1e-6)
    X = draw((N, 3))
    allowed = 8 * np.sqrt(N) * EPS32 * np.linalg.norm(expected, 2) * np.linalg.norm(X, axis=0).max()
    assert np.abs(term.matmat(X) - expected @ X).max() <= allowed
    check_operator(term.matmat, X)


@pytest.mark.parametrize(("shape", "smoothness"), [("matern12", 0.5), ("matern32", 1.5), ("matern52", 2.5)])
def test_matern_functions_are_those_of_bessel(shape: str, smoothness: float) -> None:
    d = np.linspace(0.01, 5, 50)
    scaled = np.sqrt(2 * smoothness) * d
    expected = 2 ** (1 - smoothness) / gamma(smoothness) * scaled**smoothness * kv(smoothness, scaled)
    np.testing.assert_allclose(covariance_function(shape, d), expected, rtol=1e-12)  # type: ignore[arg-type]


def test_globe_distances_are_chords() -> None:
    points = globe_points(np.array([0.0, 0.0, 90.0]), np.array([0.0, 180.0, 0.0]))
    assert np.linalg.norm(points[0] - points[1]) == pytest.approx(2 * 6371.0088)
    assert np.linalg.norm(points[0] - points[2]) == pytest.approx(np.sqrt(2) * 6371.0088)
    with pytest.raises(ParameterError, match="latitudes reach 120"):
        globe_points(np.array([120.0]), np.array([0.0]))


def test_spatial_kernels_are_positive_definite_on_the_globe() -> None:
    rng = np.random.default_rng(1)
    points = globe_points(rng.uniform(-90, 90, 80), rng.uniform(-180, 180, 80))
    for shape in ("matern12", "matern32", "matern52", "gaussian"):
        values = np.linalg.eigvalsh(SpatialKernel(points, 8000.0, shape).dense())  # type: ignore[arg-type]
        assert values.min() > -1e-12 * values.max()


def test_ranges_span_the_places() -> None:
    grid = range_grid(PLACES)
    assert grid[-1] == pytest.approx(distances().max() / 2)
    assert np.all(np.diff(np.log(grid)) == pytest.approx(np.log(grid[1] / grid[0])))
    with pytest.raises(ParameterError, match="same coordinates"):
        range_grid(np.ones((5, 2)))


def test_noise_terms_add_up_to_the_common_one() -> None:
    terms = category_noise("batch", LABELS.astype(np.int64), ["a", "b", "c"])
    share = np.bincount(LABELS) / N
    total = sum(p * term.diagonal() for p, term in zip(share, terms, strict=True))
    np.testing.assert_allclose(total, common_noise(N).diagonal())
    assert all(term.is_residual and term.is_diagonal for term in [*terms, covariate_noise("x", SLOPE)])
    np.testing.assert_allclose(covariate_noise("x", SLOPE).diagonal(), centred() ** 2)


# Genotypes: one pass for all


@pytest.fixture(scope="module")
def genotypes(tmp_path_factory: pytest.TempPathFactory) -> Toy:
    return make_toy(tmp_path_factory.mktemp("panel"), n_variants=500, n_samples=N)


def dominance(calls: NDArray[np.uint8]) -> Definition:
    """Return the dominance relatedness of Vitezica, Varona & Legarra (2013) by definition."""
    rows = []
    for row in calls:
        called = row < 3
        if len(set(row[called].tolist())) < 2:
            continue
        p = row[called].mean() / 2
        q = 1 - p
        code = np.array([-2 * p * p, 2 * p * q, -2 * q * q, 0.0]) / (2 * p * q)
        rows.append(code[row])
    Z = np.array(rows)
    return Z.T @ Z / len(Z)


def test_covariance_of_genotype_terms_is_made_in_one_pass(genotypes: Toy) -> None:
    rng = np.random.default_rng(2)
    panel = GenotypePanel(genotypes.operator().genotypes)
    M = panel.n_variants
    bins = [(rng.random(M) < share).astype(float) for share in (0.1, 0.6)]
    weights = rng.random(M)
    Z, m = dense.standardised(genotypes.calls)

    def definition(w: NDArray[np.float64]) -> Definition:
        return Z.T @ (w[:, None] * Z) / (w @ m)

    slope, blocks = standardised_environment(SLOPE), category_columns(LABELS)
    kernels: list[tuple[Kernel, Definition]] = [
        (panel.kernel(bins[0]), definition(bins[0])),
        (panel.kernel(bins[1]), definition(bins[1])),
        (panel.kernel(weights), definition(weights)),
        (panel.kernel(), definition(np.ones(M))),
        (panel.kernel(code="dominance"), dominance(genotypes.calls)),
        (InteractionKernel(panel.kernel(bins[0]), slope), definition(bins[0]) * np.outer(centred(), centred())),
        (InteractionKernel(panel.kernel(), blocks), definition(np.ones(M)) * same_label()),
        (GroupKernel(LABELS), same_label()),
    ]
    terms = [Term.normalised(f"t{i}", kernel) for i, (kernel, _) in enumerate(kernels)]
    matrices = [D / np.mean(np.diag(D)) for _, D in kernels]
    for term, matrix in zip(terms, matrices, strict=True):
        np.testing.assert_allclose(term.dense(), matrix, atol=64 * EPS32)
        np.testing.assert_allclose(term.diagonal(), np.diag(matrix), atol=64 * EPS32)
    covariance = Covariance(terms)
    X = draw((N, 4))
    before = covariance.n_passes
    products = covariance.products(X)
    theta = rng.random((len(terms), 4))
    total = covariance.weighted(theta, X)
    assert covariance.n_passes == before + 2
    expected = np.stack([matrix @ X for matrix in matrices])
    assert np.abs(products - expected).max() < 64 * EPS32 * np.abs(expected).max()
    combined = np.einsum("qr,qnr->nr", theta, expected)
    assert np.abs(total - combined).max() < 64 * EPS32 * np.abs(combined).max()
    check_operator(lambda block: covariance.weighted(np.full((len(terms), block.shape[1]), 0.3), block), X)
    for term in (terms[2], terms[4], terms[5]):
        check_operator(term.matmat, X)


def test_wide_cohorts_and_narrow_panels_give_the_same(genotypes: Toy, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut samples into tiles and columns into passes, as happens with many of them."""

    def made(panel_bytes: int) -> NDArray[np.float32]:
        panel = GenotypePanel(genotypes.operator().genotypes, panel_bytes=panel_bytes)
        sets = np.eye(3)[np.arange(panel.n_variants) % 3]
        kernels = [*(panel.kernel(w) for w in sets.T), panel.kernel(code="dominance")]
        covariance = Covariance([Term.normalised(str(i), kernel) for i, kernel in enumerate(kernels)])
        return covariance.products(draw((N, 9)))

    whole = made(2**30)
    np.testing.assert_allclose(made(1), whole, atol=64 * EPS32 * np.abs(whole).max())
    monkeypatch.setattr("biolmm.covariance.genetic.new_tile", lambda _: np.empty((16, 16), np.float32))
    np.testing.assert_allclose(made(2**30), whole, atol=64 * EPS32 * np.abs(whole).max())


def test_dominance_of_dosages_is_straight_between_calls(tmp_path: Path) -> None:
    """Write dosages between the calls as well, and compare with the definition."""
    rng, steps = np.random.default_rng(4), Encoding.DOSAGE8.steps
    codes = rng.binomial(2, rng.uniform(0.2, 0.8, (100, 1)), (100, N)) * steps + rng.integers(-30, 31, (100, N))
    codes = np.clip(codes, 0, 2 * steps)
    rows = np.where(rng.random(codes.shape) < 0.05, Encoding.DOSAGE8.missing, codes).astype(np.uint8)
    ids = np.array([f"S{i}" for i in range(N)])
    text = {which: as_strings([f"{which}{j}" for j in range(100)]) for which in ("rs", "R", "A")}
    variants = VariantTable(
        np.zeros(100, np.int32), ("1",), np.arange(1, 101, dtype=np.int64), text["rs"], text["R"], text["A"]
    )
    samples = SampleTable(ids, ids, np.zeros(N, np.int8))
    writer = StoreWriter.begin(
        tmp_path / "d.zarr", samples, variants, provenance={}, chunk_variants=128, encoding=Encoding.DOSAGE8
    )
    writer.write_chunk(0, rows)
    store = GenotypeStore.open(writer.publish())
    panel = GenotypePanel(operator_of(store).genotypes)
    expected = np.zeros((N, N))
    for row in rows:
        known = row != Encoding.DOSAGE8.missing
        d = np.where(known, row, 0) / steps
        p = d[known].mean() / 2
        q = 1 - p
        z = np.where(known, np.interp(d, [0, 1, 2], np.array([-2 * p * p, 2 * p * q, -2 * q * q]) / (2 * p * q)), 0)
        expected += np.outer(z, z) / 100
    kernel = panel.kernel(code="dominance")
    np.testing.assert_allclose(kernel.dense(), expected, atol=64 * EPS32)
    X = draw((N, 3))
    assert np.abs(kernel.product(X) - expected @ X).max() < 64 * EPS32 * np.abs(expected @ X).max()


# Pedigrees


def tabular(father: NDArray[np.int64], mother: NDArray[np.int64]) -> Definition:
    """Return A by Henderson's tabular method."""
    n = len(father)
    A = np.zeros((n, n))
    for i in range(n):
        parents = [p for p in (father[i], mother[i]) if p >= 0]
        for j in range(i):
            A[i, j] = A[j, i] = 0.5 * sum(A[j, p] for p in parents)
        A[i, i] = 1 + (0.5 * A[father[i], mother[i]] if len(parents) == 2 else 0)
    return A


def test_pedigree_is_the_tabular_method() -> None:
    """Inbreed a small population over ten generations, some parents unknown."""
    rng = np.random.default_rng(3)
    parents = {f"f{i}": ("", "") for i in range(6)}
    living = list(parents)
    for generation in range(10):
        children = {}
        for i in range(8):
            known = ["" if rng.random() < 0.1 else living[k] for k in rng.choice(len(living), 2, replace=False)]
            children[f"g{generation}.{i}"] = (known[0], known[1])
        parents |= children
        living = list(children)
    pedigree = Pedigree.from_parents(dict(reversed(parents.items())))
    ids = [pedigree.ids[i] for i in rng.permutation(len(pedigree.ids))[:50]]
    kernel = PedigreeKernel.among(pedigree, [*ids, "stranger"])
    place = [pedigree.ids.index(name) for name in ids]
    A = np.eye(51)
    A[:50, :50] = tabular(pedigree.father, pedigree.mother)[np.ix_(place, place)]
    assert A.diagonal().max() > 1.2  # there is inbreeding to get wrong
    np.testing.assert_allclose(kernel.dense(), A, atol=1e-12)
    np.testing.assert_allclose(kernel.diagonal(), A.diagonal(), atol=1e-12)
    X = draw((51, 3))
    np.testing.assert_allclose(kernel.product(X), A @ X, atol=1e-4)
    check_operator(kernel.product, X)


def test_pedigree_mistakes_are_named() -> None:
    with pytest.raises(InputFileError, match="their own ancestor"):
        Pedigree.from_parents({"a": ("b", ""), "b": ("a", "")})
    with pytest.raises(SampleMismatchError, match="None of the 1 samples"):
        PedigreeKernel.among(Pedigree.from_parents({"a": ("b", "")}), ["x"])


# Refusals


def test_what_is_no_covariance_is_refused() -> None:
    with pytest.raises(ParameterError, match="not symmetric"):
        DenseKernel(np.triu(np.ones((3, 3))))
    with pytest.raises(ParameterError, match="shape"):
        check_matrix(np.ones((3, 2)))
    with pytest.raises(ParameterError, match="NaN"):
        check_matrix(np.full((2, 2), np.nan))
    with pytest.raises(ParameterError, match="on its diagonal"):
        check_matrix(-np.eye(2))
    with pytest.raises(ParameterError, match="zero for every sample"):
        Term.normalised("nothing", DiagonalKernel(np.zeros(4)))
    with pytest.raises(InputFileError, match="None of the 2 columns"):
        FeatureKernel.standardised(np.ones((4, 2)))
    with pytest.raises(InputFileError, match="infinite"):
        FeatureKernel.standardised(np.array([[np.inf], [1.0]]))
    with pytest.raises(MemoryBudgetError, match="epistasis needs"):
        epistasis_kernel(GroupKernel(LABELS), epistasis_bytes(N) - 1)
    with pytest.raises(SampleMismatchError, match="a: 2, b: 3"):
        Covariance([Term("a", DiagonalKernel(np.ones(2))), Term("b", DiagonalKernel(np.ones(3)))])
    with pytest.raises(ParameterError, match="positive"):
        SpatialKernel(PLACES, 0.0)
    with pytest.raises(ParameterError, match="no spatial kernel"):
        SpatialKernel(PLACES, 1.0, "cubic")  # type: ignore[arg-type]
    with pytest.raises(ParameterError, match="both must be"):
        Haplotypes(ALLELES[0], ALLELES[1][:, :3])
