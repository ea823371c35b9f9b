"""Lead variants, recomputed so that the p-values people quote do not rest on what was measured on other variants."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from biolmm.association.classes import left_out_contigs
from biolmm.association.panel import group_of
from biolmm.association.score import kept_variants
from biolmm.association.setup import ScanSetup
from biolmm.genotypes.columns import standardised_columns
from biolmm.genotypes.operator import GenotypeOperator
from biolmm.genotypes.parts import part_numbers
from biolmm.linalg.pcg import ConjugateGradients
from biolmm.loco.predictors import left_out_systems
from biolmm.results.associations import patch_rows, read_associations
from biolmm.results.diagnostics import neg_log10_p_chisq
from biolmm.results.loci import find_loci
from biolmm.results.paths import ASSOCIATIONS, part_path
from biolmm.schema import LEAD_COLUMNS

log = logging.getLogger(__name__)

DENOMINATOR_TOLERANCE = 3e-4
"""Largest relative error of a denominator; most are nearer by a factor of three."""
NUMERATOR_TOLERANCE = 1.5e-4
"""Largest product of the relative residuals of a lead's solution and of its predictor."""
MAX_ITERATIONS = 60
BATCH = 128
"""Most leads that are recomputed together."""


@dataclass(frozen=True)
class _Batch:
    """Leads in order of trait: their standardised columns and where they belong."""

    Z: NDArray[np.float64]
    per_copy: NDArray[np.float64]
    left_out: NDArray[np.int64]
    group: NDArray[np.int64]
    trait: NDArray[np.int64]


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
    """Return the leads with `beta`, `standard_error`, `chisq` and p recomputed.

    With x ≈ H₋c⁻¹z̃, r = z̃ − H₋c x, and the predictor's solution x_y ≈ H₋c⁻¹Py with its residual r_y,

        den = z̃ᵀH₋c⁻¹z̃ = Σ αⱼρⱼ + rᵀH₋c⁻¹r          num = z̃ᵀH₋c⁻¹Py = xᵀPy + rᵀx_y + rᵀH₋c⁻¹r_y

    The iteration for x goes on until what is not known of the last terms is small, see `ConjugateGradients`: that of
    the denominator to 3e-4, that of the numerator to a product of relative residuals of 1.5e-4. χ² is then within 1e-3.

    Notes
    -----
    Cost: 2 to 4 passes for each 128 leads, with a column a lead; more for h² near 1.
    """
    if leads.empty or setup.exact or setup.operator is None:
        return leads
    position = {trait: t for t, trait in enumerate(setup.panel.traits)}
    order = leads["trait"].map(position).to_numpy().argsort(kind="stable")
    batches = np.array_split(order, -(-len(order) // BATCH))
    return pd.concat([_recompute(setup, setup.operator, leads.iloc[batch]) for batch in batches]).sort_index()


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
    num, den = _solve(setup, operator, batch)
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


def _solve(
    setup: ScanSetup, operator: GenotypeOperator, batch: _Batch
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return `z̃ᵀ H₋c⁻¹ P y` and `z̃ᵀ H₋c⁻¹ z̃` of every lead."""
    panel, model = setup.panel, setup.model
    if panel.predictors is None or model.loco is None:
        raise ValueError("the model has no predictors")
    traits, trait = np.unique(batch.trait, return_inverse=True)
    systems = replace(
        left_out_systems(operator, model, [-1], traits.tolist(), setup.left_values),
        left_out=batch.left_out,
        trait=trait,
    )
    start = np.empty(batch.Z.shape, np.float32)
    for t, spectrum in enumerate(systems.spectra):
        start[:, trait == t] = spectrum.restriction.project(batch.Z[:, trait == t])
    of_predictor = np.maximum(model.loco["relative_residual"].values[batch.group, batch.trait], 1e-6)
    cg = ConjugateGradients(systems.products, systems.precondition, np.zeros_like(start), start)
    near = NUMERATOR_TOLERANCE / of_predictor * cg.norms
    while cg.active.size and cg.iterations.max() < MAX_ITERATIONS:
        cg.advance()
        going = (cg.uncertainty > DENOMINATOR_TOLERANCE * (cg.gained + cg.remaining)) | (cg.norms > near)
        cg.retain(np.flatnonzero(going))
    if cg.active.size:
        log.warning(
            "%d of %d leads were not recomputed to the end: they are close, not exact.",
            cg.active.size, len(batch.trait),
        )  # fmt: skip
    projected = {int(t): model.projected_trait(int(t)) for t in traits}
    num = np.empty(len(batch.trait))
    for j, (group, t) in enumerate(zip(batch.group, batch.trait, strict=True)):
        predictor = panel.predictors[group, t].astype(np.float64)
        num[j] = projected[int(t)] @ cg.x[:, j] + panel.total_variance[group, t] * (predictor @ cg.residual[:, j])
    return num, cg.gained + cg.remaining
