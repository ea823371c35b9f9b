"""What a meta-analysis of a store computes, checked before anything is read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from biolmm.errors import InputFileError, ParameterError, named
from biolmm.files.lines import read_lines
from biolmm.sumstats.meta.genomic_control import MedianRule
from biolmm.sumstats.meta.partition import MAX_STUDIES
from biolmm.sumstats.meta.random_effects import KnappHartung, Tau2Method

Scheme = Literal["ivw", "samplesize"]


@dataclass(frozen=True)
class MetaOptions:
    """Which analyses, of which studies and variants.

    Attributes
    ----------
    scheme
        Weights of the fixed-effects analysis: 1/se² or n.
    studies
        Names, in order; all of the store by default.
    random, knapp_hartung
        Estimator of τ² of a random-effects analysis, none by default; standard errors from the residuals.
    re2
        Han and Eskin's random effects.
    binary_effects, m_values
        Of variants whose −log₁₀ p, by any test computed, is at least `interesting_neg_log10_p`.
    axes
        Axes of ancestry of a meta-regression (MR-MEGA); 0 for none.
    partition
        The Bayesian partition model (of MANTRA's type).
    male, female
        Studies of either sex for the sex-differentiated analysis, and the correlation of the two estimates.
    leave_one_out
        The fixed-effects analysis, of either scheme, without each study.
    groups
        Group of each study by name; studies not named are in none.
    genomic_control, lambda_rule
        Control of each study, by METAL's median (the upper one of an even number, over 0.4549364) or the ordinary one.
    result_control
        Control of the fixed-effects result.
    overlap, z_cutoff
        Account for shared samples by generalised least squares; |z| below which correlations are estimated.
    min_studies, min_maf, min_info, min_n
        Variants in fewer studies are left out; cells below the others are.
    """

    scheme: Scheme = "ivw"
    studies: tuple[str, ...] = ()
    random: Tau2Method | None = None
    knapp_hartung: KnappHartung = "off"
    re2: bool = False
    binary_effects: bool = False
    m_values: bool = False
    interesting_neg_log10_p: float = 5.0
    axes: int = 0
    partition: bool = False
    male: tuple[str, ...] = ()
    female: tuple[str, ...] = ()
    sex_correlation: float = 0.0
    leave_one_out: bool = False
    groups: Mapping[str, str] = field(default_factory=dict)
    genomic_control: bool = False
    lambda_rule: MedianRule = "metal"
    result_control: bool = False
    overlap: bool = False
    z_cutoff: float = 1.0
    min_studies: int = 1
    min_maf: float = 0.0
    min_info: float = 0.0
    min_n: float = 0.0
    seed: int = 1

    def __post_init__(self) -> None:
        """Check what can be checked without a store.

        Raises
        ------
        ParameterError
            When numbers are out of range or options contradict each other.
        """
        if self.scheme not in ("ivw", "samplesize"):
            raise ParameterError(f"The scheme is {self.scheme!r} but must be ivw or samplesize.")
        if self.min_studies < 1:
            raise ParameterError(f"--min-studies is {self.min_studies} but must be at least 1.")
        for name, most in (("min_maf", 0.5), ("min_info", float("inf")), ("min_n", float("inf"))):
            if not 0 <= getattr(self, name) <= most:
                raise ParameterError(f"--{name.replace('_', '-')} is {getattr(self, name)} but must be 0 to {most:g}.")
        if self.knapp_hartung != "off" and self.random is None:
            raise ParameterError("--knapp-hartung is about random effects: choose an estimator with --random.")
        if bool(self.male) != bool(self.female):
            raise ParameterError(
                "A sex-differentiated analysis needs --male and --female studies, and one was not given."
            )
        if both := set(self.male) & set(self.female):
            raise ParameterError(f"{named(sorted(both))} would be of both sexes; name each study once.")
        if self.overlap and (others := self._others()):
            raise ParameterError(
                f"--overlap corrects the fixed-effects analysis, and not {named(others)}: run them without it, in another "
                "folder."
            )
        by_error = [name for name in ("--male", "--subgroups") if name in self._others()]
        if self.scheme == "samplesize" and by_error:
            raise ParameterError(
                f"{named(by_error)} compares effects, which --scheme samplesize does not have: use --scheme ivw, or choose the "
                "studies of each run with --study."
            )

    def _others(self) -> list[str]:
        """Name the analyses asked for beside the fixed-effects one."""
        asked = {
            "--random": self.random is not None, "--re2": self.re2, "--be": self.binary_effects, "--m-values": self.m_values,
            "--mr-mega": self.axes > 0, "--mantra": self.partition, "--male": bool(self.male),
            "--leave-one-out": self.leave_one_out, "--subgroups": bool(self.groups),
        }  # fmt: skip
        return [name for name, wanted in asked.items() if wanted]

    def check_studies(self, names: tuple[str, ...]) -> None:
        """Check the options against the studies to analyse.

        Raises
        ------
        ParameterError
            When a study is not there, or there are too few or too many for an analysis.
        """
        k = len(names)
        for option, given in (("--male", self.male), ("--female", self.female), ("--subgroups", tuple(self.groups))):
            if wrong := [name for name in given if name not in names]:
                raise ParameterError(
                    f"{option} names {named(wrong)}, which is not among the studies {named(names, 10)}."
                )
        if self.male and (rest := set(names) - set(self.male) - set(self.female)):
            raise ParameterError(
                f"{named(sorted(rest))} is neither in --male nor in --female; choose studies with --study."
            )
        if self.min_studies > k:
            raise ParameterError(f"--min-studies is {self.min_studies} but there are {k} studies.")
        if self.axes and not 1 <= self.axes <= k - 3:
            raise ParameterError(
                f"--mr-mega asks for {self.axes} axes, which needs {self.axes + 3} studies; there are {k}."
            )
        if self.partition and k > MAX_STUDIES:
            raise ParameterError(f"--mantra enumerates clusters of at most {MAX_STUDIES} studies; there are {k}.")

    def needs_effects(self) -> bool:
        """Whether anything but z, p and n is used."""
        return self.scheme == "ivw" or bool(set(self._others()) - {"--leave-one-out"})

    def as_json(self) -> dict[str, Any]:
        """Give all options for a record."""
        return {**asdict(self), "groups": dict(self.groups)}


def read_groups(path: Path) -> dict[str, str]:
    """Read the groups of studies: a study and its group a line, after a header line that begins with `study`.

    Raises
    ------
    InputFileError
        When the file cannot be read, a line has another number of words, or a study is named twice.
    """
    groups: dict[str, str] = {}
    for number, line in read_lines(path):
        words = [word.strip() for word in line.split("\t")] if "\t" in line else line.split()
        if not words or (number == 1 and words[0].lower().lstrip("#") == "study"):
            continue
        if len(words) != 2:
            raise InputFileError(f"{path}, line {number}: has {len(words)} words; give a study and its group.")
        if words[0] in groups:
            raise InputFileError(f"{path}, line {number}: {words[0]} is there already; give each study one group.")
        groups[words[0]] = words[1]
    if not groups:
        raise InputFileError(f"{path} names no study; give a study and its group on each line.")
    return groups
