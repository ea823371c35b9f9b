"""What a new release takes over from the last one and what it computes, and why."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import pandas as pd

from biolmm.errors import named
from biolmm.reanalysis.release import Release
from biolmm.reanalysis.state import Look, State, values_differ
from biolmm.store.earlier import variants_at

Action = Literal["keep", "compute"]
Scan = Literal["same", "appended", "other", "none"]


@dataclass(frozen=True)
class Choice:
    """What is done about a trait, and why."""

    action: Action
    why: str


@dataclass(frozen=True)
class Decision:
    """How a release is made.

    Attributes
    ----------
    everything
        Why nothing can be taken over; empty where something can.
    traits
        What is done about each trait that can be analysed.
    scan
        What has happened to the genotypes that are scanned: nothing (`same`), variants were `appended`, they are `other`
        ones, or none are scanned.
    n_appended
        Variants that were appended.
    """

    everything: tuple[str, ...]
    traits: dict[str, Choice]
    scan: Scan
    n_appended: int = 0

    @property
    def kept(self) -> list[str]:
        """Traits whose models are taken over."""
        return [name for name, choice in self.traits.items() if choice.action == "keep"]

    @property
    def computed(self) -> list[str]:
        """Traits that are fitted and scanned."""
        return [name for name, choice in self.traits.items() if choice.action == "compute"]


def decide(seen: Look, previous: Release | None, has_piece: Callable[[str], bool]) -> Decision:
    """Compare the inputs with those of the release before.

    Parameters
    ----------
    seen
        The inputs; their model is that of the release before wherever it can be.
    previous
        That release.
    has_piece
        Whether a piece is there and finished.
    """
    state = seen.state
    scan: Scan = "none" if state.command == "fit" else "same"
    if previous is None:
        why = "there is no earlier release"
        return Decision((why,), dict.fromkeys(state.traits, Choice("compute", why)), scan)
    reasons = whole_reasons(seen, previous)
    if reasons:
        choice = Choice("compute", "; ".join(reasons))
        return Decision(tuple(reasons), dict.fromkeys(state.traits, choice), scan)
    n_appended = 0
    if scan == "same" and state.scan.fingerprint != previous.state.scan.fingerprint:
        before = variants_at(seen.genotypes.scan, previous.state.scan.fingerprint)
        scan = "other" if before is None else "appended"
        n_appended = 0 if before is None else state.scan.n_variants - before
    changed = _changed_values(seen, previous)
    traits = {name: _choice(name, state, previous, changed, has_piece) for name in state.traits}
    return Decision((), traits, scan, n_appended)


def _choice(
    name: str, state: State, previous: Release, changed: Mapping[str, str], has_piece: Callable[[str], bool]
) -> Choice:
    record = previous.traits.get(name)
    if record is None:
        return Choice("compute", "new trait")
    if record.status == "failed":
        return Choice("compute", f"failed in {previous.name}")
    if previous.state.traits.get(name) != state.traits[name]:
        return Choice("compute", changed.get(name, "its values changed"))
    lost = [piece for piece in (record.model, *record.scans) if piece is not None and not has_piece(piece)]
    if lost:
        return Choice("compute", f"piece {lost[0]} of {previous.name} is gone or damaged")
    return Choice("keep", "unchanged")


def whole_reasons(seen: Look, previous: Release) -> list[str]:
    """Say why nothing of the release before can be taken over; empty where something can."""
    now, before = seen.state, previous.state
    reasons = []
    if now.version != before.version:
        reasons.append(f"biolmm {before.version} → {now.version}")
    if now.command != before.command:
        reasons.append(f"{before.command} → {now.command}")
    reasons += [
        f"{name}: {_said(one)} → {_said(other)}" for name, one, other in changed_settings(before.settings, now.settings)
    ]
    reasons += people_and_covariates(seen, previous)
    if now.model.fingerprint != before.model.fingerprint:
        n_before = variants_at(seen.genotypes.model, before.model.fingerprint)
        reasons.append(
            "other genotypes of the model"
            if n_before is None
            else f"{now.model.n_variants - n_before:,} variants appended to the model"
            if now.model.chunk_variants == before.model.chunk_variants
            else "the model's store was written again in other chunks"
        )
    elif now.model.chunk_variants != before.model.chunk_variants:
        reasons.append("the model's store was written again in other chunks")
    keeps_model = now.settings["method"] in ("mixed", "linear")
    if not keeps_model and variants_at(seen.genotypes.scan, before.scan.fingerprint) is None:
        reasons.append("other genotypes")
    return reasons


def changed_settings(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    """List the settings that differ: name, before, now.

    Examples
    --------
    >>> changed_settings({"method": "mixed", "n_pcs": 0}, {"method": "mixed", "n_pcs": 4})
    [('n_pcs', 0, 4)]
    """
    names = list(dict.fromkeys([*before, *now]))
    return [(name, before.get(name), now.get(name)) for name in names if before.get(name) != now.get(name)]


def people_and_covariates(seen: Look, previous: Release) -> list[str]:
    """Say how people and covariates differ."""
    now, before = seen.state, previous.state
    if now.samples == before.samples and (now.covariate_names, now.covariates) == (
        before.covariate_names,
        before.covariates,
    ):
        return []
    old, new = previous.snapshot(), seen.snapshot()
    reasons = []
    added, gone = new.index.difference(old.index), old.index.difference(new.index)
    reasons += [f"{len(added):,} people added"] if len(added) else []
    reasons += [f"{len(gone):,} people removed"] if len(gone) else []
    if now.samples != before.samples and not reasons:
        reasons.append("people in another order")
    added_names = [name for name in now.covariate_names if name not in before.covariate_names]
    gone_names = [name for name in before.covariate_names if name not in now.covariate_names]
    reasons += [f"covariates added: {named(added_names)}"] if added_names else []
    reasons += [f"covariates removed: {named(gone_names)}"] if gone_names else []
    common = old.index.intersection(new.index)
    for column in (name for name in new.columns if name.startswith("covariate:") and name in old.columns):
        count = values_differ(old.loc[common, column], new.loc[common, column])
        if count:
            reasons.append(f"covariate {column.removeprefix('covariate:')} changed for {count:,} people")
    return reasons or ["covariates changed"]


def _changed_values(seen: Look, previous: Release) -> dict[str, str]:
    """Say for how many people each trait's values differ."""
    names = [name for name, value in seen.state.traits.items() if previous.state.traits.get(name) not in (None, value)]
    if not names:
        return {}
    old, new = previous.snapshot(), seen.snapshot()
    return {name: _difference(old[f"trait:{name}"], new[f"trait:{name}"]) for name in names}


def _difference(old: pd.Series, new: pd.Series) -> str:
    old = old.reindex(new.index)
    added = int((old.isna() & new.notna()).sum())
    gone = int((old.notna() & new.isna()).sum())
    changed = values_differ(old, new) - added - gone
    parts = [(changed, "changed"), (added, "new"), (gone, "gone")]
    return "values of people: " + ", ".join(f"{count:,} {what}" for count, what in parts if count)


def _said(value: Any) -> str:
    return "none" if value is None else str(value)
