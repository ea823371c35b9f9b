"""The table of variants, and which of them are flagged for what."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from biolmm.contigs import Ploidy
from biolmm.qc.config import QcConfig
from biolmm.qc.tally import Columns, Tally
from biolmm.store.data import GenotypeData

CALL_RATE, HWE, FREQUENCY, IMPUTATION, MISSING_CASES, MISSING_SEXES = (
    "call_rate", "hwe", "frequency", "imputation", "missing_by_case", "missing_by_sex",
)  # fmt: skip
VARIANT_REASONS = (CALL_RATE, HWE, FREQUENCY, IMPUTATION, MISSING_CASES, MISSING_SEXES)
"""Why variants are flagged."""

PLOIDY_NAMES = {Ploidy.DIPLOID: "diploid", Ploidy.X: "X", Ploidy.Y: "Y", Ploidy.HAPLOID: "haploid"}

_BATCH_ROWS = 500_000

_NUMBERS = (
    "n", "n_missing", "call_rate", "n_hom_ref", "n_het", "n_hom_alt", "n_hap_ref", "n_hap_het", "n_hap_alt",
    "effect_allele_frequency", "maf", "mac", "hwe_p", "info", "r2", "missing_p_cases", "missing_p_sexes",
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class VariantQuality:
    """What was found of each variant, in the order of the genotypes.

    Attributes
    ----------
    data
        The genotypes, for names and positions.
    ploidy
        (M,) `Ploidy` of each variant.
    columns
        Numbers by name, each (M,); NaN where one is not defined.
    reasons
        (M,) a bit for each of `VARIANT_REASONS`.
    """

    data: GenotypeData
    ploidy: NDArray[np.uint8]
    columns: Columns
    reasons: NDArray[np.uint8]

    @property
    def flagged(self) -> NDArray[np.bool_]:
        """Whether a variant is flagged for any reason; (M,)."""
        return self.reasons > 0

    @property
    def n_flagged(self) -> dict[str, int]:
        """How many variants each reason flags."""
        return {name: int((self.reasons >> i & 1).sum()) for i, name in enumerate(VARIANT_REASONS)}

    def batches(self, rows: int = _BATCH_ROWS) -> Iterator[pa.Table]:
        """Give the table in parts of so many variants; what is not defined is null."""
        for start in range(0, max(len(self.ploidy), 1), rows):
            yield self._batch(slice(start, start + rows))

    def _batch(self, part: slice) -> pa.Table:
        data = self.data
        contigs = np.array(data.contig_id, object)[data.variant_contig[part]]
        ploidies = np.array([PLOIDY_NAMES[kind] for kind in Ploidy], object)[self.ploidy[part]]
        named = {
            "chromosome": pa.array(contigs, pa.string()),
            "base_pair_location": pa.array(data.variant_position[part], pa.int64()),
            "rsid": pa.array(data.variant_id[part].tolist(), pa.string()),
            "effect_allele": pa.array(data.alt[part].tolist(), pa.string()),
            "other_allele": pa.array(data.ref[part].tolist(), pa.string()),
            "ploidy": pa.array(ploidies, pa.string()),
        }
        numbers = {name: pa.array(self.columns[name][part], from_pandas=True) for name in _NUMBERS}
        texts = np.array([reason_text(code) for code in range(2 ** len(VARIANT_REASONS))], object)
        return pa.table(named | numbers | {"flagged_for": pa.array(texts[self.reasons[part]], pa.string())})


def reason_text(code: int) -> str:
    """Spell out the bits of a variant's reasons.

    Examples
    --------
    >>> reason_text(3)
    'call_rate,hwe'
    """
    return ",".join(name for i, name in enumerate(VARIANT_REASONS) if code >> i & 1)


def judge_variants(data: GenotypeData, ploidy: NDArray[np.uint8], tally: Tally, config: QcConfig) -> VariantQuality:
    """Put the columns together and flag what is beyond the thresholds.

    A variant that nobody can have (Y where no man is known) has no call rate and is not flagged for one.
    """
    names = tally.variants[0] if tally.variants else {}
    columns: dict[str, NDArray[Any]] = {name: tally.column(name) for name in names}
    tally.variants.clear()
    frequency = columns.pop("frequency")
    n = columns["n"]
    called = (n - columns["n_missing"]).astype(np.float64)
    columns["call_rate"] = np.divide(called, n, out=np.full(len(n), np.nan), where=n > 0)
    columns["effect_allele_frequency"] = frequency
    columns["maf"] = np.minimum(frequency, 1 - frequency)
    imputation = np.where(np.isnan(columns["info"]), columns["r2"], columns["info"])
    by_case, by_sex = columns["missing_p_cases"], columns["missing_p_sexes"]
    flags = {
        CALL_RATE: columns["call_rate"] < config.min_variant_call_rate,
        HWE: columns["hwe_p"] < config.min_hwe_p,
        FREQUENCY: (columns["maf"] < config.min_maf) | (columns["mac"] < config.min_mac),
        IMPUTATION: imputation < config.min_info,
        MISSING_CASES: by_case < config.min_missing_p,
        MISSING_SEXES: by_sex < config.min_missing_p,
    }
    reasons = np.zeros(len(n), np.uint8)
    for i, name in enumerate(VARIANT_REASONS):
        reasons |= flags[name].astype(np.uint8) << np.uint8(i)
    return VariantQuality(data, ploidy, columns, reasons)
