"""The vocabulary: dimensions, store variables and result columns, written once as data.

The store follows VCF-Zarr and sgkit names where they exist. ALT is the effect allele everywhere.
"""

from __future__ import annotations

from dataclasses import dataclass

FORMAT_VERSION = 1
"""Version of the store layout; a reader refuses what it does not know."""

VCF_ZARR_VERSION = "0.4"

VARIANTS = "variants"
SAMPLES = "samples"
ALLELES = "alleles"
CONTIGS = "contigs"
CHUNKS = "chunks"

CALL_ALT_COUNT = "call_alt_count"
VARIANT_CONTIG = "variant_contig"
VARIANT_POSITION = "variant_position"
VARIANT_ID = "variant_id"
VARIANT_ALLELE = "variant_allele"
VARIANT_ALT_COUNT = "variant_alt_count"
VARIANT_HET_COUNT = "variant_het_count"
VARIANT_MISSING_COUNT = "variant_missing_count"
CONTIG_ID = "contig_id"
SAMPLE_ID = "sample_id"
SAMPLE_FAMILY_ID = "sample_family_id"
SAMPLE_SEX = "sample_sex"
CHUNK_CRC32C = "call_alt_count_crc32c"

MISSING_CALL = 3
"""Value of `call_alt_count` for a missing call (also the fill value of padding)."""


@dataclass(frozen=True)
class Variable:
    """One array of the store: its dimensions, type and meaning."""

    dims: tuple[str, ...]
    dtype: str
    description: str


STORE_VARIABLES: dict[str, Variable] = {
    CALL_ALT_COUNT: Variable((VARIANTS, SAMPLES), "uint8", "copies of ALT: 0, 1, 2; 3 = missing"),
    VARIANT_CONTIG: Variable((VARIANTS,), "int32", "index into contig_id"),
    VARIANT_POSITION: Variable((VARIANTS,), "int64", "1-based position in base pairs"),
    VARIANT_ID: Variable((VARIANTS,), "str", "identifier as in the input, for example an rs number"),
    VARIANT_ALLELE: Variable((VARIANTS, ALLELES), "str", "REF, ALT; ALT is the effect allele"),
    VARIANT_ALT_COUNT: Variable((VARIANTS,), "int32", "copies of ALT among the called genotypes"),
    VARIANT_HET_COUNT: Variable((VARIANTS,), "int32", "samples with exactly one copy of ALT"),
    VARIANT_MISSING_COUNT: Variable((VARIANTS,), "int32", "samples without a call"),
    CONTIG_ID: Variable((CONTIGS,), "str", "contig names in the order of the input"),
    SAMPLE_ID: Variable((SAMPLES,), "str", "sample identifier (IID), unique"),
    SAMPLE_FAMILY_ID: Variable((SAMPLES,), "str", "family identifier (FID)"),
    SAMPLE_SEX: Variable((SAMPLES,), "int8", "0 unknown, 1 male, 2 female"),
    CHUNK_CRC32C: Variable((CHUNKS,), "uint32", "CRC-32C of each encoded chunk of call_alt_count"),
}


@dataclass(frozen=True)
class Column:
    """One column of a result table: its Arrow type, unit and meaning."""

    name: str
    arrow_type: str
    description: str


ASSOCIATION_COLUMNS: tuple[Column, ...] = (
    Column("chromosome", "string", "contig name"),
    Column("base_pair_location", "int64", "1-based position in base pairs"),
    Column("effect_allele", "string", "ALT"),
    Column("other_allele", "string", "REF"),
    Column("beta", "double", "effect of one copy of the effect allele, in units of the analysed trait"),
    Column("standard_error", "double", "standard error of beta"),
    Column("effect_allele_frequency", "double", "frequency of the effect allele in the trait's samples"),
    Column("neg_log_10_p_value", "double", "-log10 of the two-sided p-value"),
    Column("variant_id", "string", "chromosome_position_other_effect"),
    Column("rsid", "string", "variant identifier as in the input"),
    Column("n", "int32", "samples with the trait observed; missing calls count at the mean"),
    Column("info", "double", "imputation quality; empty for hard calls"),
    Column("chisq", "double", "test statistic, chi-squared with one degree of freedom under the null"),
    Column("exact", "bool", "true where the denominator is exact: every variant of the exact solver, "
           "lead variants of the stochastic one"),
)  # fmt: skip

H2_COLUMNS = ("trait", "n", "h2", "h2_se", "h2_mc_se", "sigma2_g", "sigma2_e", "lrt_p")

LEAD_COLUMNS = (
    "trait", "chromosome", "base_pair_location", "effect_allele", "other_allele", "rsid", "effect_allele_frequency",
    "beta", "standard_error", "neg_log_10_p_value", "chisq", "chisq_scan", "locus_start_bp", "locus_end_bp",
    "n_significant",
)  # fmt: skip
"""Columns of `leads.tsv`: one row a locus; `chisq` after the exact recomputation, `chisq_scan` before it."""
