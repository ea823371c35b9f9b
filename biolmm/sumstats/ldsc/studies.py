"""Studies of a store of summary statistics, and tables of every layout that `biolmm sumstats add` reads, for LD scores."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from biolmm.chunks import map_tasks
from biolmm.errors import InputFileError, VariantMismatchError
from biolmm.files.text_columns import header_of
from biolmm.sumstats.ingest.alleles import BASES, LONG, Alleles, allele_keys, are_valid, copy_texts
from biolmm.sumstats.ingest.effects import read_statistics
from biolmm.sumstats.ingest.fields import Fields
from biolmm.sumstats.ingest.options import Rules, StudyInput
from biolmm.sumstats.ingest.records import Reader
from biolmm.sumstats.ingest.roles import find_layout
from biolmm.sumstats.ingest.sources import ParquetSource, StudySource, open_study
from biolmm.sumstats.ldsc.match import NOWHERE, MatchBy, Rows, Wanted, choose_rows
from biolmm.sumstats.ldsc.munge import MungeConfig, TraitStatistics, munge
from biolmm.sumstats.matrix.read import SumstatsStore
from biolmm.sumstats.meta.tails import z_from_neg_log10_p
from biolmm.sumstats.places import Contigs, Places, make_places, position_of, rank_of
from biolmm.sumstats.status import Status

Vector = NDArray[np.float64]

_LETTERS = pa.array([*BASES.decode(), "", ""])
META_JSON = "meta.json"
"""What `biolmm meta` writes beside its parts."""

_NO_IDS = (np.array([-1], np.int64), np.array([0], np.uint64))


@dataclass(frozen=True)
class StudyConfig:
    """How tables and stores are read.

    Attributes
    ----------
    columns
        Roles of columns by name, for what the header dictionary does not know.
    bim
        The .bim of a table that names the effect allele only.
    match_by
        Find the variants of LD scores by identifier, by position and alleles, or by what finds more.
    """

    columns: Mapping[str, str] = field(default_factory=dict)
    bim: Path | None = None
    match_by: MatchBy = "auto"


def is_sumstats_store(path: Path) -> bool:
    """Whether a path is a folder that `biolmm sumstats add` may have made."""
    return (path / "zarr.json").is_file()


def read_store(
    path: Path,
    config: MungeConfig,
    wanted: Wanted | None = None,
    *,
    studies: Sequence[str] = (),
    match_by: MatchBy = "auto",
    snp_list: TraitStatistics | None = None,
) -> list[TraitStatistics]:
    """Munge the studies of a store of summary statistics.

    Parameters
    ----------
    path
        The store.
    config, snp_list
        As in `munge`.
    wanted
        Variants of the LD scores, whose identifiers are taken; None: all, as `rs123` or `contig:position:REF:ALT`.
    studies
        Names; all by default.
    match_by
        As `StudyConfig`.

    Returns
    -------
    list of TraitStatistics
        A study each; ALT is the effect allele. z is β/SE, or of −log₁₀ p and the direction where there is no standard error.

    Raises
    ------
    ParameterError
        When there is no such study.
    VariantMismatchError
        When no variant is found, or none of a study can be used.
    DamagedStoreError
        When the store is damaged.

    Notes
    -----
    **Cost** one read of the catalogue, and of six arrays of each study, in the chunks that have a variant; memory of the
    variants that are found, a study at a time.
    """
    store = SumstatsStore.open(path)
    columns = store.find_studies(list(studies) or None)
    catalogue = map_tasks(_read_catalogue, range(store.n_chunks), (store, wanted))
    rows = [each.rows_by_id for each in catalogue]
    if wanted is not None:
        by_id, by_place = (
            np.concatenate([getattr(each, n) for each in catalogue]) for n in ("rows_by_id", "rows_by_place")
        )
        chosen = choose_rows(by_id, by_place, wanted, match_by)
        rows = np.split(chosen, np.cumsum([len(each.rows_by_id) for each in catalogue])[:-1])
        if not (chosen >= 0).any():
            raise VariantMismatchError(
                f"{path}: none of its {store.n_variants:,} variants is among the {len(wanted.snp):,} of the LD scores, neither "
                "by rs number nor by position and alleles. Are they of another build or species?"
            )
    kept = [np.flatnonzero(each >= 0) for each in rows]
    parts = [part.take(index) for part, index in zip(catalogue, kept, strict=True)]
    if wanted is None:
        ids = pa.concat_arrays([_names(store, part) for part in parts])
    else:
        ids = wanted.snp.take(pa.array(np.concatenate([r[k] for r, k in zip(rows, kept, strict=True)])))
    codes = np.concatenate([part.codes for part in parts])
    out = []
    for column in columns:
        cells = map_tasks(
            _read_cells, [(chunk, each[0]) for chunk, each in enumerate(zip(kept)) if len(each[0])], (store, column)
        )
        statistics = [np.concatenate(each) for each in zip(*cells, strict=True)]
        table = _table(ids, codes, *statistics[:-1])
        there = statistics[-1] != 0
        name = store.study_id[column]
        source = f"'{path}', study {name}"
        table = table.filter(pa.array(there))
        out.append(munge(table, _own_sizes(config, table), name=name, source=source, snp_list=snp_list))
    return out


def read_study(path: Path, config: MungeConfig, wanted: Wanted | None = None, how: StudyConfig | None = None, *,
               name: str = "", snp_list: TraitStatistics | None = None) -> TraitStatistics:  # fmt: skip
    """Munge a table of a known layout, a GWAS-VCF, or the results of `biolmm meta`; parameters as of `read_store`.

    Raises
    ------
    InputFileError
        When the file is malformed, what is needed is not there, or columns are not what their names say.
    VariantMismatchError
        When no record can be used.

    Notes
    -----
    **Cost** one read, in blocks; memory of the records that are kept.
    """
    how = how or StudyConfig()
    source = open_source(path, how)
    study = StudyInput(path, name=name, columns=how.columns, n=config.n, bim=how.bim)
    reader = Reader(study, Rules(palindromic="trust", exact=True), source.layout,
                    Contigs() if wanted is None else wanted.contigs, _NO_IDS)  # fmt: skip
    parts = [_read_block(fields, reader, wanted) for fields in source.blocks()]
    reader.ranges.check(str(path))
    if not parts:
        raise InputFileError(f"'{path}' has a header but no variants below it.")
    by_id, by_place = (np.concatenate([getattr(part, each) for part in parts]) for each in ("by_id", "by_place"))
    rows = by_id if wanted is None else choose_rows(by_id, by_place, wanted, how.match_by)
    index = np.flatnonzero(rows >= 0)
    table = pa.concat_tables([part.table for part in parts]).take(pa.array(index)).combine_chunks()
    if wanted is not None:
        if not len(index):
            raise VariantMismatchError(
                f"'{path}': none of its {reader.counts['records']:,} records is of the {len(wanted.snp):,} variants of the LD "
                "scores, neither by identifier nor by position and alleles. Are they of another build or species?"
            )
        table = table.set_column(0, "rsid", wanted.snp.take(pa.array(rows[index])))
    return munge(table, _own_sizes(config, table), name=name or study.name, source=f"'{path}'", snp_list=snp_list)


def open_source(path: Path, how: StudyConfig) -> StudySource:
    """Find out what a path is: results of `biolmm meta`, or what `open_study` reads."""
    if not (path / META_JSON).is_file():
        return open_study(path, how.columns, bim=how.bim)
    parts = sorted((path / "meta").glob("part-*.parquet"))
    if not parts:
        raise InputFileError(f"'{path}' holds no results of biolmm meta: its folder meta/ has no parts.")
    columns = dict(how.columns)
    if json.loads((path / META_JSON).read_text(encoding="utf-8")).get("options", {}).get("scheme") == "samplesize":
        columns = {"beta": "ignore", "standard_error": "ignore", "z": "z"} | columns
    return ParquetSource(parts, find_layout(str(path), header_of(parts[0]), columns))


def _own_sizes(config: MungeConfig, table: pa.Table) -> MungeConfig:
    """Let a sample size that was given count only where there is none."""
    return config if table["n"].null_count == table.num_rows else replace(config, n=None)


@dataclass(frozen=True, eq=False)
class _Catalogue:
    """Some variants of a chunk: which of the wanted ones they are, and codes of ALT and REF."""

    chunk: int
    rows_by_id: Rows
    rows_by_place: Rows
    codes: NDArray[np.int8]
    rsid: NDArray[np.int64] | None = None
    place: Places | None = None
    alleles: Alleles | None = None

    def take(self, index: Rows) -> _Catalogue:
        """Choose variants; what names need is kept where all are wanted."""
        return _Catalogue(
            self.chunk, self.rows_by_id, self.rows_by_place, self.codes[index], self.rsid, self.place, self.alleles
        )


def _read_catalogue(chunk: int, shared: tuple[SumstatsStore, Wanted | None]) -> _Catalogue:
    store, wanted = shared
    rsid, alleles = store.read_column("variant_rsid", chunk), store.read_alleles(chunk)
    contigs = Contigs(list(store.attributes["others"])) if wanted is None else wanted.contigs
    ranks = np.array([contigs.rank(name) for name in store.contig_id], np.int64)[
        store.read_column("variant_contig", chunk)
    ]
    place = make_places(ranks, store.read_column("variant_position", chunk))
    codes = alleles.codes[:, ::-1]
    if wanted is None:
        rows = np.arange(len(rsid))
        return _Catalogue(chunk, rows, rows, codes, rsid, place, alleles)
    return _Catalogue(chunk, wanted.find_rs_numbers(rsid), wanted.find_places(place, allele_keys(alleles)[0]), codes)


def _names(store: SumstatsStore, part: _Catalogue) -> pa.Array:
    """Name variants by rs number, or by place and alleles."""
    assert part.rsid is not None and part.place is not None and part.alleles is not None
    contigs = Contigs(list(store.attributes["others"]))
    ranks, positions = rank_of(part.place), position_of(part.place)
    named = {int(rank): contigs.name(int(rank)) for rank in np.unique(ranks)}
    return pa.array(
        f"rs{number}" if number > 0
        else f"{named[int(ranks[i])]}:{positions[i]}:{part.alleles.text(i, 0)}:{part.alleles.text(i, 1)}"
        for i, number in enumerate(part.rsid.tolist())
    )  # fmt: skip


def _read_cells(task: tuple[int, Rows], shared: tuple[SumstatsStore, int]) -> tuple[Vector, ...]:
    """Read a study's statistics at some variants of a chunk: z, frequency, INFO, N, status."""
    (chunk, rows), (store, study) = task, shared
    names = ("beta", "se", "neg_log10_p", "eaf", "info", "n")
    beta, se, tail, eaf, info, n = (store.read_cells(name, chunk, study)[rows].astype(np.float64) for name in names)
    status = store.read_cells("status", chunk, study)[rows]
    used = (status & Status.PRESENT.value) > 0
    return np.where(used, _z(beta, se, tail), np.nan), eaf, info, n, status


def _z(beta: Vector, se: Vector, tail: Vector) -> Vector:
    """Compute z of the effect and its error, or of −log₁₀ p and the direction where there is no error."""
    with np.errstate(invalid="ignore", divide="ignore"):
        z: Vector = beta / se
        without = np.isnan(se) & (tail >= 0)
    z[without] = z_from_neg_log10_p(tail[without]) * np.sign(beta[without])
    return z


@dataclass(frozen=True, eq=False)
class _Part:
    """Records of a block as a table for `munge`, and which of the wanted variants they are."""

    table: pa.Table
    by_id: Rows
    by_place: Rows


def _read_block(fields: Fields, reader: Reader, wanted: Wanted | None) -> _Part:
    reader.counts["records"] += fields.n
    found = read_statistics(fields, reader.ranges, n_given=reader.study.n, exact=True, effects_from_z=False)
    z = (
        fields.numbers("z")[0]
        if fields.has("z") and not fields.has("se")
        else _z(found.beta, found.se, found.neg_log10_p)
    )
    used = (found.status & Status.PRESENT.value) > 0
    alleles, ids = reader.alleles(fields)[0], _identifiers(fields)
    additive = reader.additive(fields)
    table = _table(ids, alleles.codes, np.where(used, z, np.nan), found.eaf, found.info, found.n)
    by_id = np.where(additive, np.arange(fields.n), NOWHERE)
    by_place = by_id
    if wanted is not None:
        by_id = np.where(additive, wanted.find_ids(ids), NOWHERE)
        keys = allele_keys(alleles)[0]
        place = reader.places(fields, np.zeros(fields.n, np.int64))
        by_place = np.where(additive & are_valid(alleles), wanted.find_places(place, keys), NOWHERE)
        kept = (by_id >= 0) | (by_place >= 0)
        table, by_id, by_place = table.filter(pa.array(kept)), by_id[kept], by_place[kept]
    return _Part(table, by_id, by_place)


def _identifiers(fields: Fields) -> pa.Array:
    """Give identifiers; null where there are none."""
    if not fields.has("rsid"):
        return pa.nulls(fields.n, pa.large_string())
    data, spans = fields.words("rsid")
    heap, moved = np.empty(int((spans[:, 1] - spans[:, 0]).sum()), np.uint8), np.empty_like(spans)
    copy_texts(data, spans, heap, moved)
    offsets = np.append(moved[:, 0], len(heap)).astype(np.int64)
    found = pa.LargeStringArray.from_buffers(fields.n, pa.py_buffer(offsets), pa.py_buffer(heap))
    try:
        found.validate(full=True)
    except pa.ArrowInvalid:
        raise InputFileError(f"line {fields.first_line:,} or later: identifiers are not UTF-8 text.") from None
    return found


def _table(ids: pa.Array, codes: NDArray[np.int8], z: Vector, eaf: Vector, info: Vector, n: Vector) -> pa.Table:
    """Make a table for `munge`; `codes` are of effect and other allele."""
    letters = [_LETTERS.take(pa.array(np.minimum(codes[:, side], LONG))) for side in range(2)]
    columns = {"rsid": ids.cast(pa.string()), "effect_allele": letters[0], "other_allele": letters[1]}
    numbers = {"z": z, "effect_allele_frequency": eaf, "info": info, "n": n}
    return pa.table(columns | {name: pa.array(values, from_pandas=True) for name, values in numbers.items()})
