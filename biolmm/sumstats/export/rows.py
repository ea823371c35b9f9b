"""What is exported, part by part in genome order: a study of a store, a trait of a results folder, or a table."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from biolmm.errors import InputFileError, ParameterError, named
from biolmm.results.associations import read_part
from biolmm.results.diagnostics import neg_log10_p
from biolmm.results.paths import ASSOCIATIONS, list_parts, list_traits
from biolmm.sumstats.analysis.parts import list_parts as list_meta_parts
from biolmm.sumstats.analysis.parts import read_part as read_meta_part
from biolmm.sumstats.export.spelling import rsids, spell_alleles
from biolmm.sumstats.export.tables import read_table
from biolmm.sumstats.matrix.read import SumstatsStore
from biolmm.sumstats.status import Status

COLUMNS = (
    "chromosome", "base_pair_location", "effect_allele", "other_allele", "beta", "standard_error",
    "effect_allele_frequency", "neg_log_10_p_value", "variant_id", "rsid", "n", "info",
)  # fmt: skip
"""Columns of every part; those of other names, such as heterogeneity, come behind."""

META = "meta"
"""Name of the one result of a meta-analysis."""

Parts = Iterator[tuple[str, pd.DataFrame]]


@dataclass(frozen=True)
class Origin:
    """What is exported: one study or trait of a place.

    Attributes
    ----------
    path
        A store, a folder of results, or a file.
    name
        The study or trait.
    kind
        `store`, `results` (of a scan), `meta` (of a meta-analysis) or `table`.
    left_out
        Lines of a table that are no variants to show, by reason, after its parts were read.
    """

    path: Path
    name: str
    kind: str
    left_out: Counter[str] = field(default_factory=Counter, compare=False, repr=False)

    def parts(self) -> Parts:
        """Read contig and rows, in the order of the place."""
        if self.kind == "store":
            return _store_parts(SumstatsStore.open(self.path), self.name)
        if self.kind == "meta":
            return _meta_parts(self.path)
        if self.kind == "results":
            return _result_parts(self.path, self.name)
        return _table_parts(self.path, self.left_out)

    def build(self) -> str | None:
        """Give the genome build, where the place says it."""
        return SumstatsStore.open(self.path).build if self.kind == "store" else None


def find_origin(path: Path, name: str | None = None) -> Origin:
    """Find out what a path holds.

    Raises
    ------
    InputFileError
        When there is nothing there.
    ParameterError
        When there are several studies or traits and none was named, or there is none of this name.
    """
    if (path / "zarr.json").exists():
        names: tuple[str, ...] | list[str] = SumstatsStore.open(path).study_id
        return Origin(path, _choose(path, names, name, "study"), "store")
    if path.is_dir() and list_meta_parts(path):
        return Origin(path, _choose(path, [META], name, "trait"), "meta")
    if path.is_dir():
        names = list_traits(path)
        if not names:
            raise InputFileError(f"{path / ASSOCIATIONS} holds no results: is {path} a directory written by biolmm?")
        return Origin(path, _choose(path, names, name, "trait"), "results")
    if not path.exists():
        raise InputFileError(f"{path} does not exist.")
    stem = path.name
    for ending in (".gz", ".bgz", ".zst", ".tsv", ".txt", ".csv", ".parquet", ".TBL"):
        stem = stem.removesuffix(ending)
    return Origin(path, name or stem, "table")


def _choose(path: Path, names: tuple[str, ...] | list[str], name: str | None, what: str) -> str:
    if name is None and len(names) == 1:
        return names[0]
    if name is None:
        raise ParameterError(f"{path} holds {len(names)} ({named(names)}): say which {what} with --{what}.")
    if name not in names:
        raise ParameterError(f"{path} has no {what} {name!r}; it has {named(names)}.")
    return name


def _store_parts(store: SumstatsStore, name: str) -> Parts:
    study = store.find_studies([name])[0]
    names = store.contig_id
    for chunk in range(store.n_chunks):
        status = store.read_cells("status", chunk, study)
        rows = np.flatnonzero(status & Status.PRESENT.value)
        if not rows.size:
            continue
        cells = {each: store.read_cells(each, chunk, study)[rows].astype(np.float64)
                 for each in ("beta", "se", "eaf", "info", "n", "neg_log10_p")}  # fmt: skip
        contig, position = (store.read_column(each, chunk)[rows] for each in ("variant_contig", "variant_position"))
        alleles = store.read_alleles(chunk).take(rows)
        tail = np.where(np.isnan(cells["neg_log10_p"]), neg_log10_p(cells["beta"] / cells["se"]), cells["neg_log10_p"])
        frame = pd.DataFrame({
            "chromosome": np.array(names, dtype=object)[contig], "base_pair_location": position,
            "effect_allele": spell_alleles(alleles, 1), "other_allele": spell_alleles(alleles, 0),
            "beta": cells["beta"], "standard_error": cells["se"], "effect_allele_frequency": cells["eaf"],
            "neg_log_10_p_value": tail, "rsid": rsids(store.read_column("variant_rsid", chunk)[rows]),
            "n": pd.array(np.round(cells["n"]), dtype="Int64"), "info": cells["info"],
        })  # fmt: skip
        yield from _by_contig(frame)


def _by_contig(frame: pd.DataFrame) -> Parts:
    """Cut where the contig changes, and name variants."""
    frame = frame.copy()
    for name in COLUMNS:
        if name not in frame and name != "variant_id":
            frame[name] = None if name == "rsid" else np.nan
    if "variant_id" not in frame:
        joined = frame["chromosome"].astype(str)
        for name in ("base_pair_location", "other_allele", "effect_allele"):
            joined = joined + "_" + frame[name].astype(str)
        frame["variant_id"] = joined
    frame = frame[[*COLUMNS, *(str(name) for name in frame.columns if name not in COLUMNS)]]
    change = np.flatnonzero(frame["chromosome"].to_numpy()[1:] != frame["chromosome"].to_numpy()[:-1]) + 1
    bounds = [0, *change.tolist(), len(frame)]
    for start, stop in itertools.pairwise(bounds):
        if start < stop:
            part = frame.iloc[start:stop].reset_index(drop=True)
            yield str(part["chromosome"].iloc[0]), part


def _result_parts(path: Path, trait: str) -> Parts:
    for _, contig, part in list_parts(path, trait):
        frame = read_part(part).to_pandas()
        lacking = [name for name in COLUMNS[:4] if name not in frame]
        if lacking:
            raise InputFileError(f"{part} has no column {named(lacking)}: these are not results of associations.")
        frame["chromosome"] = contig
        yield from _by_contig(frame)


def _meta_parts(path: Path) -> Parts:
    for part in list_meta_parts(path):
        yield from _by_contig(read_meta_part(part).to_pandas())


def _table_parts(path: Path, left_out: Counter[str]) -> Parts:
    for frame in read_table(path, left_out):
        yield from _by_contig(frame)
