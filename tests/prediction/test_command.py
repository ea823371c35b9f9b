"""`biolmm predict`: what it writes, PLINK 2's scores from the same weights, other people's genotypes."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from biolmm.files.encoding import dosages_from_rows
from biolmm.files.tables import read_table
from biolmm.prediction.files import read_effects
from biolmm.store.read import GenotypeStore
from oracles.rewritten import rewritten
from running import Disk, run_command, succeed


@pytest.fixture(scope="module")
def predicted(disk: Disk) -> Path:
    """Predict from the model, score the same people's files, and cross-validate."""
    out = disk.folder / "predicted"
    succeed("predict", disk.bed, "--model", disk.folder / "fit", "--out", out, "--folds", "3")
    return out


def test_the_folder_holds_what_is_said(predicted: Path) -> None:
    assert {path.name for path in predicted.iterdir()} == {
        "weights.parquet", "weights.score.tsv", "genetic_values.tsv", "fixed_effects.tsv", "scores.tsv", "accuracy.tsv",
        "folds.tsv", "cross_validated.tsv", "predict.json",
    }  # fmt: skip
    values, scores = read_table(predicted / "genetic_values.tsv"), read_table(predicted / "scores.tsv")
    scores = scores.loc[values.index]
    np.testing.assert_allclose(values.to_numpy(), scores.to_numpy(), atol=1e-5 * np.abs(scores.to_numpy()).max())
    record = json.loads((predicted / "predict.json").read_text())
    assert record["scores"]["variants"]["missing"] == 0
    accuracy = pd.read_csv(predicted / "accuracy.tsv", sep="\t")
    assert accuracy["trait"].tolist() == ["trait1", "trait2"]
    assert accuracy["n"].min() > 150


def test_plink_scores_people_alike(plink2: str, disk: Disk, predicted: Path, tmp_path: Path) -> None:
    command = (plink2, "--bfile", disk.bed.with_suffix(""), "--score", predicted / "weights.score.tsv", "1", "2",
               "header-read", "cols=+scoresums", "--score-col-nums", "3-4", "--out", tmp_path / "p")  # fmt: skip
    subprocess.run([str(part) for part in command], check=True, capture_output=True)
    theirs = pd.read_csv(tmp_path / "p.sscore", sep="\t", dtype={"IID": str}).set_index("IID")
    scores = read_table(predicted / "scores.tsv")
    offset = json.loads((predicted / "predict.json").read_text())["offset"]
    for trait in ("trait1", "trait2"):
        sums = theirs.loc[scores.index, f"{trait}_SUM"].to_numpy() - offset[trait]
        # PLINK prints six digits of sums that hold the offset.
        np.testing.assert_allclose(
            sums, scores[trait], atol=2e-5 * max(np.abs(offset[trait]), np.abs(scores[trait]).max())
        )


def test_weights_score_a_store_with_alleles_swapped_and_variants_missing(
    disk: Disk, predicted: Path, tmp_path: Path
) -> None:
    store = GenotypeStore.open(disk.store)
    dosages = np.concatenate([
        dosages_from_rows(store.read_rows(chunk), store.encoding, store.n_samples)
        for chunk in range(-(-store.n_variants // store.chunk_variants))
    ])  # fmt: skip
    calls = np.where(np.isnan(dosages), 3, dosages).astype(np.uint8)
    rng = np.random.default_rng(3)
    order = np.flatnonzero(rng.random(store.n_variants) < 0.8)
    other = rewritten(tmp_path / "other.zarr", store, calls, order, rng.random(len(order)) < 0.5)
    (tmp_path / "keep.txt").write_text("N7\nN3\nN199\n")
    out = tmp_path / "out"
    succeed("predict", other.path, "--weights", predicted, "--keep", tmp_path / "keep.txt", "--out", out)
    scores = pd.read_csv(out / "scores.tsv", sep="\t")
    assert scores["sample_id"].tolist() == ["N3", "N7", "N199"]
    weights = read_effects(predicted)
    chosen = dict(zip(store.variant_id[order].tolist(), calls[order], strict=True))
    expected = np.zeros((3, 2))
    for name, f, beta in zip(weights.variants.variant_id.tolist(), weights.frequency, weights.W, strict=True):
        if name in chosen:
            d = chosen[name][[3, 7, 199]]
            expected += np.where(d == 3, 0.0, d - 2 * f)[:, None] * beta
    np.testing.assert_allclose(scores[["trait1", "trait2"]], expected, atol=1e-5 * np.abs(expected).max())
    record = json.loads((out / "predict.json").read_text())
    assert record["warnings"]
    assert 0.6 < record["scores"]["share_of_score_variance"]["trait1"] < 0.95


def test_finished_work_is_not_replaced_by_other_work(disk: Disk, predicted: Path, fit_folder: Path) -> None:
    refused = run_command("predict", "--model", fit_folder, "--out", predicted)
    assert refused.code == 2
    assert "--overwrite" in refused.err
    assert "prediction" in succeed("predict", "--model", fit_folder, "--out", predicted, "--folds", "3", "--plan")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "either --model"),
        (("--model", "FIT", "--weights", "FIT"), "either --model"),
        (("--weights", "FIT"), "needs GENOTYPES"),
        (("BED", "--weights", "FIT", "--folds", "3"), "--folds needs --model"),
        (("BED", "--weights", "FIT"), "holds no weights"),
        (("--model", "FIT", "--keep", "BED"), "people of GENOTYPES"),
        (("--model", "FIT", "--folds", "1"), "between 2 and 100"),
    ],
)
def test_what_does_not_go_together_is_refused(
    words: tuple[str, ...], message: str, disk: Disk, fit_folder: Path, tmp_path: Path
) -> None:
    places = {"FIT": str(fit_folder), "BED": str(disk.bed)}
    refused = run_command("predict", *(places.get(word, word) for word in words), "--out", tmp_path / "out")
    assert (refused.code, message in refused.err) == (2, True), refused.err


def test_the_weights_are_not_written_over(disk: Disk, predicted: Path) -> None:
    refused = run_command("predict", disk.bed, "--weights", predicted, "--out", predicted, "--overwrite")
    assert (refused.code, "choose another --out" in refused.err) == (2, True)


def test_nothing_of_an_earlier_run_is_left_over(disk: Disk, fit_folder: Path, tmp_path: Path) -> None:
    succeed("predict", disk.bed, "--model", fit_folder, "--out", tmp_path / "out")
    succeed("predict", "--model", fit_folder, "--out", tmp_path / "out", "--overwrite")
    assert not (tmp_path / "out" / "scores.tsv").exists()


def test_the_model_is_not_written_over(fit_folder: Path) -> None:
    refused = run_command("predict", "--model", fit_folder, "--out", fit_folder)
    assert (refused.code, "choose another --out" in refused.err) == (2, True)
