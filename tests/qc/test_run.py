"""What `run_qc` leaves on disk: tables that can be read, lists that can be used, a page that stands alone."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from html import unescape
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from biolmm.errors import OutputError
from biolmm.files.lists import read_id_list, read_variant_list
from biolmm.qc import QcConfig, run, run_qc
from biolmm.qc.page import MAX_FLAGGED
from oracles.quality import MemoryGenotypes

TABLES = ("variants.parquet", "samples.tsv", "flagged_variants.txt", "flagged_samples.tsv", "qc.json", "qc.html")


@pytest.fixture
def data() -> MemoryGenotypes:
    """Give 300 variants, the first badly called, and 200 samples: the third contaminated, the first two swapped."""
    rng = np.random.default_rng(30)
    sex = np.array([1, 2] * 100, np.int8)
    calls = rng.binomial(2, rng.uniform(0.3, 0.7, (600, 1)), (600, 200)).astype(float)
    calls[300:, 1::2] = rng.binomial(2, 0.5, (300, 100))
    calls[300:, ::2] = 2 * rng.binomial(1, 0.5, (300, 100))
    calls[:300, 2] = 1
    calls[0, :50] = np.nan
    sex[:2] = 2, 1
    return MemoryGenotypes(calls, sex, ("1",) * 300 + ("X",) * 300, chunk_variants=128)


def test_files(data: MemoryGenotypes, tmp_path: Path) -> None:
    out = tmp_path / "qc"
    found = run_qc(data, out, command="biolmm qc memory --out qc")
    assert {path.name for path in out.iterdir()} == {*TABLES, "plots"}
    assert {path.stem for path in (out / "plots").iterdir()} == {
        "maf", "hwe", "variant_call_rate", "sample_call_rate", "heterozygosity", "singletons", "sex",
    }  # fmt: skip
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in (out / "plots").iterdir())
    variants = pq.read_table(out / "variants.parquet").to_pandas()
    assert variants["rsid"].tolist() == data.variant_id.tolist()
    assert variants["chromosome"].value_counts().to_dict() == {"1": 300, "X": 300}
    np.testing.assert_array_equal(variants["maf"], found.variants.columns["maf"])
    flagged = variants["rsid"][variants["flagged_for"] != ""].tolist()
    assert list(read_variant_list(out / "flagged_variants.txt")) == flagged
    assert variants.loc[0, "flagged_for"] == "call_rate" and "v0" in flagged
    samples = pd.read_csv(out / "samples.tsv", sep="\t", keep_default_na=False, na_values="NA")
    pd.testing.assert_frame_equal(samples, found.samples.table, check_dtype=False, check_exact=True)
    assert list(read_id_list(out / "flagged_samples.tsv")) == ["S0", "S1", "S2"]
    reasons = (out / "flagged_samples.tsv").read_text().splitlines()
    assert reasons == [
        "#FID\tIID\tflagged_for", "S0\tS0\tsex_mismatch", "S1\tS1\tsex_mismatch", "S2\tS2\thet_excess",
    ]  # fmt: skip


@pytest.fixture
def no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out what takes the time."""
    monkeypatch.setattr(run, "draw_figures", lambda *_: {})


@pytest.mark.usefixtures("no_figures")
def test_record(data: MemoryGenotypes, tmp_path: Path) -> None:
    run_qc(data, tmp_path, QcConfig(min_maf=0.01, keep=tuple(data.sample_id[:150].tolist())))
    record = json.loads((tmp_path / "qc.json").read_text(), parse_constant=pytest.fail)
    assert record["config"]["min_maf"] == 0.01
    assert record["genotypes"]["n_samples"] == 200
    assert record["counts"]["samples"]["total"] == 150
    assert record["counts"]["samples"]["reasons"]["sex_mismatch"] == 2
    assert {verdict["level"] for verdict in record["verdicts"]} <= {"good", "fair", "poor", "none"}


def test_a_clean_and_hopeless_store(tmp_path: Path) -> None:
    """Nothing to draw must not stop the page: every genotype missing, one sample, no sex."""
    hopeless = MemoryGenotypes(np.full((3, 1), np.nan), np.zeros(1, np.int8), ("1",) * 3)
    found = run_qc(hopeless, tmp_path / "qc")
    assert found.variants.n_flagged["call_rate"] == 3
    page = (tmp_path / "qc" / "qc.html").read_text(encoding="utf-8")
    assert "not measured" in page
    record = json.loads((tmp_path / "qc" / "qc.json").read_text(), parse_constant=pytest.fail)
    assert record["medians"]["maf"] is None


def test_page(data: MemoryGenotypes, tmp_path: Path) -> None:
    odd = replace(data, path=Path("<b>&store"))
    run_qc(odd, tmp_path, command="biolmm qc '<i>'")
    page = (tmp_path / "qc.html").read_text(encoding="utf-8")
    assert "<b>&store" not in page and "&lt;b&gt;&amp;store" in page
    assert "<i>" not in page and "biolmm qc '<i>'" in unescape(page)
    assert not re.search(r'(?:src|href)="(?!#|data:)', page), "the page needs another file"
    assert "--remove" in page and "--exclude" in page
    assert page.count("<svg") == 7
    assert "sex mismatch" in page
    assert MAX_FLAGGED >= 3


@pytest.mark.usefixtures("no_figures")
def test_another_quality_control_is_not_replaced(data: MemoryGenotypes, tmp_path: Path) -> None:
    run_qc(data, tmp_path)
    before = (tmp_path / "samples.tsv").read_bytes()
    run_qc(data, tmp_path)  # the same again
    with pytest.raises(OutputError, match="holds the quality control of other genotypes or with other options"):
        run_qc(data, tmp_path, QcConfig(min_maf=0.4))
    with pytest.raises(OutputError, match="--overwrite"):
        run_qc(replace(data, fingerprint="other"), tmp_path)
    assert (tmp_path / "samples.tsv").read_bytes() == before
    run_qc(data, tmp_path, QcConfig(min_maf=0.4), overwrite=True)
    assert json.loads((tmp_path / "qc.json").read_text())["config"]["min_maf"] == 0.4
    (tmp_path / "qc.json").write_text("{")
    with pytest.raises(OutputError):
        run_qc(data, tmp_path)


@pytest.mark.usefixtures("no_figures")
def test_stopped_in_between_it_is_not_whole(
    data: MemoryGenotypes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_qc(data, tmp_path)
    (tmp_path / "plots").mkdir()
    (tmp_path / "plots" / "old.png").write_bytes(b"")

    def stop(*_: object) -> str:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(run, "render", stop)
        with pytest.raises(KeyboardInterrupt):
            run_qc(data, tmp_path)
    assert not (tmp_path / "plots").exists()
    assert not (tmp_path / "qc.json").exists() and not (tmp_path / "qc.html").exists()
    assert not list(tmp_path.rglob("*.partial"))
    run_qc(data, tmp_path)
    assert (tmp_path / "qc.json").exists()


@pytest.mark.usefixtures("no_figures")
def test_shared_ids_are_pointed_out(data: MemoryGenotypes, tmp_path: Path) -> None:
    names = data.variant_id.copy()
    names[[0, 7]] = "rs1"
    shared = type("Shared", (MemoryGenotypes,), {"variant_id": property(lambda self: names)})
    run_qc(shared(data.dosages, data.sex, data.contigs), tmp_path)
    record = json.loads((tmp_path / "qc.json").read_text())
    assert record["warnings"][0].startswith("1 variants that are not flagged share the id of one that is")


@pytest.mark.usefixtures("no_figures")
def test_a_folder_that_cannot_be_made(data: MemoryGenotypes, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be written"):
        run_qc(data, tmp_path / "file" / "qc")
