"""One small file a program, written by hand from its documentation: alleles, effects, frequencies, p and N are read right."""

from __future__ import annotations

import gzip
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from biolmm.errors import InputFileError
from biolmm.sumstats.ingest.options import Rules, StudyInput
from biolmm.sumstats.ingest.roles import FORMATS, ROLES, SYNONYMS
from biolmm.sumstats.ingest.sources import open_study
from biolmm.sumstats.matrix.change import add_studies
from biolmm.sumstats.matrix.read import SumstatsStore
from oracles.layouts import LAYOUTS
from running import Disk, simulate, statistics

EXACT = Rules(exact=True)


def only(folder: Path, name: str, text: str | bytes, rules: Rules = EXACT, **said: Any) -> SumstatsStore:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return add_studies(folder / f"{name}.zarr", [StudyInput(path, name="study", **said)], rules)


def first(store: SumstatsStore) -> dict[str, Any]:
    data = store.to_dataset().load()
    row = {name: float(data[name].values[0, 0]) for name in ("beta", "se", "eaf", "info", "n", "neg_log10_p")}
    row |= {"contig": str(data["contig_id"].values[0]), "position": int(data["variant_position"].values[0]),
            "alleles": data["variant_allele"].values[0].tolist(), "rsid": int(data["variant_rsid"].values[0])}  # fmt: skip
    return row


@pytest.mark.parametrize("name", LAYOUTS)
def test_each_program(tmp_path: Path, name: str) -> None:
    header, lines = LAYOUTS[name]
    store = only(
        tmp_path, "f.txt", header + lines, n=5010 if name in ("BOLT-LMM", "METAL", "GEMMA", "PLINK 1") else None
    )
    found = first(store)
    assert (found["contig"], found["position"]) == ("1", 1000)
    expected_format = "PLINK 2" if name.startswith("PLINK 2") else name
    assert store.studies[0]["format"] == expected_format
    assert found["alleles"] == (["G", "A"] if name == "METAL" else ["A", "G"])
    sign = -1 if name == "METAL" else 1
    assert sign * found["beta"] == pytest.approx(0.1, abs=1e-9)
    assert found["se"] == pytest.approx(0.05, abs=1e-6)
    assert found["eaf"] == pytest.approx(0.8 if name == "METAL" else 0.2, abs=1e-12)
    assert found["neg_log10_p"] == pytest.approx(-math.log10(0.0455), abs=2e-4)
    assert found["n"] == {"METAL": 5010, "BOLT-LMM": 5010, "PLINK 1": 5010}.get(name, 5000)
    assert found["rsid"] == (0 if name == "METAL" else 5)
    assert store.n_variants == (2 if name == "GWAS-VCF" else 1)


@pytest.mark.parametrize(
    ("test", "kept"),
    [("ADD", 1), ("add", 1), ("ADD-CONDTL", 1), ("ADD-WGR-FIRTH", 1), ("ADDxSEX", 0), ("ADD-INT_SNP", 0),
     ("ADD-INT_SNPxAGE", 0), ("ADD-INT_2DF", 0), ("ADD-SKAT", 0), ("ADD-BURDEN-ACAT", 0), ("DOM", 0)],
)  # fmt: skip
def test_lines_of_the_additive_main_effect_only(tmp_path: Path, test: str, kept: int) -> None:
    header, lines = LAYOUTS["PLINK 2"]
    line = lines.splitlines(keepends=True)[0]
    at = header.split().index("TEST")
    other = line.replace("1000", "2000", 1).split("\t")
    other[at] = test
    store = only(tmp_path, "f.txt", header + line + "\t".join(other))
    assert store.n_variants == 1 + kept and store.studies[0]["counts"].get("other_test", 0) == 1 - kept


@pytest.mark.parametrize(("name", "column"), [("regenie", "ALLELE0"), ("SAIGE", "Allele1")])
def test_the_first_allele_is_ref_only_if_the_user_says_so(tmp_path: Path, name: str, column: str) -> None:
    """Without --ref-first regenie's ALLELE0 is whichever allele the genotypes have first."""
    known = "chromosome\tbase_pair_location\teffect_allele\tother_allele\tbeta\tstandard_error\tref_allele\n"
    (tmp_path / "known.tsv").write_text(known + "1\t1000\tA\tAG\t0.2\t0.1\tOA\n")
    header, line = LAYOUTS[name]
    first, second = ("\tA\t", "\tG\t") if "\t" in line else (" A ", " G ")
    text = header + line.replace(first + second[1:], first + second.replace("G", "AG")[1:])
    assert "AG" in text
    (tmp_path / "f.txt").write_text(text)
    for columns, n in (({}, 1), ({column: "ref_allele"}, 2)):
        store = add_studies(
            tmp_path / f"{n}.zarr",
            [StudyInput(tmp_path / "known.tsv"), StudyInput(tmp_path / "f.txt", name="f", columns=columns)],
            EXACT,
        )
        data = store.to_dataset().load()
        assert store.n_variants == n, "an insertion and a deletion, if both say which allele is REF"
        assert np.nansum(data["beta"].values[:, 1]) == pytest.approx(-0.1 if n == 1 else 0.1, abs=1e-9)


def test_vcf_cells_follow_their_own_format(tmp_path: Path) -> None:
    data = only(tmp_path, "f.vcf", "".join(LAYOUTS["GWAS-VCF"])).to_dataset().load()
    assert data["beta"].values[:, 0].tolist() == [0.1, 0.3]
    assert data["neg_log10_p"].values[:, 0].tolist() == [1.342, 3]
    assert math.isnan(data["eaf"].values[1, 0]) and math.isnan(data["n"].values[1, 0])


def test_ldsc_gets_places_from_the_catalogue(tmp_path: Path) -> None:
    store = only(tmp_path, "ssf.tsv", "".join(LAYOUTS["GWAS-SSF"]))
    (tmp_path / "trait.sumstats").write_text("SNP\tA1\tA2\tZ\tN\nrs5\tA\tG\t-2\t900\nrs99\tA\tG\t1\t900\n")
    store = add_studies(store.path, [StudyInput(tmp_path / "trait.sumstats")], None)
    data = store.to_dataset().load()
    assert store.n_variants == 1 and store.study_id == ("study", "trait")
    assert data["beta"].values[0, 1] == 1 and data["n"].values[0, 1] == 900 and math.isnan(data["se"].values[0, 1])
    assert data["neg_log10_p"].values[0, 1] == pytest.approx(-math.log10(math.erfc(2 / math.sqrt(2))), rel=1e-12)
    assert store.studies[1]["counts"]["unknown_id"] == 1


def test_plink_1_regressions_need_their_bim(tmp_path: Path) -> None:
    text = (
        " CHR SNP BP A1 TEST NMISS OR STAT P \n 1 rs5 1000 G ADD 500 1.2 2 0.0455 \n 1 x 1001 g ADD 500 1.2 2 0.04 \n"
    )
    with pytest.raises(InputFileError, match=r"one allele only.*--bim"):
        only(tmp_path, "p.assoc.logistic", text)
    (tmp_path / "p.bim").write_text("1\tx\t0\t1001\tAT\tG\n1\trs5\t0\t1000\tG\tA\n")
    store = only(tmp_path, "p.assoc.logistic", text, bim=tmp_path / "p.bim")
    data = store.to_dataset().load()
    assert data["variant_allele"].values.tolist() == [["A", "G"], ["AT", "G"]]
    assert data["beta"].values[0, 0] == pytest.approx(math.log(1.2)) and math.isnan(data["se"].values[0, 0])


def test_ldsc_with_places_uses_them(tmp_path: Path) -> None:
    found = first(only(tmp_path, "x.sumstats", "SNP\tCHR\tBP\tA1\tA2\tZ\tN\nrs5\t3\t77\tA\tG\t-2\t900\n"))
    assert (found["contig"], found["position"], found["beta"]) == ("3", 77, -1)


def test_effects_from_z(tmp_path: Path) -> None:
    text = "CHR\tPOS\tA1\tA2\tZ\tN\tEAF\n1\t10\tA\tG\t3\t991\t0.5\n"
    found = first(only(tmp_path, "z.tsv", text, Rules(exact=True, effects_from_z=True)))
    assert found["se"] == pytest.approx(1 / math.sqrt(0.5 * 1000)) and found["beta"] == pytest.approx(3 * found["se"])


@pytest.mark.parametrize("pack", ["plain", "gzip", "bgzip", "zstd", "crlf", "bom", "quotes", "spaces", "semicolons"])
def test_each_wrapping(tmp_path: Path, pack: str) -> None:
    text = "".join(LAYOUTS["GWAS-SSF"])
    more = text + "2\t7\tT\tC\t-0.2\t0.05\t0.3\t6.3e-5\trs6\t5000\n"
    content: dict[str, Callable[[], bytes]] = {
        "plain": lambda: more.encode(),
        "gzip": lambda: gzip.compress(more.encode()),
        "bgzip": lambda: gzip.compress(more[:150].encode()) + gzip.compress(more[150:].encode()) + gzip.compress(b""),
        "zstd": lambda: pa.compress(more.encode(), "zstd", asbytes=True),
        "crlf": lambda: more.replace("\n", "\r\n").encode(),
        "bom": lambda: b"\xef\xbb\xbf" + more.encode(),
        "quotes": lambda: "\n".join(
            "\t".join(f'"{f}"' for f in line.split("\t")) for line in more.splitlines()
        ).encode(),
        "spaces": lambda: more.replace("\t", "   ").encode(),
        "semicolons": lambda: more.replace("\t", ";").encode(),
    }
    store = only(tmp_path, "f.any", content[pack](), Rules(exact=True, palindromic="trust"))
    data = store.to_dataset().load()
    assert data["beta"].values[:, 0].tolist() == [0.1, -0.2] and data["n"].values[:, 0].tolist() == [5000, 5000]
    assert store.contig_id == ("1", "2")


def test_parquet_and_numbers_as_text(tmp_path: Path) -> None:
    table = pa.table({"chromosome": pa.array([1, 23]), "base_pair_location": pa.array([5, 6], pa.int32()),
                      "effect_allele": pa.array(["A", "C"]).dictionary_encode(), "other_allele": ["G", "T"],
                      "beta": [0.1, None], "standard_error": pa.array([0.05, 0.1], pa.float32()),
                      "p_value": ["1e-5000", "0.3"], "n": pa.array([10, 20])})  # fmt: skip
    pq.write_table(table, tmp_path / "t.parquet")
    store = add_studies(tmp_path / "s.zarr", [StudyInput(tmp_path / "t.parquet")], EXACT)
    data = store.to_dataset().load()
    assert store.contig_id == ("1", "X")
    assert data["neg_log10_p"].values[0, 0] == 5000 and math.isnan(data["beta"].values[1, 0])
    assert store.studies[0]["counts"]["bad_effect"] == 1


def test_our_own_results(tmp_path: Path) -> None:
    simulate(tmp_path)
    out = Disk(tmp_path).gwas(tmp_path / "out")
    store = add_studies(tmp_path / "s.zarr", [StudyInput(out, trait=t) for t in ("trait1", "trait2")],
                        Rules(exact=True, palindromic="trust"))  # fmt: skip
    assert store.study_id == ("out:trait1", "out:trait2")
    data = store.to_dataset().load()
    for column, trait in enumerate(("trait1", "trait2")):
        frame = statistics(out, trait).dropna(subset="beta")
        at = {(c, p): i for i, (c, p) in enumerate(zip(data["variant_contig"].values, data["variant_position"].values,
                                                       strict=True))}  # fmt: skip
        rows = [
            at[store.contig_id.index(c), p]
            for c, p in zip(frame["chromosome"], frame["base_pair_location"], strict=True)
        ]
        for name, theirs in (
            ("beta", "beta"),
            ("se", "standard_error"),
            ("neg_log10_p", "neg_log_10_p_value"),
            ("n", "n"),
        ):
            assert np.array_equal(data[name].values[rows, column], frame[theirs].to_numpy(float))
        assert data["variant_allele"].values[rows, 1].tolist() == frame["effect_allele"].tolist()


def test_the_dictionary_names_roles_only() -> None:
    assert {role for each in FORMATS for role in each.columns.values()} <= set(ROLES)
    assert set(SYNONYMS.values()) <= set(ROLES)
    assert all(each.signature <= set(each.columns) | {"p.value", "direction", "p", "test", "chisq"} or each.name
               for each in FORMATS)  # fmt: skip


def test_map_wins(tmp_path: Path) -> None:
    text = LAYOUTS["GWAS-SSF"][0].replace("p_value", "p_value\tP_SPA") + LAYOUTS["GWAS-SSF"][1].replace(
        "0.0455", "0.0455\t1e-9"
    )
    assert first(only(tmp_path, "a.tsv", text))["neg_log10_p"] == pytest.approx(-math.log10(0.0455))
    assert first(only(tmp_path, "b.tsv", text, columns={"P_SPA": "p"}))["neg_log10_p"] == 9
    assert math.isnan(first(only(tmp_path, "c.tsv", text, columns={"effect_allele_frequency": "ignore"}))["eaf"])


def test_blocks_do_not_matter(tmp_path: Path) -> None:
    path = tmp_path / "f.tsv"
    lines = "".join(f"1\t{i}\tG\tA\t0.{i}\t0.05\t0.2\t0.0455\trs{i}\t5000\n" for i in range(1, 200))
    path.write_text(LAYOUTS["GWAS-SSF"][0] + lines)
    for size in (1, 57, 4096, 1 << 20):
        fields = list(open_study(path, block_bytes=size).blocks())
        values = np.concatenate([each.numbers("beta")[0] for each in fields])
        assert values.tolist() == [float(f"0.{i}") for i in range(1, 200)]
        assert fields[0].first_line == 2 and sum(each.n for each in fields) == 199
