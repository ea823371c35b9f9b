"""Which genotype files are meant by what was given, and which reader opens each."""

from __future__ import annotations

import glob
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from itertools import product
from pathlib import Path

from biolmm.errors import InputFileError, ParameterError, named
from biolmm.files.genotypes import Source
from biolmm.places import is_remote, place, require_local

MAX_EXPANDED = 10_000
"""More paths than this out of one pair of braces are a mistake."""


@dataclass(frozen=True)
class Format:
    """One kind of genotype file: its name, its suffixes, and the module with its `open_<key>`."""

    key: str
    name: str
    suffixes: tuple[str, ...]
    is_set: bool
    """Whether it is one of several files of a common name, which may be given without a suffix."""

    @property
    def open(self) -> Callable[..., Source]:
        """The function that opens a file; its module is imported when it is first used."""
        opener: Callable[..., Source] = getattr(import_module(f"biolmm.files.{self.key}"), f"open_{self.key}")
        return opener


FORMATS = (
    Format("bed", "PLINK 1", (".bed",), is_set=True),
    Format("bgen", "BGEN", (".bgen",), is_set=False),
    Format("pgen", "PLINK 2", (".pgen",), is_set=True),
    Format("vcf", "VCF or BCF", (".vcf", ".vcf.gz", ".vcf.bgz", ".bcf"), is_set=False),
)

_LOCAL = ("pgen", "vcf")
"""Formats whose readers need local files."""

_READABLE = ", ".join(suffix for each in FORMATS for suffix in each.suffixes)
_BRACES = re.compile(r"\{([^{}]*)\}")
_RANGE = re.compile(r"([0-9]{1,9})\.\.([0-9]{1,9})")


def expand(paths: Sequence[str | Path]) -> list[Path]:
    """Write out patterns: `chr{1..22}.bed`, `{a,b}.bgen`, `chr*.bed`.

    Shells do this to arguments that are not quoted; this is for those that are, and for Python.

    Returns
    -------
    What each argument stands for, in the order given; what `*` matches is in natural order, `chr2` before `chr10`. A
    path that exists, or that holds no pattern, is itself. In addresses of object stores `*` is looked for in
    the last part only.

    Raises
    ------
    InputFileError
        When a pattern matches nothing.
    ParameterError
        When braces stand for more than 10,000 paths.

    Examples
    --------
    >>> [str(path) for path in expand(["chr{1..3}.bed", "chr{X,Y}.bed"])]
    ['chr1.bed', 'chr2.bed', 'chr3.bed', 'chrX.bed', 'chrY.bed']
    """
    found: list[Path] = []
    for given in map(str, paths):
        if place(given).exists():
            found.append(place(given))
            continue
        for text in _without_braces(given):
            path = place(text)
            is_pattern = glob.has_magic(text) and not path.exists()
            found += _matches(path) if is_pattern else [path]
    return found


def open_source(path: Path | str, *, sample_file: Path | str | None = None) -> Source:
    """Open a genotype file, by its suffix, or a file set by its name without one.

    Parameters
    ----------
    path
        A `.bed`, `.bgen`, `.pgen`, `.vcf`, `.vcf.gz` or `.bcf`; of `.bed` and `.pgen` also the name without suffix.
    sample_file
        The `.sample` file of a `.bgen`; other formats hold their samples.

    Raises
    ------
    InputFileError
        When there is no such file, its kind is not known, a name fits several, the library that reads it is not
        installed, or the reader refuses it.
    ParameterError
        When a sample file is given for a format that has none.
    """
    path = place(path)
    chosen = _format_of(path)
    if chosen.key in _LOCAL:
        require_local(path, f"a {chosen.name} file")
    if sample_file is not None and chosen.key != "bgen":
        raise ParameterError(f"{path} is not a .bgen: only these take a sample file ({sample_file}). Leave it out.")
    try:
        opener = chosen.open
        return opener(path) if sample_file is None else opener(path, sample_file=place(sample_file))
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] == "biolmm":
            raise
        package = error.name.split(".")[0]
        raise InputFileError(
            f"{path} needs a library that is not installed, {package}: pip install {_PACKAGES.get(package, package)}"
        ) from error


_PACKAGES = {"upath": "universal-pathlib"}
"""Names to install by, where they differ from those to import."""


def _format_of(path: Path) -> Format:
    """Recognise a format by the suffix; else by the one file set of this name."""
    for each in FORMATS:
        if path.name.lower().endswith(each.suffixes):
            return each
    if path.exists():
        raise InputFileError(f"{path} is not a genotype file that biolmm knows: it reads {_READABLE}, and VCF Zarr.")
    beside = [(each, path.with_name(path.name + each.suffixes[0])) for each in FORMATS]
    sets = [(each, file) for each, file in beside if file.exists()]
    if len(sets) > 1:
        names = " and ".join(str(file) for _, file in sets)
        raise InputFileError(f"{path} could be {names}: give one of them, with its suffix.")
    if sets and sets[0][0].is_set:
        return sets[0][0]
    if sets:
        raise InputFileError(f"{path}: no such file. Did you mean {sets[0][1]}?")
    raise InputFileError(f"{path}: no such file, and no file set {path.name}.bed or {path.name}.pgen.")


def _without_braces(text: str) -> list[str]:
    """Write out `{1..22}` and `{a,b}`; other braces are kept."""
    parts = _BRACES.split(text)  # text, inside, text, inside, …, text
    choices = [_choices(part) if i % 2 else [part] for i, part in enumerate(parts)]
    n = 1
    for each in choices:
        n *= len(each)
    if n > MAX_EXPANDED:
        raise ParameterError(f"'{text}' stands for {n:,} paths, more than {MAX_EXPANDED:,}: is a range mistyped?")
    return ["".join(chosen) for chosen in product(*choices)]


def _choices(inside: str) -> list[str]:
    if match := _RANGE.fullmatch(inside):
        first, last = int(match[1]), int(match[2])
        if abs(last - first) >= MAX_EXPANDED:
            raise ParameterError(f"'{{{inside}}}' stands for {abs(last - first) + 1:,} paths: is it mistyped?")
        padded = any(len(end) > 1 and end[0] == "0" for end in match.groups())  # 08..10 keeps the zeros, as in a shell
        width = max(len(match[1]), len(match[2])) if padded else 0
        step = 1 if last >= first else -1
        return [f"{number:0{width}d}" for number in range(first, last + step, step)]
    return inside.split(",") if "," in inside else [f"{{{inside}}}"]


def _matches(pattern: Path) -> list[Path]:
    folder = pattern.parent
    found = list(map(str, folder.glob(pattern.name))) if is_remote(pattern) else glob.glob(str(pattern))  # noqa: PTH207
    if not found:
        there = named(sorted(each.name for each in folder.iterdir())) if folder.is_dir() else "no such folder"
        raise InputFileError(f"'{pattern}' matches no file; in {folder}: {there or 'nothing'}.")
    return [place(text) for text in sorted(found, key=lambda text: tuple(_natural(text)))]


def _natural(text: str) -> Iterator[tuple[int, int, str]]:
    """Make a sort key in which numbers within the text have their order."""
    for part in re.findall(r"[0-9]+|[^0-9]+", text):
        yield (0, int(part), part) if part[0].isdigit() else (1, 0, part)
