"""Where statistics come from: results of `biolmm gwas`, stores of studies, `.sumstats` files, tables; and where they go."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv

from biolmm.atomic import atomic_path
from biolmm.chunks import map_tasks
from biolmm.errors import InputFileError, ParameterError, VariantMismatchError, named
from biolmm.files.ldscore_files import LdScoreTable
from biolmm.files.lines import file_start
from biolmm.files.text_columns import header_of, read_columns
from biolmm.results.associations import read_part
from biolmm.results.paths import ASSOCIATIONS, LINEAR, list_parts, list_traits
from biolmm.results.tables import read_result_table
from biolmm.sumstats.ingest.roles import SYNONYMS
from biolmm.sumstats.ldsc.match import Wanted
from biolmm.sumstats.ldsc.munge import BASES, COLUMNS, OTHER_ALLELE, MungeConfig, TraitStatistics, allele_codes, munge
from biolmm.sumstats.ldsc.studies import META_JSON, StudyConfig, is_sumstats_store, read_store, read_study

_RESULT_COLUMNS = (
    "rsid",
    "effect_allele",
    "other_allele",
    "beta",
    "standard_error",
    "effect_allele_frequency",
    "n",
    "info",
)
_TEXT = ("rsid", "chromosome", "effect_allele", "other_allele")
_ALIASES = {"variant_id": "rsid", "z_score": "z", "p": "p_value"}
_SUMSTATS = ("SNP", "N", "Z")
_ZSTD = b"\x28\xb5\x2f\xfd"
"""Such tables only `read_study` reads."""

_ALLELES = ("effect_allele", "other_allele")


def is_results(path: Path) -> bool:
    """Whether a path is a folder with the results of an association scan."""
    return (path / ASSOCIATIONS).is_dir() or (path / LINEAR).is_dir()


def read_traits(
    path: Path,
    config: MungeConfig | None = None,
    *,
    keep: LdScoreTable | pa.Array | None = None,
    traits: Sequence[str] = (),
    kind: str | None = None,
    effective_n: bool = True,
    snp_list: TraitStatistics | None = None,
    how: StudyConfig | None = None,
) -> list[TraitStatistics]:
    """Read the traits of a results folder, the studies of a store, or the one of a file.

    Parameters
    ----------
    path
        A folder that `biolmm gwas` or `biolmm meta` wrote; a store of summary statistics; an LDSC file (SNP, N, Z and, if need
        be, A1 and A2), used as it is; or a table, text, Parquet or GWAS-VCF, of a layout that `biolmm sumstats add` knows.
    config
        Thresholds of `munge`.
    keep
        What to read: the variants of LD scores, which stores and tables may have by place, or identifiers. The others of a
        folder never leave their part.
    traits, kind
        Of a folder: which traits, all by default, and `associations` (mixed model) or `linear`; the mixed model's where there
        are both. Of a store: which studies.
    effective_n
        Of a folder's mixed model: scale N by the precision that the model gains, see `gain_of_model`.
    snp_list
        As in `munge`.
    how
        How stores and tables are read.

    Raises
    ------
    InputFileError
        When the path is none of these, or damaged.
    VariantMismatchError
        When no record of a trait can be used.
    """
    how, wanted = how or StudyConfig(), _wanted(keep)
    if is_sumstats_store(path):
        return read_store(
            path, config or MungeConfig(), wanted, studies=traits, match_by=how.match_by, snp_list=snp_list
        )
    if not path.is_dir() or (path / META_JSON).is_file():
        return [_read_file(path, config, wanted, snp_list, how)]
    if not is_results(path):
        raise InputFileError(
            f"'{path}' holds no association results: give a folder that biolmm gwas wrote, a store of summary statistics, or a "
            "file."
        )
    keep = None if wanted is None else wanted.snp
    chosen = kind or (ASSOCIATIONS if (path / ASSOCIATIONS).is_dir() else LINEAR)
    there = list_traits(path, chosen)
    absent = [name for name in traits if name not in there]
    if absent:
        raise InputFileError(f"'{path / chosen}' has no trait {named(absent)}; it has {named(there)}.")
    out = []
    for name in traits or there:
        trait = _read_result(path, chosen, name, config, keep, snp_list)
        gain = gain_of_model(path, name, keep) if effective_n and chosen == ASSOCIATIONS else 1.0
        out.append(replace(trait, n=trait.n * gain))
    return out


def read_all(
    paths: Sequence[Path],
    config: MungeConfig | None = None,
    *,
    keep: LdScoreTable | pa.Array | None = None,
    traits: Sequence[str] = (),
    kind: str | None = None,
    effective_n: bool = True,
    snp_list: TraitStatistics | None = None,
    how: StudyConfig | None = None,
) -> list[TraitStatistics]:
    """Read the traits of several folders and files, files at the same time; parameters as of `read_traits`.

    Raises
    ------
    UserError
        As `read_traits`; also when two traits have one name.
    """
    files = [path for path in paths if not path.is_dir()]
    shared = (config, _wanted(keep), snp_list, how or StudyConfig())
    read = dict(zip(files, map_tasks(_read_one, files, shared), strict=True))
    out: list[TraitStatistics] = []
    for path in paths:
        out += [read[path]] if path in read else read_traits(
            path, config, keep=keep, traits=traits, kind=kind, effective_n=effective_n, snp_list=snp_list, how=how
        )  # fmt: skip
    return unique_names(out)


def _read_one(
    path: Path, shared: tuple[MungeConfig | None, Wanted | None, TraitStatistics | None, StudyConfig]
) -> TraitStatistics:
    return _read_file(path, *shared)


def _wanted(keep: LdScoreTable | pa.Array | None) -> Wanted | None:
    return None if keep is None else Wanted.of(keep)


def _read_result(path: Path, kind: str, name: str, config: MungeConfig | None, keep: pa.Array | None,
                 snp_list: TraitStatistics | None) -> TraitStatistics:  # fmt: skip
    paths = [part for _, _, part in list_parts(path, name, kind=kind)]
    tables = map_tasks(_read_kept, paths, (_RESULT_COLUMNS, keep))
    table = pa.concat_tables(tables)
    source = f"'{path / kind}', trait {name}"
    if not table.num_rows:
        raise VariantMismatchError(
            f"{source}: no variant is among the LD scores; variants are joined by their identifier (rsid)."
        )
    return munge(
        table.combine_chunks(), config or MungeConfig(alleles="any"), name=name, source=source, snp_list=snp_list
    )


def _read_kept(path: Path, shared: tuple[Sequence[str], pa.Array | None]) -> pa.Table:
    columns, keep = shared
    table = read_part(path, columns)
    return table if keep is None else table.filter(pc.is_in(table["rsid"], value_set=keep))


def gain_of_model(path: Path, name: str, keep: pa.Array | None = None) -> float:
    """Estimate by how much a mixed model's statistics are more precise than a regression's of the same N.

    `σ² / (2p(1−p) n se²)` at the median variant, σ² the variance of the trait given the covariates (`h2.tsv`): 1 for a
    regression; above it where the model takes up what other contigs explain, below it among relatives. With N times this
    the model of LD score regression holds for the mixed model's χ². 1 where there is no `h2.tsv`.
    """
    table = read_result_table(path, "h2")
    if table is None or name not in set(table["trait"]):
        return 1.0
    row = table[table["trait"] == name].iloc[0]
    variance = float(row["sigma2_g"] + row["sigma2_e"])
    columns = ("rsid", "effect_allele_frequency", "standard_error", "n")
    paths = [part for _, _, part in list_parts(path, name, kind=ASSOCIATIONS)]
    found = pa.concat_tables(map_tasks(_read_kept, paths, (columns, keep)))
    p, se, n = (pc.fill_null(found[column].cast(pa.float64()), np.nan).to_numpy() for column in columns[1:])
    with np.errstate(divide="ignore", invalid="ignore"):
        gain = variance / (2 * p * (1 - p) * n * se**2)
    usable = gain[np.isfinite(gain) & (np.minimum(p, 1 - p) > 0.01)]
    return float(np.median(usable)) if len(usable) else 1.0


def _read_file(path: Path, config: MungeConfig | None, wanted: Wanted | None, snp_list: TraitStatistics | None,
               how: StudyConfig) -> TraitStatistics:  # fmt: skip
    config = config or MungeConfig()
    header = () if path.is_dir() or file_start(path).startswith(_ZSTD) else header_of(path)
    if set(_SUMSTATS) <= set(header):
        found = read_sumstats(path)
        if wanted is None:
            return found
        return found.take(pc.is_in(found.snp, value_set=wanted.snp).to_numpy(zero_copy_only=False))
    if config.alleles == "any" and (table := _without_alleles(path, header)) is not None:
        if wanted is not None:
            table = table.filter(pc.is_in(table["rsid"], value_set=wanted.snp))
        return munge(
            table.combine_chunks(), config, name=path.name.split(".")[0], source=f"'{path}'", snp_list=snp_list
        )
    return read_study(path, config, wanted, how, name=path.name.split(".")[0], snp_list=snp_list)


def _without_alleles(path: Path, header: Sequence[str]) -> pa.Table | None:
    """Read a table that names no alleles, by the names of `munge`; None where it has alleles or no identifiers."""
    names = {column: _ALIASES.get(column.lower(), column.lower()) for column in header}
    wanted = {
        column: role
        for column, role in names.items()
        if role in COLUMNS and (role == column.lower() or role not in names)  # an alias, where the column is not there
    }
    if "rsid" not in wanted.values() or any(SYNONYMS.get(name.lower()) in _ALLELES for name in header):
        return None
    table = read_columns(path, {name: pa.string() if role in _TEXT else pa.float64() for name, role in wanted.items()})
    return table.rename_columns([wanted[name] for name in table.column_names])


def read_sumstats(path: Path) -> TraitStatistics:
    """Read a munged file, SNP, N, Z and, where they are there, A1 and A2; lines without Z are those of a list and left out.

    Raises
    ------
    InputFileError
        When it is damaged, lacks a column, or holds no statistics.
    """
    header = header_of(path)
    absent = [name for name in _SUMSTATS if name not in header]
    if absent:
        raise InputFileError(f"'{path}' is no munged file: it has no {named(absent)}, but {named(header, 8)}.")
    has_alleles = "A1" in header and "A2" in header
    types = {"SNP": pa.string(), "N": pa.float64(), "Z": pa.float64()}
    table = read_columns(path, types | (dict.fromkeys(("A1", "A2"), pa.string()) if has_alleles else {}))
    z, n = (np.array(pc.fill_null(table[name], np.nan).to_numpy()) for name in ("Z", "N"))
    good = np.isfinite(z) & np.isfinite(n) & (n > 0)
    snp = table["SNP"].combine_chunks()
    codes = pc.fill_null(snp.dictionary_encode().indices, -1).to_numpy(zero_copy_only=False)
    rows = np.flatnonzero(good & (codes >= 0))
    rows = np.sort(rows[np.unique(codes[rows], return_index=True)[1]])
    if not len(rows):
        raise InputFileError(f"'{path}' holds {table.num_rows:,} lines, but none with SNP, N and Z.")
    alleles = np.full((table.num_rows, 2), OTHER_ALLELE, np.int8)
    if has_alleles:
        alleles = np.column_stack([allele_codes(table[name]) for name in ("A1", "A2")])
    name = path.name.split(".")[0]
    return TraitStatistics(
        name, f"'{path}'", snp.take(pa.array(rows)), alleles[rows], z[rows], n[rows], {}, table.num_rows
    )


def write_sumstats(path: Path, trait: TraitStatistics) -> Path:
    """Write SNP, A1, A2, N and Z, tab-separated and with all digits; compressed where the name ends in `.gz`."""
    names = ("SNP", "A1", "A2", "N", "Z")
    bases = pa.array([*BASES, ""])
    one, other = (bases.take(pa.array(trait.alleles[:, side])) for side in range(2))
    table = pa.table([trait.snp, one, other, pa.array(trait.n), pa.array(trait.z)], names=list(names))
    options = pa_csv.WriteOptions(include_header=False, delimiter="\t", quoting_style="none")
    with atomic_path(path) as aside:
        compression = "gzip" if path.suffix == ".gz" else None
        with pa.output_stream(str(aside), compression=compression) as stream:
            stream.write(("\t".join(names) + "\n").encode())
            pa_csv.write_csv(table, stream, write_options=options)
    return path


def read_snp_list(path: Path) -> TraitStatistics:
    """Read SNP, A1 and A2 of variants to keep, such as `w_hm3.snplist`.

    Raises
    ------
    InputFileError
        When it is damaged or lacks a column.
    """
    header = header_of(path)
    if not {"SNP", "A1", "A2"} <= set(header):
        raise InputFileError(
            f"'{path}' is no list of variants and alleles: it needs SNP, A1 and A2, found {named(header, 8)}."
        )
    table = read_columns(path, dict.fromkeys(("SNP", "A1", "A2"), pa.string()))
    alleles = np.column_stack([allele_codes(table[name]) for name in ("A1", "A2")])
    zeros = np.zeros(table.num_rows)
    return TraitStatistics(
        path.name, f"'{path}'", table["SNP"].combine_chunks(), alleles, zeros, zeros, {}, table.num_rows
    )


def unique_names(traits: Sequence[TraitStatistics]) -> list[TraitStatistics]:
    """Check that names are different.

    Raises
    ------
    ParameterError
        When two traits have one name.
    """
    names = [trait.name for trait in traits]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        places = [trait.source for trait in traits if trait.name == repeated[0]]
        raise ParameterError(
            f"{len(repeated)} names are those of several traits ({named(repeated)}: {named(places, 2)}): rename files."
        )
    return list(traits)
