"""Munging by its rules, and files: what is written is read back, what LDSC writes is read, what is damaged is refused."""

from __future__ import annotations

import gzip
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from scipy import stats

from biolmm.errors import InputFileError, ParameterError, UserError, VariantMismatchError
from biolmm.files.annot_files import Annotations, overlap_of, read_annot, read_common, read_overlap
from biolmm.files.genetic_map import read_genetic_map
from biolmm.files.ldscore_files import Overlap, read_ld_scores, write_ld_scores
from biolmm.files.text_columns import read_columns
from biolmm.results.diagnostics import neg_log10_p
from biolmm.sumstats.ldsc.munge import MungeConfig, munge
from biolmm.sumstats.ldsc.sources import read_snp_list, read_sumstats, read_traits, unique_names, write_sumstats
from oracles.ldsc_model import ld_table, trait


def table(rows: int = 12, /, **columns: object) -> pd.DataFrame:
    """Make records that are all good, with some columns replaced."""
    rng = np.random.default_rng(1)
    given = {
        "rsid": [f"rs{i}" for i in range(rows)],
        "effect_allele": ["A"] * rows,
        "other_allele": ["G"] * rows,
        "beta": rng.normal(size=rows),
        "standard_error": np.full(rows, 0.5),
        "n": np.full(rows, 1000.0),
    }
    return pd.DataFrame(given | columns)


def test_every_rule_of_munging() -> None:
    given = table(
        rsid=[".", "rs1", "rs2", "rs3", "rs4", "rs5", "rs6", "rs7", "rs8", "rs9", "rs10", "rs10"],
        info=[1, 0.89, 0.9, 1, 1, 1, 1, 1, 1, None, 1, 1],
        effect_allele_frequency=[0.5, 0.5, 0.5, 0.01, 0.99, 0.0101, 0.5, 1.2, 0.5, None, 0.5, 0.5],
        effect_allele=["A", "A", "a", "A", "A", "C", "A", "A", "AT", "T", "A", "A"],
        other_allele=["G", "G", "g", "G", "G", "A", "T", "G", "A", "C", "G", "G"],
        n=[1000, 1000, 1000, 1000, 1000, 1000, 1000, 1000, 1000, 660, 1000, 1000],
    )
    found = munge(given)
    assert found.snp.to_pylist() == ["rs2", "rs5", "rs10"]
    assert found.dropped == {
        "no identifier": 1, "INFO too low": 1, "impossible frequency": 1, "too rare": 2, "no SNP": 1, "palindromic": 1,
        "repeated identifier": 1, "sample size too small": 1,
    }  # fmt: skip
    assert sum(found.dropped.values()) + len(found) == found.n_records == 12
    np.testing.assert_array_equal(found.z, (given["beta"] / given["standard_error"])[[2, 5, 10]])
    assert found.alleles.tolist() == [[0, 2], [1, 0], [0, 2]]
    assert len(munge(given, MungeConfig(min_n=1))) == 4
    assert len(munge(given, MungeConfig(alleles="any"))) == 5
    assert munge(given.drop(columns="n"), MungeConfig(n=77)).n.tolist() == [77.0] * 4


def test_statistics_of_any_kind_give_the_same_z() -> None:
    """Also p far below the smallest double: z of −log₁₀ p = 5,000 gives it back."""
    z = np.array([0.3, -2.0, 5.0, -38.0, 1.0, -1.0])
    given = table(6).drop(columns=["beta", "standard_error"])
    tail = -(stats.norm.logsf(np.abs(z)) + np.log(2)) / np.log(10)
    as_z = munge(given.assign(z=z))
    for columns in (
        {"beta": z * 0.2, "standard_error": np.full(6, 0.2)},
        {"beta": np.sign(z) * 0.1, "neg_log_10_p_value": tail},
    ):
        np.testing.assert_allclose(munge(given.assign(**columns)).z, as_z.z, rtol=1e-9)
    p = np.where(np.abs(z) > 30, 0.0, 10.0**-tail)
    found = munge(given.assign(beta=np.sign(z), p_value=p))
    assert found.dropped == {"p is 0: give neg_log_10_p_value or standard_error": 1}
    np.testing.assert_allclose(found.z, np.delete(z, 3), rtol=1e-9)
    huge = munge(given.assign(beta=np.sign(z), neg_log_10_p_value=np.full(6, 5000.0)))
    np.testing.assert_allclose(neg_log10_p(huge.z), 5000, rtol=1e-12)
    bad = munge(given.assign(beta=[1, 1, 1, np.nan, 1, 1], standard_error=[0.0, -1, np.nan, 1, np.inf, 0.5]))
    assert bad.dropped == {"no statistic": 3, "standard error not above 0": 2} and bad.z.tolist() == [2.0]


def test_what_cannot_be_munged_is_refused() -> None:
    rng = np.random.default_rng(2)
    with pytest.raises(InputFileError, match="no column rsid"):
        munge(table().drop(columns="rsid"))
    with pytest.raises(InputFileError, match="no z, no beta"):
        munge(table().drop(columns="standard_error"))
    with pytest.raises(InputFileError, match="no column n"):
        munge(table().drop(columns="n"))
    with pytest.raises(InputFileError, match="no columns effect_allele"):
        munge(table().drop(columns="other_allele"))
    with pytest.raises(VariantMismatchError, match="12 palindromic"):
        munge(table(effect_allele=["C"] * 12))
    with pytest.raises(InputFileError, match="odds ratios"):
        munge(table(200, beta=np.exp(rng.normal(size=200) / 10)))
    assert "median z is 1" in munge(table(200, beta=rng.normal(0.5, 0.5, 200))).flags[0]
    with pytest.raises(ParameterError, match="n is -1"):
        MungeConfig(n=-1)


def test_alleles_of_a_list(tmp_path: Path) -> None:
    """Same, exchanged, other strand, other alleles, not listed."""
    (tmp_path / "hm3.snplist").write_text("SNP\tA1\tA2\nrs0\tA\tG\nrs1\tG\tA\nrs2\tC\tT\nrs3\tA\tC\nrs9\tA\tG\n")
    listed = read_snp_list(tmp_path / "hm3.snplist")
    given = table(5, beta=[1.0, 2, 3, -4, -5])
    found = munge(given, snp_list=listed)
    assert found.snp.to_pylist() == ["rs0", "rs1", "rs2"]
    assert found.z.tolist() == [2.0, -4.0, -6.0]
    assert found.dropped == {"not in the list": 1, "other alleles than the list": 1}
    (tmp_path / "ids").write_text("rs1\nrs2\n")
    with pytest.raises(InputFileError, match="it needs SNP, A1 and A2"):
        read_snp_list(tmp_path / "ids")


def test_sumstats_files(tmp_path: Path) -> None:
    """With LDSC's empty lines of variants that were not found, with blanks instead of tabs, with all digits when ours."""
    ld = ld_table(60, np.random.default_rng(3))
    mine = trait(ld, np.random.default_rng(4).normal(size=60), 1234.5, "bmi")
    path = write_sumstats(tmp_path / "bmi.sumstats.gz", mine)
    back = read_sumstats(path)
    assert back.name == "bmi" and back.snp.equals(mine.snp)
    assert (
        np.array_equal(back.z, mine.z) and np.array_equal(back.n, mine.n) and np.array_equal(back.alleles, mine.alleles)
    )
    (tmp_path / "a.sumstats").write_text(
        "SNP\tA1\tA2\tN\tZ\nrs1\tA\tG\t100.000\t0.500\nrs2\t\t\t\t\nrs3\tT\tG\t99\t-1\n"
    )
    assert read_sumstats(tmp_path / "a.sumstats").snp.to_pylist() == ["rs1", "rs3"]
    (tmp_path / "b.sumstats").write_text("SNP N Z\nrs1 100 0.5\nrs3 99 NA\n")
    found = read_sumstats(tmp_path / "b.sumstats")
    assert found.z.tolist() == [0.5] and found.alleles.tolist() == [[4, 4]]
    with pytest.raises(ParameterError, match="bmi"):
        unique_names([back, mine])
    given = table()
    given.to_csv(tmp_path / "t.tsv", sep="\t", index=False)
    given.to_parquet(tmp_path / "t.parquet")
    for name in ("t.tsv", "t.parquet"):
        read = read_traits(tmp_path / name, keep=pa.array(["rs1", "rs5", "x"]))[0]
        np.testing.assert_allclose(read.z, munge(given).z[[1, 5]], rtol=1e-15)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("SNP\tN\n", "no Z"),
        ("SNP\tN\tZ\n", "none with SNP, N and Z"),
        ("SNP\tN\tZ\nrs1\t1\n", "Expected 3 columns, got 2"),
        ("SNP\tN\tZ\nrs1\t1\tx\n", "'x'"),
        ("SNP N Z\nrs1 1 x\n", "'x'"),
        ("SNP\tN\tZ\nrs1\tNA\t1\n", "none with SNP"),
    ],
)
def test_damaged_sumstats(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "d.sumstats").write_text(text)
    with pytest.raises(InputFileError, match=message):
        read_sumstats(tmp_path / "d.sumstats")


def test_truncated_files(tmp_path: Path) -> None:
    path = write_sumstats(
        tmp_path / "x.sumstats.gz", trait(ld_table(5000, np.random.default_rng(3)), np.arange(5000.0), 1)
    )
    content = path.read_bytes()
    for cut in (10, 5000, len(content) - 4):
        path.write_bytes(content[:cut])
        with pytest.raises(InputFileError, match=r"truncated|damaged"):
            read_sumstats(path)
    path.write_bytes(b"PAR1" + b"x" * 50)
    with pytest.raises(InputFileError, match="damaged Parquet"):
        read_traits(path)
    with pytest.raises(InputFileError, match="does not exist"):
        read_traits(tmp_path / "absent")
    with pytest.raises(InputFileError, match="no association results"):
        read_traits(tmp_path)
    (tmp_path / "odd.tsv").write_text("a\tb\n1\t2\n")
    with pytest.raises(InputFileError, match="neither contig and position nor an identifier"):
        read_traits(tmp_path / "odd.tsv")


def test_ld_scores_are_read_back(tmp_path: Path) -> None:
    """Of one file and of a file a chromosome, from text and from Parquet, and with annotations."""
    table = ld_table(200, np.random.default_rng(5), 3)
    overlap = Overlap(table.names, np.diag(table.counts()), 7)
    write_ld_scores(tmp_path / "all", table, {"common": overlap, "all": overlap})
    for c, rows in (("1", np.arange(100)), ("2", np.arange(100, 200))):
        half = replace(table.take(rows), m_common=table.counts() / 2, m_all=None)
        write_ld_scores(tmp_path / f"by.{c}", half, {"common": overlap, "all": overlap})
    for prefix in ("all", "by.@", "by."):
        found = read_ld_scores(tmp_path / prefix)
        assert found.snp.equals(table.snp) and np.array_equal(found.position, table.position)
        assert found.chromosome.to_pylist() == table.chromosome.to_pylist() and found.names == table.names
        np.testing.assert_allclose(found.scores, table.scores, rtol=1e-5)
        assert np.array_equal(found.counts(), table.counts())
    assert np.array_equal(read_ld_scores(tmp_path / "all").counts(common=False), table.counts(common=False))
    with pytest.raises(InputFileError, match=r"by.@.l2.M' does not exist"):
        read_ld_scores(tmp_path / "by.@").counts(common=False)
    (tmp_path / "all.l2.ldscore.gz").unlink()
    assert np.array_equal(read_ld_scores(tmp_path / "all").scores, table.scores)
    assert read_overlap(str(tmp_path / "by.@"), common=True).n_variants == 14
    beside = read_ld_scores(f"{tmp_path}/all,{tmp_path}/all")
    assert beside.scores.shape == (200, 6) and len(beside.counts()) == 6
    with pytest.raises(VariantMismatchError, match="do not hold the same variants"):
        read_ld_scores(f"{tmp_path}/all,{tmp_path}/by.1")


def test_published_ld_scores(tmp_path: Path) -> None:
    """LDSC's own layout, unsorted, with CM and MAF, a repeated variant, chr and X, blanks at the end of the counts."""
    lines = [
        "CHR\tSNP\tBP\tCM\tMAF\tL2",
        "chr2\trs3\t50\t0\t0.1\t3.5",
        "1\trs2\t90\t0\t0.2\t2",
        "1\trs1\t10\t0\t.3\t-0.25",
        "1\trs1\t10\t0\t.3\t9",
    ]
    with gzip.open(tmp_path / "1.l2.ldscore.gz", "wt") as file:
        file.write("\n".join(lines) + "\n")
    (tmp_path / "1.l2.M_5_50").write_text("1173569 \n")
    found = read_ld_scores(f"{tmp_path}/")
    assert found.snp.to_pylist() == ["rs1", "rs2", "rs3"] and found.scores[:, 0].tolist() == [-0.25, 2.0, 3.5]
    assert (
        found.chromosome.to_pylist() == ["1", "1", "2"]
        and found.names == ("base",)
        and found.counts().tolist() == [1173569.0]
    )


@pytest.mark.parametrize(
    ("scores", "counts", "message"),
    [
        ("CHR\tSNP\tL2\n1\ta\t1\n", "1", "holds no LD scores"),
        ("CHR\tSNP\tBP\n1\ta\t1\n", "1", "holds no LD scores"),
        ("CHR\tSNP\tBP\tL2\n", "1", "but no LD scores"),
        ("CHR\tSNP\tBP\tL2\n1\ta\t1\tNA\n", "1", "missing or not finite"),
        ("CHR\tSNP\tBP\tL2\n1\t\t1\t2\n", "1", "SNP is missing in 1 of 1"),
        ("CHR\tSNP\tBP\tL2\n1\ta\tx\t2\n", "1", "'x'"),
        ("CHR\tSNP\tBP\tL2\n1\ta\t1\t2\n", "1 2", "holds 2 numbers"),
        ("CHR\tSNP\tBP\tL2\n1\ta\t1\t2\n", "many", "no numbers of variants: many"),
        ("CHR SNP BP L2\n1 a 1 2\n1 b 2\n", "1", r"cannot be read|missing"),
    ],
)  # fmt: skip
def test_damaged_ld_scores(tmp_path: Path, scores: str, counts: str, message: str) -> None:
    (tmp_path / "x.l2.ldscore").write_text(scores)
    (tmp_path / "x.l2.M_5_50").write_text(counts)
    with pytest.raises(InputFileError, match=message):
        read_ld_scores(tmp_path / "x")
    with pytest.raises(InputFileError, match="put @ where its number is"):
        read_ld_scores(tmp_path / "y")


def test_annotations_and_what_they_share(tmp_path: Path) -> None:
    values = np.array([[1, 0, 0.5], [1, 1, 0], [1, 1, 2]])
    frame = pd.DataFrame(values, columns=["base", "a", "b"])
    places = pd.DataFrame({"CHR": 1, "BP": [1, 2, 3], "SNP": ["s1", "s2", "s3"], "CM": 0})
    pd.concat([places, frame], axis=1).to_csv(tmp_path / "x.annot.gz", sep="\t", index=False)
    frame.to_csv(tmp_path / "thin.annot", sep="\t", index=False)
    (tmp_path / "x.frq").write_text(" CHR SNP A1 A2 MAF NCHROBS\n 1 s3 A G 0.3 9\n 1 s1 A G 0.05 9\n 1 s2 A G 0.06 9\n")
    full, thin = read_annot(str(tmp_path / "x")), read_annot(str(tmp_path / "thin.annot"))
    assert (
        thin.snp is None and full.snp is not None and np.array_equal(full.values, values) and full.names == thin.names
    )
    assert np.array_equal(overlap_of(thin).shared, values.T @ values)
    common = read_common(str(tmp_path / "x"))
    found = overlap_of(full, common)
    assert found.n_variants == 2 and np.array_equal(found.shared, values[1:].T @ values[1:])
    with pytest.raises(InputFileError, match="3 frequencies, but 2 variants"):
        overlap_of(Annotations(("a",), None, np.ones((2, 1))), common)
    for text, message in (
        ("SNP\n1\n", "holds no annotations"),
        ("a\tb\n1\n", "Expected 2"),
        ("a\n\nNA\n", "not finite"),
    ):
        (tmp_path / "bad.annot").write_text(text)
        with pytest.raises(InputFileError, match=message):
            read_annot(str(tmp_path / "bad"))
    (tmp_path / "bad.frq").write_text("x y\n1 2\n")
    with pytest.raises(InputFileError, match="holds no frequencies"):
        read_common(str(tmp_path / "bad"))
    (tmp_path / "bad.l2.overlap.tsv").write_text("x\ty\n1\t2\n")
    with pytest.raises(InputFileError, match="no table of shared"):
        read_overlap(str(tmp_path / "bad"), common=True)


def test_genetic_maps(tmp_path: Path) -> None:
    (tmp_path / "p.map").write_text("1 a 0.5 1000\n1 b 1.5 2000\nchr2 c 0 10\n2 d 1 20\n")
    (tmp_path / "hapmap.txt").write_text(
        "Chromosome Position(bp) Rate(cM/Mb) Map(cM)\nchr1 1000 9 0.5\nchr1 2000 0 1.5\n"
    )
    (tmp_path / "m1.txt").write_text("position COMBINED_rate(cM/Mb) Genetic_Map(cM)\n1000 1 0.5\n2000 0 1.5\n")
    for name in ("p.map", "hapmap.txt", "m@.txt"):
        assert read_genetic_map(tmp_path / name, ("1",)).at("chr1", np.array([1500]))[0] == 1.0
    for text, message in (
        ("", "is empty"),
        ("a b\n1 2\n", "is no genetic map"),
        ("1 a 0 10\n1 b 0 20\n", "are at 0 cM"),
        ("1 a 2 10\n1 b 1 20\n", "the map falls"),
        ("1 a 2 10\n1 b\n", "line 2: 2 columns"),
        ("1 a 2 10\n1 b x 20\n", "no number"),
        ("1 a 2 10\n1 b inf 20\n", "not finite"),
    ):
        (tmp_path / "bad").write_text(text)
        with pytest.raises(InputFileError, match=message):
            read_genetic_map(tmp_path / "bad")


def test_a_missing_column_is_named(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("a\tb\n1\t2\n")
    with pytest.raises(UserError, match="c"):
        read_columns(tmp_path / "x", {"c": pa.string()})
