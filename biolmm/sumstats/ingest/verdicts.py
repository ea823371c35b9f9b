"""Whether the columns of a file are what their names say: counted block by block, judged at the end."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from biolmm.errors import InputFileError
from biolmm.sumstats.ingest.fields import Mask, Vector

_ENOUGH = 30
"""Values that a verdict on a column needs."""

_MANY = 1000
"""Values that a verdict from the largest one needs."""


@dataclass
class Ranges:
    """Counts of what was in the columns of one file."""

    counts: dict[str, int] = field(default_factory=dict)
    largest_tail: float = 0.0
    largest_eaf: float = 0.0
    tests: dict[str, int] = field(default_factory=dict)

    def _add(self, name: str, chosen: Mask) -> None:
        self.counts[name] = self.counts.get(name, 0) + int(np.count_nonzero(chosen))

    def _n(self, name: str) -> int:
        return self.counts.get(name, 0)

    def see_beta(self, values: Vector, wrong: Mask) -> None:
        """Count effects: signs, and how many lie where odds ratios do."""
        with np.errstate(invalid="ignore"):
            self._add("beta", ~np.isnan(values))
            self._add("beta_text", wrong)
            self._add("beta_positive", values > 0)
            self._add("beta_near_one", (values > 0.5) & (values < 2))

    def see_odds_ratio(self, values: Vector, wrong: Mask) -> None:
        """Count odds ratios that cannot be."""
        with np.errstate(invalid="ignore"):
            self._add("odds_ratio", ~np.isnan(values))
            self._add("odds_ratio_text", wrong)
            self._add("odds_ratio_negative", values < 0)

    def see_se(self, values: Vector, wrong: Mask) -> None:
        """Count standard errors that cannot be."""
        with np.errstate(invalid="ignore"):
            self._add("se", ~np.isnan(values))
            self._add("se_text", wrong)
            self._add("se_not_positive", values <= 0)

    def see_p(self, tails: Vector, wrong: Mask) -> None:
        """Count p-values above 1, below 0 and 0, from their −log₁₀."""
        with np.errstate(invalid="ignore"):
            self._add("p", ~np.isnan(tails))
            self._add("p_text", wrong)
            self._add("p_above_one", (tails < 0) & np.isfinite(tails))
            self._add("p_negative", np.isneginf(tails))
            self._add("p_zero", np.isposinf(tails))

    def see_neg_log10_p(self, values: Vector, wrong: Mask) -> None:
        """Count −log₁₀ p that cannot be, and keep the largest."""
        with np.errstate(invalid="ignore"):
            self._add("neg_log10_p", ~np.isnan(values))
            self._add("neg_log10_p_text", wrong)
            self._add("neg_log10_p_negative", values < 0)
        if not np.isnan(values).all():
            self.largest_tail = max(self.largest_tail, float(np.nanmax(values)))

    def see_log10_p(self, values: Vector, wrong: Mask) -> None:
        """Count log₁₀ p above 0."""
        with np.errstate(invalid="ignore"):
            self._add("log10_p", ~np.isnan(values))
            self._add("log10_p_text", wrong)
            self._add("log10_p_positive", values > 0)

    def see_eaf(self, values: Vector, wrong: Mask) -> None:
        """Count frequencies that cannot be, and keep the largest."""
        with np.errstate(invalid="ignore"):
            self._add("eaf", ~np.isnan(values))
            self._add("eaf_text", wrong)
            self._add("eaf_outside", (values < 0) | (values > 1))
            self._add("eaf_percent", (values > 1) & (values <= 100))
        if not np.isnan(values).all():
            self.largest_eaf = max(self.largest_eaf, float(np.nanmax(values)))

    def check(self, source: str) -> None:
        """Refuse a file whose columns are not what their names say.

        Raises
        ------
        InputFileError
            Says what they look like, and how to name them.
        """
        self._refuse(source, "beta", "beta_near_one", 0.5, self._n("beta_positive") == self._n("beta"),
                     "all effects are positive and {share:.0%} lie between 0.5 and 2: these are odds ratios. "
                     "Say so: --map COLUMN=odds_ratio")  # fmt: skip
        self._refuse(source, "odds_ratio", "odds_ratio_negative", 0.01, True,
                     "{share:.0%} of the odds ratios are below 0: these are effects (log odds ratios). "
                     "Say so: --map COLUMN=beta")  # fmt: skip
        self._refuse(
            source,
            "p",
            "p_negative",
            0.01,
            True,
            "{share:.0%} of the p-values are below 0: these are log10 p. Say so: --map COLUMN=log10_p",
        )
        self._refuse(
            source,
            "p",
            "p_above_one",
            0.01,
            True,
            "{share:.0%} of the p-values are above 1: these are −log10 p. Say so: --map COLUMN=neg_log10_p",
        )
        self._refuse(
            source,
            "neg_log10_p",
            "neg_log10_p_negative",
            0.01,
            True,
            "{share:.0%} of the −log10 p are below 0: these are log10 p. Say so: --map COLUMN=log10_p",
        )
        self._refuse(
            source,
            "log10_p",
            "log10_p_positive",
            0.01,
            True,
            "{share:.0%} of the log10 p are above 0: these are −log10 p. Say so: --map COLUMN=neg_log10_p",
        )
        self._refuse(
            source,
            "eaf",
            "eaf_percent",
            0.1,
            True,
            "{share:.0%} of the frequencies are above 1: these are percentages; divide them by 100",
        )
        self._refuse(source, "eaf", "eaf_outside", 0.5, True,
                     "{share:.0%} of the frequencies are outside 0 to 1: this is another column. "
                     "Leave it out: --map COLUMN=ignore")  # fmt: skip
        self._refuse(source, "se", "se_not_positive", 0.5, True,
                     "{share:.0%} of the standard errors are not above 0: this is another column. "
                     "Say which it is: --map COLUMN=se")  # fmt: skip
        if self._n("neg_log10_p") >= _MANY and self.largest_tail <= 1:
            raise InputFileError(f"{source}: no −log10 p of {self._n('neg_log10_p'):,} is above 1: these are p-values. "
                                 "Say so: --map COLUMN=p")  # fmt: skip
        for role in ("beta", "odds_ratio", "se", "p", "neg_log10_p", "log10_p", "eaf"):
            there, text = self._n(role), self._n(role + "_text")
            if text > there:
                raise InputFileError(f"{source}: {text:,} of {text + there:,} values of the column of role {role} are no "
                                     f"numbers. Say which column it is: --map COLUMN={role}")  # fmt: skip

    def _refuse(self, source: str, whole: str, part: str, least: float, also: bool, words: str) -> None:
        if self._n(whole) < _ENOUGH or not also:
            return
        share = self._n(part) / self._n(whole)
        if share >= least:
            raise InputFileError(f"{source}: {words.format(share=share)} ({self._n(part):,} of {self._n(whole):,}).")

    def warnings(self) -> list[str]:
        """Say what is suspicious, but might be right."""
        found = []
        if self._n("eaf") >= _MANY and self.largest_eaf <= 0.5:
            found.append("no frequency is above 0.5: these may be minor, not effect allele frequencies, by which "
                         "palindromic variants must not be resolved (--palindromic drop)")  # fmt: skip
        for part, whole, words in (
            (
                "p_zero",
                "p",
                "p-values are 0, too small for the program that wrote them; beta / se is used where there is se",
            ),
            ("p_above_one", "p", "p-values are above 1"),
            ("se_not_positive", "se", "standard errors are not above 0"),
            ("eaf_outside", "eaf", "frequencies are outside 0 to 1"),
            ("odds_ratio_negative", "odds_ratio", "odds ratios are below 0"),
        ):
            if self._n(part):
                found.append(f"{self._n(part):,} of {self._n(whole):,} {words}")
        return found
