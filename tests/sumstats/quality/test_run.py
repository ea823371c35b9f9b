"""The command and its files; numbers against their definitions; nothing that depends on chunks or threads."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from biolmm.chunks import map_tasks
from biolmm.errors import InputFileError, ParameterError
from biolmm.results.diagnostics import neg_log10_p_chisq, qq_points
from biolmm.sumstats.ingest.options import Rules, StudyInput
from biolmm.sumstats.matrix.change import Sizes, add_studies
from biolmm.sumstats.matrix.read import SumstatsStore
from biolmm.sumstats.quality.across import consensus, pair_sums
from biolmm.sumstats.quality.config import Filters, QualityConfig
from biolmm.sumstats.quality.figures import qq_of_study
from biolmm.sumstats.quality.histogram import LogHistogram, Moments
from biolmm.sumstats.quality.reference import join_frequencies
from biolmm.sumstats.quality.run import measure_quality
from running import run_command, succeed
from sumstats.quality.studies import clean, flip_alleles, make_store, variants, write

TRUST = Rules(palindromic="trust", exact=True)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> SumstatsStore:
    return make_store(tmp_path_factory.mktemp("store"), clean(3), TRUST)


def column(store: SumstatsStore, study: int, name: str) -> np.ndarray:
    return np.concatenate([block.cells[name][:, 0] for block in store.blocks([study], (name,))]).astype(float)


def test_numbers_are_those_of_their_definitions(store: SumstatsStore) -> None:
    found = measure_quality(store, QualityConfig(Filters(min_maf=0.01, max_se=0.05, min_info=0.9))).measures[1]
    beta, se, eaf, info, n = (column(store, 1, name) for name in ("beta", "se", "eaf", "info", "n"))
    chisq = np.sort((beta / se) ** 2)
    assert found.lambda_gc(0) == chisq[len(chisq) // 2] / 0.4549364  # METAL's upper median
    maf = np.minimum(eaf, 1 - eaf)
    inside = np.sort(((beta / se) ** 2)[(maf > 0.2) & (maf <= 0.5)])
    assert found.lambda_gc(6) == inside[len(inside) // 2] / 0.4549364
    common = maf >= 0.01
    v = (2 * eaf * (1 - eaf) * n * info * se**2)[common]
    assert found.visscher.quantile(0.5) == pytest.approx(np.median(v), rel=1 / 256)
    centred = beta[common] - beta[common].mean()
    assert found.beta.sd == pytest.approx(beta[common].std(ddof=1), rel=1e-10)
    assert found.beta.skewness == pytest.approx((centred**3).mean() / (centred**2).mean() ** 1.5, rel=1e-9)
    assert found.beta.kurtosis == pytest.approx((centred**4).mean() / (centred**2).mean() ** 2, rel=1e-9)
    slope = np.polyfit(np.log(2 * eaf * (1 - eaf) * n * info)[common], np.log(se**2)[common], 1)[0]
    assert found.precision.slope == pytest.approx(slope, rel=1e-8)
    fails = {"min_maf": maf < 0.01, "max_se": se > 0.05, "min_info": info < 0.9}
    assert found.filtered == {name: int(mask.sum()) for name, mask in fails.items()}
    assert found.n_filtered == int(np.logical_or.reduce(list(fails.values())).sum())


def test_between_studies_numbers_are_those_of_their_definitions(store: SumstatsStore) -> None:
    across = measure_quality(store).across
    eaf = np.column_stack([column(store, at, "eaf") for at in range(3)])
    reference = np.median(eaf, axis=1)
    assert across.frequency_correlation()[0] == pytest.approx(np.corrcoef(eaf[:, 0], reference)[0, 1], rel=1e-9)
    assert across.grid[0].sum() == len(eaf)
    z = np.column_stack([column(store, at, "beta") / column(store, at, "se") for at in range(3)]).clip(-3, 3)
    np.testing.assert_allclose(across.z_correlation(), np.corrcoef(z.T), rtol=1e-9)
    assert sum(int(counts[-1]) for counts in across.windows.values()) == store.n_variants


def test_nothing_depends_on_chunks_or_threads(store: SumstatsStore, tmp_path: Path) -> None:
    inputs = [write(table, tmp_path / f"s{at}.tsv") for at, table in enumerate(clean(3))]
    other = add_studies(tmp_path / "other", inputs, TRUST, sizes=Sizes(chunk_variants=6400))
    one, two = measure_quality(store, map_tasks=map_tasks), measure_quality(other)
    for mine, theirs in zip(one.verdicts, two.verdicts, strict=True):
        # Signals are thinned within chunks, so their number may differ; nothing else may.
        assert [v for v in mine if v.key != "flips"] == [v for v in theirs if v.key != "flips"]
    for a, b in zip(one.measures, two.measures, strict=True):
        assert a.lambda_gc(0) == b.lambda_gc(0)
        assert np.array_equal(a.visscher.counts, b.visscher.counts)


def test_the_qq_plot_of_counts_is_that_of_the_values(store: SumstatsStore) -> None:
    found = measure_quality(store).measures[0]
    points = qq_of_study(found)
    wanted = qq_points(neg_log10_p_chisq((column(store, 0, "beta") / column(store, 0, "se")) ** 2))
    assert np.array_equal(points.expected, wanted.expected)
    # The strongest are exact but for the digits in files: p has seven, β and SE eight, and χ² is (β/SE)².
    np.testing.assert_allclose(points.observed[:700], wanted.observed[:700], rtol=4 * 5e-8, atol=5e-7)
    # χ² in a bin 1/128 wide; −log₁₀ p grows no faster than χ² does.
    np.testing.assert_allclose(points.observed, wanted.observed, rtol=1 / 64, atol=1e-6)


@given(st.lists(st.floats(1e-12, 1e12), min_size=1, max_size=60), st.floats(0, 1))
def test_quantiles_are_within_a_bin(values: list[float], share: float) -> None:
    counted = LogHistogram()
    counted.add(np.array(values))
    ranks = share * (len(values) - 1)
    low, high = np.sort(values)[[int(np.floor(ranks)), int(np.ceil(ranks))]]
    assert low * (1 - 1 / 128) <= counted.quantile(share) <= high * (1 + 1 / 128)


@given(st.lists(st.lists(st.floats(-100, 100), max_size=8), min_size=1, max_size=6))
def test_moments_of_parts_are_those_of_the_whole(parts: list[list[float]]) -> None:
    whole, joined = Moments(), Moments()
    whole.add(np.array([value for part in parts for value in part]))
    for part in parts:
        joined.add(np.array(part))
    assert joined.n == whole.n
    for name in ("mean", "m2", "m3", "m4"):
        power = {"mean": 1, "m2": 2, "m3": 3, "m4": 4}[name]
        assert getattr(joined, name) == pytest.approx(
            getattr(whole, name), rel=1e-9, abs=1e-9 * 200**power * max(whole.n, 1)
        )


@given(st.integers(2, 5), st.integers(3, 30), st.integers(0, 1000))
def test_pairs_take_the_rows_that_both_have(k: int, n: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    values = np.where(rng.random((n, k)) < 0.3, np.nan, rng.normal(size=(n, k)))
    sums = pair_sums(values)
    both = ~np.isnan(values[:, 0]) & ~np.isnan(values[:, 1])
    x, y = values[both, 0], values[both, 1]
    np.testing.assert_allclose(sums[:, 0, 1], [both.sum(), x.sum(), y.sum(), x @ x, x @ y, y @ y], atol=1e-12)


def test_of_two_studies_each_is_held_against_the_other() -> None:
    given = np.array([[0.25, 0.75], [0.5, np.nan]])
    assert np.array_equal(consensus(given), np.array([[0.75, 0.25], [np.nan, np.nan]]), equal_nan=True)


@pytest.mark.parametrize("kind", ["tsv", "parquet", "tsv.gz"])
def test_frequencies_of_a_panel_are_joined_by_alleles(kind: str, store: SumstatsStore, tmp_path: Path) -> None:
    frame = variants()
    panel = pd.DataFrame({"#chrom": "chr" + frame["CHR"].astype(str), "pos": frame["BP"], "ref": frame["A2"], "alt": frame["A1"],
                          "af": frame["frequency"]})  # fmt: skip
    turned = np.arange(len(panel)) % 3 == 0
    panel.loc[turned, ["ref", "alt"]] = panel.loc[turned, ["alt", "ref"]].to_numpy()
    panel.loc[turned, "af"] = 1 - panel.loc[turned, "af"]
    panel.loc[10, "alt"] = "N"
    panel = panel.sample(frac=1, random_state=1)
    table = tmp_path / f"panel.{kind}"
    panel.to_parquet(table) if kind == "parquet" else panel.to_csv(table, sep="\t", index=False)
    read, n = join_frequencies(store, table, tmp_path / "aside")
    got = np.concatenate([read(chunk) for chunk in range(store.n_chunks)])
    wanted = frame["frequency"].to_numpy().copy()
    wanted[10] = np.nan
    assert n == len(frame) - 1
    np.testing.assert_allclose(got, wanted, rtol=1e-6)


def test_a_table_without_frequencies_is_refused(store: SumstatsStore, tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text("chrom\tpos\tref\talt\n1\t5\tA\tC\n", encoding="utf-8")
    with pytest.raises(InputFileError, match="no column for eaf"):
        join_frequencies(store, tmp_path / "a.tsv", tmp_path / "x")
    (tmp_path / "b.tsv").write_text("chrom\tpos\tref\talt\taf\n1\t5\tA\tC\t0.5\n", encoding="utf-8")
    with pytest.raises(InputFileError, match="no variant of"):
        join_frequencies(store, tmp_path / "b.tsv", tmp_path / "x")


def test_the_command_writes_pages_a_record_and_a_plan(store: SumstatsStore, tmp_path: Path) -> None:
    out = tmp_path / "qc"
    said = succeed("sumstats", "qc", store.path, "--out", out, "--min-maf", "0.05", "--fail-on", "bad")
    assert re.search(r"^s0: good$", said, re.MULTILINE)
    record = json.loads((out / "quality.json").read_text(encoding="utf-8"))
    assert [study["level"] for study in record["studies"]] == ["good"] * 3
    assert {verdict["key"] for verdict in record["studies"][0]["verdicts"]} >= {
        "p_z",
        "lambda",
        "frequency",
        "flips",
        "se_slope",
    }
    plan = json.loads((out / "filters.json").read_text(encoding="utf-8"))
    assert plan["applied"] is False
    assert plan["studies"]["s1"]["filters"] == {"min_maf": 0.05}
    for page in (out / "index.html", *sorted((out / "studies").glob("*.html"))):
        text = page.read_text(encoding="utf-8")
        assert text.count("data:image/png;base64,") >= 4
        assert "http" not in re.sub(r"data:image/png;base64,[^\"]*", "", text)
    again = run_command("sumstats", "qc", store.path, "--out", out)
    assert again.code == 2
    assert "--overwrite" in again.err
    assert "quality of summary statistics" in succeed("sumstats", "qc", store.path, "--out", out, "--plan")


def test_files_are_harmonised_and_a_refused_one_is_a_bad_study(tmp_path: Path) -> None:
    tables = clean(3)
    tables[1] = tables[1].assign(BETA=np.exp(tables[1]["BETA"]))
    tables[2] = flip_alleles(tables[2])
    paths = [write(table, tmp_path / f"s{at}.tsv").path for at, table in enumerate(tables)]
    out = tmp_path / "qc"
    done = run_command("--quiet", "sumstats", "qc", *paths, "--out", out, "--fail-on", "bad", "--palindromic", "trust")
    assert done.code == 2
    record = json.loads((out / "quality.json").read_text(encoding="utf-8"))
    by_name = {study["name"]: study for study in record["studies"]}
    assert "these are odds ratios" in by_name["s1"]["verdicts"][0]["text"]
    assert by_name["s2"]["level"] == "bad"
    assert sorted(path.name for path in out.iterdir()) == ["harmonised", "index.html", "quality.json", "studies"]
    alone = run_command("--quiet", "sumstats", "qc", paths[1], "--out", tmp_path / "other")
    assert alone.code == 2
    assert "odds ratios" in alone.err


def test_a_panel_tells_which_of_two_studies_is_wrong(tmp_path: Path) -> None:
    tables = clean(2)
    tables[1] = tables[1].assign(EAF=1 - tables[1]["EAF"])
    store = make_store(tmp_path, tables, TRUST)
    frame = variants()
    panel = frame[["CHR", "BP", "A1", "A2", "frequency"]].set_axis(["chr", "bp", "alt", "ref", "eaf"], axis=1)
    panel.to_csv(tmp_path / "panel.tsv", sep="\t", index=False)
    succeed("sumstats", "qc", store.path, "--out", tmp_path / "qc", "--frequencies", tmp_path / "panel.tsv")
    record = json.loads((tmp_path / "qc" / "quality.json").read_text(encoding="utf-8"))
    levels = [{v["key"]: v["level"] for v in study["verdicts"]}["frequency"] for study in record["studies"]]
    assert levels == ["good", "bad"]
    assert not (tmp_path / "qc" / ".frequencies").exists()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--min-maf", "0.7"), "--min-maf is 0.7"),
        (("--max-se", "-1"), "--max-se is -1"),
        (("--cases", "s0"), "is not STUDY=CASES,CONTROLS"),
        (("--cases", "s0=0,5"), "both must be above 0"),
        (("--expected-sd", "0"), "--expected-sd is 0"),
        (("--memory", "1MB"), "--memory is"),
    ],
)
def test_options_that_cannot_be_are_refused(
    options: tuple[str, ...], says: str, store: SumstatsStore, tmp_path: Path
) -> None:
    done = run_command("sumstats", "qc", store.path, "--out", tmp_path / "qc", *options)
    assert done.code == 2
    assert says in done.err


def test_filters_know_no_other_numbers() -> None:
    with pytest.raises(ParameterError, match="max-eaf-difference is 2"):
        Filters(max_eaf_difference=2)
    assert Filters(min_n=5).asked() == {"min_n": 5.0}


def test_one_study_alone_is_judged_by_itself(tmp_path: Path) -> None:
    table = clean(1)[0]
    store = add_studies(tmp_path / "store", [StudyInput(write(table, tmp_path / "one.tsv").path, name="a b/c")], TRUST)
    succeed("sumstats", "qc", store.path, "--out", tmp_path / "qc")
    assert (tmp_path / "qc" / "studies" / "a%20b%2Fc.html").exists()
    link = re.search(r'href="(studies/[^"]*)"', (tmp_path / "qc" / "index.html").read_text(encoding="utf-8"))
    assert link is not None and link[1] == "studies/a%2520b%252Fc.html"  # the % of the file's name is a % in the link
