"""Looking for damage in a whole store of summary statistics: every file is read, decoded and compared."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import google_crc32c
import numpy as np

from biolmm.errors import BiolmmError
from biolmm.store.tasks import MapTasks, call_one_by_one
from biolmm.sumstats.matrix.layout import ALLELE, CATALOGUE, CELLS, STATUS, catalogue_path, cell_path
from biolmm.sumstats.matrix.read import SumstatsStore
from biolmm.sumstats.matrix.stretches import read_variants
from biolmm.sumstats.status import LEFT_OUT, Status


@dataclass(frozen=True)
class Report:
    """What was read, and everything that is wrong, one line each."""

    path: Path
    n_files: int
    n_bytes: int
    damages: tuple[str, ...]

    @property
    def is_intact(self) -> bool:
        """Whether nothing is wrong."""
        return not self.damages


def verify(path: Path | str, *, map_tasks: MapTasks = call_one_by_one) -> Report:
    """Read a store from end to end and list all of its damage.

    Every chunk is compared with its checksum and decoded; places must ascend, alleles differ, cells agree with their
    status. Files that do not belong are named.

    Raises
    ------
    InputFileError, StoreFormatError, DamagedStoreError
        When there is no store, or its attributes or checksums cannot be read.

    Notes
    -----
    **Cost**: one pass over the store; memory of one chunk a task.
    """
    store = SumstatsStore.open(path)
    found = {str(file.relative_to(store.path)): file.stat().st_size for file in store.path.rglob("*") if file.is_file()}
    expected = {"zarr.json", *store.attributes["checksums"]}
    damages = []
    for name, crc in store.attributes["checksums"].items():
        if name not in found:
            damages.append(f"{name} is missing")
        elif google_crc32c.value((store.path / name).read_bytes()) != crc:
            damages.append(f"{name} has changed since it was written")
    if not damages:
        expected |= _chunk_files(store)
        checked = map_tasks(_check_chunk, range(store.n_chunks), store)
        damages += [damage for each in checked for damage in each]
        damages += [f"{name} does not belong to the store" for name in sorted(found.keys() - expected)]
    metadata = json.loads((store.path / "zarr.json").read_text(encoding="utf-8"))
    if metadata.get("zarr_format") != 3 or metadata.get("node_type") != "group":
        damages.append("zarr.json is not that of a Zarr v3 group")
    return Report(store.path, len(found), sum(found.values()), tuple(damages))


def _chunk_files(store: SumstatsStore) -> set[str]:
    files = {catalogue_path(name, chunk) for name in CATALOGUE for chunk in range(store.n_chunks)}
    for name in CELLS:
        for chunk in range(store.n_chunks):
            files |= {cell_path(name, chunk, s) for s in range(store.n_studies) if store.chunk_crc32c(name, chunk, s)}
    return files


def _check_chunk(chunk: int, store: SumstatsStore) -> list[str]:
    damages = []
    try:
        variants = read_variants(store, chunk)
        ascending = variants.place[1:] >= variants.place[:-1]
        tied = variants.place[1:] == variants.place[:-1]
        same = (variants.key[1:] == variants.key[:-1]) & (variants.way[1:] == variants.way[:-1])
        if not ascending.all():
            damages.append(f"{catalogue_path('variant_position', chunk)}: positions do not ascend")
        if (tied & same).any():
            damages.append(f"{catalogue_path(ALLELE, chunk)}: a variant is there twice")
        if int(variants.place[0]) != int(store.first_places[chunk]):
            damages.append(f"{catalogue_path('variant_position', chunk)}: does not begin where the store says")
    except (BiolmmError, ValueError, RuntimeError, IndexError) as error:
        damages.append(_shortened(store, error))
    for study in range(store.n_studies):
        try:
            cells = {name: store.read_cells(name, chunk, study) for name in CELLS}
        except (BiolmmError, ValueError, RuntimeError) as error:
            damages.append(_shortened(store, error))
            continue
        present = (cells[STATUS] & Status.PRESENT.value) > 0
        if (present & ((cells[STATUS] & LEFT_OUT.value) > 0)).any() or np.isnan(cells["beta"][present]).any():
            damages.append(f"{cell_path(STATUS, chunk, study)}: does not agree with beta")
        if (~np.isnan(cells["beta"][~present])).any():
            damages.append(f"{cell_path('beta', chunk, study)}: has effects where status has no record")
    return damages


def _shortened(store: SumstatsStore, error: Exception) -> str:
    return str(error).removeprefix(f"{store.path} is damaged: ").split(" Restore it from a backup")[0].rstrip(". ")
