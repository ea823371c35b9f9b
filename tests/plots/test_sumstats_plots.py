"""Figures of summary statistics: what is drawn, in all formats, from Python and the command line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from matplotlib.patches import Polygon

from biolmm.errors import InputFileError, ParameterError
from biolmm.plots.forest import Summary, forest
from biolmm.plots.heatmap import correlation_heatmap
from biolmm.plots.locus import locus
from biolmm.plots.miami import miami
from biolmm.plots.saving import FORMATS, save_figure
from biolmm.plots.scatter import af_af, af_af_of_counts, p_against_z, precision_against_n
from biolmm.plots.style import to_png
from biolmm.regions import parse_region
from biolmm.sumstats.export.frames import (
    find_origin,
    r2_with_lead,
    read_correlations,
    read_genes,
    read_genome,
    read_variant,
)
from biolmm.sumstats.ingest.options import Rules
from biolmm.sumstats.matrix.read import SumstatsStore
from biolmm.sumstats.meta.fixed_effects import inverse_variance
from oracles.toy import structured_calls, write_store
from running import run_command, succeed
from sumstats.quality.studies import clean, make_store, variants

_START = {"png": b"\x89PNG", "svg": b"<?xml", "pdf": b"%PDF"}


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for axes in figure.axes for text in axes.texts]


def scan(seed: int, n: int = 400) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "chromosome": np.repeat(["1", "2"], n // 2),
            "base_pair_location": np.tile(np.sort(rng.integers(1, 10**8, n // 2)), 2),
            "neg_log_10_p_value": rng.exponential(1.5, n),
            "rsid": [f"rs{i}" for i in range(n)],
        }
    )


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> SumstatsStore:
    return make_store(tmp_path_factory.mktemp("store"), clean(3), Rules(exact=True, palindromic="trust"))


@pytest.mark.parametrize("kind", FORMATS)
def test_figures_are_written_in_every_format_the_same_each_time(kind: str, tmp_path: Path) -> None:
    figure = miami(scan(1), scan(2), ("one", "two"), leads=(scan(1).nlargest(3, "neg_log_10_p_value"), None))
    first = save_figure(figure, tmp_path / f"a.{kind}").read_bytes()
    assert first.startswith(_START[kind])
    assert save_figure(figure, tmp_path / "b", kind).read_bytes() == first


def test_a_format_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match=r"end its name in \.png"):
        save_figure(Figure(), tmp_path / "a.jpg")


def test_miami_turns_the_lower_half_and_has_one_scale() -> None:
    first, second = scan(1), scan(2)
    first.loc[5, "neg_log_10_p_value"] = 40.0
    figure = miami(first, second)
    upper, lower = (axes.get_ylim() for axes in figure.axes[:2])
    assert upper[0] < upper[1]
    assert lower == upper[::-1]
    assert upper[1] > 40
    assert to_png(miami(first.iloc[:0], second), dpi=40)


def test_forest_draws_intervals_diamonds_and_heterogeneity() -> None:
    beta, se = np.array([0.1, 0.3, np.nan, -0.05]), np.array([0.05, 0.08, np.nan, 0.06])
    figure = forest(
        ["A", "B", "C", "D"],
        beta,
        se,
        [Summary("Fixed effects", 0.11, 0.03, 12.3), Summary("Random effects", 0.1, 0.1)],
        n=np.array([1000, 2000, np.nan, 900]),
        i_squared=0.83,
        q_neg_log10_p=4.2,
        tau2=0.02,
    )
    axes = figure.axes[0]
    segments = axes.collections[0].get_segments()
    np.testing.assert_allclose(
        [line[:, 0] for line in segments],
        [[b - 1.959964 * s, b + 1.959964 * s] for b, s in zip(beta[[0, 1, 3]], se[[0, 1, 3]], strict=True)],
        rtol=1e-6,
    )
    squares = axes.collections[1].get_sizes()
    assert np.argmax(squares) == 0  # the smallest standard error
    diamonds = [patch for patch in axes.patches if isinstance(patch, Polygon)]
    assert len(diamonds) == 2
    assert diamonds[0].get_xy()[:, 0].min() == pytest.approx(0.11 - 1.959964 * 0.03)
    written = texts(figure)
    assert "not in this study" in written
    assert any("I² = 83 %" in text and "τ² = 0.02" in text and "6.3 × 10⁻⁵" in text for text in written)
    ratios = forest(["A"], np.array([np.log(2.0)]), np.array([0.1]), odds_ratios=True)
    assert any(text.startswith("2.00 (1.64") for text in texts(ratios))


def test_locus_colours_by_ld_and_puts_genes_in_lanes() -> None:
    frame = scan(3).query("chromosome == '1'").reset_index(drop=True)
    frame.loc[50, "neg_log_10_p_value"] = 30.0
    r2 = np.linspace(0, 1, len(frame))
    r2[:20] = np.nan
    low, high = frame["base_pair_location"].min(), frame["base_pair_location"].max()
    genes = pd.DataFrame(
        {
            "name": ["ABC1", "DEF2", "GHI3"],
            "start": [low, low + 10, high - 1000],
            "end": [high, low + 900, high],
            "strand": ["+", "-", ""],
        }
    )
    figure = locus(frame, r2=r2, genes=genes)
    assert "rs50" in texts(figure)
    assert {"ABC1 →", "← DEF2", "GHI3"} <= set(texts(figure))
    lanes = {round(segment[0][1]) for each in figure.axes[1].collections for segment in each.get_segments()}
    assert lanes == {0, 1}
    labels = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert labels == ["0.8–1", "0.6–0.8", "0.4–0.6", "0.2–0.4", "0–0.2", "not known"]
    with pytest.raises(ValueError, match="of one contig"):
        locus(scan(3))
    assert "no variant has a p-value" in texts(locus(frame.assign(neg_log_10_p_value=np.nan)))


def test_af_af_sets_outliers_off() -> None:
    rng = np.random.default_rng(1)
    x = rng.uniform(0, 1, 500)
    y = np.clip(x + rng.normal(0, 0.02, 500), 0, 1)
    y[:7] = 1 - x[:7] + 0.0
    x[7] = np.nan
    figure = af_af(x, y)
    shown = figure.axes[0].collections
    n_away = int((np.abs(x - y) > 0.2).sum())
    assert len(shown[1].get_offsets()) == n_away > 0
    assert any("499 variants" in text for text in texts(figure))
    counts = np.zeros((10, 10), np.int64)
    assert "no frequencies to compare" in texts(af_af_of_counts(counts, correlation=np.nan))
    assert "every p that is given follows from β / SE" in texts(p_against_z(counts, 400))
    assert to_png(
        precision_against_n(["a", "b"], np.array([100.0, np.nan]), np.array([10.0, 5.0]), levels=["bad", "good"]),
        dpi=40,
    )


@pytest.mark.parametrize("k", [0, 1, 2, 9, 40])
def test_heat_map_has_a_square_a_pair(k: int) -> None:
    rng = np.random.default_rng(k)
    matrix = np.corrcoef(rng.normal(size=(k, 30))) if k > 1 else np.ones((k, k))
    if k > 2:
        matrix[0, 1] = matrix[1, 0] = np.nan
    figure = correlation_heatmap(
        matrix, [f"trait {i}" for i in range(k)], cluster=True, standard_errors=np.full((k, k), 0.1)
    )
    assert to_png(figure, dpi=40)
    if k:
        squares = figure.axes[0].collections[0].get_array()
        assert len(squares) == np.isfinite(matrix).sum()


def test_clustering_puts_alike_traits_together() -> None:
    matrix = np.array([[1, 0.1, 0.9], [0.1, 1, 0.1], [0.9, 0.1, 1]])
    names = [
        label.get_text()
        for label in correlation_heatmap(matrix, ["a", "b", "c"], cluster=True).axes[0].get_yticklabels()
    ]
    assert abs(names.index("a") - names.index("c")) == 1


def test_thinning_keeps_what_is_strong_and_all_values(store: SumstatsStore) -> None:
    origin = find_origin(store.path, "s0")
    frame, tail = read_genome(origin)
    whole = pd.concat([part for _, part in origin.parts()])
    assert len(tail) == len(whole) > len(frame)
    strong = whole[whole["neg_log_10_p_value"] > 5]
    assert set(strong["rsid"]) <= set(frame["rsid"])


def test_r2_is_that_of_the_genotypes(tmp_path: Path) -> None:
    calls = structured_calls(90, 80, seed=4)
    data = write_store(tmp_path / "g.zarr", calls, chunk_variants=64)
    frame = pd.DataFrame(
        {
            "chromosome": "chr1",
            "base_pair_location": data.variant_position,
            "effect_allele": data.ref,  # the other way round: r² is the same
            "other_allele": data.alt,
            "rsid": [str(name) for name in data.variant_id],
        }
    )
    found = r2_with_lead(data, frame, 3)
    dense = np.where(calls == 3, np.nan, calls.astype(float))[
        2:
    ]  # without the monomorphic one and the one never called
    centred = np.nan_to_num(dense - np.nanmean(dense, axis=1, keepdims=True))
    wanted = (centred @ centred[1]) ** 2 / (np.square(centred).sum(axis=1) * np.square(centred[1]).sum())
    np.testing.assert_allclose(found[2:], wanted, rtol=1e-6, atol=1e-12)
    assert np.isnan(found[:2]).all()


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("chr6\t999\t2000\tABC1\t0\t+\nchr7\t5\t9\tDEF\t0\t-\n", "a.bed"),
        (
            '6\tx\tgene\t1000\t2000\t.\t+\t.\tgene_id "E1"; gene_name "ABC1";\n6\tx\texon\t1000\t1200\t.\t+\t.\tgene_id "E1";\n',
            "a.gtf",
        ),
        ("#!gff\n6\tx\tgene\t1000\t2000\t.\t+\t.\tID=gene:E1;Name=ABC1\n", "a.gff3"),
        ("chrom\tstart\tend\tgene\tstrand\n6\t1000\t2000\tABC1\t+\n", "a.tsv"),
    ],
)
def test_genes_are_read_from_every_table(text: str, name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    genes = read_genes(tmp_path / name, parse_region("6:1500-3000"))
    assert genes[["name", "start", "end", "strand"]].to_numpy().tolist() == [["ABC1", 1000, 2000, "+"]]
    assert read_genes(tmp_path / name, parse_region("6:2001-3000")).empty


def test_what_is_no_table_of_genes_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("x\ty\n1\t2\n", encoding="utf-8")
    with pytest.raises(InputFileError, match="it lacks contig, start, end, name"):
        read_genes(tmp_path / "a.txt", parse_region("1"))


def test_a_variant_is_found_by_any_of_its_names(store: SumstatsStore) -> None:
    row = variants().iloc[2345]
    place = f"{row['CHR']}:{row['BP']}"
    by_place = read_variant(store, place)
    for name in (row["SNP"], f"chr{place}", f"{place}:{row['A2']}:{row['A1']}"):
        assert read_variant(store, name)[0] == by_place[0]
    assert np.isfinite(inverse_variance(by_place[1]).beta[0])
    for wrong in ("rs999999999", "1:1", "9:5"):
        with pytest.raises(ParameterError, match="has no variant"):
            read_variant(store, wrong)
    with pytest.raises(ParameterError, match="names no variant"):
        read_variant(store, "gene")


def test_correlations_are_read_from_the_table_of_rg(tmp_path: Path) -> None:
    (tmp_path / "rg.tsv").write_text(
        "trait1\ttrait2\trg\trg_se\tneg_log_10_p_value\na\tb\t0.5\t0.1\t6\na\tc\tNA\tNA\tNA\n", encoding="utf-8"
    )
    found = read_correlations(tmp_path / "rg.tsv")
    assert found.names == ["a", "b", "c"]
    assert found.rg[1, 0] == found.rg[0, 1] == 0.5
    assert found.p_values[0, 1] == pytest.approx(1e-6)
    assert np.isnan(found.rg[0, 2])


def test_the_command_line_draws_everything(store: SumstatsStore, tmp_path: Path) -> None:
    path, row = store.path, variants().iloc[2345]
    (tmp_path / "rg.tsv").write_text("trait1\ttrait2\trg\trg_se\na\tb\t0.5\t0.1\n", encoding="utf-8")
    (tmp_path / "genes.bed").write_text(
        f"{row['CHR']}\t{row['BP'] - 5000}\t{row['BP'] + 5000}\tABC1\n", encoding="utf-8"
    )
    lead = f"{row['CHR']}:{row['BP']}"
    for at, words in enumerate(
        (
            ("manhattan", path, "--study", "s0"),
            ("miami", path, path, "--study", "s0", "--study", "s1"),
            ("qq", path, "--study", "s1"),
            ("forest", path, "--variant", row["SNP"]),
            ("af-af", path, "--study", "s0", "--study", "s2"),
            ("rg", tmp_path / "rg.tsv"),
            ("locus", path, "--study", "s0", "--lead", lead, "--window", "2mb", "--genes", tmp_path / "genes.bed"),
        )
    ):
        out = tmp_path / f"{at}.png"
        succeed("plot", *words, "--out", out, "--dpi", "60", "--title", "A title")
        assert out.read_bytes().startswith(_START["png"])
    for words, says in (
        (("manhattan", path, "--out", tmp_path / "x.png"), "say which study"),
        (("manhattan", path, "--study", "s0", "--out", tmp_path / "x.jpg"), "does not say its format"),
        (("locus", path, "--study", "s0", "--out", tmp_path / "x.png"), "--region"),
        (("locus", path, "--study", "s0", "--region", "9:1-5", "--out", tmp_path / "x.png"), "has no variant in"),
        (("forest", path, "--variant", "rs5", "--out", tmp_path / "x.png"), "has no variant rs5"),
        (("qq", tmp_path / "no.tsv", "--out", tmp_path / "x.png"), "does not exist"),
        (("manhattan", path, "--study", "s0", "--threshold", "7", "--out", tmp_path / "x.png"), "--threshold is 7"),
    ):
        done = run_command("plot", *words)
        assert done.code == 2
        assert says in done.err
