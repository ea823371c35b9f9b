"""What is asked of a cohort."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from biolmm.errors import ParameterError, UserError, named

TRANSFORMS = ("none", "rint", "rint-indirect")


@dataclass(frozen=True)
class CohortConfig:
    """Choices of `align_cohort`.

    Parameters
    ----------
    trait_names, covariate_names
        Columns to use, in this order; None takes all.
    categorical
        Covariates whose numbers are names of categories; columns of text always are categorical.
    keep, remove
        Sample ids to restrict the cohort to, or to leave out.
    transform
        `none`; `rint`, the rank-based inverse normal transform; `rint-indirect`, the same of the residuals on the
        covariates.
    max_categories
        Most categories that a categorical covariate may have.

    Raises
    ------
    ParameterError
        When a choice does not exist or a list of names is empty or repeats one.
    """

    trait_names: tuple[str, ...] | None = None
    covariate_names: tuple[str, ...] | None = None
    categorical: tuple[str, ...] = ()
    keep: tuple[str, ...] | None = None
    remove: tuple[str, ...] | None = None
    transform: str = "none"
    max_categories: int = 50

    def __post_init__(self) -> None:
        if self.transform not in TRANSFORMS:
            hint = close_match(self.transform, TRANSFORMS)
            raise ParameterError(f"There is no transform {self.transform!r}{hint}: use one of {', '.join(TRANSFORMS)}.")
        if self.max_categories < 2:
            raise ParameterError(f"max_categories is {self.max_categories}: it must be at least 2.")
        if self.trait_names is not None and not self.trait_names:
            raise ParameterError("The list of traits is empty: name at least one, or leave the list out to take all.")
        for what, names in (("trait", self.trait_names), ("covariate", self.covariate_names)):
            repeated = [name for name in dict.fromkeys(names or ()) if (names or ()).count(name) > 1]
            if repeated:
                raise ParameterError(f"The list of {what}s names {named(repeated)} more than once: name each once.")


def close_match(name: str, candidates: Iterable[str]) -> str:
    """Ask whether a similar name was meant, or say nothing.

    Examples
    --------
    >>> close_match("hieght", ["height", "bmi"])
    " (did you mean 'height'?)"
    """
    folded = {candidate.lower(): candidate for candidate in candidates}
    found = difflib.get_close_matches(name.lower(), folded, n=1)
    return f" (did you mean '{folded[found[0]]}'?)" if found else ""


def select_names(
    wanted: Sequence[str] | None, available: Sequence[str], what: str, source: str, error: type[UserError]
) -> tuple[str, ...]:
    """Give the wanted names, all available ones for None.

    Raises
    ------
    UserError
        Of the class `error`, naming those that `source` does not have, with similar names.
    """
    if wanted is None:
        return tuple(available)
    unknown = [name for name in wanted if name not in available]
    if unknown:
        spelled = named(f"'{name}'{close_match(name, available)}" for name in unknown)
        plural = "" if len(unknown) == 1 else "s"
        raise error(f"No {what}{plural} {spelled} in {source}: it has {named(available)}.")
    return tuple(wanted)
