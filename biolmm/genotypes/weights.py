"""Weights of variants, several columns of them: a file, and their sums over the genotypes of other people.

Loadings of principal components and SNP effects are both of this form.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from biolmm.atomic import atomic_path
from biolmm.chunks import n_threads
from biolmm.errors import InputFileError, VariantMismatchError, named
from biolmm.files.genotypes import Strings, VariantTable, as_strings
from biolmm.genotypes.matching import MatchedVariants, match_variants
from biolmm.genotypes.products import sample_products, with_scaling
from biolmm.genotypes.scaling import Scaling
from biolmm.genotypes.source import ChosenGenotypes
from biolmm.memory import Need, StagePlan
from biolmm.stages import content_hash
from biolmm.store.data import GenotypeData

FORMAT = 1
_ROW_GROUP = 65_536
_PROCESS_BYTES = 600 * 2**20
_TEXT = ("chromosome", "rsid", "other_allele", "effect_allele")
_COLUMNS = ("chromosome", "base_pair_location", "rsid", "other_allele", "effect_allele", "effect_allele_frequency",
            "scale")  # fmt: skip


@dataclass(frozen=True, eq=False)
class Applied:
    """Weighted sums over the genotypes of some people.

    Attributes
    ----------
    scores
        (N, r) `Σ_j z_ij w_j` over the variants that were found.
    matched
        Which those are.
    gram
        (r, r) `Wᵀ W` of the variants that were found.
    """

    scores: NDArray[np.float64]
    matched: MatchedVariants
    gram: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class VariantWeights:
    """Weights of standardised genotypes `z = (d − 2f) · scale`; a missing genotype is z = 0.

    Attributes
    ----------
    variants
        Which variants; ALT is the allele that d counts.
    frequency
        (M,) f, that of ALT in the cohort that the weights are from.
    scale
        (M,) of each variant; 1 where weights are per copy of ALT.
    names
        Of the columns.
    W
        (M, r) weights.
    kind
        What they are: `loadings` or `effects`.
    extra
        What else the file says, as JSON.
    """

    variants: VariantTable
    frequency: NDArray[np.float64]
    scale: NDArray[np.float64]
    names: tuple[str, ...]
    W: NDArray[np.float64]
    kind: str
    extra: Mapping[str, Any] = field(default_factory=dict)

    @property
    def scaling(self) -> Scaling:
        """The maps of the variants."""
        return Scaling(2 * self.frequency, self.scale, np.ones(len(self.frequency)))

    def apply(self, data: GenotypeData, sample_index: NDArray[np.int64] | None = None) -> Applied:
        """Add the weights up over the genotypes of other people: all columns in one pass.

        Parameters
        ----------
        data
            Genotypes that hold these variants, in any order, with either allele counted.
        sample_index
            Whose; everybody's by default.

        Raises
        ------
        VariantMismatchError
            When none of the variants is there.
        """
        matched = match_variants(self.variants, data)
        if not matched.n_matched:
            raise VariantMismatchError(
                f"None of the {self.variants.n:,} variants with weights is in '{data.path}' ({data.n_variants:,} variants): "
                f"the weights have {_first(self.variants)}. Contigs, positions (the same build) and alleles must agree."
            )
        chosen = np.arange(data.n_samples) if sample_index is None else sample_index
        source = ChosenGenotypes.choose(data, chosen, matched.variants)
        W = self.W[matched.wanted]
        return Applied(sample_products(with_scaling(source, matched.scaling(self.scaling)), W), matched, W.T @ W)

    def digest(self) -> str:
        """Hash everything but the ids: what a reader checks."""
        table = self.variants
        contigs = np.array(table.contig_id, dtype=object)[table.contig]
        texts = [
            "\0".join(strings).encode() for strings in (contigs, table.ref.tolist(), table.alt.tolist(), self.names)
        ]
        numbers = (np.asarray(table.position, np.int64), self.frequency, self.scale, self.W)
        return content_hash(*texts, *(np.ascontiguousarray(array).tobytes() for array in numbers))

    def write(self, path: Path, prefix: str = "") -> Path:
        """Write Parquet, one row a variant; columns of weights are named `prefix` + name."""
        table = self.variants
        contig = np.array(table.contig_id, dtype=object)[table.contig]
        fixed = {
            "chromosome": pa.array(contig, pa.string()),
            "base_pair_location": pa.array(table.position, pa.int64()),
            "rsid": pa.array(table.variant_id.tolist(), pa.string()),
            "other_allele": pa.array(table.ref.tolist(), pa.string()),
            "effect_allele": pa.array(table.alt.tolist(), pa.string()),
            "effect_allele_frequency": pa.array(self.frequency),
            "scale": pa.array(self.scale),
        }
        weights = {prefix + name: pa.array(np.ascontiguousarray(self.W[:, k])) for k, name in enumerate(self.names)}
        known = {"format": FORMAT, "kind": self.kind, "names": list(self.names), "prefix": prefix,
                 "digest": self.digest(), **self.extra}  # fmt: skip
        arrow = pa.table({**fixed, **weights}).replace_schema_metadata({"biolmm": json.dumps(known)})
        with atomic_path(path) as aside:
            pq.write_table(arrow, aside, compression="zstd", row_group_size=_ROW_GROUP, write_page_checksum=True)
        return path


def read_weights(path: Path, kind: str) -> VariantWeights:
    """Read what `VariantWeights.write` wrote.

    Parameters
    ----------
    path
        The file.
    kind
        `loadings` or `effects`, which the file must hold.

    Raises
    ------
    InputFileError
        When the file is missing, damaged, of another version or kind, or holds values that are not finite.
    """
    arrow, known = _read_parquet(path)
    names, prefix = known.get("names"), known.get("prefix")
    if known.get("format") != FORMAT or known.get("kind") != kind or not isinstance(names, list) or prefix is None:
        raise InputFileError(
            f"'{path}' holds {known.get('kind') or 'no'} weights of format {known.get('format')}, not {kind} of format "
            f"{FORMAT} as biolmm writes them."
        )
    columns = [f"{prefix}{name}" for name in names]
    absent = [name for name in (*_COLUMNS, *columns) if name not in arrow.column_names]
    if absent:
        raise InputFileError(f"'{path}' lacks the columns {named(absent)}: write it again.")
    if not arrow.num_rows:
        raise InputFileError(f"'{path}' holds no variants.")
    text = {name: as_strings([x or "" for x in arrow[name].to_pylist()]) for name in _TEXT}
    numbers = {name: arrow[name].to_numpy().astype(np.float64) for name in (*_COLUMNS[5:], *columns)}
    broken = [name for name, values in numbers.items() if not np.isfinite(values).all()]
    if broken:
        raise InputFileError(
            f"'{path}' holds values that are missing or not finite in {named(broken)}: write it again."
        )
    extra = {
        name: value for name, value in known.items() if name not in ("format", "kind", "names", "prefix", "digest")
    }
    weights = VariantWeights(
        variant_table(text["chromosome"], arrow["base_pair_location"].to_numpy(), text["rsid"], text["other_allele"],
                      text["effect_allele"]),
        numbers["effect_allele_frequency"], numbers["scale"], tuple(names),
        np.column_stack([numbers[name] for name in columns]), kind, extra,
    )  # fmt: skip
    if weights.digest() != known.get("digest"):
        raise InputFileError(f"'{path}' has changed since it was written: its checksum does not fit. Write it again.")
    return weights


def _read_parquet(path: Path) -> tuple[pa.Table, dict[str, Any]]:
    """Read a table, checksums of its pages verified, and what biolmm noted in it."""
    try:
        arrow = pq.ParquetFile(path, page_checksum_verification=True).read()
        known = json.loads((arrow.schema.metadata or {}).get(b"biolmm", b"{}"))
    except FileNotFoundError:
        raise InputFileError(f"'{path}' is missing.") from None
    except (OSError, ValueError, pa.ArrowException) as error:
        raise InputFileError(
            f"'{path}' is not a Parquet file that can be read ({str(error).splitlines()[0]})."
        ) from None
    return arrow, known if isinstance(known, dict) else {}


def plan_weights(data: GenotypeData, n_samples: int, n_weights: int, n_columns: int, stage: str) -> StagePlan:
    """Plan what `VariantWeights.apply` will read and hold at most: every variant with weights is there."""
    chunk = data.chunk_variants * data.encoding.row_bytes(data.n_samples)
    found = min(n_weights, data.n_variants)
    return StagePlan(
        stage=stage, n_passes=1, n_tasks=max(1, len(data.contig_id)), flop=2.0 * n_samples * found * n_columns,
        read_bytes=found * data.encoding.row_bytes(data.n_samples), written_bytes=20 * n_samples * n_columns,
        needs=(
            Need("interpreter and libraries", _PROCESS_BYTES),
            Need("chunks of genotypes in hand", 3 * n_threads() * chunk),
            Need("weights", n_weights * (24 * n_columns + 500)),
            Need("positions of the genotypes", 40 * data.n_variants),
            Need("partial sums", 12 * n_samples * n_columns * (n_threads() + 4)),
        ),
    )  # fmt: skip


def variant_table(
    contig: Strings, position: NDArray[np.int64], variant_id: Strings, ref: Strings, alt: Strings
) -> VariantTable:
    """Make a table of variants whose contigs are given by name."""
    names, index = np.unique(contig, return_inverse=True)
    return VariantTable(index.astype(np.int32), tuple(names.tolist()), position, variant_id, ref, alt)


def table_of(data: GenotypeData, variants: NDArray[np.int64]) -> VariantTable:
    """Return some variants of genotypes as a table."""
    return VariantTable(
        data.variant_contig[variants], data.contig_id, data.variant_position[variants],
        as_strings(data.variant_id[variants]), as_strings(data.ref[variants]), as_strings(data.alt[variants]),
    )  # fmt: skip


def _first(table: VariantTable) -> str:
    return f"{table.contig_id[table.contig[0]]}:{table.position[0]} {table.ref[0]} {table.alt[0]}"
