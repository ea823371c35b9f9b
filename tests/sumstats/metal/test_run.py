"""Running scripts: files around the cells, shared samples, broken inputs, and what --as-metal does instead."""

from __future__ import annotations

import gzip
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize, stats

from biolmm.errors import InputFileError
from biolmm.sumstats.metal.markers import Markers
from biolmm.sumstats.metal.run import Table, check_plan, plan_memory, run_plan
from biolmm.sumstats.metal.script import read_script
from oracles.metal_studies import write_studies
from running import run_command, succeed

LABELS = "MARKER SNP\nALLELE A1 A2\nEFFECT BETA\nPVALUE P\nSTDERR SE\nFREQ EAF\nWEIGHT N\n"
HEADER = "SNP A1 A2 EAF BETA SE P N"
ROW = "rs1 A G 0.3 0.1 0.05 0.0455 1000"


def run(folder: Path, script: str, *, as_metal: bool = False) -> list[Table]:
    """Run a script."""
    (folder / "script.txt").write_text(script)
    return run_plan(read_script(folder / "script.txt", as_metal=as_metal), folder / "out", as_metal=as_metal)


def cells(table: Table) -> dict[str, list[str]]:
    """Read a table's cells by marker."""
    lines = [line.split("\t") for line in table.path.read_text().splitlines()]
    return {row[lines[0].index("MarkerName")]: row for row in lines[1:]}


def study(path: Path, *rows: str, header: str = HEADER) -> Path:
    """Write a study."""
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


INFO = """# This file contains a short description of the columns in the
# meta-analysis summary file, named 'METAANALYSIS1.TBL'

# Marker      - this is the marker name
# Allele1     - the first allele for this marker in the first file where it occurs
# Allele2     - the second allele for this marker in the first file where it occurs
# Freq1       - weighted average of frequency for allele 1 across all studies
# FreqSE      - corresponding standard error for allele frequency estimate
# MinFreq     - minimum frequency for allele 1 across all studies
# MaxFreq     - maximum frequency for allele 1 across all studies
# Effect      - overall estimated effect size for allele1
# StdErr      - overall standard error for effect size estimate
# P-value     - meta-analysis p-value
# Direction   - summary of effect direction for each study, with one '+' or '-' per study
# HetISq      - I^2 statistic which measures heterogeneity on scale of 0-100%
# HetChiSq    - chi-squared statistic in simple test of heterogeneity
# df          - degrees of freedom for heterogeneity statistic
# HetPVal     - P-value for heterogeneity statistic
# Total     - custom variable 1

# Input for this meta-analysis was stored in the files:
# --> Input File 1 : FILE

"""


def test_the_info_file_and_the_header(tmp_path: Path) -> None:
    file = study(tmp_path / "a.txt", ROW)
    custom = "CUSTOMVARIABLE Total\nLABEL Total AS N"
    script = f"{LABELS}SCHEME STDERR\nAVERAGEFREQ ON\nMINMAXFREQ ON\n{custom}\nPROCESS {file}\nANALYZE HET\n"
    (table,) = run(tmp_path, script)
    assert table.path.with_name("METAANALYSIS1.TBL.info").read_text() == INFO.replace("FILE", str(file))
    assert table.path.read_text() == (
        "MarkerName\tAllele1\tAllele2\tFreq1\tFreqSE\tMinFreq\tMaxFreq\tEffect\tStdErr\tP-value\tDirection\tHetISq\tHetChiSq\t"
        "HetDf\tHetPVal\tTotal\n"
        "rs1\ta\tg\t0.3000\t0.0000\t0.3000\t0.3000\t0.1000\t0.0500\t0.0455\t+\t0.0\t0.000\t0\t1\t1000\n"
    )
    (table,) = run(tmp_path, f"{LABELS}OVERLAP ON\nLOGPVALUE ON\nPROCESS {file}\nANALYZE\n")
    lines = table.path.read_text().splitlines()
    assert lines == ["MarkerName\tAllele1\tAllele2\tWeight\tZscore\tN\tlog(P)\tDirection",
                     "rs1\ta\tg\t1000.00\t2.000\t1000.00\t-1.34\t+"]  # fmt: skip
    info = table.path.with_name("METAANALYSIS1.TBL.info").read_text()
    assert "# N           - sample size corrected" in info and "# log(P)      - log of meta-analysis p-value\n" in info


def sequential_overlap(z: np.ndarray, n: np.ndarray, cutoff: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Follow METAL's OVERLAP study by study, with the truncated likelihood written out."""
    total, weight, size = np.zeros(len(z)), np.zeros(len(z)), np.zeros(len(z))
    for study_z, study_n in zip(z.T, n.T, strict=True):
        there = ~np.isnan(study_z)
        both = there & (weight > 0)
        shared = np.zeros(len(z))
        bins = ((size + np.where(there, study_n, 0)).astype(int)) // 1000
        for each in np.unique(bins[both]):
            rows = both & (bins == each)
            one, two = total[rows] / np.sqrt(weight[rows]), study_z[rows]
            small = (np.abs(one) < cutoff) & (np.abs(two) < cutoff)
            pairs = np.stack([one[small], two[small]], axis=1)

            def loss(rho: float, pairs: np.ndarray = pairs) -> float:
                normal = stats.multivariate_normal([0, 0], [[1, rho], [rho, 1]])
                c = np.array([cutoff, cutoff])
                inside = normal.cdf(c, lower_limit=-c)
                return float(-normal.logpdf(pairs).sum() + len(pairs) * math.log(inside))

            rho = optimize.minimize_scalar(loss, bounds=(-0.999, 0.999), method="bounded", options={"xatol": 1e-9}).x
            shared[rows] = max(rho, 0.0) * np.sqrt(weight[rows] * study_n[rows])
        total[there] += (np.sqrt(study_n) * study_z)[there]
        weight[there] += (study_n + 2 * shared)[there]
        size[there] += (study_n - shared)[there]
    return weight, total / np.sqrt(weight), size


def overlapping(folder: Path, n_markers: int = 300) -> tuple[list[Path], np.ndarray, np.ndarray]:
    """Write three studies whose statistics are correlated, and give z and n as they are read."""
    rng = np.random.default_rng(4)
    correlation = np.array([[1, 0.4, 0], [0.4, 1, 0.2], [0, 0.2, 1]])
    z = rng.multivariate_normal(np.zeros(3), correlation, n_markers)
    n = np.tile([1100.0, 2300.0, 4050.0], (n_markers, 1))
    n[::3, 1] += 600
    z[rng.random(z.shape) < 0.1] = np.nan
    files, read = [], np.full_like(z, np.nan)
    for s in range(3):
        rows = []
        for i in np.flatnonzero(~np.isnan(z[:, s])):
            p = f"{2 * stats.norm.sf(abs(z[i, s])):.8g}"
            read[i, s] = math.copysign(stats.norm.isf(float(p) / 2), z[i, s])
            rows.append(f"rs{i} A G {0.2 + s / 10} {z[i, s]:.3f} 1 {p} {n[i, s]:.0f}")
        files.append(study(folder / f"s{s}.txt", *rows))
    return files, read, n


def test_overlap_is_metals_sequence(tmp_path: Path) -> None:
    files, z, n = overlapping(tmp_path)
    process = "\n".join(f"PROCESS {file}" for file in files)
    (table,) = run(tmp_path, f"{LABELS}OVERLAP ON\nZCUTOFF 1.5\n{process}\nANALYZE\n")
    weight, statistic, size = sequential_overlap(z, n, 1.5)
    found = cells(table)
    rows = [found[f"rs{i}"] for i in range(len(z)) if f"rs{i}" in found]
    there = [i for i in range(len(z)) if f"rs{i}" in found]
    # The oracle's probability is by quadrature good to 1e-8, so ρ̂ to about 1e-5, which is 0.05 of N.
    np.testing.assert_allclose([float(row[3]) for row in rows], weight[there], atol=0.2)
    np.testing.assert_allclose([float(row[4]) for row in rows], statistic[there], atol=2e-3)
    np.testing.assert_allclose([float(row[5]) for row in rows], size[there], atol=0.2)
    assert weight[there].max() > n[there].sum(axis=1).max() + 500


def test_overlap_with_frequencies_is_refused_or_as_wrong_as_metals(tmp_path: Path) -> None:
    files, *_ = overlapping(tmp_path)
    process = "\n".join(f"PROCESS {file}" for file in files)
    script = f"{LABELS}OVERLAP ON\nAVERAGEFREQ ON\nMINMAXFREQ ON\n{process}\nANALYZE\n"
    with pytest.raises(InputFileError, match="Freq1 may lie outside MinFreq and MaxFreq"):
        run(tmp_path, script)
    (table,) = run(tmp_path, script, as_metal=True)
    rows = list(cells(table).values())
    assert any(float(row[3]) < float(row[5]) - 1e-4 for row in rows)


def test_lines_with_other_numbers_of_columns(tmp_path: Path) -> None:
    file = study(tmp_path / "a.txt", ROW, "rs2 A G 0.3 0.1 0.05 0.0455 1000 more", "rs3 A G 0.3 0.1", "", "# rs4 A G 1 1 1 1 1",
                 ROW.replace("rs1", "rs5") + "\r")  # fmt: skip
    (table,) = run(tmp_path, f"{LABELS}SCHEME STDERR\nPROCESS {file}\nANALYZE\n")
    assert list(cells(table)) == ["rs1", "rs5"] and table.studies[0].counts["columns"] == 2
    (table,) = run(tmp_path, f"{LABELS}SCHEME STDERR\nCOLUMNCOUNTING LENIENT\nPROCESS {file}\nANALYZE\n")
    assert list(cells(table)) == ["rs1", "rs2", "rs5"]


def test_one_separator_keeps_empty_columns(tmp_path: Path) -> None:
    rows = ["rs1,A,G,,0.1,0.05,0.0455,1000", "rs2,A,G,0.3,,0.05,0.0455,1000"]
    file = study(tmp_path / "a.csv", *rows, header=HEADER.replace(" ", ","))
    (table,) = run(tmp_path, f"{LABELS}SEPARATOR COMMA\nSCHEME STDERR\nPROCESS {file}\nANALYZE\n")
    assert list(cells(table)) == ["rs1"] and table.studies[0].counts["effects"] == 1
    # METAL reads what is no number as 0.
    (table,) = run(
        tmp_path, f"{LABELS}SEPARATOR COMMA\nSCHEME STDERR\nAVERAGEFREQ ON\nPROCESS {file}\nANALYZE\n", as_metal=True
    )
    assert cells(table)["rs1"][3] == "0.0000" and cells(table)["rs2"][5] == "0.0000"


def test_directions(tmp_path: Path) -> None:
    rows = [f"rs{i} A G 0.3 {effect} 1 0.05 100" for i, effect in enumerate(["-0.1", "0.1", "-", "+", "NA", "0"])]
    file = study(tmp_path / "a.txt", *rows)
    script = f"{LABELS}PROCESS {file}\nANALYZE\n"
    (table,) = run(tmp_path, script)
    assert {name: row[-1] for name, row in cells(table).items()} == {
        "rs0": "-", "rs1": "+", "rs2": "-", "rs3": "+", "rs5": "+"
    }  # fmt: skip
    (table,) = run(tmp_path, script, as_metal=True)
    assert cells(table)["rs4"][-1] == "+"


def test_studies_without_alleles_or_weights(tmp_path: Path) -> None:
    file = study(tmp_path / "a.txt", "cg1 0.1 0.05 0.0455", header="SNP BETA SE P")
    (table,) = run(tmp_path, f"{LABELS}SCHEME STDERR\nPROCESS {file}\nANALYZE\n")
    assert table.path.read_text().splitlines()[1] == "cg1\t\t\t0.1000\t0.0500\t0.0455\t+"
    (table,) = run(tmp_path, f"{LABELS}DEFAULTWEIGHT 300\nPROCESS {file}\nANALYZE\n")
    assert cells(table)["cg1"][3:5] == ["300.00", "2.000"]


DAMAGE = {
    "no marker": (HEADER.replace("SNP", "ID"), "has no column 'SNP' (MARKER) among ID A1"),
    "no effect": (HEADER.replace("BETA", "B"), "has no column 'BETA' (EFFECT)"),
    "no error": (HEADER.replace("SE", "S"), "has no column 'SE' (STDERR)"),
    "one allele": (HEADER.replace("A2", "X"), "has the column A1 but not A2"),
    "commas": (HEADER.replace(" ", ","), "is SEPARATOR right?"),
    "empty header": ("", "the header of"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_headers_that_do_not_fit(name: str, tmp_path: Path) -> None:
    header, message = DAMAGE[name]
    file = study(tmp_path / "bad.txt", ROW, header=header)
    good = study(tmp_path / "good.txt", ROW)
    script = f"{LABELS}SCHEME STDERR\nPROCESS {good}\nPROCESS {file}\nANALYZE\n"
    with pytest.raises(InputFileError) as error:
        run(tmp_path, script)
    assert message in str(error.value) and "script.txt, line 10" in str(error.value)
    assert not (tmp_path / "out").exists()
    (table,) = run(tmp_path, script, as_metal=True)
    assert len(table.studies) == 1 and list(cells(table)) == ["rs1"]


def test_other_refusals(tmp_path: Path) -> None:
    good = study(tmp_path / "a.txt", ROW)
    frame = f"{LABELS}SCHEME STDERR\n{{}}\nPROCESS {good}\nANALYZE\n"
    for line, message in [
        ("PROCESS nothing.txt", "nothing.txt"),
        ("ADDFILTER MAF > 0.1", "has no column 'MAF' (ADDFILTER)"),
        ("CUSTOMVARIABLE CASES", "has no column 'CASES' (LABEL"),
        ("AVERAGEFREQ ON\nFREQ F", "has no column 'F' (FREQ)"),
        ("USESTRAND ON", "has no column 'STRAND'"),
        ("TRACKPOSITIONS ON", "has no column 'CHROMOSOME'"),
        (f"GENOMICCONTROL LIST {tmp_path}/none.txt", "none.txt cannot be read"),
        ("ANALYZE", "no file was processed before"),
    ]:
        with pytest.raises(InputFileError, match=message.replace("(", r"\(").replace(")", r"\)")):
            run(tmp_path, frame.format(line))
    (tmp_path / "empty.txt").write_text("\n \n")
    with pytest.raises(InputFileError, match="lists no markers"):
        run(tmp_path, frame.format(f"GENOMICCONTROL LIST {tmp_path}/empty.txt"))
    mixed = f"{LABELS}PROCESS {good}\nOVERLAP ON\nPROCESS {good}\nANALYZE\n"
    with pytest.raises(InputFileError, match="OVERLAP and ZCUTOFF differ"):
        run(tmp_path, mixed)


@pytest.mark.parametrize("kind", ["truncated", "corrupt", "binary", "utf16", "zip"])
def test_damaged_files(kind: str, tmp_path: Path) -> None:
    text = "\n".join([HEADER, *(ROW.replace("rs1", f"rs{i}") for i in range(500))]).encode() + b"\n"
    packed = gzip.compress(text)
    content = {
        "truncated": packed[: len(packed) // 2],
        "corrupt": packed[:200] + b"\0\0\0\0" + packed[204:],
        "binary": text[:3000] + b"\0" + text[3001:],
        "utf16": text.decode().encode("utf-16"),
        "zip": b"PK\x03\x04" + text,
    }[kind]
    (tmp_path / "a.txt").write_bytes(content)
    with pytest.raises(InputFileError, match=r"a\.txt"):
        run(tmp_path, f"{LABELS}SCHEME STDERR\nPROCESS {tmp_path}/a.txt\nANALYZE\n")
    assert not list(tmp_path.glob("out/*"))


def test_counts_by_reason(tmp_path: Path) -> None:
    first = study(
        tmp_path / "a.txt", ROW, ROW, "rs2 A C 0.1 NA 0.1 0.5 10", "rs3 A C 0.1 0.1 0 0.5 10", "rs4 A C 0.1 1 1 0.5 10"
    )
    second = study(tmp_path / "b.txt", "rs1 A C 0.1 1 1 0.5 10", "RS1 T C 0.1 1 1 0.5 10")
    script = f"{LABELS}SCHEME STDERR\nADDFILTER SE < 1\nPROCESS {first}\nPROCESS {second}\nANALYZE\n"
    (table,) = run(tmp_path, script.replace("SE < 1", "SE <= 1"))
    one, two = (study.counts for study in table.studies)
    assert (one["used"], one["duplicates"], one["effects"], one["standard errors"]) == (2, 1, 1, 1)
    assert (two["used"], two["alleles"]) == (1, 1)
    (table,) = run(tmp_path, script)
    assert [study.counts["filters"] for study in table.studies] == [1, 2]


@given(st.lists(st.lists(st.text("abAB1:é", min_size=0, max_size=4), max_size=40), max_size=5))
@settings(max_examples=60, deadline=None)
def test_markers_are_numbered_as_by_a_dictionary(blocks: list[list[str]]) -> None:
    markers, known, spelled = Markers(), {}, []  # type: Markers, dict[str, int], list[str]
    for names in blocks:
        encoded = [name.encode() for name in names]
        stops = np.cumsum([0, *(len(each) for each in encoded)])
        data = np.frombuffer(b"".join(encoded) or b" ", np.uint8)
        found = markers.find(data, np.stack([stops[:-1], stops[1:]], axis=1))
        expected = []
        for name in names:
            key = "".join(c.lower() if c.isascii() else c for c in name)
            if key not in known:
                known[key] = len(known)
                spelled.append(name)
            expected.append(known[key])
        assert found.tolist() == expected
    assert markers.n == len(known) and markers.names(0, markers.n) == spelled


def test_many_markers_outgrow_the_first_table() -> None:
    markers = Markers()
    names = [f"chr{i % 22}:{i * 37}".encode() for i in range(200_000)]
    stops = np.cumsum([0, *(len(each) for each in names)])
    spans = np.stack([stops[:-1], stops[1:]], axis=1)
    data = np.frombuffer(b"".join(names), np.uint8)
    for part in (slice(0, 50_000), slice(0, 200_000), slice(100_000, 200_000)):
        assert markers.find(data, spans[part]).tolist() == list(range(part.start, part.stop))
    assert markers.find(data, spans[::-1].copy()).tolist() == list(range(199_999, -1, -1))


def test_the_command(tmp_path: Path) -> None:
    files = write_studies(tmp_path, n_markers=60)
    process = "\n".join(f"PROCESS {file}" for file in files)
    script = tmp_path / "script.txt"
    script.write_text(f"{LABELS}SCHEME STDERR\n{process}\nANALYZE HET\n")
    assert "metal" in succeed("metal", script, "--plan", "--out-dir", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    printed = succeed("metal", script, "--out-dir", tmp_path / "out")
    assert "METAANALYSIS1.TBL: 60 markers of 3 files" in printed or "markers of 3 files" in printed
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"METAANALYSIS1.TBL", "METAANALYSIS1.TBL.info"}
    script.write_text(f"{LABELS}SCHEME STDERR\nMARKERNAME SNP\n{process}\nANALYZE HET\n")
    refused = run_command("metal", script, "--out-dir", tmp_path / "out")
    assert refused.code == 2 and refused.err.count("\n") == 1 and "write MARKER" in refused.err
    assert run_command("--quiet", "metal", script, "--out-dir", tmp_path / "out", "--as-metal").code == 0
    small = run_command("metal", script, "--as-metal", "--memory", "1kB")
    assert small.code == 2 and "MemoryBudgetError" in small.err


def test_the_plan_knows_the_files(tmp_path: Path) -> None:
    files = write_studies(tmp_path, n_markers=60)
    (tmp_path / "s.txt").write_text(f"{LABELS}" + "\n".join(f"PROCESS {file}" for file in files) + "\nANALYZE\n")
    plan = read_script(tmp_path / "s.txt")
    cost = plan_memory(plan, check_plan(plan))
    assert cost.read_bytes == sum(file.stat().st_size for file in files) and cost.n_tasks == 3
