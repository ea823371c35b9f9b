"""What a release takes over and what it computes: equal to the command itself, and in fewer passes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from biolmm.results.associations import read_associations
from biolmm.results.paths import list_parts
from biolmm.results.tables import read_result_table
from reanalysis.conftest import N_SAMPLES, N_VARIANTS, World, stages, statuses
from running import same_statistics, succeed

FAST = {"method": "linear-only"}
INVARIANT = 1e-5
"""How far other traits in a run may move one's results: that of `tests/reml/test_fit.py`."""


def parts(release: Path, trait: str) -> dict[str, Path]:
    """Return a trait's files by their names."""
    return {str(path.relative_to(release)): path for _, _, path in list_parts(release, trait)}


def same_trait(one: Path, other: Path, trait: str) -> bool:
    """Whether a trait's files are the same, bit by bit, and its rows of the tables."""
    mine, theirs = parts(one, trait), parts(other, trait)
    if {n: p.read_bytes() for n, p in mine.items()} != {n: p.read_bytes() for n, p in theirs.items()}:
        return False
    rows = [[line for line in (folder / f"{table}.tsv").read_text().splitlines() if line.startswith(f"{trait}\t")]
            for table in ("h2", "leads", "gamma", "loco") for folder in (one, other)]  # fmt: skip
    return bool(mine) and rows[::2] == rows[1::2] and bool(rows[0])


def check_close(one: Path, other: Path, trait: str) -> None:
    """Compare h² and statistics of a trait within what other traits in the run may change."""
    a, b = (read_result_table(folder, "h2").set_index("trait").loc[trait] for folder in (one, other))
    assert a["h2"] == pytest.approx(b["h2"], rel=INVARIANT, abs=INVARIANT)
    x, y = (read_associations(folder, trait) for folder in (one, other))
    assert x["variant_id"].tolist() == y["variant_id"].tolist()
    z = [frame["beta"] / frame["standard_error"] for frame in (x, y)]
    np.testing.assert_allclose(z[0], z[1], rtol=10 * INVARIANT, atol=10 * INVARIANT)


def check_reuse(release: Path, trait: str, fresh_passes: int) -> None:
    """Check that one new trait took its own steps, more of the known probes at most, and fewer passes than without a spectrum."""
    steps = json.loads((release / "run.json").read_text())["traits"][trait]["lanczos_steps"]
    assert steps <= stages(release)["fit (new and changed traits)"]["passes"] < fresh_passes


def test_the_first_release_is_the_command_itself(later: World) -> None:
    release = later.out / "r1"
    fresh = later.fresh("fresh", "--solver", "stochastic")
    assert same_statistics(release, fresh)
    for table in ("h2", "leads", "gamma", "loco", "eigen", "pcs"):
        assert (release / f"{table}.tsv").read_bytes() == (fresh / f"{table}.tsv").read_bytes()
    assert (release / "report.html").is_file()
    assert (later.out / "latest").resolve() == release
    assert statuses(release) == {"a": "computed", "b": "computed"}
    # The release is a results folder like any other.
    assert json.loads((release / "run.json").read_text())["finished"]


def test_unchanged_inputs_write_nothing(later: World) -> None:
    def content() -> dict[Path, int]:
        return {path: path.stat().st_mtime_ns for path in later.out.rglob("*") if path.name != ".reanalysis.lock"}

    before = content()
    # Tables in another order and spelling, and with a person without genotypes, are the same data.
    traits = later.traits[::-1]
    traits.loc["stranger"] = 1.0
    later.write(traits)
    for name in ("r1", "r2", "date", "fingerprint"):
        done = later.call(name, solver="stochastic")
        assert (done.code, done.out.splitlines()[0]) == (0, "nothing to do: nothing has changed since release r1")
    assert content() == before


def test_new_traits_reuse_the_spectrum_and_leave_the_others_alone(later: World) -> None:
    added = pd.read_csv(later.folder / "later.tsv", sep="\t", index_col="IID")
    holes = added["trait4"].where(np.arange(len(added)) % 7 > 0)
    later.write(later.traits.assign(c=added["trait3"], d=holes))
    release, first = later.run("r2", solver="stochastic"), later.out / "r1"
    assert statuses(release) == {"a": "taken over", "b": "taken over", "c": "computed", "d": "computed"}
    for trait in ("a", "b"):
        assert same_trait(release, first, trait)
        piece = later.out / next(records(release))["scans"]
        assert all(path.samefile(parts(piece, trait)[name]) for name, path in parts(release, trait).items())
    fresh = later.fresh("fresh", "--solver", "stochastic")
    for trait in ("c", "d"):
        check_close(release, fresh, trait)
    now, then = stages(release), stages(fresh)
    assert 0 < now["fit (new and changed traits)"]["passes"] < then["fit"]["passes"]
    assert set(now) == {f"{name} (new and changed traits)" for name in ("fit", "loco", "gamma", "scan", "leads")}
    text = (release / "changes.md").read_text()
    assert "2 traits taken over, 2 traits added" in text

    # A trait of everybody costs no pass for eigenpairs.
    later.write(later.traits.assign(e=added["trait4"]))
    third = later.run("r3", solver="stochastic")
    check_reuse(third, "e", then["fit"]["passes"])
    assert same_trait(third, release, "c")
    assert len({record["model"] for record in records(third)}) == 3


def records(release: Path) -> Iterator[dict[str, str]]:
    """Return the rows of `traits.tsv`."""
    yield from pd.read_csv(release / "traits.tsv", sep="\t").to_dict("records")


def test_a_changed_trait_is_computed_and_a_dropped_one_reported(later: World) -> None:
    traits = later.traits
    traits.loc[traits.index[:4], "b"] = [0.5, np.nan, 0.1, 0.2]
    later.write(traits)
    release = later.run("r2", solver="stochastic")
    assert statuses(release) == {"a": "taken over", "b": "computed"}
    (why,) = [row["why"] for row in records(release) if row["trait"] == "b"]
    assert why.startswith("values of people: ")
    assert same_trait(release, later.out / "r1", "a")
    later.write(traits[["b"]])
    dropped = later.run("r3", solver="stochastic")
    assert same_trait(dropped, release, "b")
    table = pd.read_csv(dropped / "changes" / "traits.tsv", sep="\t").set_index("trait")
    assert table["status"].to_dict() == {"b": "taken over", "a": "removed"}


def test_appended_variants_are_scanned_with_the_model_as_it_was(later: World) -> None:
    first = later.out / "r1"
    later.append()
    release = later.run("r2", solver="stochastic")
    assert statuses(release) == {"a": "extended", "b": "extended"}
    for trait in ("a", "b"):
        before, now = parts(first, trait), parts(release, trait)
        assert all(path.read_bytes() == now[name].read_bytes() for name, path in before.items())
        assert sorted({name.split("/")[2] for name in set(now) - set(before)}) == ["contig=3"]
    assert (release / "h2.tsv").read_bytes() == (first / "h2.tsv").read_bytes()
    assert (release / "gamma.tsv").read_bytes() == (first / "gamma.tsv").read_bytes()
    # γ and model are known: one pass for the eigenvalues of left-out contigs, and the new variants.
    now = stages(release)
    assert not {name for name in now if name.startswith(("fit", "loco"))}
    assert now["gamma (appended variants)"]["passes"] == 1
    counts = json.loads((release / "run.json").read_text())["counts"]["variants"]
    assert counts["genotypes"] == counts["scanned"] == N_VARIANTS
    n_new = len((later.folder / "more.bim").read_text().splitlines())
    table = pd.read_csv(release / "changes" / "counts.tsv", sep="\t").set_index("what")
    assert table.loc["variants of contig 3", "added"] == n_new

    # The same model on all variants: what it finds on the new ones is the same but for γ, which is measured on others.
    whole = later.folder / "whole"
    piece = next(records(first))["model"]
    succeed("scan", "--genotypes", later.folder / "cohort.zarr", "--model", later.out / piece, "--out", whole)
    for trait in ("a", "b"):
        x, y = (read_associations(folder, trait, "3") for folder in (release, whole))
        assert x["variant_id"].tolist() == y["variant_id"].tolist()
        scanned = ~(x["exact"] | y["exact"])  # leads have predictors of their own
        one, other = (frame.loc[scanned, "beta"] / frame.loc[scanned, "standard_error"] ** 2 for frame in (x, y))
        np.testing.assert_allclose(one, other, rtol=INVARIANT, atol=INVARIANT * np.abs(other).max())
        assert scanned.sum() > n_new - 10

    # A trait that comes later is fitted on the same variants, with the same spectrum.
    later.write(later.traits.assign(c=pd.read_csv(later.folder / "later.tsv", sep="\t", index_col="IID")["trait3"]))
    third = later.run("r3", solver="stochastic")
    assert statuses(third) == {"a": "taken over", "b": "taken over", "c": "computed"}
    check_reuse(third, "c", stages(first)["fit (everything)"]["passes"])
    assert len(read_associations(third, "c")) == N_VARIANTS


def test_with_the_exact_solver_appended_variants_equal_a_run_on_everything(world: World) -> None:
    """The exact solver has no γ: the model of the first variants gives the same numbers in one go or in two."""
    world.run("r1", solver="exact")
    world.append()
    release = world.run("r2", solver="exact")
    fresh = world.fresh("fresh", "--solver", "exact", "--model-genotypes", world.folder / "first.bed")
    for trait in ("a", "b"):
        check_close(release, fresh, trait)
    leads = [read_result_table(folder, "leads")[["trait", "rsid", "n_significant"]] for folder in (release, fresh)]
    assert len(leads[0])
    pd.testing.assert_frame_equal(*leads)


def test_the_model_is_made_anew_when_the_plan_says_so(world: World) -> None:
    world.run("r1", **FAST)
    world.append()
    release = world.run("r2", head=("model: refresh",), **FAST)
    assert set(statuses(release).values()) == {"computed"}
    assert same_statistics(release, world.fresh("fresh", *cli(FAST)))
    assert "variants appended to the model" in (release / "changes.md").read_text()


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ("age", "covariate age changed for 12 people."),
        ("people", "3 people added; 5 people removed."),
        ("covariate", "covariates added: sex."),
        ("setting", "cohort.transform: none → rint."),
        ("command", "fit → gwas; method: mixed → linear-only; "),
    ],
)
def test_what_concerns_every_trait_computes_everything_and_says_why(world: World, change: str, why: str) -> None:
    covariates = world.covariates
    if change == "people":
        world.write(covariates.iloc[3:], "covariates")
    if change == "command":
        world.run("r1", command="fit", solver="exact")
    else:
        world.run("r1", **FAST)
    options = FAST
    if change == "age":
        covariates.iloc[:12, 0] += 1
    elif change == "people":
        covariates = covariates.iloc[:-5]
    elif change == "covariate":
        covariates["sex"] = np.arange(len(covariates)) % 2
    elif change == "setting":
        options = FAST | {"transform": "rint"}
    world.write(covariates, "covariates")
    release = world.run("r2", **options)
    assert set(statuses(release).values()) == {"computed"}
    text = (release / "changes.md").read_text()
    assert f"Everything was computed: {why}" in text
    assert same_statistics(release, world.fresh("fresh", *cli(options)))


def cli(options: dict[str, str]) -> list[str]:
    """Write options as they are typed."""
    return [word for name, value in options.items() for word in (f"--{name}", value)]


def test_files_are_converted_once(world: World) -> None:
    world.run("r1", genotypes="first.bed", **FAST)
    world.write(world.traits.assign(c=np.arange(float(N_SAMPLES))))
    release = world.run("r2", genotypes="first.bed", **FAST)
    assert statuses(release) == {"a": "taken over", "b": "taken over", "c": "computed"}
    assert len(list(world.out.glob("pieces/*/genotypes.zarr"))) == 1
    x, y = (read_associations(folder, "c") for folder in (release, world.fresh("fresh", *cli(FAST))))
    pd.testing.assert_frame_equal(x, y, rtol=INVARIANT, atol=INVARIANT)


def test_components_are_computed_once(world: World) -> None:
    world.run("r1", solver="stochastic", pcs=2)
    world.write(world.traits.assign(c=pd.read_csv(world.folder / "later.tsv", sep="\t", index_col="IID")["trait3"]))
    release = world.run("r2", solver="stochastic", pcs=2)
    assert stages(release)["principal components (new and changed traits)"]["passes"] == 0
    check_reuse(release, "c", stages(world.out / "r1")["fit (everything)"]["passes"])
    assert (release / "pcs.tsv").read_bytes() == (world.out / "r1" / "pcs.tsv").read_bytes()


def test_fits_without_a_scan(world: World) -> None:
    first = world.run("r1", command="fit", solver="exact")
    fresh = world.fresh("fresh", "--solver", "exact", command="fit")
    assert (first / "h2.tsv").read_bytes() == (fresh / "h2.tsv").read_bytes()
    assert not (first / "associations").exists()
    traits = world.traits
    traits.iloc[0, 0] += 0.5
    world.write(traits)
    release = world.run("r2", command="fit", solver="exact")
    assert statuses(release) == {"a": "computed", "b": "taken over"}
    table = pd.read_csv(release / "changes" / "h2.tsv", sep="\t").set_index("trait")
    assert table.loc["b", "verdict"] == "unchanged"
    assert table.loc["a", "expected_sd"] == 0  # the same people: only the value that changed can move it
    assert table.loc["a", "verdict"] == "more than new people explain"


def test_other_genotypes_are_scanned_with_the_model_as_it_was(world: World) -> None:
    """An array makes the model, and imputed genotypes of the same people are replaced."""
    succeed("convert", world.folder / "more.bed", world.folder / "imputed.zarr")
    world.run("r1", genotypes="first.bed", model_genotypes="cohort.zarr", solver="stochastic")
    release = world.run("r2", genotypes="imputed.zarr", model_genotypes="cohort.zarr", solver="stochastic")
    assert set(statuses(release).values()) == {"computed"}
    assert not {name for name in stages(release) if name.startswith(("fit", "loco"))}
    piece = world.out / next(records(release))["model"]
    succeed("scan", "--genotypes", world.folder / "imputed.zarr", "--model", piece, "--out", world.folder / "scan")
    assert same_statistics(release, world.folder / "scan")
    assert (release / "h2.tsv").read_bytes() == (world.out / "r1" / "h2.tsv").read_bytes()


@pytest.mark.parametrize("method", ["linear-only", "exact-p3d"])
def test_methods_without_a_model_to_keep_scan_only_what_is_new(world: World, method: str) -> None:
    options = {"method": method, "model_exclude_region": "'3'"}  # so that the model of all is that of the first
    world.run("r1", **options)
    world.append()
    release = world.run("r2", **options)
    assert set(statuses(release).values()) == {"extended"}
    assert {name for name in stages(release) if "scan" in name} <= {
        "scan (appended variants)",
        "exact scan (appended variants)",
    }
    fresh = world.fresh("fresh", "--method", method, "--model-exclude-region", "3")
    for trait in ("a", "b"):
        x, y = (read_associations(folder, trait) for folder in (release, fresh))
        pd.testing.assert_frame_equal(x, y, rtol=INVARIANT, atol=INVARIANT)


def test_text_files_of_unchanged_traits_are_linked(world: World) -> None:
    options = FAST | {"format": "[parquet, ssf]", "covariate": "age"}
    first = world.run("r1", **options)
    world.write(world.covariates.assign(note="x"), "covariates")  # a column that is not used
    world.write(world.traits.assign(c=np.arange(float(N_SAMPLES))))
    release = world.run("r2", **options)
    assert sorted(path.name for path in (release / "ssf").glob("*.gz")) == ["a.tsv.gz", "b.tsv.gz", "c.tsv.gz"]
    assert (release / "ssf" / "a.tsv.gz").samefile(first / "ssf" / "a.tsv.gz")
