"""What differs between a release and the one before, as tables."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from biolmm.reanalysis.decide import changed_settings
from biolmm.reanalysis.release import Release
from biolmm.results.associations import read_associations
from biolmm.results.paths import ASSOCIATIONS, LINEAR, list_contigs, list_traits, natural_key
from biolmm.results.tables import read_result_table

LOCUS_COLUMNS = ("trait", "status", "chromosome", "position_before", "position", "rsid_before", "rsid",
                 "neg_log_10_p_before", "neg_log_10_p", "beta_before", "beta", "why")  # fmt: skip
H2_COLUMNS = ("trait", "h2_before", "h2_se_before", "h2", "h2_se", "difference", "expected_sd", "verdict")
TRAIT_COLUMNS = ("trait", "status", "n_before", "n", "why")
COUNT_COLUMNS = ("what", "before", "now", "added", "removed", "examples")
SETTING_COLUMNS = ("setting", "before", "now")
BEYOND = 3.0
"""A change of h² of more than so many standard deviations is more than new people explain."""
_EXAMPLES = 5
_VARIANT = ["base_pair_location", "other_allele", "effect_allele"]
_Row = dict[str, Any]


@dataclass(frozen=True)
class Changes:
    """Tables of a comparison; the columns of each are above."""

    traits: pd.DataFrame
    loci: pd.DataFrame
    h2: pd.DataFrame
    counts: pd.DataFrame
    settings: pd.DataFrame


def compare(now: Release, before: Release | None, window_bp: int) -> Changes:
    """Compare a release with the one before; with none, everything is new.

    Parameters
    ----------
    now, before
        The releases.
    window_bp
        Leads as near as this are of one locus.
    """
    settings = [] if before is None else _settings(now, before)
    return Changes(
        traits=pd.DataFrame(_traits(now, before), columns=list(TRAIT_COLUMNS)),
        loci=pd.DataFrame(_loci(now, before, window_bp), columns=list(LOCUS_COLUMNS)),
        h2=pd.DataFrame(_h2(now, before), columns=list(H2_COLUMNS)),
        counts=pd.DataFrame([] if before is None else list(_counts(now, before)), columns=list(COUNT_COLUMNS)),
        settings=pd.DataFrame(settings, columns=list(SETTING_COLUMNS)),
    )


def _settings(now: Release, before: Release) -> list[tuple[str, Any, Any]]:
    found = changed_settings(before.state.settings, now.state.settings)
    if now.state.version != before.state.version:
        found.insert(0, ("biolmm", before.state.version, now.state.version))
    if now.state.command != before.state.command:
        found.insert(0, ("command", before.state.command, now.state.command))
    return found


def _traits(now: Release, before: Release | None) -> Iterable[dict[str, Any]]:
    old = {} if before is None else before.traits
    n_now, n_before = _n(now), {} if before is None else _n(before)
    for name, record in now.traits.items():
        new = before is not None and name not in old
        status = "added" if new and record.status != "failed" else record.status
        yield {"trait": name, "status": status, "n_before": n_before.get(name), "n": n_now.get(name), "why": record.why}
    for name in old:
        if name not in now.traits:
            yield {
                "trait": name,
                "status": "removed",
                "n_before": n_before.get(name),
                "why": "not in the plan any more",
            }


def _n(release: Release) -> dict[str, int]:
    table = read_result_table(release.path, "h2")
    return {} if table is None else dict(zip(table["trait"], table["n"], strict=True))


def _counts(now: Release, before: Release) -> Iterable[dict[str, Any]]:
    old, new = before.snapshot().index, now.snapshot().index
    added, gone = new.difference(old).tolist(), old.difference(new).tolist()
    yield _count("people", len(old), len(new), added, gone)
    if now.state.scan.fingerprint == before.state.scan.fingerprint and not _settings(now, before):
        return
    for contig in sorted({*_contigs(before), *_contigs(now)}, key=natural_key):
        one, other = _variants(before, contig), _variants(now, contig)
        if one != other:
            what = f"variants of contig {contig}"
            yield _count(what, len(one), len(other), sorted(other - one), sorted(one - other))


def _count(what: str, before: int, now: int, added: list[str], removed: list[str]) -> dict[str, Any]:
    shown = [f"+{each}" for each in added[:_EXAMPLES]] + [f"-{each}" for each in removed[:_EXAMPLES]]
    return {"what": what, "before": before, "now": now, "added": len(added), "removed": len(removed),
            "examples": " ".join(shown) or None}  # fmt: skip


def _kind(release: Release) -> str:
    return ASSOCIATIONS if list_traits(release.path, ASSOCIATIONS) else LINEAR


def _contigs(release: Release) -> list[str]:
    """Return the contigs of the first trait's results; a release of fits has none."""
    kind = _kind(release)
    return [
        contig for trait in list_traits(release.path, kind)[:1] for contig in list_contigs(release.path, trait, kind)
    ]


def _variants(release: Release, contig: str) -> set[str]:
    """Return the ids of the first trait's variants on a contig."""
    if contig not in _contigs(release):
        return set()
    kind = _kind(release)
    trait = list_traits(release.path, kind)[0]
    return set(read_associations(release.path, trait, contig, ["variant_id"], kind=kind)["variant_id"])


def _loci(now: Release, before: Release | None, window_bp: int) -> Iterable[dict[str, Any]]:
    """Compare the loci of every trait that both releases have; those taken over are the same."""
    if before is None:
        return
    new, old = (read_result_table(release.path, "leads") for release in (now, before))
    if new is None or old is None:
        return
    for trait, record in now.traits.items():
        known = before.traits.get(trait)
        if record.status in ("failed", "taken over") or known is None or known.status == "failed":
            continue
        mine, theirs = (table[(table["trait"] == trait) & (table["n_significant"] > 0)] for table in (old, new))
        pairs = _matched(mine, theirs, window_bp)
        for one, other in pairs:
            yield _locus(trait, one, other, now, before)


def _matched(old: pd.DataFrame, new: pd.DataFrame, window_bp: int) -> list[tuple[_Row | None, _Row | None]]:
    """Pair the leads of the same locus, the nearest first; one without a partner is with None."""
    olds, news = _rows(old), _rows(new)
    near = sorted(
        (abs(a["base_pair_location"] - b["base_pair_location"]), i, j)
        for i, a in enumerate(olds)
        for j, b in enumerate(news)
        if a["chromosome"] == b["chromosome"] and _touch(a, b, window_bp)
    )
    partner: dict[int, int] = {}
    for _, i, j in near:
        if i not in partner and j not in partner.values():
            partner[i] = j
    pairs: list[tuple[_Row | None, _Row | None]] = [
        (a, news[partner[i]] if i in partner else None) for i, a in enumerate(olds)
    ]
    pairs += [(None, b) for j, b in enumerate(news) if j not in partner.values()]
    return sorted(pairs, key=lambda pair: _place(pair[0] or pair[1] or {}))


def _rows(frame: pd.DataFrame) -> list[_Row]:
    return [{str(name): value for name, value in row.items()} for row in frame.to_dict("records")]


def _touch(a: _Row, b: _Row, window_bp: int) -> bool:
    apart = max(a["locus_start_bp"], b["locus_start_bp"]) - min(a["locus_end_bp"], b["locus_end_bp"])
    return bool(apart <= 0 or abs(a["base_pair_location"] - b["base_pair_location"]) <= window_bp)


def _place(lead: _Row) -> tuple[Any, int]:
    return natural_key(lead["chromosome"]), int(lead["base_pair_location"])


def _locus(trait: str, one: _Row | None, other: _Row | None, now: Release, before: Release) -> _Row:
    """Describe one locus; of one that is gained or lost also the statistics that its lead has in the other release."""
    either = other or one or {}
    row: _Row = {"trait": trait, "chromosome": either["chromosome"]}
    for lead, suffix in ((one, "_before"), (other, "")):
        if lead is not None:
            row |= {f"position{suffix}": lead["base_pair_location"], f"rsid{suffix}": lead["rsid"],
                    f"neg_log_10_p{suffix}": lead["neg_log_10_p_value"], f"beta{suffix}": lead["beta"]}  # fmt: skip
    if one is not None and other is not None:
        same = all(one[name] == other[name] for name in _VARIANT)
        return row | {"status": "same" if same else "moved", "why": None if same else "another lead in the locus"}
    release, suffix = (before, "_before") if one is None else (now, "")
    found = _statistics(release, trait, either)
    status = "gained" if one is None else "lost"
    if found is None:
        why = "a new variant" if one is None else "the variant is not there any more"
        return row | {"status": status, "why": why}
    row |= {f"neg_log_10_p{suffix}": found[0], f"beta{suffix}": found[1]}
    return row | {"status": status, "why": "its p-value crossed the threshold, or another locus holds it"}


def _statistics(release: Release, trait: str, lead: _Row) -> tuple[float, float] | None:
    """Return the significance and effect of a lead in another release; None where it has no such variant."""
    kind = _kind(release)
    contig = str(lead["chromosome"])
    if contig not in list_contigs(release.path, trait, kind):
        return None
    frame = read_associations(release.path, trait, contig, [*_VARIANT, "neg_log_10_p_value", "beta"], kind=kind)
    found = frame[np.logical_and.reduce([frame[name] == lead[name] for name in _VARIANT])]
    if found.empty:
        return None
    return float(found["neg_log_10_p_value"].iloc[0]), float(found["beta"].iloc[0])


def _h2(now: Release, before: Release | None) -> Iterable[dict[str, Any]]:
    """Compare h² of every trait of both releases."""
    if before is None:
        return
    new, old = (read_result_table(release.path, "h2") for release in (now, before))
    if new is None or old is None:
        return
    people = _PeopleOf(now, before)
    rows = {row["trait"]: row for row in _rows(old)}
    for row in _rows(new):
        if row["trait"] not in rows:
            continue
        one = rows[row["trait"]]
        errors = (one["h2_se"], row["h2_se"], one["h2_mc_se"], row["h2_mc_se"])
        sd = expected_sd(*errors, *people.shared(row["trait"]))
        difference = row["h2"] - one["h2"]
        yield {"trait": row["trait"], "h2_before": one["h2"], "h2_se_before": one["h2_se"], "h2": row["h2"],
               "h2_se": row["h2_se"], "difference": difference, "expected_sd": sd,
               "verdict": verdict(difference, sd)}  # fmt: skip


class _PeopleOf:
    """Who has a trait in each of two releases."""

    def __init__(self, now: Release, before: Release) -> None:
        self.old, self.new = before.snapshot(), now.snapshot()

    def shared(self, trait: str) -> tuple[int, int, int]:
        """Return how many people have a trait before, now, and both times."""
        column = f"trait:{trait}"
        one, other = (frame.index[frame[column].notna()] for frame in (self.old, self.new))
        return len(one), len(other), len(one.intersection(other))


def expected_sd(se_before: float, se: float, mc_before: float, mc: float, n_before: int, n: int, n_both: int) -> float:
    """Standard deviation of the difference of two estimates of h² from overlapping people, were nothing else changed.

    With information I = 1/se² of each, of which the people of both carry I_c, efficient estimates differ with variance
    1/I₀ + 1/I₁ − 2 I_c / (I₀ I₁); information on h² grows as the square of the number of people, so that
    I_c = min(I₀, I₁) (n_c / min(n₀, n₁))². Where one set of people holds the other this is se₀² − se₁² (Hausman 1978).
    The same people have no such variance. Monte-Carlo errors come on top. Without two standard errors it is infinite.

    Examples
    --------
    >>> expected_sd(0.05, 0.03, 0.0, 0.0, 1000, 1500, 1000), expected_sd(0.05, 0.05, 0.0, 0.0, 1000, 1000, 1000)
    (0.04, 0.0)
    """
    if not (0 < se_before < np.inf and 0 < se < np.inf):
        return float("inf")
    one, other = 1 / se_before**2, 1 / se**2
    common = min(one, other) * (n_both / max(min(n_before, n), 1)) ** 2
    variance = 1 / one + 1 / other - 2 * common / (one * other)
    if n_both == n_before == n:  # the errors differ by the estimates that they are taken at
        variance = 0.0
    return float(np.round(np.sqrt(max(variance, 0.0) + mc_before**2 + mc**2), 12))


def verdict(difference: float, sd: float) -> str:
    """Say whether a difference is more than the people explain.

    Examples
    --------
    >>> verdict(0.0, 0.0), verdict(0.05, 0.04), verdict(0.05, 0.01)
    ('unchanged', 'as expected', 'more than new people explain')
    """
    if difference == 0:
        return "unchanged"
    if not np.isfinite(sd):
        return "no standard error"
    return "as expected" if abs(difference) <= BEYOND * sd else "more than new people explain"


def table_paths(folder: Path) -> dict[str, Path]:
    """Name the files of the tables in a release's folder."""
    return {name: folder / "changes" / f"{name}.tsv" for name in Changes.__dataclass_fields__}
