"""Kinship given components: by definition, and right for people of mixed ancestry, whom KING-robust gets wrong."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from biolmm.errors import ParameterError
from biolmm.relatedness.pc_relate import COLUMNS, pc_relatives
from biolmm.relatedness.relatives import RelativesConfig, find_relatives
from biolmm.store.read import GenotypeStore
from oracles.toy import Calls, write_store
from running import run_command, succeed

from .conftest import chosen

EVERY = RelativesConfig(min_kinship=-100.0)


def by_definition(calls: Calls, components: np.ndarray, training: np.ndarray) -> np.ndarray:
    """Return the kinship of all pairs, (N, N)."""
    called = calls != 3
    d = np.where(called, calls, 0).astype(float)
    mean = d.sum(axis=1, keepdims=True) / np.maximum(called.sum(axis=1, keepdims=True), 1)
    d = np.where(called, d, mean)
    V = np.column_stack([np.ones(len(components)), components])
    mu = (V @ np.linalg.lstsq(V[training], d.T[training], rcond=None)[0]).T / 2
    counts = called & (mu > 0.01) & (mu < 0.99)
    residual = np.where(counts, d - 2 * mu, 0.0)
    spread = np.where(counts, np.sqrt(np.clip(mu * (1 - mu), 0, None)), 0.0)
    return residual.T @ residual / (4 * spread.T @ spread)


@pytest.mark.parametrize("share", [1.0, 0.6])
@pytest.mark.parametrize("tile", [64, 1024])
def test_is_its_definition(
    store: GenotypeStore, calls: Calls, monkeypatch: pytest.MonkeyPatch, tile: int, share: float
) -> None:
    rng = np.random.default_rng(4)
    monkeypatch.setattr("biolmm.relatedness.slabs.SLAB_VARIANTS", 64)
    monkeypatch.setattr("biolmm.relatedness.pc_relate.EXACT_EVERY", 128)
    components = rng.standard_normal((203, 3))
    training = rng.random(203) < share
    found = pc_relatives(chosen(store), components, EVERY, training=training, tile_samples=tile)
    assert tuple(found.columns) == COLUMNS
    assert len(found) == 203 * 202 // 2
    i, j = (found[name].str[1:].astype(int).to_numpy() for name in COLUMNS[:2])
    expected = by_definition(calls, components, training)
    np.testing.assert_allclose(found["kinship"], expected[i, j], atol=2e-5)


def test_mixed_ancestry_does_not_look_like_kinship(tmp_path: Path) -> None:
    """Sixty people of all mixtures of two populations, every fourth pair of them with a child."""
    rng = np.random.default_rng(6)
    n_variants, n_founders = 20_000, 60
    p = rng.uniform(0.1, 0.9, (2, n_variants))
    share = np.linspace(0, 1, n_founders)[rng.permutation(n_founders)]
    of = share[:, None] * p[0] + (1 - share[:, None]) * p[1]
    founders = rng.random((2, n_founders, n_variants)) < of
    pairs = [(k, k + 1) for k in range(0, n_founders, 8)]
    children = [
        [founders[rng.integers(0, 2, n_variants), one, np.arange(n_variants)] for one in pair] for pair in pairs
    ]
    people = np.vstack([founders.sum(axis=0), *(np.sum(child, axis=0)[None] for child in children)])
    store = write_store(tmp_path / "c.zarr", people.T.astype(np.uint8), chunk_variants=1024)
    ancestry = np.r_[share, [(share[a] + share[b]) / 2 for a, b in pairs]][:, None]
    training = np.arange(len(people)) < n_founders
    found = pc_relatives(chosen(store), ancestry, training=training)
    expected = {(f"S{one}", f"S{n_founders + c}") for c, pair in enumerate(pairs) for one in pair}
    assert set(zip(found["sample_id_1"], found["sample_id_2"], strict=True)) == expected
    assert (found["degree"] == 1).all()
    # What fitting takes out of the true kinships Φ: (I−H) Φ (I−H)ᵀ with H the fitted frequencies' map.
    V = np.column_stack([np.ones(len(people)), ancestry])
    H = np.zeros((len(people), len(people)))
    H[:, :n_founders] = V @ np.linalg.pinv(V[:n_founders])
    truth = np.eye(len(people)) / 2
    for c, pair in enumerate(pairs):
        truth[n_founders + c, pair] = truth[pair, n_founders + c] = 0.25
    left = np.eye(len(people)) - H
    i, j = (found[name].str[1:].astype(int).to_numpy() for name in COLUMNS[:2])
    # The standard error of a kinship from 20,000 variants is 1/(2 √20,000) = 0.0035; four of them.
    np.testing.assert_allclose(found["kinship"], (left @ truth @ left.T)[i, j], atol=0.014)
    robust = find_relatives(chosen(store), EVERY).set_index(["sample_id_1", "sample_id_2"])["kinship"]
    assert np.abs(robust.loc[sorted(expected)] - 0.25).max() > 0.05


def test_components_that_cannot_be_used_are_refused(store: GenotypeStore) -> None:
    with pytest.raises(ParameterError, match="not independent"):
        pc_relatives(chosen(store), np.ones((203, 1)))
    with pytest.raises(ParameterError, match="1 samples have components"):
        pc_relatives(chosen(store), np.r_[np.nan, np.arange(202.0)][:, None])


def test_from_the_command_line(store: GenotypeStore, tmp_path: Path) -> None:
    components = np.random.default_rng(4).standard_normal((203, 2))
    table = pd.DataFrame(components, columns=["PC1", "PC2"])
    table.insert(0, "sample_id", store.sample_id)
    table.iloc[::-1].to_csv(tmp_path / "pcs.tsv", sep="\t", index=False)
    (tmp_path / "train.txt").write_text("\n".join(store.sample_id[:150]))
    options = ("--pcs", tmp_path / "pcs.tsv", "--min-kinship", "0.1", "--training", tmp_path / "train.txt")
    succeed("relatives", store.path, "--out", tmp_path / "r.tsv", *options)
    found = pd.read_csv(tmp_path / "r.tsv", sep="\t")
    expected = pc_relatives(chosen(store), components, RelativesConfig(0.1), training=np.arange(203) < 150)
    assert found["sample_id_1"].tolist() == expected["sample_id_1"].tolist()
    np.testing.assert_allclose(found["kinship"], expected["kinship"], rtol=1e-5)
    table.iloc[:50].to_csv(tmp_path / "pcs.tsv", sep="\t", index=False)
    refused = run_command("relatives", store.path, "--out", tmp_path / "r2.tsv", *options)
    assert refused.code == 2 and "153 of 203 samples" in refused.err
