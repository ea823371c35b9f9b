"""A model of random effects as a YAML file: the terms of the formula with typed keys, and the tables that they name.

    terms:
      - genetic
      - genetic:smoking                       # as in a formula
      - {effect: genetic, sets: [maf, ld]}    # or key by key
      - {effect: spatial, columns: [lat, lon], kernel: matern52, range: 50}
    environment: people.tsv
    features: {microbiome: taxa.tsv}

Paths are relative to the folder of the file. Names that a formula cannot spell, such as columns with spaces, are possible.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import yaml  # type: ignore[import-untyped]

from biolmm.cohort.config import close_match
from biolmm.components.formula import Effect, Formula, parse_formula
from biolmm.errors import InputFileError, ParameterError
from biolmm.places import place

FILE_KEYS = ("environment", "annotations", "pedigree")
SEVERAL_KEYS = ("features", "matrices", "regions")
SPEC_KEYS = ("terms", *FILE_KEYS, *SEVERAL_KEYS, "categorical")
SET_KEYS = ("effect", "sets", "by")
SPATIAL_KEYS = ("effect", "columns", "kernel", "range", "metric", "by")
PLAIN_KEYS = ("effect", "by")
MAX_BYTES = 2**20
"""A larger file is not a specification."""


@dataclass(frozen=True)
class ComponentTables:
    """Files that names in a formula refer to.

    Attributes
    ----------
    environment
        A table by sample: environments, coordinates, families, batches.
    features, matrices
        Tables of features by sample, and matrices, by name.
    annotations
        A table by variant, or None.
    regions
        UCSC BED files by name.
    pedigree
        A `.fam` file or a table of IID, father, mother.
    """

    environment: Path | None = None
    features: Mapping[str, Path] = field(default_factory=dict)
    matrices: Mapping[str, Path] = field(default_factory=dict)
    annotations: Path | None = None
    regions: Mapping[str, Path] = field(default_factory=dict)
    pedigree: Path | None = None

    def files(self) -> dict[str, Path]:
        """Return every file that is given, by name."""
        single = {"environment": self.environment, "annotations": self.annotations, "pedigree": self.pedigree}
        return {name: path for name, path in single.items() if path is not None} | {
            f"{kind}:{name}": path
            for kind, group in (("features", self.features), ("matrix", self.matrices), ("regions", self.regions))
            for name, path in group.items()
        }

    def joined(self, other: ComponentTables) -> ComponentTables:
        """Return the tables of both.

        Raises
        ------
        ParameterError
            When both give the same one.
        """
        both = sorted(self.files().keys() & other.files().keys())
        if both:
            raise ParameterError(f"{both[0]} is given twice, in --spec and as an option: leave one of them out.")
        return ComponentTables(
            environment=self.environment or other.environment,
            features={**self.features, **other.features},
            matrices={**self.matrices, **other.matrices},
            annotations=self.annotations or other.annotations,
            regions={**self.regions, **other.regions},
            pedigree=self.pedigree or other.pedigree,
        )


@dataclass(frozen=True)
class ComponentSpec:
    """What a YAML file says.

    Attributes
    ----------
    formula
        The random effects.
    tables
        Files that they name.
    categorical
        Columns of numbers that name categories.
    """

    formula: Formula
    tables: ComponentTables = field(default_factory=ComponentTables)
    categorical: tuple[str, ...] = ()


def read_spec(path: Path) -> ComponentSpec:
    """Read a model from a YAML file.

    Raises
    ------
    InputFileError
        When the file cannot be read, or is no YAML.
    ParameterError
        When a key is unknown or a value of the wrong kind: naming it and what there is.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            raise InputFileError(f"'{path}' has more than {MAX_BYTES:,} bytes: that is no --spec.")
        found = yaml.load(content.decode("utf-8"), _Loader)
    except FileNotFoundError:
        raise InputFileError(f"'{path}' does not exist: check the path.") from None
    except OSError as error:
        raise InputFileError(f"'{path}' cannot be read: {error.strerror or error}.") from None
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise InputFileError(f"'{path}' is no YAML file: {_reason(error)}.") from None
    return _Reader(f"'{path}'", path.parent).spec(found)


def spec_of(given: Any, folder: Path = Path()) -> ComponentSpec:
    """Make a model of what a YAML file would hold, with paths relative to `folder`.

    Examples
    --------
    >>> given = {"terms": ["genetic", {"effect": "spatial", "columns": ["lat", "lon"], "range": 50}]}
    >>> str(spec_of(given).formula)
    'genetic + spatial(lat, lon, range=50)'
    >>> spec_of({"terms": ["genetic"], "enviroment": "people.tsv"})  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    biolmm.errors.ParameterError: the specification has no key 'enviroment' (did you mean 'environment'?): there is terms, ...
    """
    return _Reader("the specification", folder).spec(given)


class _Loader(yaml.SafeLoader):
    """Plain values only, and no key twice."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Hashable, Any]:
        """Refuse keys that are there already, of which YAML would keep the last."""
        seen = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, Hashable) and key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key '{key}' is there twice", key_node.start_mark
                )
            if isinstance(key, Hashable):
                seen.add(key)
        found: dict[Hashable, Any] = super().construct_mapping(node, deep)
        return found


def _reason(error: Exception) -> str:
    """Say in one line what is wrong with a YAML file, and where."""
    mark = getattr(error, "problem_mark", None)
    problem = str(getattr(error, "problem", None) or error).splitlines()[0]
    return f"line {mark.line + 1}: {problem}" if mark is not None else problem


@dataclass(frozen=True)
class _Reader:
    """Turns plain values into a model; knows where they come from."""

    source: str
    folder: Path

    def spec(self, given: Any) -> ComponentSpec:
        """Read the whole."""
        if not isinstance(given, Mapping):
            self._fail("", f"is no mapping: write 'terms:' and what it names; there is {', '.join(SPEC_KEYS)}")
        self._check_keys("", given, SPEC_KEYS)
        terms = given.get("terms")
        if not isinstance(terms, Sequence) or isinstance(terms, str) or not terms:
            self._fail("", "needs the key 'terms' with a list of random effects, such as [genetic, genetic:smoking]")
        effects = [self._effect(f", term {i}", term) for i, term in enumerate(terms, 1)]
        files = {name: self._path(name, given[name]) for name in FILE_KEYS if name in given}
        several = {name: self._paths(name, given[name]) for name in SEVERAL_KEYS if name in given}
        nothing: Mapping[str, Path] = {}
        tables = ComponentTables(
            environment=files.get("environment"),
            features=several.get("features", nothing),
            matrices=several.get("matrices", nothing),
            annotations=files.get("annotations"),
            regions=several.get("regions", nothing),
            pedigree=files.get("pedigree"),
        )
        categorical = self._texts("", "categorical", given["categorical"]) if "categorical" in given else ()
        plain = tuple(effect for effect in effects if str(effect) != "residual")
        return ComponentSpec(Formula(plain), tables, categorical)

    def _effect(self, where: str, term: Any) -> Effect:
        """Read one term: as in a formula, or by keys."""
        if isinstance(term, str):
            if term.strip() == "residual":
                return Effect("residual")
            effects = parse_formula(term).effects
            if len(effects) != 1:
                self._fail(where, f"'{term}' holds {len(effects)} effects: write each as an entry of its own")
            return effects[0]
        if not isinstance(term, Mapping):
            self._fail(where, f"is {term!r}: write a text as in a formula, or a mapping with the key 'effect'")
        if "effect" not in term:
            self._fail(where, f"lacks the key 'effect': it has {', '.join(map(str, term)) or 'none'}")
        name = self._text(where, "effect", term["effect"])
        where = f"{where} ({name})"
        allowed = {"genetic": SET_KEYS, "dominance": SET_KEYS, "spatial": SPATIAL_KEYS}.get(name, PLAIN_KEYS)
        self._check_keys(where, term, allowed)
        listed = "columns" if name == "spatial" else "sets"
        items = self._texts(where, listed, term[listed]) if listed in term else ()
        options = {key: self._option(where, key, term[key]) for key in SPATIAL_KEYS[2:5] if key in term}
        return Effect(name, items, options, self._text(where, "by", term["by"]) if "by" in term else None)

    def _option(self, where: str, key: str, value: Any) -> str:
        """Read an option of a spatial term; its range is a number."""
        if key != "range":
            return self._text(where, key, value)
        if isinstance(value, bool) or not isinstance(value, int | float):
            self._fail(where, f"has range: {value!r}, which is no number")
        return str(value)

    def _check_keys(self, where: str, given: Mapping[Any, Any], allowed: Sequence[str]) -> None:
        unknown = [str(key) for key in given if key not in allowed]
        if unknown:
            hint = close_match(unknown[0], allowed)
            self._fail(where, f"has no key '{unknown[0]}'{hint}: there is {', '.join(allowed)}")

    def _text(self, where: str, key: str, value: Any) -> str:
        if not isinstance(value, str) or not value:
            self._fail(
                where, f"has {key}: {value!r} where a name is needed (in quotes where YAML takes it for something else)"
            )
        return value

    def _texts(self, where: str, key: str, value: Any) -> tuple[str, ...]:
        if isinstance(value, str):
            return (value,)
        if not isinstance(value, Sequence):
            self._fail(where, f"has {key}: {value!r} where a list of names is needed")
        return tuple(self._text(where, key, one) for one in value)

    def _path(self, key: str, value: Any) -> Path:
        text = self._text("", key, value)
        return place(text) if "://" in text else self.folder / text

    def _paths(self, key: str, value: Any) -> dict[str, Path]:
        if not isinstance(value, Mapping):
            self._fail("", f"has {key}: {value!r} where names and files are needed, such as {{microbiome: taxa.tsv}}")
        return {self._text("", key, name): self._path(f"{key}: {name}", file) for name, file in value.items()}

    def _fail(self, where: str, problem: str) -> NoReturn:
        raise ParameterError(f"{self.source}{where} {problem}.")
