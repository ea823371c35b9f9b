"""Tables for figures, from results of any kind: a genome thinned to what is seen, one variant, a region with LD and genes."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from biolmm.contigs import plain_contig
from biolmm.errors import InputFileError, ParameterError
from biolmm.files.encoding import dosages_from_rows
from biolmm.regions import Region
from biolmm.store.data import GenotypeData
from biolmm.sumstats.export.rows import Origin, find_origin
from biolmm.sumstats.export.spelling import rsids, spell_alleles
from biolmm.sumstats.matrix.read import SumstatsStore
from biolmm.sumstats.meta.block import StudyBlock
from biolmm.sumstats.quality.thinned import seen

_KEPT = ("chromosome", "base_pair_location", "neg_log_10_p_value", "rsid", "variant_id")
ALWAYS_KEPT = 5.0
"""Variants above this −log₁₀ p are never thinned out."""


def read_genome(origin: Origin) -> tuple[pd.DataFrame, NDArray[np.float32]]:
    """Read what Manhattan and QQ plots show.

    Returns
    -------
    DataFrame, ndarray
        Rows with `chromosome`, `base_pair_location`, `neg_log_10_p_value`, `rsid` and `variant_id`: all above 5, and below
        one of each cell of 500 kb and 0.05; and −log₁₀ p of all variants.

    Notes
    -----
    Cost: one reading; 4 bytes a variant, and the rows that are seen.
    """
    frames, heights = [pd.DataFrame(columns=list(_KEPT))], []
    for _, frame in origin.parts():
        tail = frame["neg_log_10_p_value"].astype(float).to_numpy()
        heights.append(tail.astype(np.float32))
        there = np.flatnonzero(np.isfinite(tail))
        position = frame["base_pair_location"].to_numpy(np.int64)
        chosen = np.union1d(there[seen(position[there], tail[there])], there[tail[there] > ALWAYS_KEPT])
        frames.append(named_rows(frame.iloc[chosen][list(_KEPT)]))
    filled = [frame for frame in frames[1:] if len(frame)] or frames[:1]
    return pd.concat(filled, ignore_index=True), np.concatenate([np.empty(0, np.float32), *heights])


def named_rows(frame: pd.DataFrame) -> pd.DataFrame:
    """Name variants without an rs number by their variant_id."""
    known = frame["rsid"].astype(object)
    return frame.assign(rsid=known.where(known.notna() & ~known.isin(["", ".", "NA"]), frame["variant_id"]))


def read_region(origin: Origin, region: Region) -> pd.DataFrame:
    """Read all variants of a region.

    Raises
    ------
    ParameterError
        When there is none.
    """
    frames = []
    for contig, frame in origin.parts():
        if plain_contig(contig) != plain_contig(region.contig):
            continue
        position = frame["base_pair_location"]
        here = frame[(position >= region.start_bp) & (position <= region.end_bp)]
        if len(here):
            frames.append(here)
    if not frames:
        raise ParameterError(f"{origin.path} has no variant in {region}.")
    return named_rows(pd.concat(frames, ignore_index=True))


def region_around(origin: Origin, lead: str, window_bp: int) -> Region:
    """Give the region around a variant named by rs number, variant_id or CONTIG:POSITION.

    Raises
    ------
    ParameterError
        When there is no such variant.
    """
    for contig, frame in origin.parts():
        place = frame["chromosome"].astype(str) + ":" + frame["base_pair_location"].astype(str)
        rows = np.flatnonzero(((frame["rsid"] == lead) | (frame["variant_id"] == lead) | (place == lead)).to_numpy())
        if rows.size:
            position = int(frame["base_pair_location"].iloc[int(rows[0])])
            return Region(contig, max(1, position - window_bp), position + window_bp, lead)
    raise ParameterError(
        f"{origin.path} has no variant {lead!r}: give an rs number, CONTIG_POSITION_OTHER_EFFECT or CONTIG:POSITION."
    )


def lead_row(frame: pd.DataFrame, lead: str | None) -> int:
    """Find the row of the lead: the one named, else the most significant."""
    if lead is not None:
        place = frame["chromosome"].astype(str) + ":" + frame["base_pair_location"].astype(str)
        rows = np.flatnonzero(((frame["rsid"] == lead) | (frame["variant_id"] == lead) | (place == lead)).to_numpy())
        if rows.size:
            return int(rows[0])
    return int(np.nanargmax(frame["neg_log_10_p_value"].astype(float).to_numpy()))


def r2_with_lead(data: GenotypeData, frame: pd.DataFrame, lead: int) -> NDArray[np.float64]:
    """Compute r² of a region's variants with the lead in genotypes; NaN for variants that are not there or do not vary.

    Variants are matched by contig, position and alleles, either way round; missing genotypes count at the mean.

    Raises
    ------
    ParameterError
        When the lead is not among the genotypes.
    """
    contig, wanted = str(frame["chromosome"].iloc[0]), {}
    for row, (place, one, other) in enumerate(
        zip(frame["base_pair_location"], frame["effect_allele"], frame["other_allele"], strict=True)
    ):
        wanted[int(place), frozenset((str(one).upper(), str(other).upper()))] = row
    names = [plain_contig(name) for name in data.contig_id]
    if plain_contig(contig) not in names:
        raise ParameterError(f"{data.path} has no contig {contig}.")
    number = names.index(plain_contig(contig))
    low, high = int(frame["base_pair_location"].min()), int(frame["base_pair_location"].max())
    inside = (data.variant_contig == number) & (data.variant_position >= low) & (data.variant_position <= high)
    dosages: dict[int, NDArray[np.float32]] = {}
    for chunk in np.unique(np.flatnonzero(inside) // data.chunk_variants).tolist():
        start, stop = data.chunk_range(chunk)
        rows = np.flatnonzero(inside[start:stop])
        values = dosages_from_rows(data.read_rows(chunk)[rows], data.encoding, data.n_samples)
        for at, variant in enumerate((start + rows).tolist()):
            key = (
                int(data.variant_position[variant]),
                frozenset((str(data.ref[variant]).upper(), str(data.alt[variant]).upper())),
            )
            if key in wanted:
                dosages[wanted[key]] = values[at]
    if lead not in dosages:
        raise ParameterError(
            f"{data.path} does not have the lead {frame['rsid'].iloc[lead]}: choose another with --lead."
        )
    out = np.full(len(frame), np.nan)
    mine = _centred(dosages[lead])
    for row, values in dosages.items():
        other = _centred(values)
        size = float(np.sqrt((mine @ mine) * (other @ other)))
        out[row] = float(mine @ other / size) ** 2 if size > 0 else np.nan
    return out


def _centred(values: NDArray[np.float32]) -> NDArray[np.float64]:
    wide = values.astype(np.float64)
    if np.isnan(wide).all():
        return np.zeros(len(wide))
    return np.nan_to_num(wide - np.nanmean(wide))


def read_genes(path: Path, region: Region) -> pd.DataFrame:
    """Read the genes of a region from a BED file, a GFF or GTF file, or a table with a header.

    Returns
    -------
    DataFrame
        `name`, `start`, `end`, `strand`, 1-based.

    Raises
    ------
    InputFileError
        When the file cannot be read as any of these.
    """
    try:
        raw = pd.read_csv(path, sep="\t", comment="#", header=None, dtype=str, keep_default_na=False)
    except (OSError, ValueError, EOFError) as error:
        raise InputFileError(f"{path} cannot be read as a table of genes: {str(error).splitlines()[0]}.") from error
    raw = raw[~raw[0].str.match(r"(track|browser)\b")].reset_index(drop=True)
    if raw.shape[1] >= 9 and raw[3].str.fullmatch(r"\d+").all():
        genes = raw[raw[2].isin(["gene", "ncRNA_gene"])]
        found = pd.DataFrame(
            {
                "contig": genes[0],
                "start": genes[3],
                "end": genes[4],
                "name": genes[8].map(_gene_name),
                "strand": genes[6],
            }
        )
    elif raw.shape[1] >= 4 and len(raw) and raw[1].iloc[0].isdigit():
        found = pd.DataFrame(
            {
                "contig": raw[0],
                "start": raw[1],
                "end": raw[2],
                "name": raw[3],
                "strand": raw[5] if raw.shape[1] > 5 else "",
            }
        )
        found["start"] = pd.to_numeric(found["start"], errors="coerce") + 1
    else:
        found = _headed_genes(path, raw)
    for name in ("start", "end"):
        found[name] = pd.to_numeric(found[name], errors="coerce")
    if found[["start", "end"]].isna().any(axis=None):
        raise InputFileError(
            f"{path} holds starts or ends that are no numbers: give BED, GFF, or a table with name, chromosome, start, end."
        )
    here = (found["contig"].map(plain_contig) == plain_contig(region.contig)) & (found["end"] >= region.start_bp)
    here &= found["start"] <= region.end_bp
    return (
        found[here & (found["name"] != "")]
        .drop_duplicates(["name", "start", "end"])
        .sort_values("start", ignore_index=True)
    )


def _headed_genes(path: Path, raw: pd.DataFrame) -> pd.DataFrame:
    header = [str(name).lower() for name in raw.iloc[0]] if len(raw) else []
    table = raw.iloc[1:].set_axis(header, axis=1) if header else raw
    columns = {}
    for wanted, names in {
        "contig": ("chromosome", "chrom", "chr", "contig"),
        "start": ("start", "txstart", "start_position"),
        "end": ("end", "txend", "end_position", "stop"),
        "name": ("name", "gene", "symbol", "gene_name"),
        "strand": ("strand",),
    }.items():
        columns[wanted] = next((name for name in names if name in header), None)
    lacking = [name for name in ("contig", "start", "end", "name") if columns[name] is None]
    if lacking:
        raise InputFileError(
            f"{path} is no table of genes: it lacks {', '.join(lacking)}. Give BED, GFF, or a header with name, "
            "chromosome, start, end."
        )
    return pd.DataFrame({wanted: table[name] if name is not None else "" for wanted, name in columns.items()})


def _gene_name(attributes: str) -> str:
    """Find the name among a GFF's or GTF's attributes."""
    for key in ("gene_name", "Name", "gene", "gene_id", "ID"):
        match = re.search(rf'(?:^|;)\s*{key}[= ]"?([^";]+)', attributes)
        if match:
            return match[1].strip()
    return ""


def read_variant(store: SumstatsStore, variant: str) -> tuple[str, StudyBlock]:
    """Read one variant of all studies, named by rs number, CONTIG:POSITION or CONTIG:POSITION:REF:ALT.

    Raises
    ------
    ParameterError
        When the store has no such variant, or several at the place.
    """
    parts = re.split(r"[:_]", variant)
    number = int(variant[2:]) if re.fullmatch(r"rs\d+", variant) else 0
    if not number and (len(parts) not in (2, 4) or not parts[1].isdigit()):
        raise ParameterError(
            f"{variant!r} names no variant: give an rs number, CONTIG:POSITION or CONTIG:POSITION:REF:ALT."
        )
    for chunk in range(store.n_chunks):
        rows = _rows_of(store, chunk, number, parts)
        if not rows.size:
            continue
        alleles = store.read_alleles(chunk).take(rows)
        ref, alt = spell_alleles(alleles, 0), spell_alleles(alleles, 1)
        if len(parts) == 4 and not number:
            same = np.flatnonzero((ref == parts[2].upper()) & (alt == parts[3].upper()))
            rows, ref, alt = rows[same], ref[same], alt[same]
        if len(rows) > 1:
            raise ParameterError(
                f"{store.path} has {len(rows)} variants at {variant}: give CONTIG:POSITION:REF:ALT, such as "
                f"{parts[0]}:{parts[1]}:{ref[0]}:{alt[0]}."
            )
        if len(rows):
            block = store.read_block(chunk, list(range(store.n_studies)), ("beta", "se", "eaf", "n", "neg_log10_p"))
            row = int(rows[0])
            rsid = rsids(store.read_column("variant_rsid", chunk)[rows])[0]
            name = f"{rsid or ''} {store.contig_id[int(block.contig[row])]}:{int(block.position[row]):,} {ref[0]}>{alt[0]}".strip()
            return name, block.study_block().rows(np.array([row]))
    raise ParameterError(f"{store.path} has no variant {variant}.")


def _rows_of(store: SumstatsStore, chunk: int, number: int, parts: list[str]) -> NDArray[np.int64]:
    if number:
        return np.flatnonzero(store.read_column("variant_rsid", chunk) == number)
    contig = plain_contig(parts[0])
    if contig not in store.contig_id:
        return np.empty(0, np.int64)
    at = store.contig_id.index(contig)
    here = store.read_column("variant_contig", chunk) == at
    return np.flatnonzero(here & (store.read_column("variant_position", chunk) == int(parts[1])))


def frequencies_of(store: SumstatsStore, first: str, second: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Read frequencies of two studies of a store."""
    pairs = [block.cells["eaf"] for block in store.blocks([first, second], ("eaf",))]
    both = np.concatenate(pairs).astype(np.float64) if pairs else np.empty((0, 2))
    return both[:, 0], both[:, 1]


@dataclass(frozen=True, eq=False)
class Correlations:
    """Genetic correlations of T traits, (T, T), NaN where there is none."""

    names: list[str]
    rg: NDArray[np.float64]
    standard_errors: NDArray[np.float64]
    p_values: NDArray[np.float64]


def read_correlations(path: Path) -> Correlations:
    """Read a table of pairs of traits: `trait1`, `trait2`, `rg`, `rg_se`, and `neg_log_10_p_value` or `p`.

    Raises
    ------
    InputFileError
        When it is no such table.
    """
    try:
        table = pd.read_csv(path, sep=None, engine="python")
    except (OSError, ValueError) as problem:
        raise InputFileError(f"{path} cannot be read as a table: {str(problem).splitlines()[0]}.") from problem
    table = table.rename(columns={"p1": "trait1", "p2": "trait2", "se": "rg_se"})
    lacking = [name for name in ("trait1", "trait2", "rg") if name not in table]
    if lacking:
        there = ", ".join(map(str, table.columns))
        raise InputFileError(f"{path} lacks the columns {', '.join(lacking)}; it has {there}.")
    firsts, seconds = table["trait1"].astype(str).tolist(), table["trait2"].astype(str).tolist()
    names = list(dict.fromkeys([*firsts, *seconds]))
    columns = {name: table[name].to_numpy(float) for name in ("rg", "rg_se", "p") if name in table}
    if "neg_log_10_p_value" in table:
        columns["p"] = 10.0 ** -table["neg_log_10_p_value"].to_numpy(float)
    matrices = {name: np.full((len(names), len(names)), np.nan) for name in ("rg", "rg_se", "p")}
    np.fill_diagonal(matrices["rg"], 1.0)
    one, other = ([names.index(name) for name in side] for side in (firsts, seconds))
    for name, values in columns.items():
        matrices[name][one, other] = matrices[name][other, one] = values
    return Correlations(names, matrices["rg"], matrices["rg_se"], matrices["p"])


__all__ = [
    "Correlations", "Origin", "find_origin", "frequencies_of", "lead_row", "r2_with_lead", "read_correlations", "read_genes",
    "read_genome", "read_region", "read_variant", "region_around",
]  # fmt: skip
