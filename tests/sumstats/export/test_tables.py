"""Tables and meta-analyses as origins of figures and exports: the rules of `biolmm sumstats add` hold."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from biolmm.errors import InputFileError
from biolmm.sumstats.analysis import MetaOptions, run_meta
from biolmm.sumstats.analysis.parts import read_parts
from biolmm.sumstats.export.frames import read_genome
from biolmm.sumstats.export.rows import find_origin
from biolmm.sumstats.export.ssf import write_ssf_export
from biolmm.sumstats.export.text import Exported, write_parquet, write_table
from biolmm.sumstats.ingest.options import Rules, StudyInput
from biolmm.sumstats.matrix.change import add_studies
from oracles.meta_studies import make_store, write_meta_studies
from running import succeed

PLINK2 = """#CHROM\tPOS\tID\tREF\tALT\tA1\tA1_FREQ\tTEST\tOBS_CT\tBETA\tSE\tP
1\t1000\trs1\tA\tG\tG\t0.3\tADD\t1000\t0.1\t0.05\t0.0455
1\t1000\trs1\tA\tG\tG\t0.3\tADDxSEX\t1000\t0.7\t0.05\t1e-44
1\t2000\t.\tAT\tA\tAT\t0.4\tADD\t990\t-0.2\t0.05\t6.33e-5
1\t2000\t.\tAT\tA\tAT\t0.4\tSEX\t990\t0.7\t0.05\t1e-44
"""
METAL = """MarkerName\tAllele1\tAllele2\tFreq1\tWeight\tZscore\tP-value\tDirection
chr1:1000:A:G\ta\tg\t0.3\t900\t2\t0.0455\t+
2:70:AT:A\tat\ta\t0.2\t800\t-40\t7.31e-350\t-
"""
CASES = """chromosome\tbase_pair_location\teffect_allele\tother_allele\todds_ratio\tci_lower\tci_upper\tp_value\tn_cases\tn_controls
chr7\t1000\ta\tg\t1.2\t1.1\t1.309\t4e-05\t1000\t2000
chr7\t1001\ta\t.\t1.2\t1.1\t1.309\t4e-05\t1000\t2000
.\t1002\ta\tg\t1.2\t1.1\t1.309\t4e-05\t1000\t2000
"""


def exported(text: str, folder: Path, name: str = "a.tsv") -> tuple[pd.DataFrame, Exported]:
    """Write a table and export it as Parquet."""
    (folder / name).write_text(text)
    done = write_parquet(find_origin(folder / name), folder / "out.parquet")
    return pq.read_table(done.path).to_pandas(), done


def test_lines_of_other_tests_are_no_variants(tmp_path: Path) -> None:
    frame, done = exported(PLINK2, tmp_path)
    assert frame["beta"].tolist() == [0.1, -0.2]
    assert frame["neg_log_10_p_value"].to_numpy() == pytest.approx(-np.log10([0.0455, 6.33e-5]), rel=1e-14)
    assert dict(done.n_left_out) == {"another test than ADD": 2} and done.n_rows == 2
    assert "left out, another test than ADD: 2" in succeed(
        "sumstats", "export", tmp_path / "a.tsv", "--out", tmp_path / "b.vcf.gz"
    )


def test_ref_and_alt_give_the_other_allele(tmp_path: Path) -> None:
    frame, _ = exported(PLINK2, tmp_path)
    assert frame[["effect_allele", "other_allele"]].to_numpy().tolist() == [["G", "A"], ["AT", "A"]]
    assert frame["variant_id"].tolist() == ["1_1000_A_G", "1_2000_A_AT"]
    assert frame["rsid"].tolist()[0] == "rs1" and frame["rsid"].isna().tolist() == [False, True]
    ssf = write_ssf_export(find_origin(tmp_path / "a.tsv"), tmp_path / "b.tsv.gz")
    assert pd.read_csv(ssf.path, sep="\t")["other_allele"].tolist() == ["A", "A"]


def test_limits_and_cases_give_error_and_size(tmp_path: Path) -> None:
    frame, done = exported(CASES, tmp_path)
    assert frame["beta"].tolist() == [np.log(1.2)]
    assert frame["standard_error"].tolist() == pytest.approx([np.log(1.309 / 1.1) / (2 * 1.959963984540054)], rel=1e-14)
    assert frame[["chromosome", "n"]].to_numpy().tolist() == [["7", 3000.0]]
    assert dict(done.n_left_out) == {"no contig and position": 1, "not two different alleles": 1}


def test_markers_of_metal_are_places(tmp_path: Path) -> None:
    frame, _ = exported(METAL, tmp_path, "a.TBL")
    assert frame["chromosome"].tolist() == ["1", "2"] and frame["base_pair_location"].tolist() == [1000, 70]
    assert frame["beta"].isna().all() and np.sign(frame["z"]).tolist() == [1, -1]
    assert frame["neg_log_10_p_value"].tolist()[1] == pytest.approx(350 - np.log10(7.31), rel=1e-14)
    (tmp_path / "b.tsv").write_text(METAL.replace("chr1:1000:A:G", "rs1").replace("2:70:AT:A", "rs2"))
    with pytest.raises(InputFileError, match="has no contig and position, which figures and exports need"):
        write_parquet(find_origin(tmp_path / "b.tsv"), tmp_path / "b.parquet")
    assert not (tmp_path / "b.parquet").exists()


def test_a_table_is_exported_as_the_store_made_of_it(tmp_path: Path) -> None:
    (file,) = write_meta_studies(tmp_path, ("anna",))
    add_studies(tmp_path / "s.zarr", [StudyInput(file)], Rules(exact=True, palindromic="trust"))
    table, store = (
        write_table(find_origin(path), tmp_path / f"{at}.tsv.bgz", index=False)
        for at, path in enumerate((file, tmp_path / "s.zarr"))
    )
    one, other = (pd.read_csv(each.path, sep="\t", compression="gzip") for each in (table, store))
    keys = ["#chromosome", "base_pair_location", "effect_allele", "other_allele"]
    one, other = (each.set_index(keys).sort_index() for each in (one, other))
    same = one.index.intersection(other.index)
    assert len(one) == len(other) and len(same) > 100
    pd.testing.assert_frame_equal(one.loc[same], other.loc[same], rtol=1e-15)


def test_columns_that_are_not_what_they_say_are_refused(tmp_path: Path) -> None:
    rows = "".join(f"1\t{at}\tA\tG\t{1 + at / 1000}\t0.1\n" for at in range(1, 60))
    with pytest.raises(InputFileError, match="these are odds ratios"):
        exported("chrom\tpos\ta1\ta2\tbeta\tse\n" + rows, tmp_path)


def test_what_no_row_has_is_said(tmp_path: Path) -> None:
    (tmp_path / "a.TBL").write_text(METAL)
    with pytest.raises(InputFileError, match="no row of a has an effect and standard error"):
        write_ssf_export(find_origin(tmp_path / "a.TBL"), tmp_path / "a.tsv.gz")
    assert not list(tmp_path.glob("a.tsv.gz*"))
    lacking = PLINK2.replace("0.1\t0.05", "NA\tNA").replace("1\t1000", "3\t1000")  # none of contig 3
    (tmp_path / "b.tsv").write_text(lacking)
    done = write_ssf_export(find_origin(tmp_path / "b.tsv"), tmp_path / "b.tsv.gz")
    assert dict(done.n_left_out) == {"another test than ADD": 2, "no statistics": 1}
    assert pd.read_csv(done.path, sep="\t")["chromosome"].tolist() == [1]


@pytest.mark.parametrize("scheme", ["ivw", "samplesize"])
def test_results_of_meta_are_drawn_and_exported(scheme: str, tmp_path: Path) -> None:
    store = make_store(tmp_path / "s.zarr", write_meta_studies(tmp_path / "files"))
    out = tmp_path / "out"
    run_meta(store, out, MetaOptions(scheme=scheme, random="dl" if scheme == "ivw" else None), plots=False)  # type: ignore[arg-type]
    whole = read_parts(out)
    origin = find_origin(out)
    assert (origin.kind, origin.name) == ("meta", "meta")
    _, tail = read_genome(origin)
    assert np.array_equal(tail, whole["neg_log_10_p_value"].to_numpy(np.float32))
    for figure in ("manhattan", "qq"):
        succeed("plot", figure, out, "--out", tmp_path / f"{figure}.png")
        assert (tmp_path / f"{figure}.png").stat().st_size > 1000
    succeed("sumstats", "export", out, "--out", tmp_path / "a.parquet")
    frame = pq.read_table(tmp_path / "a.parquet").to_pandas()
    for name in ("beta", "neg_log_10_p_value", "z", "het_q", "n_studies"):
        assert np.array_equal(frame[name], whole[name], equal_nan=True)
    succeed("sumstats", "export", out, "--out", tmp_path / "a.vcf.gz")
    with gzip.open(tmp_path / "a.vcf.gz", "rt") as file:
        cells = [line.rstrip().split("\t")[8:] for line in file if line[0] != "#"]
    keys = [dict(zip(names.split(":"), cell.split(":"), strict=True)) for names, cell in cells]
    numbers = [float(each["ES" if scheme == "ivw" else "EZ"]) for each in keys]
    np.testing.assert_allclose(numbers, whole["beta" if scheme == "ivw" else "z"], rtol=1e-9)
    if scheme == "ivw":
        succeed("sumstats", "export", out, "--out", tmp_path / "a.tsv.gz")
        assert len(pd.read_csv(tmp_path / "a.tsv.gz", sep="\t")) == len(whole)
