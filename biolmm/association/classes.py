"""Classes of variants that have a γ of their own: by allele frequency, and by whether the matrix contains the variant."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from biolmm.genotypes.operator import GenotypeOperator
from biolmm.genotypes.source import ChosenGenotypes
from biolmm.linalg.probes import row_keys
from biolmm.reml.model import NullModel

MAF_EDGES = (0.01, 0.05)
"""Minor allele frequencies that separate the classes."""
MAF_CLASSES = ("<1%", "1-5%", ">=5%")
RELATIONS = ("", ", in the model", ", near the model")
"""What a variant is to the matrix it is tested against: its contig is not in it (left out, or never there); it is one of
the variants the matrix is made of; it is not, but its contig has some."""
CLASSES = tuple(maf + relation for relation in RELATIONS for maf in MAF_CLASSES)
"""Columns of γ and labels in `gamma.tsv`."""


def maf_class_of(frequency: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the class of allele frequency, an index into `MAF_CLASSES`.

    Examples
    --------
    >>> maf_class_of(np.array([0.004, 0.97, 0.5])).tolist()
    [0, 1, 2]
    """
    return np.asarray(np.searchsorted(MAF_EDGES, np.minimum(frequency, 1 - frequency), side="right"))


def class_of(frequency: NDArray[np.float64], relation: NDArray[np.int8] | int) -> NDArray[np.int64]:
    """Return the class of variants, an index into `CLASSES`.

    Examples
    --------
    >>> [CLASSES[c] for c in class_of(np.array([0.5, 0.5, 0.001]), np.array([0, 1, 1], np.int8))]
    ['>=5%', '>=5%, in the model', '<1%, in the model']
    """
    return np.asarray(maf_class_of(frequency) + len(MAF_CLASSES) * np.asarray(relation, np.int64))


def left_out_contigs(operator: GenotypeOperator, model: NullModel, contigs: Sequence[str]) -> NDArray[np.int64]:
    """Return the operator's index of each contig where the model leaves it out, else −1."""
    if model.loco is None:
        raise ValueError("the model has no predictors")
    known = {name: i for i, name in enumerate(operator.source.store.contig_id)}
    left = {str(name) for name in model.loco["contig"].values}
    return np.array([known[c] if c in left and c in known else -1 for c in contigs], dtype=np.int64)


def relations(operator: GenotypeOperator, model: NullModel, source: ChosenGenotypes) -> NDArray[np.int8] | None:
    """Return what every variant of the scanned store is to its matrix, an index into `RELATIONS`; None: all apart.

    Variants of another store are the model's where contig and position are.
    """
    store, of_model = source.store, operator.source
    names = of_model.store.contig_id
    used = {names[c] for c in np.unique(of_model.store.variant_contig[of_model.variants]).tolist()}
    left_out = left_out_contigs(operator, model, store.contig_id)
    inside = np.array([c in used for c in store.contig_id], dtype=bool) & (left_out < 0)
    near = inside[store.variant_contig]
    if not near.any():
        return None
    if store.fingerprint == of_model.store.fingerprint:
        known = np.zeros(store.n_variants, dtype=bool)
        known[of_model.variants] = True
    else:
        keys = [
            row_keys(s.contig_id)[s.variant_contig] + s.variant_position.astype(np.uint64)
            for s in (store, of_model.store)
        ]
        known = np.isin(keys[0], keys[1][of_model.variants])
    return np.where(near, np.where(known, 1, 2), 0).astype(np.int8)
