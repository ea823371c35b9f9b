"""Scans that are killed and continued, leads, and the lazy Dataset: one set of numbers, however they are reached."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from biolmm.association import ScanConfig, prepare_scan, run_scan
from biolmm.association import leads as leads_module
from biolmm.association import run as run_module
from biolmm.association import setup as preparation
from biolmm.association.lazy import scan_lazily
from biolmm.association.leads import find_leads, patch_leads, recompute_leads
from biolmm.association.setup import ScanSetup
from biolmm.errors import OutputError
from biolmm.results import associations
from biolmm.results.associations import read_associations, read_part
from biolmm.results.paths import part_path
from oracles.scan import as_exact, score_everything, score_tests

COLUMNS = {
    "beta": "beta", "standard_error": "standard_error", "chisq": "chisq", "neg_log_10_p_value": "neg_log_10_p_value",
    "frequency": "effect_allele_frequency",
}  # fmt: skip


@pytest.fixture(scope="module")
def setup(small) -> ScanSetup:
    return prepare_scan(small.operator.source, small.model, small.operator, ScanConfig(linear=True))


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*.parquet"))}


def test_files_hold_the_statistics(setup: ScanSetup, tmp_path: Path, markers: Path) -> None:
    summary = run_scan(setup, tmp_path, markers)
    store = setup.source.store
    found = score_everything(setup)
    for kind, folder in (("associations", "associations"), ("linear", "linear")):
        for t, trait in enumerate(setup.panel.traits):
            frame = read_associations(tmp_path, trait, kind=folder)
            for field, column in COLUMNS.items():
                np.testing.assert_array_equal(frame[column], getattr(found[kind], field)[:, t])
            assert frame["rsid"].tolist() == store.variant_id.tolist()
            assert frame["effect_allele"].tolist() == store.alt.tolist()
            assert (frame["n"] == setup.panel.n_observed[setup.panel.system_of_trait[t]]).all()
            assert frame["exact"].all() == (kind == "linear")
            assert summary.n_without_statistics[trait] == np.isnan(found[kind].chisq[:, t]).sum()
    assert (summary.n_variants, summary.n_resumed) == (store.n_variants, 0)
    assert summary.n_parts == len(setup.source.partitions) > 4


def test_linear_alone_is_written_to_associations(small, tmp_path: Path, markers: Path) -> None:
    config = ScanConfig(mixed=False, linear=True)
    run_scan(prepare_scan(small.operator.source, small.model, None, config), tmp_path, markers)
    assert not (tmp_path / "linear").exists()
    assert read_associations(tmp_path, "half")["exact"].all()


@pytest.mark.parametrize("survived", [0, 1, 17])
def test_killed_and_continued(setup: ScanSetup, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, survived: int) -> None:
    """However many files were written before the end, what is there after a second run is the same to the byte."""
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    run_scan(setup, whole, whole / "markers")
    encode_all, written = associations.encode_all, []

    def fail_at_last(*arguments: Any) -> Iterator[Any]:
        for file in encode_all(*arguments):
            with lock:
                if len(written) >= survived:
                    raise OutputError("the disk is full")
                written.append(file)
            yield file

    lock = threading.Lock()
    with monkeypatch.context() as patch:
        patch.setattr(associations, "encode_all", fail_at_last)
        with pytest.raises(OutputError, match="the disk is full"):
            run_scan(setup, broken, broken / "markers")
    finished = len(list((broken / "markers").glob("*.json"))) if (broken / "markers").exists() else 0
    assert len(contents(broken)) <= survived
    summary = run_scan(setup, broken, broken / "markers")
    assert summary.n_resumed == finished < summary.n_parts
    assert contents(broken) == contents(whole)
    assert run_scan(setup, broken, broken / "markers").n_resumed == summary.n_parts


def test_parts_whose_files_are_gone_are_done_again(
    setup: ScanSetup, tmp_path: Path, markers: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_scan(setup, tmp_path, markers)
    before = contents(tmp_path)
    (tmp_path / next(iter(before))).unlink()
    torn = sorted(markers.glob("*.json"))[-1]
    torn.write_text(torn.read_text()[:10])
    done: list[int] = []
    score = run_module.score_partition
    monkeypatch.setattr(run_module, "score_partition", lambda task, *rest: done.append(0) or score(task, *rest))
    summary = run_scan(setup, tmp_path, markers)
    assert len(done) == summary.n_parts - summary.n_resumed == 2
    assert contents(tmp_path) == before


def test_lazy_dataset_is_what_the_files_hold(setup: ScanSetup, tmp_path: Path, markers: Path) -> None:
    run_scan(setup, tmp_path, markers)
    lazy = scan_lazily(setup)
    assert lazy["traits"].values.tolist() == list(setup.panel.traits)
    for t, trait in enumerate(setup.panel.traits):
        for prefix, folder in (("", "associations"), ("linear_", "linear")):
            frame = read_associations(tmp_path, trait, kind=folder)
            for column in ("beta", "standard_error", "chisq", "neg_log_10_p_value"):
                np.testing.assert_array_equal(lazy[prefix + column].values[:, t], frame[column])
        for column in ("chromosome", "base_pair_location", "effect_allele", "other_allele", "rsid"):
            assert lazy[column].values.tolist() == frame[column].tolist()


def test_lazy_dataset_computes_the_parts_asked_for(setup: ScanSetup, monkeypatch: pytest.MonkeyPatch) -> None:
    from biolmm.association import lazy as lazy_module

    done: list[int] = []
    score = lazy_module.score_partition
    monkeypatch.setattr(lazy_module, "score_partition", lambda task, *rest: done.append(0) or score(task, *rest))
    lazy = scan_lazily(setup)
    assert not done
    lazy["chisq"].isel(variants=slice(0, 3)).compute()
    assert len(done) == 1


def test_lazy_parts_share_the_exact_solvers_matrices(small, monkeypatch: pytest.MonkeyPatch) -> None:
    """K is written out once for all parts and variables, and factorised once a trait and contig for one computation."""
    model = as_exact(small.operator, small.model)
    setup = prepare_scan(small.operator.source, model, small.operator, ScanConfig(linear=True))
    made: list[str] = []
    for name in ("DenseRelatedness", "trait_projection"):
        make = getattr(preparation, name)
        monkeypatch.setattr(preparation, name, lambda *a, name=name, make=make: made.append(name) or make(*a))
    lazy = scan_lazily(setup)
    assert not made
    computed = lazy.compute()
    factors = len(model.trait_names) * len(small.toy.store.contig_id)
    assert len(setup.source.partitions) > len(small.toy.store.contig_id)
    assert (made.count("DenseRelatedness"), made.count("trait_projection")) == (1, factors)
    np.testing.assert_array_equal(lazy["chisq"].values, computed["chisq"])
    assert made.count("DenseRelatedness") == 1
    found = score_everything(setup)
    for kind, prefix in (("associations", ""), ("linear", "linear_")):
        for name in ("beta", "standard_error", "chisq", "neg_log_10_p_value"):
            np.testing.assert_array_equal(computed[prefix + name], getattr(found[kind], name))


# Leads


@pytest.fixture(scope="module")
def with_leads(stochastic, tmp_path_factory: pytest.TempPathFactory) -> tuple[ScanSetup, Path, pd.DataFrame]:
    """Scan with a threshold that about thirty variants pass, and recompute the leads."""
    config = ScanConfig(lead_neg_log10_p=2.0, lead_window_bp=50)
    setup = prepare_scan(stochastic.operator.source, stochastic.model, stochastic.operator, config)
    out = tmp_path_factory.mktemp("leads")
    run_scan(setup, out, out / "markers")
    return setup, out, recompute_leads(setup, find_leads(setup, out))


def test_leads_are_exact(stochastic, with_leads: tuple[ScanSetup, Path, pd.DataFrame]) -> None:
    """Numerator and denominator both, to 1e-3 in χ²: against V₋c written out."""
    _, _, leads = with_leads
    toy = stochastic.toy
    assert len(leads) > 20
    assert set(leads["trait"]) == set(toy.traits.columns)
    for lead in leads.itertuples():
        row = int(np.flatnonzero(toy.store.variant_id == lead.rsid)[0])
        trait = stochastic.model.trait_names.index(lead.trait)
        V = stochastic.left_out_V(trait, int(toy.contigs[row]))
        truth = score_tests(toy.calls[[row]], V, toy.y(lead.trait), toy.design)
        assert lead.chisq == pytest.approx(truth.chisq[0], rel=1e-3)
        assert lead.standard_error == pytest.approx(truth.standard_error[0], rel=1.5e-4)
        assert lead.beta == pytest.approx(truth.beta[0], rel=1e-3)


def test_leads_are_the_best_of_their_loci(with_leads: tuple[ScanSetup, Path, pd.DataFrame]) -> None:
    setup, out, leads = with_leads
    for trait in setup.panel.traits:
        frame = read_associations(out, trait)
        mine = leads[leads["trait"] == trait]
        assert frame["chisq"].max() == mine["chisq_scan"].max()
        for lead in mine.itertuples():
            near = frame[(frame["chromosome"] == lead.chromosome)
                         & frame["base_pair_location"].between(lead.locus_start_bp, lead.locus_end_bp)]  # fmt: skip
            assert lead.chisq_scan in near["chisq"].tolist()


def test_a_trait_without_locus_has_its_best_variant(stochastic, tmp_path: Path, markers: Path) -> None:
    config = ScanConfig(lead_neg_log10_p=50.0)
    setup = prepare_scan(stochastic.operator.source, stochastic.model, stochastic.operator, config)
    run_scan(setup, tmp_path, markers)
    leads = find_leads(setup, tmp_path)
    assert leads["trait"].tolist() == list(setup.panel.traits)
    assert (leads["n_significant"] == 0).all()
    for lead in leads.itertuples():
        assert lead.chisq == read_associations(tmp_path, lead.trait)["chisq"].max()


def test_batches_of_leads_do_not_matter(
    with_leads: tuple[ScanSetup, Path, pd.DataFrame], monkeypatch: pytest.MonkeyPatch
) -> None:
    setup, out, leads = with_leads
    monkeypatch.setattr(leads_module, "BATCH", 7)
    again = recompute_leads(setup, find_leads(setup, out))
    assert again["rsid"].tolist() == leads["rsid"].tolist()
    np.testing.assert_allclose(again["chisq"], leads["chisq"], rtol=1e-4)


def test_leads_are_patched_into_the_files(with_leads: tuple[ScanSetup, Path, pd.DataFrame], tmp_path: Path) -> None:
    setup, out, leads = with_leads
    before = {trait: read_associations(out, trait) for trait in setup.panel.traits}
    patch_leads(leads, out)
    for trait, old in before.items():
        new = read_associations(out, trait)
        mine = leads[leads["trait"] == trait].set_index("rsid")
        assert set(new.loc[new["exact"], "rsid"]) == set(mine.index)
        rest = ~new["exact"]
        pd.testing.assert_frame_equal(new[rest], old[rest])
        patched = new[new["exact"]].set_index("rsid").loc[mine.index]
        for column in ("beta", "standard_error", "chisq", "neg_log_10_p_value"):
            np.testing.assert_array_equal(patched[column], mine[column])
    first = leads.iloc[0]
    part = part_path(out / "associations", first["trait"], first["chromosome"], first["part"])
    assert read_part(part).num_rows > 1


def test_the_exact_solver_has_nothing_to_recompute(small, tmp_path: Path, markers: Path) -> None:
    model = as_exact(small.operator, small.model)
    setup = prepare_scan(small.operator.source, model, small.operator, ScanConfig())
    run_scan(setup, tmp_path, markers)
    leads = find_leads(setup, tmp_path)
    pd.testing.assert_frame_equal(recompute_leads(setup, leads), leads)
    assert read_associations(tmp_path, "half")["exact"].all()
