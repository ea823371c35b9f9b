"""Files of LD score regression: LD scores, counts of variants, annotations, lists of alleles, munged statistics.

    PREFIX.l2.ldscore[.gz]   CHR SNP BP [CM MAF] and a column of LD scores an annotation (its name, with L2 at the end)
    PREFIX.l2.M_5_50, .l2.M  how many variants, common or all, each annotation has: one line
    PREFIX.annot[.gz]        CHR BP SNP CM and a column an annotation; "thin": annotations alone, in the order of the .bim
    LIST.snplist             SNP A1 A2
    TRAIT.sumstats[.gz]      SNP A1 A2 N Z

(github.com/bulik/ldsc, wiki.) An @ in a prefix stands for the chromosomes; a prefix that names no file is tried with the
number of a chromosome behind it, as LDSC does. Beside these, biolmm writes `PREFIX.l2.parquet`, all digits with alleles, and
`PREFIX.l2.overlap.tsv`, the variants that two annotations share.
"""

from __future__ import annotations

import gzip
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from biolmm.atomic import atomic_path, write_text
from biolmm.contigs import contig_order, plain_contig
from biolmm.errors import InputFileError, VariantMismatchError, named
from biolmm.files.lines import read_lines
from biolmm.files.text_columns import header_of, read_columns

CHROMOSOMES = tuple(str(i) for i in range(1, 23))
SCORE_ENDINGS = (".l2.ldscore.gz", ".l2.ldscore", ".l2.ldscore.bz2", ".l2.parquet")
OVERLAP_ENDING = ".l2.overlap.tsv"
ANNOT_ENDINGS = (".annot.gz", ".annot", ".annot.bz2")
_PLACES = ("CHR", "SNP", "BP", "CM", "MAF", "A1", "A2")
_DIGITS = "%.6g"


@dataclass(frozen=True, eq=False)
class LdScoreTable:
    """LD scores of n variants in c annotations, in genome order.

    Attributes
    ----------
    source
        Prefix, for messages.
    chromosome, position, snp
        Places, (n,) Arrow arrays of text, numbers, text. Identifiers are unique.
    names
        Of the annotations.
    scores
        (n, c).
    m_common, m_all
        (c,) variants of each annotation, of the reference the scores are made of; None where there is no file.
    alleles
        (n, 2) effect and other allele, where they are known.
    """

    source: str
    chromosome: pa.Array
    position: NDArray[np.int64]
    snp: pa.Array
    names: tuple[str, ...]
    scores: NDArray[np.float64]
    m_common: NDArray[np.float64] | None
    m_all: NDArray[np.float64] | None
    alleles: tuple[pa.Array, pa.Array] | None = None

    def __len__(self) -> int:
        """Count the variants."""
        return len(self.position)

    def counts(self, *, common: bool = True) -> NDArray[np.float64]:
        """Give `M_5_50`, or `M`.

        Raises
        ------
        InputFileError
            When the file was not there.
        """
        found = self.m_common if common else self.m_all
        if found is None:
            name, other = (".l2.M_5_50", "all variants") if common else (".l2.M", "common variants")
            raise InputFileError(
                f"'{self.source}{name}' does not exist: it says how many variants there are. Or use counts of {other}."
            )
        return found

    def take(self, rows: NDArray[np.int64]) -> LdScoreTable:
        """Choose variants."""
        index = pa.array(rows)
        alleles = None if self.alleles is None else (self.alleles[0].take(index), self.alleles[1].take(index))
        return LdScoreTable(self.source, self.chromosome.take(index), self.position[rows], self.snp.take(index), self.names,
                            self.scores[rows], self.m_common, self.m_all, alleles)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Overlap:
    """How many variants annotations share.

    Attributes
    ----------
    names
        Of the annotations.
    shared
        (c, c) AᵀA.
    n_variants
        All variants, whether in an annotation or not.
    """

    names: tuple[str, ...]
    shared: NDArray[np.float64]
    n_variants: int


def find_files(prefix: str, endings: Sequence[str]) -> list[tuple[str, Path]]:
    """Find the files of a prefix: each one's prefix and path, the chromosomes in order.

    Raises
    ------
    InputFileError
        When there is none.
    """
    candidates = [prefix.replace("@", c) for c in (*CHROMOSOMES, "X", "Y")] if "@" in prefix else [prefix]
    found = _existing(candidates, endings)
    if not found and "@" not in prefix:
        found = _existing([f"{prefix}{c}" for c in CHROMOSOMES], endings)
    if not found:
        raise InputFileError(
            f"'{prefix}{endings[0]}' does not exist, nor does a file a chromosome: put @ where its number is."
        )
    return found


def _existing(candidates: Sequence[str], endings: Sequence[str]) -> list[tuple[str, Path]]:
    found = []
    for candidate in candidates:
        paths = (Path(candidate + ending) for ending in endings)
        path = next((each for each in paths if each.exists()), None)
        if path is not None:
            found.append((candidate, path))
    return found


def read_ld_scores(prefix: str | Path) -> LdScoreTable:
    """Read LD scores, of one file or of a file a chromosome; several prefixes with commas between are annotations side by side.

    Raises
    ------
    InputFileError
        When files are missing or damaged, columns are missing, numbers of variants do not fit the scores, or
        chromosomes have different annotations.
    VariantMismatchError
        When prefixes side by side have different variants.
    """
    tables = [_read_prefix(each.strip()) for each in str(prefix).split(",")]
    return tables[0] if len(tables) == 1 else beside(tables)


def _read_prefix(prefix: str) -> LdScoreTable:
    parts = [_read_scores(path) for _, path in find_files(prefix, SCORE_ENDINGS)]
    files = find_files(prefix, SCORE_ENDINGS)
    names = parts[0][1]
    for (_, path), (_, mine) in zip(files, parts, strict=True):
        if mine != names:
            raise InputFileError(f"'{path}' has annotations {named(mine)}, but '{files[0][1]}' has {named(names)}.")
    table = pa.concat_tables([table for table, _ in parts], promote_options="default").combine_chunks()
    text = table["CHR"].combine_chunks().dictionary_encode()
    spelled = [plain_contig(each.as_py() or "") for each in text.dictionary]
    rank = {name: i for i, name in enumerate(sorted(set(spelled), key=contig_order))}
    codes = np.array([rank[name] for name in spelled] or [0], np.int64)[text.indices.to_numpy()]
    position = table["BP"].to_numpy().astype(np.int64)
    order = np.lexsort((position, codes))
    snp = table["SNP"].combine_chunks()
    first = _first_of_each(snp.take(pa.array(order)))
    rows = order[first]
    scores = np.column_stack([table[f"L2_{i}"].to_numpy() for i in range(len(names))])[rows]
    if not np.isfinite(scores).all():
        raise InputFileError(
            f"'{prefix}': {np.count_nonzero(~np.isfinite(scores)):,} LD scores are missing or not finite."
        )
    index = pa.array(rows)
    alleles = None
    if "A1" in table.column_names:
        alleles = table["A1"].combine_chunks().take(index), table["A2"].combine_chunks().take(index)
    ordered = sorted(rank, key=lambda name: rank[name])
    chromosome = pa.array(ordered, pa.string()).take(pa.array(codes[rows]))
    m_common, m_all = (_sum_counts([p for p, _ in files], ending, len(names)) for ending in (".l2.M_5_50", ".l2.M"))
    return LdScoreTable(prefix, chromosome, position[rows], snp.take(index), names, scores, m_common, m_all, alleles)


def _read_scores(path: Path) -> tuple[pa.Table, tuple[str, ...]]:
    """Read a file's columns as CHR, SNP, BP, L2_0, L2_1, … and the annotations' names."""
    header = header_of(path)
    missing = [name for name in ("CHR", "SNP", "BP") if name not in header]
    columns = [name for name in header if name not in _PLACES]
    if missing or not columns:
        raise InputFileError(
            f"'{path}' holds no LD scores: columns CHR, SNP, BP and one a score are needed, found {named(header, 8)}."
        )
    types = {"CHR": pa.string(), "SNP": pa.string(), "BP": pa.int64()} | dict.fromkeys(columns, pa.float64())
    if path.suffix == ".parquet" and {"A1", "A2"} <= set(header):
        types |= {"A1": pa.string(), "A2": pa.string()}
    table = read_columns(path, types)
    if not table.num_rows:
        raise InputFileError(f"'{path}' has a header but no LD scores.")
    for name in ("CHR", "SNP", "BP"):
        if table[name].null_count:
            raise InputFileError(
                f"'{path}': {name} is missing in {table[name].null_count:,} of {table.num_rows:,} lines."
            )
    place = {name: i for i, name in enumerate(columns)}
    renamed = [f"L2_{place[name]}" if name in place else name for name in table.column_names]
    names = tuple("base" if name == "L2" else name.removesuffix("L2") for name in columns)
    return table.rename_columns(renamed), names


def _first_of_each(snp: pa.Array) -> NDArray[np.int64]:
    """Return the rows at which identifiers occur first."""
    codes = snp.dictionary_encode().indices.to_numpy()
    return np.sort(np.unique(codes, return_index=True)[1]).astype(np.int64)


def _sum_counts(prefixes: Sequence[str], ending: str, n_annotations: int) -> NDArray[np.float64] | None:
    """Add up the counts of the files; None where there is none."""
    paths = [Path(prefix + ending) for prefix in prefixes]
    there = [path for path in paths if path.exists()]
    if not there:
        return None
    if len(there) < len(paths):
        absent = next(path for path in paths if not path.exists())
        raise InputFileError(f"'{absent}' does not exist, but {len(there):,} others of its kind do.")
    total = np.zeros(n_annotations)
    for path in there:
        fields = [field for _, line in read_lines(path) for field in line.split()]
        try:
            values = np.array([float(field) for field in fields])
        except ValueError:
            raise InputFileError(f"'{path}' holds no numbers of variants: {named(fields)}.") from None
        if len(values) != n_annotations or not np.isfinite(values).all():
            raise InputFileError(
                f"'{path}' holds {len(values):,} numbers of variants, but there are {n_annotations:,} annotations."
            )
        total += values
    return total


def beside(tables: Sequence[LdScoreTable]) -> LdScoreTable:
    """Put the annotations of tables of the same variants side by side.

    Raises
    ------
    VariantMismatchError
        When variants differ.
    """
    first = tables[0]
    for other in tables[1:]:
        if len(other) != len(first) or not pc.all(pc.equal(other.snp, first.snp)).as_py():
            raise VariantMismatchError(
                f"'{other.source}' ({len(other):,} variants) and '{first.source}' ({len(first):,}) do not hold the same "
                "variants in the same order: LD scores side by side must be of the same."
            )
    counts = [
        None if any(getattr(t, kind) is None for t in tables) else np.concatenate([getattr(t, kind) for t in tables])
        for kind in ("m_common", "m_all")
    ]
    names = tuple(name for table in tables for name in table.names)
    return LdScoreTable(",".join(t.source for t in tables), first.chromosome, first.position, first.snp, names,
                        np.column_stack([t.scores for t in tables]), counts[0], counts[1], first.alleles)  # fmt: skip


def write_ld_scores(prefix: Path, table: LdScoreTable, overlaps: Mapping[str, Overlap] | None = None) -> list[Path]:
    """Write LD scores as LDSC reads them, and as Parquet with all digits; returns the paths.

    Parameters
    ----------
    prefix
        What `.l2.ldscore.gz` and the other endings are put behind.
    table
        With both counts.
    overlaps
        `all` and `common`: the variants that annotations share.
    """
    columns = ["L2"] if table.names == ("base",) else [f"{name}L2" for name in table.names]
    frame = pd.DataFrame({"CHR": table.chromosome.to_pylist(), "SNP": table.snp.to_pylist(), "BP": table.position})
    frame[columns] = table.scores
    paths = [prefix.with_name(prefix.name + ending) for ending in (".l2.ldscore.gz", ".l2.parquet")]
    with atomic_path(paths[0]) as aside, gzip.GzipFile(aside, "wb", mtime=0) as file:
        frame.to_csv(file, sep="\t", index=False, float_format=_DIGITS)
    arrow = pa.table({"CHR": table.chromosome, "SNP": table.snp, "BP": table.position})
    for name, allele in zip(("A1", "A2"), table.alleles or (), strict=False):
        arrow = arrow.append_column(name, allele)
    for name, column in zip(columns, table.scores.T, strict=True):
        arrow = arrow.append_column(name, pa.array(column))
    with atomic_path(paths[1]) as aside:
        pq.write_table(arrow, aside, compression="zstd")
    for ending, counts in ((".l2.M", table.m_all), (".l2.M_5_50", table.m_common)):
        if counts is not None:
            text = "\t".join(f"{value:.10g}" for value in counts) + "\n"
            paths.append(write_text(prefix.with_name(prefix.name + ending), text))
    if overlaps is not None:
        paths.append(_write_overlaps(prefix.with_name(prefix.name + OVERLAP_ENDING), overlaps))
    return paths


def _write_overlaps(path: Path, overlaps: Mapping[str, Overlap]) -> Path:
    rows = [
        pd.DataFrame(each.shared, columns=list(each.names)).assign(
            variants=kind, annotation=list(each.names), n_variants=each.n_variants
        )
        for kind, each in overlaps.items()
    ]
    frame = pd.concat(rows)[["variants", "n_variants", "annotation", *next(iter(overlaps.values())).names]]
    with atomic_path(path) as aside:
        frame.to_csv(aside, sep="\t", index=False)
    return path
