"""Cells of a store for an analysis: studies chosen, cells below thresholds blanked, a stretch of variants at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from biolmm.sumstats.analysis.options import MetaOptions
from biolmm.sumstats.matrix.read import SumstatsStore
from biolmm.sumstats.meta.block import StudyBlock

STRETCH_CELLS = 1 << 20
"""Variants × studies that are in double precision at once."""


@dataclass(frozen=True, eq=False)
class Stretch:
    """Some variants of a chunk: the first one's number in it, and their block."""

    start: int
    block: StudyBlock

    @property
    def stop(self) -> int:
        """The number in the chunk of the variant behind the last."""
        return self.start + self.block.n_variants


@dataclass(frozen=True)
class Reader:
    """Reads chunks of a store as an analysis wants them. Cheap to send to other processes."""

    store: SumstatsStore
    options: MetaOptions
    columns: tuple[int, ...]

    @classmethod
    def of(cls, store: SumstatsStore, options: MetaOptions) -> Reader:
        """Choose the studies.

        Raises
        ------
        ParameterError
            When a study is not in the store, or the options do not fit the studies.
        """
        columns = tuple(store.find_studies(list(options.studies) or None))
        options.check_studies(tuple(store.study_id[at] for at in columns))
        return cls(store, options, columns)

    @property
    def studies(self) -> tuple[str, ...]:
        """Names of the studies, in order."""
        return tuple(self.store.study_id[at] for at in self.columns)

    def wanted(self, *, everything: bool) -> list[str]:
        """Name the arrays that are read: for the statistics alone, or for all columns of the result."""
        options = self.options
        names = ["beta", "se"]
        if options.scheme == "samplesize":
            names += ["n", "neg_log10_p"]
        if everything or options.min_maf > 0:
            names.append("eaf")
        if everything or options.min_n > 0:
            names.append("n")
        if options.min_info > 0:
            names.append("info")
        return list(dict.fromkeys(names))

    def stretches(self, chunk: int, *, everything: bool = False, eaf: bool = False) -> Iterator[Stretch]:
        """Read a chunk; cells below a threshold become NaN.

        Parameters
        ----------
        chunk
            Its number.
        everything
            Read n and frequencies too.
        eaf
            Read frequencies too.
        """
        names = self.wanted(everything=everything)
        if eaf and "eaf" not in names:
            names.append("eaf")
        read = self.store.read_block(chunk, self.columns, names)
        rows = max(STRETCH_CELLS // max(len(self.columns), 1), 256)
        for start in range(0, len(read), rows):
            part = slice(start, min(start + rows, len(read)))
            cells = {name: values[part].astype(np.float64) for name, values in read.cells.items()}
            yield Stretch(start, self._filtered(cells))

    def _filtered(self, cells: dict[str, NDArray[np.float64]]) -> StudyBlock:
        options, bad = self.options, None
        with np.errstate(invalid="ignore"):
            if options.min_maf > 0:
                bad = np.minimum(cells["eaf"], 1 - cells["eaf"]) < options.min_maf
            for name, least in (("info", options.min_info), ("n", options.min_n)):
                if least > 0:
                    below = cells[name] < least
                    bad = below if bad is None else bad | below
        names = {each.name for each in fields(StudyBlock)}
        kept = {name: values for name, values in cells.items() if name in names}
        if bad is not None and bad.any():
            for values in kept.values():
                values[bad] = np.nan
        return StudyBlock(**kept)


def takes_part(block: StudyBlock, scheme: str) -> NDArray[np.bool_]:
    """Tell which cells the fixed-effects analysis uses."""
    if scheme == "samplesize":
        assert block.n is not None
        return np.asarray(~np.isnan(block.z_scores()) & ~np.isnan(block.n))
    assert block.se is not None
    return np.asarray(~np.isnan(block.beta) & ~np.isnan(block.se))
