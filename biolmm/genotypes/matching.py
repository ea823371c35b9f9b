"""Find variants of one data set in another: by contig, position and alleles, whichever of the two is counted.

Several rows of one contig, position and pair of alleles, such as probes that were repeated, are paired one to one: by id
where ids agree, then the first with the first.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from biolmm.contigs import normalise_contigs
from biolmm.files.genotypes import VariantTable
from biolmm.genotypes.scaling import Scaling
from biolmm.store.data import GenotypeData

_AMBIGUOUS = frozenset({("A", "T"), ("T", "A"), ("C", "G"), ("G", "C")})
_COMPLEMENT = str.maketrans("ACGT", "TGCA")


@dataclass(frozen=True, eq=False)
class MatchedVariants:
    """Which variants that are wanted are in some genotypes, and where.

    Attributes
    ----------
    wanted
        (k,) rows of the table of wanted variants.
    variants
        (k,) their indices in the genotypes, ascending.
    swapped
        (k,) whether the genotypes count the other allele: a dosage d there is 2 − d here.
    n_wanted
        Rows of the table.
    n_ambiguous
        Matched variants of alleles A and T, or C and G, which look the same on both strands; they are taken as named.
    n_other_strand
        Variants not matched that would be if the strand were turned over.
    n_other_alleles
        Other variants not matched whose position is there, but not with these alleles.
    n_fewer_copies
        Variants not matched because the genotypes have them fewer times than the table.
    n_repeated
        Matched variants that are in the genotypes more than once.
    """

    wanted: NDArray[np.int64]
    variants: NDArray[np.int64]
    swapped: NDArray[np.bool_]
    n_wanted: int
    n_ambiguous: int
    n_other_strand: int
    n_other_alleles: int
    n_fewer_copies: int
    n_repeated: int

    @property
    def n_matched(self) -> int:
        """Variants found."""
        return len(self.wanted)

    @property
    def counts(self) -> dict[str, int]:
        """The numbers that a record keeps."""
        return {
            "wanted": self.n_wanted, "matched": self.n_matched, "swapped": int(self.swapped.sum()),
            "missing": self.n_wanted - self.n_matched, "strand_ambiguous": self.n_ambiguous,
            "other_strand": self.n_other_strand, "other_alleles": self.n_other_alleles,
            "fewer_copies": self.n_fewer_copies, "repeated": self.n_repeated,
        }  # fmt: skip

    @property
    def copies_text(self) -> str:
        """Say, for a warning, how many of those not matched are there, but fewer times; empty for none."""
        return f", {self.n_fewer_copies:,} of them because they are there fewer times" if self.n_fewer_copies else ""

    def scaling(self, wanted: Scaling) -> Scaling:
        """Return the maps of wanted variants as maps of the genotypes' own dosages, in the order of `variants`.

        `(2 − d − mean) · scale = (d − (2 − mean)) · (−scale)`.
        """
        mean, scale = wanted.mean[self.wanted], wanted.scale[self.wanted]
        return Scaling(
            np.where(self.swapped, 2 - mean, mean), np.where(self.swapped, -scale, scale), wanted.weight[self.wanted]
        )


def match_variants(wanted: VariantTable, data: GenotypeData) -> MatchedVariants:
    """Find wanted variants in genotypes by contig, position and the two alleles, in either order.

    Strands are not turned over: alleles are what both files say they are. Where the table or the genotypes have a variant
    several times, rows of the same id go together, then rows that count the same allele, then those that are left, in the
    order of both: nobody's own genotypes lose a copy.

    Notes
    -----
    **Cost**: sorts positions; alleles are compared only where a position is in both, ids only of repeated variants.
    """
    names = normalise_contigs([*data.contig_id, *wanted.contig_id])
    code = {name: i for i, name in enumerate(dict.fromkeys(names))}
    mine = np.array([code[name] for name in names[len(data.contig_id) :]], np.int64)
    theirs = np.array([code[name] for name in names[: len(data.contig_id)]], np.int64)
    key = _place(mine[wanted.contig], wanted.position)
    other = _place(theirs[data.variant_contig], data.variant_position)
    there = np.flatnonzero(np.isin(other, key))
    rows = np.flatnonzero(np.isin(key, other[there]))
    left = pd.DataFrame({"key": key[rows], "wanted": rows, **_alleles(wanted.ref[rows], wanted.alt[rows])})
    right = pd.DataFrame({"key": other[there], "variant": there, **_alleles(data.ref[there], data.alt[there])})
    _name_variants(left, right)
    left["copies"] = left["same"].map(right["same"].value_counts()).fillna(0)
    best = _paired(left, right, wanted, data).sort_values("variant", kind="stable")
    found = left[left["wanted"].isin(best["wanted"])]
    rest = left[left["copies"] == 0].merge(right, on="key", suffixes=("", "_there"))
    turned = rest[_on_other_strand(rest)]["wanted"].nunique()
    return MatchedVariants(
        wanted=best["wanted"].to_numpy(np.int64), variants=best["variant"].to_numpy(np.int64),
        swapped=best["swapped"].to_numpy(bool), n_wanted=wanted.n,
        n_ambiguous=sum(pair in _AMBIGUOUS for pair in zip(found["ref"], found["alt"], strict=True)),
        n_other_strand=turned, n_other_alleles=rest["wanted"].nunique() - turned,
        n_fewer_copies=int((left["copies"] > 0).sum()) - len(best), n_repeated=int((found["copies"] > 1).sum()),
    )  # fmt: skip


def _name_variants(left: pd.DataFrame, right: pd.DataFrame) -> None:
    """Add `same`, a number that rows of one place and pair of alleles share, and `turn`, which of the two is counted."""
    both = pd.concat([left[["key", "ref", "alt"]], right[["key", "ref", "alt"]]], ignore_index=True)
    codes = pd.factorize(pd.concat([both["ref"], both["alt"]], ignore_index=True))[0].reshape(2, -1)
    pair = pd.DataFrame({"key": both["key"], "low": codes.min(axis=0), "high": codes.max(axis=0)})
    same, turn = pair.groupby(["key", "low", "high"], sort=False).ngroup().to_numpy(), codes[0] > codes[1]
    for table, part in ((left, slice(0, len(left))), (right, slice(len(left), None))):
        table["same"], table["turn"] = same[part], turn[part]


def _paired(left: pd.DataFrame, right: pd.DataFrame, wanted: VariantTable, data: GenotypeData) -> pd.DataFrame:
    """Pair rows that are the same variant, one to one: columns `wanted`, `variant`, `swapped`."""
    left, right = left[["wanted", "same", "turn"]], right[["variant", "same", "turn"]]
    several = np.union1d(*(table["same"][table["same"].duplicated()].to_numpy() for table in (left, right)))
    alone, others = (table[~table["same"].isin(several)] for table in (left, right))
    pairs = [alone.merge(others, on="same", suffixes=("", "_there"))]
    left, right = (table[table["same"].isin(several)].copy() for table in (left, right))
    left["id"] = np.array(wanted.variant_id[left["wanted"]].tolist(), dtype=object)
    right["id"] = np.array(data.variant_id[right["variant"]].tolist(), dtype=object)
    for by in (["same", "id"], ["same"]):
        named = [~table["id"].isin(["", "."]) if "id" in by else slice(None) for table in (left, right)]
        found = _in_order(left[named[0]], right[named[1]], by)
        left, right = left[~left["wanted"].isin(found["wanted"])], right[~right["variant"].isin(found["variant"])]
        pairs.append(found)
    best = pd.concat(pairs, ignore_index=True)
    best["swapped"] = best["turn"].astype(bool) != best["turn_there"].astype(bool)
    return best


def _in_order(left: pd.DataFrame, right: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    """Pair the n-th row of a group with the n-th there: of those that count the same allele, then of those left.

    Where both have as many rows, but not as many that count each allele, alleles say nothing about which belong together:
    the order alone decides.
    """
    counts = [table.groupby(by)["turn"].agg(["size", "sum"]) for table in (left, right)]
    one, other = counts[0].align(counts[1], join="inner")
    ordered = one.index[(one["size"] == other["size"]) & (one["sum"] != other["sum"])]
    pairs = []
    for aligned in (True, False):
        ranked = []
        for table in (left, right):
            free = pd.MultiIndex.from_frame(table[by]) if len(by) > 1 else pd.Index(table[by[0]])
            side = table["turn"] & ~free.isin(ordered) if aligned else False
            table = table.assign(side=side)
            ranked.append(table.assign(rank=table.groupby([*by, "side"]).cumcount()))
        found = ranked[0].merge(ranked[1], on=[*by, "side", "rank"], suffixes=("", "_there"))
        left, right = left[~left["wanted"].isin(found["wanted"])], right[~right["variant"].isin(found["variant"])]
        pairs.append(found[["wanted", "variant", "turn", "turn_there"]])
    return pd.concat(pairs, ignore_index=True)


def _place(contig: NDArray[np.int64], position: NDArray[np.int64]) -> NDArray[np.int64]:
    return (contig << np.int64(40)) | np.asarray(position, dtype=np.int64)


def _alleles(ref: NDArray[np.str_], alt: NDArray[np.str_]) -> dict[str, list[str]]:
    return {"ref": [str(x).upper() for x in ref.tolist()], "alt": [str(x).upper() for x in alt.tolist()]}


def _on_other_strand(pairs: pd.DataFrame) -> NDArray[np.bool_]:
    """Say which pairs of variants agree when one strand is turned over."""
    turned = [
        {ref.translate(_COMPLEMENT)[::-1], alt.translate(_COMPLEMENT)[::-1]} == {other_ref, other_alt}
        for ref, alt, other_ref, other_alt in zip(
            pairs["ref"], pairs["alt"], pairs["ref_there"], pairs["alt_there"], strict=True
        )
    ]
    return np.array(turned, dtype=bool)
