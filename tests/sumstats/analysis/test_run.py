"""Meta-analysis of a store: the same whatever the cutting, the order and the strand; and METAL's where they are one thing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from biolmm.chunks import threads
from biolmm.errors import OutputError, ParameterError
from biolmm.sumstats.analysis import MetaOptions, MetaResult, plan_meta, run_meta
from biolmm.sumstats.analysis.options import read_groups
from biolmm.sumstats.analysis.parts import part_path, read_parts
from biolmm.sumstats.matrix.read import SumstatsStore
from biolmm.sumstats.metal.run import run_plan
from biolmm.sumstats.metal.script import read_script
from oracles.meta_studies import NAMES, make_store, write_meta_studies
from running import run_command, succeed

EVERYTHING: dict[str, Any] = {
    "random": "reml", "knapp_hartung": "on", "re2": True, "axes": 1, "partition": True, "leave_one_out": True,
    "genomic_control": True, "result_control": True, "m_values": True, "interesting_neg_log10_p": 3.0,
    "male": NAMES[:2], "female": NAMES[2:], "groups": {"anna": "x", "ben": "x", "dora": "y"},
}  # fmt: skip
KEYS = ["chromosome", "base_pair_location", "effect_allele", "other_allele"]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Five studies of 300 variants."""
    return write_meta_studies(tmp_path_factory.mktemp("studies"))


@pytest.fixture(scope="module")
def store(files: list[Path], tmp_path_factory: pytest.TempPathFactory) -> SumstatsStore:
    """Their store, of five chunks."""
    return make_store(tmp_path_factory.mktemp("store") / "s.zarr", files)


def run(store: SumstatsStore, out: Path, **options: Any) -> pd.DataFrame:
    """Run an analysis and read its result."""
    run_meta(store, out, MetaOptions(**options), plots=False)
    return read_parts(out)


def same(one: pd.DataFrame, other: pd.DataFrame, rtol: float = 0.0) -> None:
    """Compare results: exactly, or numbers within a relative tolerance and beside that 1e-9 for what should be 0."""
    if not rtol:
        pd.testing.assert_frame_equal(one, other, check_exact=True)
    else:
        pd.testing.assert_frame_equal(one, other, rtol=rtol, atol=1e-9)


def test_chunks_and_workers_make_no_difference(files: list[Path], store: SumstatsStore, tmp_path: Path) -> None:
    found = run(store, tmp_path / "a", **EVERYTHING)
    assert len(found) > 250 and store.n_chunks > 3
    with threads(1):
        same(found, run(store, tmp_path / "b", **EVERYTHING))
    # BLAS adds in other orders for other numbers of rows, here in products over subsets and clusters.
    whole = make_store(tmp_path / "whole.zarr", files, chunk_variants=4096)
    same(found, run(whole, tmp_path / "c", **EVERYTHING), rtol=1e-10)


def test_order_of_studies_makes_no_difference(store: SumstatsStore, tmp_path: Path) -> None:
    found = run(store, tmp_path / "a", **EVERYTHING)
    order = (3, 0, 4, 2, 1)
    other = run(store, tmp_path / "b", **EVERYTHING, studies=tuple(NAMES[at] for at in order))
    expected = ["".join(text[at] for at in order) for text in found["direction"]]
    assert other["direction"].tolist() == expected
    same(found.drop(columns="direction"), other.drop(columns="direction")[found.columns.drop("direction")], rtol=1e-8)


@pytest.mark.parametrize("change", ["swapped", "complemented"])
def test_alleles_and_strand_of_a_study_make_no_difference(change: str, store: SumstatsStore, tmp_path: Path) -> None:
    given: dict[str, Any] = {change: ("cleo", "emil")}
    changed = make_store(tmp_path / "s.zarr", write_meta_studies(tmp_path / "files", **given))
    # 1 − f of a printed f is not the printed 1 − f to the last bit.
    same(run(store, tmp_path / "a", **EVERYTHING), run(changed, tmp_path / "b", **EVERYTHING), rtol=1e-9)


def test_leaving_out_is_a_run_without_the_study(store: SumstatsStore, tmp_path: Path) -> None:
    found = run(store, tmp_path / "a", leave_one_out=True).set_index(KEYS)
    for left in NAMES:
        others = tuple(name for name in NAMES if name != left)
        without = run(store, tmp_path / left, studies=others).set_index(KEYS)
        there = found.loc[without.index]
        for name in ("beta", "standard_error", "neg_log_10_p_value"):
            np.testing.assert_allclose(there[f"without_{left}_{name}"], without[name], rtol=1e-12, atol=1e-14)
        gone = found.drop(without.index)
        assert gone[f"without_{left}_beta"].isna().all()


def test_leaving_out_by_size_is_a_run_by_size_without_the_study(store: SumstatsStore, tmp_path: Path) -> None:
    options: dict[str, Any] = {"scheme": "samplesize", "genomic_control": True}
    found = run(store, tmp_path / "a", leave_one_out=True, **options).set_index(KEYS)
    assert "without_anna_beta" not in found
    for left in NAMES:
        others = tuple(name for name in NAMES if name != left)
        without = run(store, tmp_path / left, studies=others, **options).set_index(KEYS)
        for name in ("z", "neg_log_10_p_value"):
            np.testing.assert_allclose(found.loc[without.index, f"without_{left}_{name}"], without[name], rtol=1e-12)
        assert found.drop(without.index)[f"without_{left}_z"].isna().all()


@pytest.mark.parametrize("scheme", ["ivw", "samplesize"])
def test_lambda_of_the_result_is_of_what_is_written(scheme: str, store: SumstatsStore, tmp_path: Path) -> None:
    options: dict[str, Any] = {"scheme": scheme, "min_studies": 4}
    plain = run(store, tmp_path / "a", **options)
    assert len(plain) < len(run(store, tmp_path / "b", scheme=scheme))
    controlled = run(store, tmp_path / "c", **options, result_control=True)
    chisq = np.sort(plain["z"] ** 2)
    record = json.loads((tmp_path / "c" / "meta.json").read_text())
    assert record["result_lambda"] == chisq[len(chisq) // 2] / 0.4549364
    assert record["result_lambda_removed"] == max(1.0, record["result_lambda"])
    np.testing.assert_allclose(controlled["z"], plain["z"] / np.sqrt(record["result_lambda_removed"]), rtol=1e-14)


def test_lambda_below_one_removes_nothing(tmp_path: Path) -> None:
    rows = "".join(f"{at}\t{at}\tA\tG\t0.001\t0.1\n" for at in range(1, 21))
    (tmp_path / "one.tsv").write_text("chrom\tpos\ta1\ta2\tbeta\tse\n" + rows)
    found = run(make_store(tmp_path / "s.zarr", [tmp_path / "one.tsv"]), tmp_path / "out", result_control=True)
    record = json.loads((tmp_path / "out" / "meta.json").read_text())
    assert record["result_lambda"] < 1 and record["result_lambda_removed"] == 1.0
    np.testing.assert_allclose(found["z"], 0.01)


@pytest.mark.parametrize("control", [False, True])
@pytest.mark.parametrize("scheme", ["ivw", "samplesize"])
def test_a_store_and_metals_script_agree(
    scheme: str, control: bool, files: list[Path], store: SumstatsStore, tmp_path: Path
) -> None:
    found = run(store, tmp_path / "out", scheme=scheme, genomic_control=control).set_index("rsid")
    lines = ["MARKER SNP", "ALLELE A1 A2", "EFFECT BETA", "STDERR SE", "PVALUE P", "WEIGHT N", "FREQ EAF", "AVERAGEFREQ ON",
             "MINMAXFREQ ON", "CUSTOMVARIABLE N", f"SCHEME {'STDERR' if scheme == 'ivw' else 'SAMPLESIZE'}",
             f"GENOMICCONTROL {'ON' if control else 'OFF'}", "EFFECT_PRINT_PRECISION 12", "STDERR_PRINT_PRECISION 12",
             *(f"PROCESS {file}" for file in files), "ANALYZE HETEROGENEITY"]  # fmt: skip
    (tmp_path / "script.txt").write_text("\n".join(lines) + "\n")
    (table,) = run_plan(read_script(tmp_path / "script.txt"), tmp_path)
    metal = pd.read_csv(table.path, sep="\t").set_index("MarkerName").loc[found.index]
    swapped = metal["Allele1"].str.upper() != found["effect_allele"]
    metals_strand = {"A": "T", "C": "G", "G": "C", "T": "A"}
    also = metal["Allele1"].str.upper().map(metals_strand) == found["effect_allele"]
    sign = np.where(swapped & ~also, -1.0, 1.0)
    flipped = sign < 0
    if scheme == "ivw":
        np.testing.assert_allclose(metal["Effect"] * sign, found["beta"], atol=1e-12)
        np.testing.assert_allclose(metal["StdErr"], found["standard_error"], atol=1e-12)
    else:
        np.testing.assert_allclose(metal["Zscore"] * sign, found["z"], atol=5.01e-4)
        np.testing.assert_allclose(metal["Weight"], found["n"])
    # Of p METAL prints four digits, and three far out.
    far = np.abs(found["z"]) >= 20
    difference = np.abs(-np.log10(metal["P-value"]) - found["neg_log_10_p_value"])
    assert (difference <= np.where(far, 2.2e-3, 2.2e-4)).all()
    np.testing.assert_allclose(metal["HetChiSq"], found["het_q"], atol=5.01e-4)
    np.testing.assert_allclose(metal["HetISq"], found["het_i2"], atol=5.01e-2)
    np.testing.assert_allclose(metal["HetDf"], found["het_df"])
    freq = np.where(flipped, 1 - metal["Freq1"], metal["Freq1"])
    np.testing.assert_allclose(freq, found["effect_allele_frequency"], atol=5.01e-5)
    np.testing.assert_allclose(
        np.where(flipped, 1 - metal["MaxFreq"], metal["MinFreq"]), found["eaf_min"], atol=5.01e-5
    )
    np.testing.assert_allclose(metal["N"], found["n"], rtol=1e-5)
    turned = metal["Direction"].where(~flipped, metal["Direction"].str.translate(str.maketrans("+-", "-+")))
    assert turned.tolist() == found["direction"].tolist()


def test_lambda_is_metals_whatever_the_chunks(files: list[Path], store: SumstatsStore, tmp_path: Path) -> None:
    run(store, tmp_path / "a", genomic_control=True)
    record = json.loads((tmp_path / "a" / "meta.json").read_text())
    for file, study in zip(files, record["studies"], strict=True):
        table = pd.read_csv(file, sep="\t")
        chisq = np.sort((table["BETA"] / table["SE"]) ** 2)
        assert study["lambda_gc"] == chisq[len(chisq) // 2] / 0.4549364
        assert study["lambda_applied"] == max(1.0, study["lambda_gc"])


def test_thresholds(store: SumstatsStore, files: list[Path], tmp_path: Path) -> None:
    found = run(store, tmp_path / "a", min_studies=4, min_maf=0.1, min_info=0.4, min_n=5000).set_index("rsid")
    tables = [pd.read_csv(file, sep="\t").set_index("SNP") for file in files]
    good = pd.concat(
        [(np.minimum(t["EAF"], 1 - t["EAF"]) >= 0.1) & (t["INFO"] >= 0.4) & (t["N"] >= 5000) for t in tables],
        axis=1,
    )
    counts = good.fillna(False).astype(int).sum(axis=1)
    expected = counts[counts >= 4]
    assert 0 < len(expected) < 300
    assert found["n_studies"].to_dict() == expected.to_dict()


def test_parts_that_are_there_are_not_computed_again(store: SumstatsStore, tmp_path: Path) -> None:
    first = run_meta(store, tmp_path / "out", MetaOptions(), plots=False)
    whole = read_parts(tmp_path / "out")
    assert first.n_resumed == 0
    part_path(tmp_path / "out", 1).unlink()
    (tmp_path / "out" / "meta.json").unlink()
    again = run_meta(store, tmp_path / "out", MetaOptions(), plots=False)
    assert (again.n_resumed, again.n_parts) == (store.n_chunks - 1, store.n_chunks)
    same(whole, read_parts(tmp_path / "out"))
    with pytest.raises(OutputError, match="holds results of other inputs or options"):
        run_meta(store, tmp_path / "out", MetaOptions(re2=True), plots=False)
    other = run_meta(store, tmp_path / "out", MetaOptions(re2=True), overwrite=True, plots=False)
    assert other.n_resumed == 0 and "re2_tau2" in read_parts(tmp_path / "out")


def test_overlap_of_a_study_with_itself_counts_once(files: list[Path], tmp_path: Path) -> None:
    import shutil

    copies = tmp_path / "copies"
    copies.mkdir()
    for name in ("one", "two"):
        shutil.copy(files[0], copies / f"{name}.tsv")
    twice = make_store(tmp_path / "s.zarr", [copies / "one.tsv", copies / "two.tsv"])
    once = run(twice, tmp_path / "a", studies=("one",))
    naive, honest = run(twice, tmp_path / "b"), run(twice, tmp_path / "c", overlap=True)
    np.testing.assert_allclose(naive["z"], once["z"] * np.sqrt(2))
    # ρ̂ ends at 0.9999, short of 1.
    np.testing.assert_allclose(honest["z"], once["z"], rtol=1e-4)
    by_size = run(twice, tmp_path / "d", overlap=True, scheme="samplesize")
    np.testing.assert_allclose(by_size["n_effective"], once["n"], rtol=1e-4)


def test_columns_begin_as_gwas_ssf_and_nothing_is_nan(store: SumstatsStore, tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    from biolmm.results.ssf import SSF_COLUMNS

    run(store, tmp_path / "a", **EVERYTHING)
    table = pq.ParquetFile(part_path(tmp_path / "a", 0)).read()
    assert table.column_names[:11] == [name for name in SSF_COLUMNS if name != "info"]
    for name in table.column_names:
        values = table[name].drop_null().to_numpy()
        assert values.dtype.kind != "f" or not np.isnan(values).any(), name
    frame = read_parts(tmp_path / "a")
    assert frame["m_value_anna"].notna().any() and frame["m_value_anna"].isna().any()
    order = frame[["chromosome", "base_pair_location"]].astype({"chromosome": int})
    assert order.apply(tuple, axis=1).is_monotonic_increasing


def test_the_plan_is_about_chunks_not_variants(store: SumstatsStore) -> None:
    plans = plan_meta(store, MetaOptions(**EVERYTHING), 2)
    assert [plan.stage for plan in plans] == ["scalars", "meta"]
    assert plans[0].n_passes == 7 and plans[1].n_tasks == store.n_chunks
    (only,) = plan_meta(store, MetaOptions(), 2)
    assert 0 < only.peak_bytes < plans[1].peak_bytes * 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"studies": ("zoe",)}, "has no study zoe"),
        ({"axes": 3}, "3 axes, which needs 6 studies; there are 5"),
        ({"male": ("anna",)}, "needs --male and --female studies"),
        ({"male": ("anna",), "female": ("anna",)}, "anna would be of both sexes"),
        ({"male": ("anna",), "female": ("ben",)}, "cleo, dora, emil is neither in --male nor in --female"),
        ({"male": ("anna",), "female": ("zoe",)}, "--female names zoe"),
        ({"min_studies": 6}, "--min-studies is 6 but there are 5 studies"),
        ({"min_maf": 0.7}, "--min-maf is 0.7 but must be 0 to 0.5"),
        ({"knapp_hartung": "on"}, "choose an estimator with --random"),
        ({"overlap": True, "random": "dl"}, "--overlap corrects the fixed-effects analysis, and not --random"),
        ({"groups": {"zoe": "x"}}, "--subgroups names zoe"),
        ({"scheme": "other"}, "must be ivw or samplesize"),
        ({"scheme": "samplesize", "groups": {"anna": "x"}}, "--subgroups compares effects, which --scheme samplesize"),
        ({"scheme": "samplesize", "male": NAMES[:2], "female": NAMES[2:]}, "--male compares effects"),
    ],
)
def test_options_that_do_not_fit_are_refused_before_anything_is_written(
    options: dict[str, Any], message: str, store: SumstatsStore, tmp_path: Path
) -> None:
    with pytest.raises(ParameterError, match=message):
        run_meta(store, tmp_path / "out", MetaOptions(**options))
    assert not (tmp_path / "out").exists()


def test_the_command(store: SumstatsStore, tmp_path: Path) -> None:
    (tmp_path / "groups.tsv").write_text("study\tgroup\nanna\tx\nben\ty\n")
    printed = succeed("meta", store.path, "--out", tmp_path / "out", "--random", "dl", "--knapp-hartung", "--gc",
                      "--subgroups", tmp_path / "groups.tsv", "--male", "anna", "--male", "ben", "--female", "cleo",
                      "--female", "dora", "--female", "emil")  # fmt: skip
    assert "variants, lambda" in printed
    assert {"meta.json", "loci.tsv", "plots", "meta"} <= {path.name for path in (tmp_path / "out").iterdir()}
    assert (tmp_path / "out/plots/manhattan.png").stat().st_size > 1000
    frame = read_parts(tmp_path / "out")
    assert {"group_x_beta", "random_df", "sex_differentiated_chisq"} <= set(frame)
    loci = pd.read_csv(tmp_path / "out/loci.tsv", sep="\t")
    strongest = frame["neg_log_10_p_value"].max()
    assert loci["neg_log_10_p_value"].max() == pytest.approx(strongest) and strongest > 8
    assert "scalars" in succeed("meta", store.path, "--out", tmp_path / "none", "--gc", "--plan")
    assert not (tmp_path / "none").exists()
    refused = run_command("meta", store.path, "--out", tmp_path / "x", "--mr-mega", "4")
    assert refused.code == 2 and refused.err.count("\n") == 1


def test_groups_are_read(tmp_path: Path) -> None:
    (tmp_path / "g.txt").write_text("#study group\nanna x\nben y\n")
    assert read_groups(tmp_path / "g.txt") == {"anna": "x", "ben": "y"}
    (tmp_path / "g.txt").write_text("anna x\nanna y\n")
    from biolmm.errors import InputFileError

    with pytest.raises(InputFileError, match="line 2: anna is there already"):
        read_groups(tmp_path / "g.txt")


def test_nothing_significant_makes_an_empty_table_of_loci(store: SumstatsStore, tmp_path: Path) -> None:
    found: MetaResult = run_meta(store, tmp_path / "out", MetaOptions(min_studies=5, min_n=19_000), plots=True)
    assert found.n_loci == 0 and found.n_variants == 0
    assert (tmp_path / "out/loci.tsv").read_text().startswith("chromosome\t")
