"""`biolmm predict`: what it writes, PLINK 2's scores from the same weights, other people's genotypes."""

from __future__ import annotations

import json
import shutil
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


def write_repeated(bed: Path, stem: Path, ids: str, *, swapped: bool = False) -> Path:
    """Write a PLINK file set again, a fifth of its variants twice, the second of other people's calls; or all swapped."""
    lines = [line.split() for line in bed.with_suffix(".bim").read_text().splitlines()]
    rows = np.frombuffer(bed.read_bytes()[3:], np.uint8).reshape(len(lines), -1)
    codes = (rows[:, :, None] >> np.array([0, 2, 4, 6], np.uint8)) & 3
    order = np.sort(np.concatenate([np.arange(len(lines)), np.arange(0, len(lines), 5)]))
    again = np.flatnonzero(np.diff(order, prepend=-1) == 0)
    codes = codes[order]
    n = len(bed.with_suffix(".fam").read_text().splitlines())
    people = codes.reshape(len(order), -1)[:, :n]
    people[again] = np.where(np.arange(n) % 3 == 0, np.roll(people[again], 1, axis=1), people[again])
    codes = np.zeros((len(order), rows.shape[1] * 4), np.uint8)
    codes[:, :n] = np.array([3, 1, 2, 0], np.uint8)[people] if swapped else people
    packed = (codes.reshape(len(order), -1, 4) << np.array([0, 2, 4, 6], np.uint8)).sum(axis=2).astype(np.uint8)
    stem.with_suffix(".bed").write_bytes(b"\x6c\x1b\x01" + packed.tobytes())
    shutil.copy(bed.with_suffix(".fam"), stem.with_suffix(".fam"))
    with stem.with_suffix(".bim").open("w") as file:
        for k, (contig, name, cm, position, a1, a2) in enumerate([lines[i] for i in order]):
            called = {"own": f"{name}_{k}", "same": name, "none": "."}[ids]
            file.write("\t".join((contig, called, cm, position, *((a2, a1) if swapped else (a1, a2)))) + "\n")
    return stem.with_suffix(".bed")


@pytest.mark.parametrize("ids", ["own", "same", "none"])
def test_people_with_repeated_probes_get_their_own_values_back(disk: Disk, ids: str, tmp_path: Path) -> None:
    bed = write_repeated(disk.bed, tmp_path / "twice", ids)
    succeed("fit", *disk.inputs(bed), "--out", tmp_path / "fit")
    succeed("predict", bed, "--model", tmp_path / "fit", "--out", tmp_path / "own")
    values = read_table(tmp_path / "own" / "genetic_values.tsv")
    other = write_repeated(disk.bed, tmp_path / "swapped", ids, swapped=True)
    succeed("predict", other, "--weights", tmp_path / "own", "--out", tmp_path / "other")
    n = read_effects(tmp_path / "own").variants.n
    assert n > 475  # of 480, those that vary
    for name, swapped in (("own", 0), ("other", n)):
        scores = read_table(tmp_path / name / "scores.tsv").loc[values.index]
        np.testing.assert_allclose(scores.to_numpy(), values.to_numpy(), atol=1e-6 * np.abs(values.to_numpy()).max())
        counts = json.loads((tmp_path / name / "predict.json").read_text())["scores"]["variants"]
        assert (counts["wanted"], counts["matched"], counts["swapped"]) == (n, n, swapped)
        assert (counts["missing"], counts["other_strand"], counts["other_alleles"]) == (0, 0, 0)
        assert counts["repeated"] > 155
    less = run_command("predict", disk.bed, "--weights", tmp_path / "own", "--out", tmp_path / "less")
    assert less.code == 0
    assert "80 of them because they are there fewer times" in less.err


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
