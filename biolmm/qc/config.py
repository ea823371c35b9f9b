"""What quality control measures against: the thresholds beyond which a variant or sample is flagged."""

from __future__ import annotations

from dataclasses import dataclass, fields

from biolmm.contigs import normalise_build
from biolmm.errors import ParameterError

_SHARES = (
    "min_variant_call_rate", "min_hwe_p", "min_maf", "min_info", "min_missing_p", "min_sample_call_rate",
)  # fmt: skip


@dataclass(frozen=True)
class QcConfig:
    """Choices of `run_qc`.

    Parameters
    ----------
    min_variant_call_rate
        Variants with genotypes for a smaller share of the samples that have the place at all are flagged.
    min_hwe_p
        Variants whose exact mid-p value of Hardy–Weinberg proportions is smaller are flagged.
    min_maf, min_mac
        Variants with a smaller minor allele frequency or count are flagged; 0 flags none.
    min_info
        Variants imputed worse are flagged: INFO, or R² where there is no INFO. Hard calls have neither.
    min_missing_p
        Variants whose genotypes are missing more often in cases than in controls, or in one sex, with a smaller p are
        flagged.
    min_sample_call_rate
        Samples with genotypes for a smaller share of the variants they should have are flagged.
    max_abs_f
        Samples whose inbreeding coefficient is further from zero are flagged.
    max_f_deviations
        So are samples further than so many robust standard deviations from the median coefficient; 0 flags none.
    max_female_x_f, min_male_x_f
        A coefficient on X below the first is a woman's, above the second a man's, between them nobody's.
    max_singleton_deviations
        Samples with so many robust standard deviations more singletons than the median are flagged; 0 flags none.
    by_sex
        Also compare missingness between men and women.
    build
        Reference build (`GRCh37`, `GRCh38`), which tells where X and Y are pseudo-autosomal; without it nowhere.
    keep, remove
        Sample ids to look at alone, or to leave out.

    Raises
    ------
    ParameterError
        When a threshold is outside its range, or the build is unknown.
    """

    min_variant_call_rate: float = 0.98
    min_hwe_p: float = 1e-6
    min_maf: float = 0.0
    min_mac: float = 0.0
    min_info: float = 0.3
    min_missing_p: float = 1e-6
    min_sample_call_rate: float = 0.98
    max_abs_f: float = 0.2
    max_f_deviations: float = 6.0
    max_female_x_f: float = 0.2
    min_male_x_f: float = 0.8
    max_singleton_deviations: float = 6.0
    by_sex: bool = False
    build: str | None = None
    keep: tuple[str, ...] | None = None
    remove: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name in _SHARES and not 0 <= value <= 1:
                raise ParameterError(f"{field.name} is {value} but must be between 0 and 1.")
            if field.name.startswith("max_") and field.name != "max_female_x_f" and not value >= 0:
                raise ParameterError(f"{field.name} is {value} but must be at least 0.")
        if not self.min_mac >= 0:
            raise ParameterError(f"min_mac is {self.min_mac} but must be at least 0.")
        if not self.max_female_x_f <= self.min_male_x_f:
            raise ParameterError(
                f"max_female_x_f is {self.max_female_x_f}, above min_male_x_f = {self.min_male_x_f}: nobody could be told "
                "from the other sex. Give max_female_x_f the smaller value."
            )
        if self.build is not None:
            normalise_build(self.build)
