"""Lead variants, recomputed so that the p-values people quote carry no approximation."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from biolmm.association.forms import FormRequest, quadratic_forms
from biolmm.association.gamma import left_out_contigs, read_columns
from biolmm.association.panel import group_of
from biolmm.association.run import part_numbers
from biolmm.association.setup import ScanSetup
from biolmm.linalg.operators import column_dots
from biolmm.loco.predictors import left_out_systems, refine
from biolmm.results.associations import patch_rows, read_associations
from biolmm.results.diagnostics import neg_log10_p_chisq
from biolmm.results.loci import find_loci
from biolmm.schema import LEAD_COLUMNS

log = logging.getLogger(__name__)

DENOMINATOR_TOLERANCE = 1e-5
PREDICTOR_TOLERANCE = 5e-5
BATCH = 128
"""Leads whose denominators are computed together."""


@dataclass(frozen=True)
class _Batch:
    """Leads in order of trait, with what is needed to recompute them."""

    table: pd.DataFrame
    Z: NDArray[np.float64]
    left_out: NDArray[np.int64]
    group: NDArray[np.int64]
    trait: NDArray[np.int64]


def find_leads(setup: ScanSetup, out: Path) -> pd.DataFrame:
    """Find the best variant of every locus of every trait, and each trait's best variant where it has no locus.

    Returns
    -------
    DataFrame
        The columns of `leads.tsv` (`chisq_scan` equal to `chisq`), and `part`, `row`: where the variant is written.
    """
    tables = []
    wanted = [
        "chromosome", "base_pair_location", "effect_allele", "other_allele", "rsid", "effect_allele_frequency", "beta",
        "standard_error", "neg_log_10_p_value", "chisq",
    ]  # fmt: skip
    for trait in setup.panel.traits:
        frame = read_associations(out, trait, columns=wanted, locate=True)
        loci = find_loci(frame, setup.config.lead_neg_log10_p, setup.config.lead_window_bp)
        if loci.empty and frame["neg_log_10_p_value"].notna().any():
            best = frame.loc[[frame["neg_log_10_p_value"].idxmax()]]
            position = best["base_pair_location"]
            loci = best.assign(locus_start_bp=position, locus_end_bp=position, n_significant=0)
        tables.append(loci.assign(trait=trait, chisq_scan=loci["chisq"]))
    leads = pd.concat(tables, ignore_index=True)
    return leads[[*LEAD_COLUMNS, "part", "row"]]


def recompute_leads(setup: ScanSetup, leads: pd.DataFrame) -> pd.DataFrame:
    """Return the leads with `beta`, `standard_error`, `chisq` and p recomputed exactly.

    The denominator by Lanczos quadrature to 1e-5, the numerator from predictors refined to a residual of 5e-5 for
    the (trait, contig) pairs that have leads.

    Notes
    -----
    Cost: 8 to 15 passes with a column a lead (128 at a time), 2 to 4 with a column for each (trait, contig).
    """
    if leads.empty or setup.exact or setup.operator is None:
        return leads
    order = (
        leads["trait"].map({trait: t for t, trait in enumerate(setup.panel.traits)}).to_numpy().argsort(kind="stable")
    )
    parts = [_recompute(setup, leads.iloc[order[start : start + BATCH]]) for start in range(0, len(order), BATCH)]
    return pd.concat(parts).sort_index()


def patch_leads(leads: pd.DataFrame) -> None:
    """Write recomputed leads into the parts of the results that hold them."""
    for part, rows in leads.groupby("part"):
        columns = {name: rows[name].to_numpy() for name in ("beta", "standard_error", "chisq", "neg_log_10_p_value")}
        patch_rows(Path(str(part)), rows["row"].to_numpy(), {**columns, "exact": np.ones(len(rows), dtype=bool)})


def _recompute(setup: ScanSetup, leads: pd.DataFrame) -> pd.DataFrame:
    if setup.operator is None:
        raise ValueError("leads of the plain regression are exact already")
    batch = _read(setup, leads)
    den = _denominators(setup, batch)
    num = _numerators(setup, batch)
    per_copy = _per_copy(setup, leads)
    total = setup.panel.total_variance[batch.group, batch.trait]
    chisq = num**2 / (den * total)
    return leads.assign(
        beta=num / den * per_copy,
        standard_error=np.abs(per_copy) * np.sqrt(total / den),
        chisq=chisq,
        neg_log_10_p_value=neg_log10_p_chisq(chisq),
    )


def _read(setup: ScanSetup, leads: pd.DataFrame) -> _Batch:
    if setup.operator is None:
        raise ValueError("no relatedness matrix")
    traits = {trait: t for t, trait in enumerate(setup.panel.traits)}
    contigs = [str(c) for c in leads["chromosome"]]
    return _Batch(
        leads,
        read_columns(setup.genotypes, _rows(setup, leads)),
        left_out_contigs(setup.operator, setup.model, contigs),
        np.array([group_of(setup.panel, contig) for contig in contigs], dtype=np.int64),
        np.array([traits[str(t)] for t in leads["trait"]], dtype=np.int64),
    )


def _rows(setup: ScanSetup, leads: pd.DataFrame) -> NDArray[np.int64]:
    """Return each lead's position among the scan's variants, from the part and the row where it is written."""
    first = {}
    stop = 0
    for task, number in zip(setup.genotypes.tasks, part_numbers(setup), strict=True):
        first[setup.contig_of(task), number] = stop
        stop += len(task.partition.variants)
    parts = [int(Path(str(part)).stem.removeprefix("part-")) for part in leads["part"]]
    keys = zip(leads["chromosome"].astype(str), parts, strict=True)
    return np.asarray(np.array([first[key] for key in keys]) + leads["row"].to_numpy(), dtype=np.int64)


def _per_copy(setup: ScanSetup, leads: pd.DataFrame) -> NDArray[np.float64]:
    tables = setup.genotypes.scaling.tables[_rows(setup, leads)]
    return np.asarray(tables[:, 1] - tables[:, 0])


def _denominators(setup: ScanSetup, batch: _Batch) -> NDArray[np.float64]:
    """Return `z̃ᵀ H₋c⁻¹ z̃` of every lead."""
    if setup.operator is None:
        raise ValueError("no relatedness matrix")
    requests, members = [], []
    for t in np.unique(batch.trait):
        mine = np.flatnonzero(batch.trait == t)
        restriction = setup.model.restriction(int(setup.model.system_of_trait[t]))
        start = restriction.project(batch.Z[:, mine]).astype(np.float32)
        requests.append(FormRequest(restriction, start, batch.left_out[mine], setup.panel.h2[[t]]))
        members.append(mine)
    den = np.empty(len(batch.trait))
    for mine, values in zip(members, quadratic_forms(setup.operator, requests, DENOMINATOR_TOLERANCE), strict=True):
        den[mine] = values[:, 0]
    return den


def _numerators(setup: ScanSetup, batch: _Batch) -> NDArray[np.float64]:
    """Return `z̃ᵀ H₋c⁻¹ P y` of every lead from refined predictors."""
    if setup.operator is None or setup.panel.predictors is None:
        raise ValueError("no predictors")
    pairs = sorted({(int(t), int(c)) for t, c in zip(batch.trait, batch.left_out, strict=True)})
    traits = sorted({t for t, _ in pairs})
    everything = left_out_systems(setup.operator, setup.model, [-1], traits)
    place = {t: i for i, t in enumerate(traits)}
    systems = type(everything)(
        everything.operator,
        everything.spectra,
        everything.h2,
        np.array([c for _, c in pairs], dtype=np.int64),
        np.array([place[t] for t, _ in pairs], dtype=np.int64),
        everything.left_values,
    )
    groups = {(int(t), int(c)): int(g) for t, c, g in zip(batch.trait, batch.left_out, batch.group, strict=True)}
    total = np.array([setup.panel.total_variance[groups[t, c], t] for t, c in pairs], dtype=np.float32)
    start = np.stack([setup.panel.predictors[groups[t, c], t] for t, c in pairs], axis=1) * total
    y = np.nan_to_num(setup.model.dataset["y"].values)
    right = np.stack(
        [systems.spectra[place[t]].restriction.project(y[t][:, None])[:, 0] for t, _ in pairs], axis=1
    ).astype(np.float32)
    solution = refine(systems, np.ascontiguousarray(start), right, PREDICTOR_TOLERANCE)
    column = {pair: i for i, pair in enumerate(pairs)}
    chosen = [column[int(t), int(c)] for t, c in zip(batch.trait, batch.left_out, strict=True)]
    return column_dots(solution.x[:, chosen].astype(np.float64), batch.Z)
