"""Find variants of one data set in another: by contig, position and alleles, whichever of the two is counted."""

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
        Other variants not matched whose position is there.
    n_repeated
        Matched variants that are in the genotypes more than once: the first is taken, one that is not swapped before
        one that is.
    """

    wanted: NDArray[np.int64]
    variants: NDArray[np.int64]
    swapped: NDArray[np.bool_]
    n_wanted: int
    n_ambiguous: int
    n_other_strand: int
    n_other_alleles: int
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
            "other_strand": self.n_other_strand, "other_alleles": self.n_other_alleles, "repeated": self.n_repeated,
        }  # fmt: skip

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

    Strands are not turned over: alleles are what both files say they are.

    Notes
    -----
    **Cost**: sorts positions; alleles are compared only where a position is in both.
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
    pairs = left.merge(right, on="key", suffixes=("", "_there"))
    same = (pairs["ref"] == pairs["ref_there"]) & (pairs["alt"] == pairs["alt_there"])
    pairs["swapped"] = (pairs["ref"] == pairs["alt_there"]) & (pairs["alt"] == pairs["ref_there"]) & ~same
    fits = pairs[same | pairs["swapped"]].sort_values(["wanted", "swapped", "variant"], kind="stable")
    best = fits.drop_duplicates("wanted").drop_duplicates("variant").sort_values("variant", kind="stable")
    rest = pairs[~pairs["wanted"].isin(best["wanted"])]
    turned = rest[_on_other_strand(rest)]["wanted"].nunique()
    ambiguous = sum(pair in _AMBIGUOUS for pair in zip(best["ref"], best["alt"], strict=True))
    return MatchedVariants(
        wanted=best["wanted"].to_numpy(np.int64), variants=best["variant"].to_numpy(np.int64),
        swapped=best["swapped"].to_numpy(bool), n_wanted=wanted.n, n_ambiguous=ambiguous, n_other_strand=turned,
        n_other_alleles=rest["wanted"].nunique() - turned, n_repeated=int((fits["wanted"].value_counts() > 1).sum()),
    )  # fmt: skip


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
