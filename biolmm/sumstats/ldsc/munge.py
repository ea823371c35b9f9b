"""Munging: from association results to the z, N and alleles of good variants, and the reason of every one left out.

The rules are those of LDSC's munge_sumstats, but no p-value is too small: z is beta / se, or comes from −log₁₀ p.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import product
from typing import Literal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from biolmm.errors import InputFileError, ParameterError, VariantMismatchError, named
from biolmm.sumstats.meta.tails import z_from_neg_log10_p

BASES = ("A", "C", "G", "T")
OTHER_ALLELE = 4
"""Code of an allele that is not one base, or is not known."""

COLUMNS = ("rsid", "chromosome", "base_pair_location", "effect_allele", "other_allele", "z", "beta", "standard_error",
           "neg_log_10_p_value", "p_value", "n", "info", "effect_allele_frequency")  # fmt: skip

N_SHARE = 1.5
"""A variant is left out where its N is below the 90th percentile of all N over this."""

MEDIAN_LIMIT = 0.1
ONE_SIDED = 0.9

Vector = NDArray[np.float64]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class MungeConfig:
    """Which variants are good enough.

    Attributes
    ----------
    min_info
        Imputation quality, where there is a column of it.
    min_maf
        Minor allele frequency must be above, where there is a column of it.
    n
        Sample size of every variant, where there is no column of it.
    min_n
        Least sample size; None: the 90th percentile over 1.5.
    alleles
        `snps`: two single bases that tell the strand; `any`: all, where alleles do not matter.
    """

    min_info: float = 0.9
    min_maf: float = 0.01
    n: float | None = None
    min_n: float | None = None
    alleles: Literal["snps", "any"] = "snps"

    def __post_init__(self) -> None:
        """Check the numbers."""
        for name, value in (("n", self.n), ("min_n", self.min_n)):
            if value is not None and not value > 0:
                raise ParameterError(f"{name} is {value:g} but must be above 0.")


@dataclass(frozen=True, eq=False)
class TraitStatistics:
    """A trait's statistics at variants.

    Attributes
    ----------
    name, source
        Of the trait, and where it comes from.
    snp
        (n,) identifiers, unique.
    alleles
        (n, 2) int8 codes of effect and other allele: 0–3 for A, C, G, T, 4 for anything else.
    z, n
        (n,) statistics of the effect allele, and sample sizes.
    dropped
        How many records were left out, by reason, in order.
    n_records
        Records before.
    flags
        What looks wrong.
    """

    name: str
    source: str
    snp: pa.Array
    alleles: NDArray[np.int8]
    z: Vector
    n: Vector
    dropped: Mapping[str, int] = field(default_factory=dict)
    n_records: int = 0
    flags: tuple[str, ...] = ()

    def __len__(self) -> int:
        """Count the variants."""
        return len(self.z)

    def take(self, rows: NDArray[np.int64] | Mask) -> TraitStatistics:
        """Choose variants."""
        index = np.flatnonzero(rows) if rows.dtype == bool else rows
        return TraitStatistics(self.name, self.source, self.snp.take(pa.array(index)), self.alleles[index], self.z[index],
                               self.n[index], self.dropped, self.n_records, self.flags)  # fmt: skip


def allele_codes(column: pa.Array | pa.ChunkedArray) -> NDArray[np.int8]:
    """Code alleles, in either case: 0–3 for A, C, G, T, 4 for anything else.

    Examples
    --------
    >>> allele_codes(pa.array(["A", "t", "GT", None])).tolist()
    [0, 3, 4, 4]
    """
    upper = pc.utf8_upper(column.cast(pa.string()))
    found = pc.fill_null(pc.index_in(upper, pa.array(BASES)), OTHER_ALLELE)
    return np.asarray(found.to_numpy(zero_copy_only=False) if isinstance(found, pa.Array) else found.to_numpy()).astype(
        np.int8
    )


def are_snps(alleles: NDArray[np.int8]) -> Mask:
    """Tell which pairs are two different bases that are not each other's complement."""
    one, other = alleles[:, 0], alleles[:, 1]
    return np.asarray((one < OTHER_ALLELE) & (other < OTHER_ALLELE) & (one != other) & (one + other != 3))


def munge(
    table: pa.Table | pd.DataFrame,
    config: MungeConfig | None = None,
    *,
    name: str = "trait",
    source: str = "the table",
    snp_list: TraitStatistics | None = None,
) -> TraitStatistics:
    """Keep the good variants of a table of results.

    Parameters
    ----------
    table
        Columns by the names of `COLUMNS`, others are passed over: rsid; z, or beta and standard_error, or
        neg_log_10_p_value or p_value with the sign of beta; n, unless it is given; the rest where it is there.
    config
        The thresholds.
    name, source
        Of the trait, and of the table for messages.
    snp_list
        Variants to keep, with their alleles (`read_snp_list`); effects are then of its first allele.

    Returns
    -------
    TraitStatistics
        In the order of the table.

    Raises
    ------
    InputFileError
        When columns are missing, or nine tenths of all effects have one sign, as odds ratios have.
    VariantMismatchError
        When nothing is left.

    Examples
    --------
    >>> table = pd.DataFrame({"rsid": ["rs1", "rs2", "rs3"], "effect_allele": ["A", "A", "AT"], "z": [1.0, -2.0, 3.0],
    ...                       "other_allele": ["G", "T", "A"], "n": [100, 100, 100]})
    >>> munged = munge(table)
    >>> munged.snp.to_pylist(), munged.z.tolist(), munged.dropped
    (['rs1'], [1.0], {'no SNP': 1, 'palindromic': 1})
    """
    config = config or MungeConfig()
    if isinstance(table, pd.DataFrame):
        table = pa.Table.from_pandas(table[[c for c in table.columns if c in COLUMNS]], preserve_index=False)
    if "rsid" not in table.column_names:
        raise InputFileError(f"{source} has no column rsid: it has {named(table.column_names, 8)}.")
    sieve = _Sieve(table.num_rows)
    snp = table["rsid"].cast(pa.string()).combine_chunks()
    known = pc.fill_null(pc.and_(pc.not_equal(snp, "."), pc.not_equal(snp, "")), False)
    sieve.keep(known.to_numpy(zero_copy_only=False), "no identifier")
    z = _statistic(table, source, sieve)
    n = _sizes(table, config, source)
    sieve.keep(np.isfinite(n) & (n > 0), "no sample size")
    info, frequency = _numbers(table, "info"), _numbers(table, "effect_allele_frequency")
    with np.errstate(invalid="ignore"):
        if info is not None:
            sieve.keep(~(info < config.min_info), "INFO too low")
        if frequency is not None:
            sieve.keep(~((frequency < 0) | (frequency > 1)), "impossible frequency")
            # 1 − 0.99 is above 0.01 in floating point: exchanged alleles must not change what is kept.
            rare = (frequency <= config.min_maf) | (frequency >= 1 - config.min_maf)
            sieve.keep(~rare, "too rare")
    alleles = _alleles(table, config, source, sieve)
    good = sieve.good
    codes = pc.fill_null(snp.dictionary_encode().indices, -1).to_numpy(zero_copy_only=False)
    first = np.zeros(len(good), bool)
    rows = np.flatnonzero(good)
    first[rows[np.unique(codes[rows], return_index=True)[1]]] = True
    sieve.keep(first, "repeated identifier")
    least = config.min_n
    if least is None and sieve.good.any():
        least = float(np.quantile(n[sieve.good], 0.9)) / N_SHARE
    sieve.keep(n >= (least or 0.0), "sample size too small")
    kept = np.flatnonzero(sieve.good)
    found = TraitStatistics(name, source, snp.take(pa.array(kept)), alleles[kept], z[kept], n[kept], sieve.dropped,
                            table.num_rows, _check_signs(z[kept], source))  # fmt: skip
    if snp_list is not None:
        found = merge_alleles(found, snp_list)
    if not len(found):
        raise VariantMismatchError(
            f"None of the {table.num_rows:,} records of {source} can be used: {reasons(found.dropped)}."
        )
    return found


def reasons(dropped: Mapping[str, int]) -> str:
    """Write reasons with their counts.

    Examples
    --------
    >>> reasons({"too rare": 1200, "no SNP": 3})
    '1,200 too rare, 3 no SNP'
    """
    return ", ".join(f"{n:,} {why}" for why, n in dropped.items()) or "nothing left out"


def merge_alleles(trait: TraitStatistics, snp_list: TraitStatistics) -> TraitStatistics:
    """Keep variants that are in a list with the same alleles, of either strand; effects become those of its first allele."""
    at = pc.index_in(trait.snp, snp_list.snp)
    listed = at.is_valid().to_numpy(zero_copy_only=False)
    rows = pc.fill_null(at, 0).to_numpy(zero_copy_only=False)
    sign = relative_sign(trait.alleles, snp_list.alleles[rows])
    dropped = dict(trait.dropped) | {
        "not in the list": int((~listed).sum()),
        "other alleles than the list": int((listed & (sign == 0)).sum()),
    }
    kept = np.flatnonzero(listed & (sign != 0))
    chosen = trait.take(kept)
    return TraitStatistics(trait.name, trait.source, chosen.snp, snp_list.alleles[rows[kept]], chosen.z * sign[kept], chosen.n,
                           {why: n for why, n in dropped.items() if n}, trait.n_records, trait.flags)  # fmt: skip


def relative_sign(alleles: NDArray[np.int8], other: NDArray[np.int8]) -> Vector:
    """Say how effects of pairs of alleles compare: 1 of the same first allele, −1 of the other one, 0 of other alleles.

    Either strand will do. Palindromic pairs tell no strand: 0.

    Examples
    --------
    >>> A, C, G, T = 0, 1, 2, 3
    >>> pairs = np.array([[A, G], [T, C], [G, A], [C, T], [A, C], [A, T]], np.int8)
    >>> relative_sign(pairs, np.array([[A, G]] * 6, np.int8)).tolist()
    [1.0, 1.0, -1.0, -1.0, 0.0, 0.0]
    """
    return np.asarray(_SIGNS[_pair_codes(alleles), _pair_codes(other)])


def _pair_codes(alleles: NDArray[np.int8]) -> NDArray[np.int8]:
    """Number pairs of alleles."""
    return np.asarray(alleles[:, 0] * (OTHER_ALLELE + 1) + alleles[:, 1])


def _make_signs() -> Vector:
    """Compare every pair of alleles with every other."""
    one = np.array(list(product(range(OTHER_ALLELE + 1), repeat=2)), np.int8)
    left, right = one[:, None], one[None, :]
    snps = are_snps(one)[:, None] & are_snps(one)[None, :]

    def equal(pairs: NDArray[np.int8]) -> Mask:
        return np.asarray((pairs == right).all(axis=2))

    same = equal(left) | equal(3 - left)
    swapped = equal(left[:, :, ::-1]) | equal(3 - left[:, :, ::-1])
    return np.where(snps & same, 1.0, np.where(snps & swapped, -1.0, 0.0))


_SIGNS = _make_signs()


class _Sieve:
    """Which records are still good, and how many went for which reason."""

    def __init__(self, n: int) -> None:
        self.good = np.ones(n, bool)
        self.dropped: dict[str, int] = {}

    def keep(self, passes: Mask, why: str) -> None:
        """Drop records that do not pass."""
        n = int(np.count_nonzero(self.good & ~passes))
        if n:
            self.dropped[why] = self.dropped.get(why, 0) + n
        self.good &= passes


def _numbers(table: pa.Table, name: str) -> Vector | None:
    """Give a column as float64, NaN where it is null; None where there is none or it is null throughout."""
    if name not in table.column_names or table[name].null_count == table.num_rows:
        return None
    try:
        return np.array(pc.fill_null(table[name].cast(pa.float64()), np.nan).to_numpy())
    except pa.ArrowInvalid as error:
        raise InputFileError(
            f"column {name} holds something else than numbers: {str(error).splitlines()[0]}."
        ) from None


def _statistic(table: pa.Table, source: str, sieve: _Sieve) -> Vector:
    """Compute z from what there is, with all its digits."""
    z, beta, se = (_numbers(table, name) for name in ("z", "beta", "standard_error"))
    tail, p = _numbers(table, "neg_log_10_p_value"), _numbers(table, "p_value")
    if z is not None:
        sieve.keep(np.isfinite(z), "no statistic")
        return z
    if beta is not None and se is not None:
        sieve.keep(np.isfinite(beta) & np.isfinite(se), "no statistic")
        with np.errstate(invalid="ignore", divide="ignore"):
            sieve.keep(se > 0, "standard error not above 0")
            return np.asarray(beta / se)
    if beta is None or (tail is None and p is None):
        raise InputFileError(
            f"{source} has no z, no beta with standard_error, and no neg_log_10_p_value or p_value with beta: its columns are "
            f"{named(table.column_names, 12)}."
        )
    sieve.keep(np.isfinite(beta), "no statistic")
    with np.errstate(invalid="ignore", divide="ignore"):
        if tail is None and p is not None:
            sieve.keep(p != 0, "p is 0: give neg_log_10_p_value or standard_error")
            tail = -np.log10(p)
        assert tail is not None
        sieve.keep(np.isfinite(tail) & (tail >= 0), "p is not in (0, 1]")
        return np.asarray(z_from_neg_log10_p(np.where(tail >= 0, tail, 0.0)) * np.sign(beta))


def _sizes(table: pa.Table, config: MungeConfig, source: str) -> Vector:
    n = _numbers(table, "n")
    if n is None and config.n is None:
        raise InputFileError(f"{source} has no column n: say how many samples there are with --n.")
    return np.full(table.num_rows, config.n, np.float64) if config.n is not None or n is None else n


def _alleles(table: pa.Table, config: MungeConfig, source: str, sieve: _Sieve) -> NDArray[np.int8]:
    names = ("effect_allele", "other_allele")
    if any(name not in table.column_names for name in names):
        if config.alleles == "snps":
            raise InputFileError(
                f"{source} has no columns effect_allele and other_allele: it has {named(table.column_names, 12)}."
            )
        return np.full((table.num_rows, 2), OTHER_ALLELE, np.int8)
    alleles = np.column_stack([allele_codes(table[name]) for name in names])
    if config.alleles == "snps":
        sieve.keep((alleles < OTHER_ALLELE).all(axis=1) & (alleles[:, 0] != alleles[:, 1]), "no SNP")
        sieve.keep(are_snps(alleles), "palindromic")
    return alleles


def _check_signs(z: Vector, source: str) -> tuple[str, ...]:
    """Refuse odds ratios taken for effects; flag a median away from 0."""
    if len(z) < 100:
        return ()
    positive = float(np.mean(z > 0)) / max(float(np.mean(z != 0)), 1e-9)
    if not 1 - ONE_SIDED <= positive <= ONE_SIDED:
        raise InputFileError(
            f"{source}: {100 * positive:.0f} % of the effects are positive, where about half should be. Are they odds ratios "
            "or −log10 p? Take the logarithm of odds ratios, and give signed effects."
        )
    median = float(np.median(z))
    if abs(median) > MEDIAN_LIMIT:
        return (f"the median z is {median:.2f}, not near 0: are all effects of the effect allele?",)
    return ()
