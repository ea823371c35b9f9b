"""The lists that pruning writes: what is left out before, and that ids tell variants apart."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from biolmm.errors import OutputError, ParameterError, VariantMismatchError
from biolmm.files.encoding import Encoding, rows_from_calls
from biolmm.files.lists import read_variant_list
from biolmm.ld import PruneConfig, PruneRequest, Window, prune, prune_to_files
from biolmm.ld.lists import eligible_variants
from oracles.pruning import MemoryData, linked_calls

CONTIGS = ("6", "8", "X", "MT", "0")


@pytest.fixture
def data() -> MemoryData:
    """Forty variants on each of five contigs, a megabase apart: with the MHC, X and its ends, MT and unplaced ones."""
    calls = linked_calls(np.random.default_rng(8), 200, 60, likeness=0.95)
    contig = np.repeat(np.arange(5, dtype=np.int32), 40)
    position = np.tile(np.arange(40) * 1_000_000 + 500_000, 5)
    return MemoryData(rows_from_calls(calls, Encoding.CALLS), 60, Encoding.CALLS, CONTIGS, contig, position)


def test_lists_are_what_prune_keeps(tmp_path: Path, data: MemoryData) -> None:
    config = PruneConfig(Window(10), 1, 0.3)
    request = PruneRequest(
        tmp_path / "deep" / "cohort.v2", config, exclude_regions=("mhc", "8:10-20mb"), build="GRCh38"
    )
    found = prune_to_files(data, request)
    place = data.variant_position / 1e6
    contig = np.array(CONTIGS)[data.variant_contig]
    autosomes = np.isin(contig, ["6", "8"])
    outside = ~((contig == "6") & (place >= 25) & (place <= 34)) & ~((contig == "8") & (place >= 10) & (place <= 20))
    par = (contig == "X") & (place < 2.78)
    kept = prune(data, config, variants=np.flatnonzero(autosomes & outside | par))
    assert found.kept_file == tmp_path / "deep" / "cohort.v2.prune.in"
    assert found.removed_file == tmp_path / "deep" / "cohort.v2.prune.out"
    assert read_variant_list(found.kept_file) == tuple(data.variant_id[kept])
    assert read_variant_list(found.removed_file) == tuple(data.variant_id[~kept])
    assert (found.not_chosen, found.not_diploid, found.in_regions) == (0, 120 - 3, 9 + 10)
    assert found.kept == kept.sum() > 0
    assert found.kept + found.pruned + found.not_diploid + found.in_regions == 200


def test_what_was_not_chosen_is_in_the_list_of_what_goes(tmp_path: Path, data: MemoryData) -> None:
    found = prune_to_files(data, PruneRequest(tmp_path / "c"), samples=np.arange(30), variants=np.arange(0, 80, 2))
    assert (found.not_chosen, found.not_diploid, found.in_regions) == (160, 0, 0)
    assert set(read_variant_list(found.kept_file)) <= {f"v{i}" for i in range(0, 80, 2)}
    assert len(read_variant_list(found.removed_file)) == 200 - found.kept


def test_regions_from_a_file(tmp_path: Path, data: MemoryData) -> None:
    (tmp_path / "regions.bed").write_text("chr6\t0\t1000000000\n")
    chosen, left_out = eligible_variants(data, exclude_regions=[str(tmp_path / "regions.bed")])
    assert chosen.tolist() == list(range(40, 80))
    assert left_out == {"not_chosen": 0, "not_diploid": 120, "in_regions": 40}


def test_mistakes_are_one_line(tmp_path: Path, data: MemoryData) -> None:
    request = PruneRequest(tmp_path / "c")
    for regions, build, message in ((("mhc",), None, "--build"), (("mhc",), "hg17", "'hg17'")):
        with pytest.raises(ParameterError, match=message):
            prune_to_files(data, replace(request, exclude_regions=regions, build=build))
    with pytest.raises(
        VariantMismatchError, match=r"left to prune: of 200, 0 not chosen, 120 not diploid, 80 in regions"
    ):
        prune_to_files(data, replace(request, exclude_regions=("6", "8")))
    with pytest.raises(OutputError):
        (tmp_path / "file").write_text("")
        prune_to_files(data, PruneRequest(tmp_path / "file" / "c"))


def test_ids_must_tell_variants_apart(tmp_path: Path, data: MemoryData) -> None:
    """An id that several variants share is refused where one of them is kept, since its list would mean them all."""
    request = PruneRequest(tmp_path / "c", PruneConfig(Window(10), 1, 0.3))
    kept = prune(data, request.config, variants=np.arange(80))
    first, others = int(np.flatnonzero(kept)[0]), np.flatnonzero(~kept)[:2]
    names = data.variant_id.tolist()
    names[others[0]] = names[others[1]] = "."
    assert prune_to_files(replace(data, ids=tuple(names)), request).kept == kept.sum()
    names[first] = "."
    with pytest.raises(VariantMismatchError, match=r"memory.zarr names 1 variant ids more than once: \.\. "):
        prune_to_files(replace(data, ids=tuple(names)), request)
