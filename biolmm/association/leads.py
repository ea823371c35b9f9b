"""Lead variants, recomputed so that the p-values people quote carry no approximation."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from biolmm.association.forms import FormRequest, quadratic_forms
from biolmm.association.gamma import left_out_contigs
from biolmm.association.panel import group_of
from biolmm.association.score import kept_variants
from biolmm.association.setup import ScanSetup
from biolmm.genotypes.columns import standardised_columns
from biolmm.genotypes.operator import GenotypeOperator
from biolmm.genotypes.parts import part_numbers
from biolmm.linalg.operators import column_dots
from biolmm.loco.predictors import left_out_systems, refine
from biolmm.results.associations import patch_rows, read_associations
from biolmm.results.diagnostics import neg_log10_p_chisq
from biolmm.results.loci import find_loci
from biolmm.results.paths import ASSOCIATIONS, part_path
from biolmm.schema import LEAD_COLUMNS

log = logging.getLogger(__name__)

DENOMINATOR_TOLERANCE = 1e-4
PREDICTOR_TOLERANCE = 5e-5
BATCH = 128
"""Leads whose denominators are computed together."""


@dataclass(frozen=True)
class _Batch:
    """Leads in order of trait, with what is needed to recompute them."""

    Z: NDArray[np.float64]
    per_copy: NDArray[np.float64]
    left_out: NDArray[np.int64]
    group: NDArray[np.int64]
    trait: NDArray[np.int64]

    @property
    def systems(self) -> list[tuple[int, int]]:
        """The (trait, left-out contig) of every lead."""
        return [(int(t), int(c)) for t, c in zip(self.trait, self.left_out, strict=True)]


def find_leads(setup: ScanSetup, out: Path) -> pd.DataFrame:
    """Find the best variant of every locus of every trait, and each trait's best variant where it has no locus.

    Returns
    -------
    DataFrame
        The columns of `leads.tsv` (`chisq_scan` equal to `chisq`), and `part`, `row`: number of the part and row in it
        where the variant is written.
    """
    return best_of_loci(out, setup.panel.traits, setup.config.lead_neg_log10_p, setup.config.lead_window_bp)


def best_of_loci(out: Path, traits: Sequence[str], threshold: float, window_bp: int) -> pd.DataFrame:
    """Find the leads of `find_leads` in a results folder: −log₁₀ p of at least `threshold`, loci `window_bp` wide."""
    tables = []
    wanted = [
        "chromosome", "base_pair_location", "effect_allele", "other_allele", "rsid", "effect_allele_frequency", "beta",
        "standard_error", "neg_log_10_p_value", "chisq",
    ]  # fmt: skip
    for trait in traits:
        frame = read_associations(out, trait, columns=wanted, locate=True)
        loci = find_loci(frame, threshold, window_bp)
        if loci.empty and frame["neg_log_10_p_value"].notna().any():
            best = frame.loc[[frame["neg_log_10_p_value"].idxmax()]]
            position = best["base_pair_location"]
            loci = best.assign(locus_start_bp=position, locus_end_bp=position, n_significant=0)
        tables.append(loci.assign(trait=trait, chisq_scan=loci["chisq"]))
    leads = pd.concat(tables, ignore_index=True)
    leads["part"] = [int(Path(part).stem.removeprefix("part-")) for part in leads["part"]]
    return leads[[*LEAD_COLUMNS, "part", "row"]]


def recompute_leads(setup: ScanSetup, leads: pd.DataFrame) -> pd.DataFrame:
    """Return the leads with `beta`, `standard_error`, `chisq` and p recomputed exactly.

    The denominator by Lanczos quadrature to 1e-4, the numerator from predictors refined to a residual of 5e-5 for
    the (trait, contig) pairs that have leads.

    Notes
    -----
    Cost, for each 128 leads: 7 to 12 passes with a column a lead, 3 to 6 with a column for each (trait, contig).
    """
    if leads.empty or setup.exact or setup.operator is None:
        return leads
    position = {trait: t for t, trait in enumerate(setup.panel.traits)}
    order = leads["trait"].map(position).to_numpy().argsort(kind="stable")
    batches = [leads.iloc[order[start : start + BATCH]] for start in range(0, len(order), BATCH)]
    return pd.concat([_recompute(setup, setup.operator, batch) for batch in batches]).sort_index()


def patch_leads(leads: pd.DataFrame, out: Path) -> None:
    """Write recomputed leads into the parts of the results that hold them."""
    names = ["beta", "standard_error", "chisq", "neg_log_10_p_value"]
    for _, rows in leads.groupby(["trait", "chromosome", "part"]):
        first = rows.iloc[0]
        path = part_path(out / ASSOCIATIONS, str(first["trait"]), str(first["chromosome"]), int(first["part"]))
        columns = {name: rows[name].to_numpy() for name in names}
        patch_rows(path, rows["row"].to_numpy(), {**columns, "exact": np.ones(len(rows), dtype=bool)})


def _recompute(setup: ScanSetup, operator: GenotypeOperator, leads: pd.DataFrame) -> pd.DataFrame:
    batch = _read(setup, operator, leads)
    den = _denominators(setup, operator, batch)
    num = _numerators(setup, operator, batch)
    total = setup.panel.total_variance[batch.group, batch.trait]
    chisq = num**2 / (den * total)
    return leads.assign(
        beta=num / den * batch.per_copy,
        standard_error=batch.per_copy * np.sqrt(total / den),
        chisq=chisq,
        neg_log_10_p_value=neg_log10_p_chisq(chisq),
    )


def _read(setup: ScanSetup, operator: GenotypeOperator, leads: pd.DataFrame) -> _Batch:
    traits = {trait: t for t, trait in enumerate(setup.panel.traits)}
    contigs = [str(contig) for contig in leads["chromosome"]]
    columns = standardised_columns(setup.source, _variants(setup, leads))
    return _Batch(
        Z=columns.Z,
        per_copy=columns.scale,
        left_out=left_out_contigs(operator, setup.model, contigs),
        group=np.array([group_of(setup.panel, contig) for contig in contigs], dtype=np.int64),
        trait=np.array([traits[str(trait)] for trait in leads["trait"]], dtype=np.int64),
    )


def _variants(setup: ScanSetup, leads: pd.DataFrame) -> NDArray[np.int64]:
    """Return each lead's store index, from the part and the row where it is written."""
    written = {}
    wanted = {(str(contig), int(part)) for contig, part in zip(leads["chromosome"], leads["part"], strict=True)}
    for partition, number in zip(setup.source.partitions, part_numbers(setup.source.partitions), strict=True):
        place = (setup.contig_of(partition), number)
        if place in wanted:
            written[place] = kept_variants(partition, setup.panel)
    places = zip(leads["chromosome"], leads["part"], leads["row"], strict=True)
    return np.array([written[str(contig), int(part)][int(row)] for contig, part, row in places], dtype=np.int64)


def _denominators(setup: ScanSetup, operator: GenotypeOperator, batch: _Batch) -> NDArray[np.float64]:
    """Return `z̃ᵀ H₋c⁻¹ z̃` of every lead."""
    requests, members = [], []
    for t in np.unique(batch.trait):
        mine = np.flatnonzero(batch.trait == t)
        restriction = setup.model.restriction(int(setup.model.system_of_trait[t]))
        start = restriction.project(batch.Z[:, mine]).astype(np.float32)
        requests.append(FormRequest(restriction, start, batch.left_out[mine], setup.panel.h2[[t]]))
        members.append(mine)
    den = np.empty(len(batch.trait))
    for mine, values in zip(members, quadratic_forms(operator, requests, DENOMINATOR_TOLERANCE), strict=True):
        den[mine] = values[:, 0]
    return den


def _numerators(setup: ScanSetup, operator: GenotypeOperator, batch: _Batch) -> NDArray[np.float64]:
    """Return `z̃ᵀ H₋c⁻¹ P y` of every lead from refined predictors."""
    if setup.panel.predictors is None:
        raise ValueError("the panel has no predictors")
    pairs = sorted(set(batch.systems))
    group = dict(zip(batch.systems, batch.group.tolist(), strict=True))
    traits = sorted({t for t, _ in pairs})
    place = {t: i for i, t in enumerate(traits)}
    systems = replace(
        left_out_systems(operator, setup.model, [-1], traits, setup.left_values),
        left_out=np.array([c for _, c in pairs], dtype=np.int64),
        trait=np.array([place[t] for t, _ in pairs], dtype=np.int64),
    )
    start = [setup.panel.predictors[group[t, c], t] * setup.panel.total_variance[group[t, c], t] for t, c in pairs]
    projected = {t: setup.model.projected_trait(t) for t in traits}
    right = [projected[t] for t, _ in pairs]
    solution = refine(
        systems,
        np.stack(start, axis=1).astype(np.float32),
        np.stack(right, axis=1).astype(np.float32),
        PREDICTOR_TOLERANCE,
    )
    if not solution.converged.all():
        log.warning(
            "%d of %d predictors of leads were not refined to %.0e: their leads are close, not exact.",
            int((~solution.converged).sum()), len(pairs), PREDICTOR_TOLERANCE,
        )  # fmt: skip
    column = {pair: i for i, pair in enumerate(pairs)}
    chosen = [column[pair] for pair in batch.systems]
    return column_dots(solution.x[:, chosen].astype(np.float64), batch.Z)
