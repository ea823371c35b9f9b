"""Principal components against eigh of the dense matrix and PLINK 2; loadings and projection."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from scipy.linalg import subspace_angles

from biolmm.chunks import threads
from biolmm.errors import ParameterError
from biolmm.files.tables import read_table
from biolmm.genotypes.filters import VariantFilters
from biolmm.genotypes.weights import VariantWeights
from biolmm.relatedness.pca import PcaConfig, PrincipalComponents, find_components, unsettled_warning
from biolmm.relatedness.projection import project
from biolmm.store.read import GenotypeStore
from oracles import dense
from oracles.rewritten import rewritten
from oracles.toy import Toy, structured_calls, write_store
from running import run_command, simulate, succeed

CLOSE = PcaConfig(n_components=4, tolerance=1e-5, max_products=30)


@pytest.fixture(scope="module")
def components(toy: Toy) -> PrincipalComponents:
    return find_components(toy.store, CLOSE)


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Simulate people without missing calls, for which PLINK's matrix is ours."""
    folder = tmp_path_factory.mktemp("pca")
    simulate(folder, "--missing-genotypes", "0", samples=180, variants=600)
    return folder


def aligned(X: NDArray[np.float64], Y: NDArray[np.float64]) -> NDArray[np.float64]:
    """Give the columns of X the signs of those of Y."""
    return X * np.where((X * Y).sum(axis=0) < 0, -1.0, 1.0)


def test_components_are_the_eigenvectors_of_the_dense_matrix(toy: Toy, components: PrincipalComponents) -> None:
    values, vectors = np.linalg.eigh(toy.K)
    values, vectors = values[::-1], vectors[:, ::-1]
    # A Ritz value is off by the square of the residual, single precision aside; a space by residual over gap.
    np.testing.assert_allclose(components.eigenvalues, values[:4], rtol=1e-5)
    np.testing.assert_allclose(components.trace, np.trace(toy.K), rtol=1e-6)
    gap = (values[1] - values[2]) / values[1]
    angle = subspace_angles(components.vectors[:, :2], vectors[:, :2]).max()
    assert angle < 2 * max(components.residuals[:2].max(), 1e-5) / gap
    np.testing.assert_allclose(components.vectors.T @ components.vectors, np.eye(4), atol=1e-5)


def test_loadings_are_the_right_singular_vectors(toy: Toy, components: PrincipalComponents) -> None:
    Z, weight = dense.standardised(toy.calls)
    U, sizes, _ = np.linalg.svd(Z[weight > 0] / np.sqrt(weight.sum()), full_matrices=False)
    V = components.loadings.W
    np.testing.assert_allclose(sizes[:4] ** 2, components.eigenvalues, rtol=1e-5)
    assert subspace_angles(V[:, :2], U[:, :2]).max() < 1e-4
    np.testing.assert_allclose(np.linalg.norm(V, axis=0), 1.0, rtol=1e-6)


def test_the_largest_loading_is_positive(components: PrincipalComponents) -> None:
    V = components.loadings.W
    assert (V[np.abs(V).argmax(axis=0), np.arange(V.shape[1])] > 0).all()


def test_the_reference_projects_on_itself(toy: Toy, components: PrincipalComponents) -> None:
    # The projection is K u / λ: it differs from u by the residual, and by rounding in single precision.
    found = project(toy.store, components.loadings)
    off = np.linalg.norm(found.vectors - components.vectors, axis=0)
    assert (off < components.residuals + 1e-5).all()
    np.testing.assert_allclose(found.found, 1.0, rtol=1e-6)


@pytest.mark.parametrize("turned", [False, True])
def test_the_reference_projects_on_itself_with_repeated_variants(tmp_path: Path, turned: bool) -> None:
    """Every third variant is there twice, once of other calls, under one id."""
    calls = structured_calls(300, 90, seed=4)
    calls[1::3] = np.where(np.arange(90) % 3 == 0, np.roll(calls[::3], 1, axis=1), calls[::3])
    first = write_store(tmp_path / "c.zarr", calls)
    once, everyone = np.arange(300), np.ones(300, dtype=bool)
    once[1::3] = once[::3]
    twice, other = (
        rewritten(tmp_path / f"{name}.zarr", first, calls, once, swapped, taken=np.arange(300))
        for name, swapped in (("twice", ~everyone), ("other", everyone & turned))
    )
    components = find_components(twice, CLOSE)
    found = project(other, components.loadings)
    assert found.matched.counts["missing"] == 0
    assert found.matched.counts["repeated"] > 150
    off = np.linalg.norm(found.vectors - components.vectors, axis=0)
    assert (off < components.residuals + 1e-5).all()


def test_some_are_projected_on_components_of_the_others(toy: Toy) -> None:
    used = np.random.default_rng(2).random(toy.calls.shape[1]) < 0.7
    found = find_components(toy.store, CLOSE, used=used)
    alone = find_components(toy.store, CLOSE, sample_index=np.flatnonzero(used))
    np.testing.assert_array_equal(found.vectors[used], alone.vectors)
    Z, weight = dense.standardised(toy.calls[:, used])
    p = np.array([row[row < 3].mean() / 2 if (row < 3).any() else 0.0 for row in toy.calls[:, used]])[:, None]
    scale = np.where(weight[:, None] > 0, 1 / np.sqrt(np.maximum(2 * p * (1 - p), 1e-12)), 0.0)
    others = np.where(toy.calls == 3, 0.0, (toy.calls - 2 * p) * scale)[:, ~used]
    K = Z.T @ Z / weight.sum()
    U, values = aligned(np.linalg.eigh(K)[1][:, ::-1][:, :2], found.vectors[used][:, :2]), found.eigenvalues[:2]
    expected = others.T @ (Z @ U) / (weight.sum() * values)
    np.testing.assert_allclose(found.vectors[~used][:, :2], expected, atol=1e-4)


def test_neither_chunks_nor_workers_nor_order_matter(toy: Toy, components: PrincipalComponents, tmp_path: Path) -> None:
    names = [toy.store.contig_id[c] for c in toy.contigs]
    other = write_store(tmp_path / "other.zarr", toy.calls, names, chunk_variants=320)
    with threads(3):
        wide = find_components(other, CLOSE)
    order = np.random.default_rng(4).permutation(toy.calls.shape[1])
    ids = [f"S{i}" for i in order]
    shuffled = find_components(write_store(tmp_path / "order.zarr", toy.calls[:, order], names, ids), CLOSE)
    np.testing.assert_allclose(wide.vectors[:, :2], components.vectors[:, :2], atol=1e-5)
    np.testing.assert_allclose(shuffled.vectors[:, :2], components.vectors[order, :2], atol=1e-5)


def test_swapped_alleles_change_nothing_but_signs(toy: Toy, components: PrincipalComponents, tmp_path: Path) -> None:
    calls = toy.calls.copy()
    calls[::2] = np.where(calls[::2] < 3, 2 - calls[::2], 3)
    found = find_components(write_store(tmp_path / "swapped.zarr", calls), CLOSE)
    vectors = aligned(found.vectors, components.vectors)
    np.testing.assert_allclose(vectors[:, :2], components.vectors[:, :2], atol=1e-5)


def test_missing_variants_are_made_up_for_by_least_squares(toy: Toy, components: PrincipalComponents) -> None:
    V = components.loadings
    some = np.random.default_rng(5).random(len(V.W)) < 0.6
    table = V.variants
    fewer = write_of(toy, np.flatnonzero(np.isin(np.arange(len(toy.calls)), table.position[some] - 1)))
    found = project(fewer, V)
    assert found.matched.counts["missing"] == int((~some).sum())
    np.testing.assert_allclose(found.found, (V.W[some] ** 2).sum(axis=0), rtol=1e-6)
    # Sixty per cent of the variants tell populations apart nearly as well; the scale is that of all of them.
    for k in range(2):
        slope = np.polyfit(components.vectors[:, k], found.vectors[:, k], 1)[0]
        assert abs(slope - 1) < 0.05


def write_of(toy: Toy, variants: NDArray[np.int64]) -> GenotypeStore:
    """Make a store of some of a toy's variants, ids and positions as they were."""
    path = toy.store.path.parent / "fewer.zarr"
    return rewritten(path, toy.store, toy.calls, variants, np.zeros(len(variants), bool))


def test_what_is_not_settled_is_said(toy: Toy) -> None:
    found = find_components(toy.store, PcaConfig(n_components=30, max_products=1))
    message = unsettled_warning(found)
    assert message is not None
    assert "--components" in message
    assert unsettled_warning(find_components(toy.store, PcaConfig(n_components=2))) is None


def test_more_components_than_there_are_are_refused(toy: Toy, tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match="at most 316"):
        find_components(toy.store, PcaConfig(n_components=317))
    twice = np.repeat(structured_calls(40, 5), 8, axis=1)
    with pytest.raises(ParameterError, match="differ along 4 only"):
        find_components(write_store(tmp_path / "twice.zarr", twice), PcaConfig(n_components=10))
    with pytest.raises(ParameterError, match="between 1 and 1,000"):
        PcaConfig(n_components=0)


def test_filters_and_choices_are_those_of_other_commands(toy: Toy) -> None:
    config = PcaConfig(n_components=2, filters=VariantFilters(min_maf=0.2))
    found = find_components(toy.store, config, variants=np.arange(100, 500))
    frequency = found.loadings.frequency
    assert np.minimum(frequency, 1 - frequency).min() >= 0.2
    assert found.filtered["--min-maf"] == 400 - found.loadings.variants.n


def plink_scores(plink2: str, prefix: Path, weights: VariantWeights, out: Path) -> pd.DataFrame:
    """Let PLINK 2 add weights per copy of ALT up over a PLINK file set."""
    table = pd.DataFrame({"ID": weights.variants.variant_id.tolist(), "A1": weights.variants.alt.tolist()})
    per_copy = weights.W * weights.scale[:, None]
    table = pd.concat([table, pd.DataFrame(per_copy, columns=list(weights.names))], axis=1)
    table.to_csv(out.with_suffix(".weights"), sep="\t", index=False)
    columns = f"3-{2 + len(weights.names)}"
    command = (plink2, "--bfile", prefix, "--score", out.with_suffix(".weights"), "1", "2", "header-read",
               "cols=+scoresums", "--score-col-nums", columns, "--out", out)  # fmt: skip
    subprocess.run([str(part) for part in command], check=True, capture_output=True)
    return pd.read_csv(out.with_suffix(".sscore"), sep="\t", dtype={"IID": str}).set_index("IID")


def test_plink_finds_the_same_components_and_projects_alike(plink2: str, disk: Path, tmp_path: Path) -> None:
    store = GenotypeStore.open(disk / "toy.zarr")
    found = find_components(store, PcaConfig(n_components=3, tolerance=1e-5, max_products=30))
    command = (plink2, "--bfile", disk / "toy", "--pca", "3", "--out", tmp_path / "p")
    subprocess.run([str(part) for part in command], check=True, capture_output=True)
    theirs = pd.read_csv(tmp_path / "p.eigenvec", sep="\t", dtype={"IID": str}).set_index("IID")
    vectors = theirs.loc[found.sample_id.tolist(), ["PC1", "PC2", "PC3"]].to_numpy()
    values = np.loadtxt(tmp_path / "p.eigenval")
    # PLINK prints six digits, and counts variants that do not vary in the m of K.
    np.testing.assert_allclose(found.eigenvalues * found.m / store.n_variants, values, rtol=1e-5)
    np.testing.assert_allclose(found.vectors, aligned(vectors, found.vectors), atol=2e-4)
    scores = plink_scores(plink2, disk / "toy", found.loadings, tmp_path / "s")
    sums = scores.loc[found.sample_id.tolist(), [f"PC{k}_SUM" for k in (1, 2, 3)]].to_numpy()
    offset = found.loadings.scaling.mean @ (found.loadings.W * found.loadings.scale[:, None])
    factors = np.array(found.loadings.extra["factors"])
    np.testing.assert_allclose((sums - offset) * factors, project(store, found.loadings).vectors, atol=1e-5)


def test_the_command_writes_a_folder_and_projects_others(disk: Path, tmp_path: Path) -> None:
    printed = succeed(
        "pca", disk / "toy.zarr", "--out", tmp_path / "pca", "--components", "3", "--exclude-region", "2:1-5mb"
    )
    assert "PC3" in printed
    out = tmp_path / "pca"
    assert {path.name for path in out.iterdir()} == {
        "pcs.tsv", "eigenvalues.tsv", "samples.tsv", "loadings.parquet", "pca.json", "scree.png", "pcs.png"
    }  # fmt: skip
    pcs = read_table(out / "pcs.tsv", default_name="COVAR")
    assert list(pcs.columns) == ["PC1", "PC2", "PC3"]
    record = json.loads((out / "pca.json").read_text())
    assert record["samples"] == {"in_use": 180, "computed_on": 180, "projected": 0}
    eigenvalues = pd.read_csv(out / "eigenvalues.tsv", sep="\t")
    np.testing.assert_allclose(eigenvalues["share"], eigenvalues["eigenvalue"] / record["trace"])
    succeed("project", disk / "toy.bed", "--loadings", out, "--out", tmp_path / "projected")
    again = read_table(tmp_path / "projected" / "pcs.tsv")
    np.testing.assert_allclose(again.loc[pcs.index].to_numpy(), pcs.to_numpy(), atol=2e-3)
    assert json.loads((tmp_path / "projected" / "project.json").read_text())["variants"]["missing"] == 0
    refused = run_command("pca", disk / "toy.zarr", "--out", out, "--components", "2")
    assert refused.code == 2
    assert "--overwrite" in refused.err
    assert "principal components" in succeed("pca", disk / "toy.zarr", "--out", out, "--plan")


def test_relatives_are_projected(disk: Path, tmp_path: Path) -> None:
    ids = GenotypeStore.open(disk / "toy.zarr").sample_id.tolist()
    pairs = "".join(f"{ids[i]}\t{ids[i + 1]}\t0.25\n" for i in range(0, 20, 2))
    (tmp_path / "relatives.tsv").write_text("sample_id_1\tsample_id_2\tkinship\n" + pairs)
    succeed(
        "pca",
        disk / "toy.zarr",
        "--out",
        tmp_path / "pca",
        "--components",
        "2",
        "--relatives",
        tmp_path / "relatives.tsv",
    )
    samples = pd.read_csv(tmp_path / "pca" / "samples.tsv", sep="\t")
    assert (samples["role"] == "projected").sum() == 10
    assert len(read_table(tmp_path / "pca" / "pcs.tsv")) == 180


def test_a_folder_that_is_not_finished_has_no_loadings(disk: Path, tmp_path: Path) -> None:
    (tmp_path / "none").mkdir()
    refused = run_command("project", disk / "toy.zarr", "--loadings", tmp_path / "none", "--out", tmp_path / "out")
    assert (refused.code, "biolmm pca" in refused.err) == (2, True)
