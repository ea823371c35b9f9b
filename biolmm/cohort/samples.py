"""Which samples are analysed: everything is matched by id, nothing by position."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biolmm.errors import MAX_NAMED, SampleMismatchError, named

_SAMPLES = "samples"


@dataclass(frozen=True, eq=False)
class Selection:
    """The samples of the genotypes, those still in, and a record of what took the others out."""

    ids: list[str]
    kept: NDArray[np.bool_]
    counts: dict[str, int] = field(default_factory=dict)
    dropped: list[dict[str, Any]] = field(default_factory=list)

    def restrict(self, stays: NDArray[np.bool_], why: str) -> Selection:
        """Take samples out, for a reason.

        Raises
        ------
        SampleMismatchError
            When nobody is left: the message tells who went at which step.
        """
        gone = np.flatnonzero(self.kept & ~stays)
        dropped = self.dropped + [_record(_SAMPLES, why, [self.ids[row] for row in gone])] * bool(len(gone))
        kept = self.kept & stays
        if not kept.any():
            steps = "; ".join(f"{step['n']:,} {step['why']}" for step in dropped if step["what"] == _SAMPLES)
            raise SampleMismatchError(
                f"No samples are left of {len(self.ids):,} in the genotypes: {steps}. "
                "Check that the lists and tables are about the same samples."
            )
        return Selection(self.ids, kept, self.counts, dropped)

    def note(self, what: str, why: str, names: Sequence[str]) -> Selection:
        """Record what an input names beyond the genotypes; nothing is recorded when there is nothing."""
        records = [_record(what, why, names)] if names else []
        return Selection(self.ids, self.kept, self.counts, self.dropped + records)

    def count(self, **numbers: int) -> Selection:
        """Record numbers."""
        return Selection(self.ids, self.kept, {**self.counts, **numbers}, self.dropped)

    @property
    def kept_ids(self) -> list[str]:
        """Ids still in, in the order of the genotypes."""
        return [self.ids[row] for row in np.flatnonzero(self.kept)]


def all_samples(store_sample_id: Sequence[str] | NDArray[Any]) -> Selection:
    """Start from everyone in the genotypes.

    Raises
    ------
    SampleMismatchError
        When there is nobody, or an id occurs twice.
    """
    ids = [str(item) for item in store_sample_id]
    if not ids:
        raise SampleMismatchError("The genotypes hold no samples.")
    repeated = [text for text, n in Counter(ids).items() if n > 1]
    if repeated:
        raise SampleMismatchError(
            f"The genotypes repeat {len(repeated):,} of {len(set(ids)):,} sample ids: {named(repeated)}. "
            "Ids must be unique."
        )
    return Selection(ids, np.ones(len(ids), dtype=np.bool_), {"genotypes": len(ids)})


def apply_lists(selection: Selection, keep: Sequence[str] | None, remove: Sequence[str] | None) -> Selection:
    """Restrict to the keep list and leave out the remove list.

    Raises
    ------
    SampleMismatchError
        When the keep list names nobody in the genotypes, or nobody is left.
    """
    if keep is not None:
        inside = _members(selection, keep)
        if not inside.any():
            raise SampleMismatchError(_no_overlap("the keep list", [str(item) for item in keep], selection.ids))
        selection = _note_strangers(selection.restrict(inside, "not in the keep list"), keep, "keep list")
        selection = selection.count(keep=len(set(keep)))
    if remove is not None:
        outside = ~_members(selection, remove)
        selection = _note_strangers(selection.restrict(outside, "in the remove list"), remove, "remove list")
        selection = selection.count(remove=len(set(remove)))
    return selection


def apply_table(selection: Selection, table_ids: Sequence[str], source: str, what: str) -> Selection:
    """Restrict to the samples that have a row in a table of `what` (traits or covariates).

    Raises
    ------
    SampleMismatchError
        When no id of the table is in the genotypes, or nobody is left.
    """
    inside = _members(selection, table_ids)
    if not inside.any():
        raise SampleMismatchError(_no_overlap(source, list(table_ids), selection.ids))
    selection = selection.count(**{what: len(table_ids), f"{what}_in_genotypes": int(inside.sum())})
    return _note_strangers(selection.restrict(inside, f"without a row in {source}"), table_ids, source)


def _members(selection: Selection, ids: Sequence[str]) -> NDArray[np.bool_]:
    """Say which samples of the genotypes a list names."""
    listed = set(ids)
    return np.fromiter((text in listed for text in selection.ids), dtype=np.bool_, count=len(selection.ids))


def _note_strangers(selection: Selection, ids: Sequence[str], source: str) -> Selection:
    """Record ids that the genotypes do not have."""
    known = set(selection.ids)
    strangers = [text for text in dict.fromkeys(ids) if text not in known]
    return selection.note(f"ids of {source}", "not in the genotypes", strangers)


def _record(what: str, why: str, names: Sequence[str]) -> dict[str, Any]:
    return {"what": what, "why": why, "n": len(names), "examples": list(names[:MAX_NAMED])}


def _no_overlap(source: str, ids: list[str], store_ids: list[str]) -> str:
    """Say that two sets of ids have nothing in common, and why that may be."""
    return (
        f"None of the {len(ids):,} sample ids in {source} is in the genotypes ({len(store_ids):,} samples): "
        f"'{ids[0]}' there, '{store_ids[0]}' in the genotypes. {_overlap_hint(set(ids), set(store_ids))}"
    )


def _overlap_hint(ids: set[str], store_ids: set[str]) -> str:
    """Find the usual reason why two sets of ids do not meet."""
    for one, other, where in ((ids, store_ids, "there"), (store_ids, ids, "in the genotypes")):
        if any(text.partition("_")[2] in other for text in one):
            return f"The ids {where} look like FID_IID: use the IID alone in both."
    if {text.lstrip("0") for text in ids} & {text.lstrip("0") for text in store_ids}:
        return "They differ in leading zeros: write the ids alike in both."
    if {text.lower() for text in ids} & {text.lower() for text in store_ids}:
        return "They differ in upper and lower case: write the ids alike in both."
    return "Is one of them FID_IID, or another numbering? The IID must be spelled alike in both."
