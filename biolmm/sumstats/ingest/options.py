"""What is said of a study, and the rules by which its alleles are harmonised."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from biolmm.contigs import normalise_build
from biolmm.errors import ParameterError

Palindromic = Literal["frequency", "drop", "trust"]


@dataclass(frozen=True)
class StudyInput:
    """A study to add: its file, and what the file does not say.

    Attributes
    ----------
    path
        The file, or folder of results.
    name
        Name in the store; by default that of the file without its endings.
    columns
        Roles of columns by name, for what the header dictionary does not know.
    trait
        The trait of a results folder, or the study of a GWAS-VCF.
    n
        Sample size, where the file has none.
    build
        GRCh37 or GRCh38; compared with the store's.
    trait_type
        `quantitative`, `binary` or None; kept for those who read the store.
    bim
        The .bim of a file that names the effect allele only (PLINK 1's `.assoc.linear`, `.assoc.logistic`).
    """

    path: Path
    name: str = ""
    columns: Mapping[str, str] = field(default_factory=dict)
    trait: str | None = None
    n: float | None = None
    build: str | None = None
    trait_type: str | None = None
    bim: Path | None = None

    def __post_init__(self) -> None:
        """Check numbers and names.

        Raises
        ------
        ParameterError
            When one cannot be used.
        """
        object.__setattr__(self, "path", Path(self.path))
        if not self.name:
            stem = self.path.name
            for ending in (".gz", ".bgz", ".zst", ".tsv", ".txt", ".csv", ".parquet", ".vcf", ".sumstats"):
                stem = stem.removesuffix(ending)
            object.__setattr__(self, "name", stem if self.trait is None else f"{stem}:{self.trait}")
        if not self.name.strip() or any(ord(letter) < 32 for letter in self.name):
            raise ParameterError(f"{self.name!r} is not a name for a study: give it letters.")
        if self.n is not None and not 0 < self.n < float("inf"):
            raise ParameterError(f"--n is {self.n} but must be a number above 0.")
        if self.trait_type not in (None, "quantitative", "binary"):
            raise ParameterError(f"--trait-type is {self.trait_type!r}: give quantitative or binary.")
        if self.build is not None:
            object.__setattr__(self, "build", normalise_build(self.build))


@dataclass(frozen=True)
class Rules:
    """How records are harmonised; one set for a store.

    Attributes
    ----------
    palindromic
        A/T and C/G: `frequency` compares the study's with the catalogue's, and leaves out what is in the grey zone in
        either; `drop` leaves all out; `trust` takes alleles as they are.
    grey_zone
        Frequencies between which `frequency` leaves a palindromic variant out.
    alleles
        `metal` is METAL's rule: indels match whichever allele is REF, and palindromic variants are trusted.
    duplicates
        Of several records of a variant in a study: `first`, or `best-p`, the one with the smallest p.
    reference
        FASTA file: decides which allele is REF and which strand is meant, and left-aligns indels.
    exact
        Numbers in double precision, and every −log10 p.
    effects_from_z
        From z, n and eaf make beta and se per standard deviation of the trait, where there are no effects.
    """

    palindromic: Palindromic = "frequency"
    grey_zone: tuple[float, float] = (0.4, 0.6)
    alleles: Literal["catalogue", "metal"] = "catalogue"
    duplicates: Literal["first", "best-p"] = "first"
    reference: Path | None = None
    exact: bool = False
    effects_from_z: bool = False

    def __post_init__(self) -> None:
        """Check what was given.

        Raises
        ------
        ParameterError
            When a rule is none, or rules contradict each other.
        """
        allowed = {"palindromic": ("frequency", "drop", "trust"), "alleles": ("catalogue", "metal"),
                   "duplicates": ("first", "best-p")}  # fmt: skip
        for name, values in allowed.items():
            if getattr(self, name) not in values:
                raise ParameterError(f"--{name} is {getattr(self, name)!r}: give one of {', '.join(values)}.")
        low, high = self.grey_zone
        if not 0 <= low <= 0.5 <= high <= 1:
            raise ParameterError(f"The grey zone is {low} to {high} but must hold 0.5 within 0 to 1.")
        if self.alleles == "metal":
            if self.reference is not None:
                raise ParameterError("METAL's allele rule knows no reference: give --alleles metal or --reference.")
            object.__setattr__(self, "palindromic", "trust")
        if self.reference is not None:
            object.__setattr__(self, "reference", Path(self.reference))

    def as_json(self) -> dict[str, Any]:
        """Give the rules as a store keeps them; of the reference only its name, as the file may move."""
        values = asdict(self)
        values["grey_zone"] = list(self.grey_zone)
        values["reference"] = None if self.reference is None else self.reference.name
        return values
