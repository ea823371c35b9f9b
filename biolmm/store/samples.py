"""The people of several files, matched by id."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from biolmm.errors import ParameterError, SampleMismatchError, named
from biolmm.files.genotypes import SampleTable, Source

log = logging.getLogger(__name__)

Which = Literal["intersection", "union"]
"""Whose genotypes are kept where files hold other people: those in every file, or those in any."""

MAX_RECORDED = 20
"""So many names of people that were dropped go into the provenance of a store, and their number."""


@dataclass(frozen=True, eq=False)
class MatchedSamples:
    """The people of a collection and where each file has them.

    Attributes
    ----------
    samples
        Who they are, in their order.
    columns
        For each file, the column of each sample, −1 where it lacks the person; None where its columns are the samples.
    left_out
        For each file that has people who are not kept, its path, how many, and some of their names, as JSON.
    """

    samples: SampleTable
    columns: tuple[NDArray[np.int64] | None, ...]
    left_out: tuple[dict[str, Any], ...] = ()


def match_samples(sources: Sequence[Source], which: Which) -> MatchedSamples:
    """Match people by id: in the order of the first file, then of those in which they first appear.

    The family is that of the first file that has the person, and so is the sex where it is known.

    Raises
    ------
    SampleMismatchError
        When nobody is in every file (`intersection`), or a file names a person twice.
    ParameterError
        When `which` is neither word.
    """
    if which not in ("intersection", "union"):
        raise ParameterError(f"samples is '{which}': give 'intersection' or 'union'.")
    ids = [_unique_ids(source) for source in sources]
    if all(each is ids[0] or each.equals(ids[0]) for each in ids):
        kept = ids[0]
    elif which == "union":
        kept = pd.Index(dict.fromkeys(name for each in ids for name in each))
    else:
        shared = np.logical_and.reduce([ids[0].isin(each) for each in ids[1:]])
        kept = ids[0][shared]
        if not len(kept):
            raise _nobody_shared(sources)
    columns = tuple(None if each.equals(kept) else each.get_indexer(kept) for each in ids)
    left_out = _left_out(sources, ids, kept)
    _warn(sources, columns, left_out, len(kept))
    return MatchedSamples(_joined(sources, columns, kept), columns, left_out)


def match_to(sources: Sequence[Source], samples: SampleTable, owner: str) -> MatchedSamples:
    """Match the people of files to those of `owner`, who must be the same in any order.

    Raises
    ------
    SampleMismatchError
        When a file lacks people or has others.
    """
    wanted = pd.Index(samples.sample_id)
    columns: list[NDArray[np.int64] | None] = []
    for source in sources:
        found = _unique_ids(source)
        lacking, others = wanted[~wanted.isin(found)], found[~found.isin(wanted)]
        if len(lacking) or len(others):
            parts = [f"it lacks {len(lacking):,} ({named(lacking)})"] * bool(len(lacking))
            parts += [f"it has {len(others):,} others ({named(others)})"] * bool(len(others))
            raise SampleMismatchError(
                f"{source.path} does not hold the {len(wanted):,} samples of {owner}: {' and '.join(parts)}. "
                "Give files of the same people, in any order."
            )
        columns.append(None if found.equals(wanted) else found.get_indexer(wanted))
    return MatchedSamples(samples, tuple(columns))


def _unique_ids(source: Source) -> pd.Index[str]:
    ids = pd.Index(source.samples.sample_id)
    if not ids.is_unique:
        repeated = ids[ids.duplicated()].unique()
        raise SampleMismatchError(
            f"{source.path} names {len(repeated):,} samples more than once: {named(repeated)}. "
            "Samples are matched by id: make it unique."
        )
    return ids


def _joined(sources: Sequence[Source], columns: Sequence[NDArray[np.int64] | None], kept: pd.Index[str]) -> SampleTable:
    """Take family and sex of each person from the first file that has them."""
    if columns[0] is None and (len(sources) == 1 or sources[0].samples.sex.all()):
        return sources[0].samples
    n = len(kept)
    family, sex = np.full(n, "0", dtype=object), np.zeros(n, np.int8)
    known = np.zeros(n, bool)
    for source, column in zip(sources, columns, strict=True):
        where = np.arange(n) if column is None else column
        fresh = (where >= 0) & ~known
        family[fresh] = source.samples.family_id[where[fresh]]
        known |= where >= 0
        unsexed = (where >= 0) & (sex == 0)
        sex[unsexed] = source.samples.sex[where[unsexed]]
    return SampleTable(np.array(kept.tolist(), np.str_), np.array(family.tolist(), np.str_), sex)


def _left_out(
    sources: Sequence[Source], ids: Sequence[pd.Index[str]], kept: pd.Index[str]
) -> tuple[dict[str, Any], ...]:
    found = []
    for source, each in zip(sources, ids, strict=True):
        others = each[~each.isin(kept)]
        if len(others):
            names = others[:MAX_RECORDED].tolist()
            found.append({"path": str(source.path), "n_samples": len(others), "sample_ids": names})
    return tuple(found)


def _warn(
    sources: Sequence[Source],
    columns: Sequence[NDArray[np.int64] | None],
    left_out: Sequence[dict[str, Any]],
    n_kept: int,
) -> None:
    for each in left_out:
        log.warning(
            "%s: %s samples are not in every file and are left out: %s. %s samples are in all.",
            each["path"], f"{each['n_samples']:,}", _named_of(each), f"{n_kept:,}",
        )  # fmt: skip
    for source, column in zip(sources, columns, strict=True):
        n_lacking = 0 if column is None else int(np.sum(column < 0))
        if n_lacking:
            log.warning(
                "%s: %s of %s samples are not in it: their genotypes there are missing.",
                source.path, f"{n_lacking:,}", f"{n_kept:,}",
            )  # fmt: skip


def _named_of(left_out: dict[str, Any]) -> str:
    """Name the first, as `errors.named` does, of a list that may have been cut."""
    shown, n = left_out["sample_ids"][:5], left_out["n_samples"]
    return ", ".join(shown) + (f" and {n - len(shown):,} more" if n > len(shown) else "")


def _nobody_shared(sources: Sequence[Source]) -> SampleMismatchError:
    first = sources[0]
    other = next(
        (each for each in sources[1:] if not np.isin(first.samples.sample_id, each.samples.sample_id).any()),
        sources[-1],
    )
    return SampleMismatchError(
        f"no sample is in every file: {first.path} has {first.samples.n:,} ({named(first.samples.sample_id[:2])}, …) and "
        f"{other.path} has {other.samples.n:,} ({named(other.samples.sample_id[:2])}, …). Are the ids of one kind?"
    )
