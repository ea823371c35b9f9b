"""What `plan.yaml` says: where the releases go, what they are called, and the options of the command that is run again."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import yaml  # type: ignore[import-untyped]

from biolmm.cohort.config import close_match
from biolmm.errors import InputFileError, ParameterError, named
from biolmm.places import place, require_local

Command = Literal["gwas", "fit"]
COMMANDS: tuple[Command, ...] = get_args(Command)
Model = Literal["keep", "refresh"]
KEYS = ("release", "out", "previous", "model", *COMMANDS)
BY_DATE, BY_FINGERPRINT = "date", "fingerprint"
RESERVED = ("pieces", "latest")
MAX_NAME = 200
"""Letters of the name of a release: folders have at most 255, with what is put around it while it is made."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True)
class Entry:
    """What stands behind a key: its words as they are written, how many there may be, and where.

    Attributes
    ----------
    words
        The values as text: one, or those of a list; none where nothing is written.
    line
        Of the key.
    is_list
        Whether they are written as a list.
    truth
        Of `true` and `false`, what is meant; None for anything else.
    """

    words: tuple[str, ...]
    line: int
    is_list: bool = False
    truth: bool | None = None


@dataclass(frozen=True)
class Plan:
    """A plan that has been read.

    Attributes
    ----------
    path
        The file, to whose folder the paths in it are relative.
    out
        Folder of the releases.
    release
        Name of the release, or `date` or `fingerprint`, which make one.
    previous
        Release to take results over from; None takes the last one.
    model
        `keep` leaves variants that were appended to the model's store out of the model, `refresh` takes them in.
    command
        What is run.
    options
        Its options by name.
    """

    path: Path
    out: Path
    release: str
    previous: str | None
    model: Model
    command: Command
    options: Mapping[str, Entry]

    def where(self, name: str) -> str:
        """Say where an option stands: `'plan.yaml', line 7`."""
        entry = self.options.get(name)
        return f"'{self.path}'" if entry is None else f"'{self.path}', line {entry.line}"

    def resolve(self, word: str) -> str:
        """Give a path of the plan as seen from here; URLs and absolute paths are as they are."""
        return resolve(self.path, word)


def resolve(plan: Path, word: str) -> str:
    """Give a path that is relative to the folder of a plan.

    Examples
    --------
    >>> resolve(Path("/srv/plan.yaml"), "cohort.zarr"), resolve(Path("/srv/plan.yaml"), "s3://bucket/cohort.zarr")
    ('/srv/cohort.zarr', 's3://bucket/cohort.zarr')
    """
    return word if re.match(r"[A-Za-z][A-Za-z0-9+.-]*:/", word) else str(plan.parent / word)


def read_plan(path: Path | str) -> Plan:
    """Read a plan.

    Raises
    ------
    InputFileError
        When it cannot be read, or is not YAML.
    ParameterError
        When a key is unknown, missing or repeated, or a value cannot be used: naming the line.
    """
    path = place(path)
    require_local(path, "a plan")
    path = path.absolute()
    entries, sections = _read(path)
    command = _command(path, entries, sections)
    if "out" not in entries:
        raise ParameterError(f"'{path}' does not say where the releases go: add a line such as `out: releases`.")
    out = place(resolve(path, _word(path, entries, "out")))
    require_local(out, "the folder of releases")
    return Plan(
        path=path,
        out=out,
        release=_name(path, entries, "release") or BY_DATE,
        previous=_name(path, entries, "previous"),
        model=_model(path, entries),
        command=command,
        options=sections[command],
    )


def _read(path: Path) -> tuple[dict[str, Entry], dict[str, dict[str, Entry]]]:
    """Return the entries of the file, and those of its sections."""
    try:
        text = path.read_text(encoding="utf-8")
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except FileNotFoundError:
        raise InputFileError(f"{path}: no such plan.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputFileError(f"'{path}' cannot be read: {error}.") from error
    except (yaml.YAMLError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark is not None else ""
        problem = getattr(error, "problem", None) or str(error)
        raise InputFileError(f"'{path}'{where} is not YAML: {' '.join(problem.split())}.") from error
    if not isinstance(root, yaml.MappingNode):
        raise InputFileError(f"'{path}' is not a plan: it needs keys, of {', '.join(KEYS)}, one a line.")
    entries: dict[str, Entry] = {}
    sections: dict[str, dict[str, Entry]] = {}
    for name, node, line in _pairs(path, root):
        if name not in KEYS:
            raise ParameterError(
                f"'{path}', line {line}: there is no key {name!r}{close_match(name, KEYS)}: use {', '.join(KEYS)}; options "
                "of the command go below it, indented."
            )
        if name in COMMANDS:
            if not isinstance(node, yaml.MappingNode):
                raise ParameterError(f"'{path}', line {line}: {name} needs its options below it, indented, one a line.")
            below = _pairs(path, node)
            sections[name] = {each.replace("_", "-"): _entry(path, each, value, at) for each, value, at in below}
        else:
            entries[name] = _entry(path, name, node, line)
    return entries, sections


def _pairs(path: Path, node: yaml.MappingNode) -> Iterable[tuple[str, yaml.Node, int]]:
    """Return the keys of a mapping with what is behind them and their lines."""
    seen: dict[str, int] = {}
    found = []
    for key, value in node.value:
        line = key.start_mark.line + 1
        if not isinstance(key, yaml.ScalarNode):
            raise ParameterError(f"'{path}', line {line}: a key must be a word.")
        name = str(key.value)
        spelled = name.replace("_", "-")
        if spelled in seen:
            raise ParameterError(
                f"'{path}', line {line}: {name!r} is there already, on line {seen[spelled]}: keep one."
            )
        seen[spelled] = line
        found.append((name, value, line))
    return found


def _entry(path: Path, name: str, node: yaml.Node, line: int) -> Entry:
    if isinstance(node, yaml.SequenceNode):
        if not all(isinstance(each, yaml.ScalarNode) for each in node.value):
            raise ParameterError(f"'{path}', line {line}: {name} must be a list of words or numbers.")
        return Entry(tuple(str(each.value) for each in node.value), line, is_list=True)
    if not isinstance(node, yaml.ScalarNode):
        raise ParameterError(f"'{path}', line {line}: {name} must be a word, a number or a list of them.")
    if node.tag == "tag:yaml.org,2002:null":
        return Entry((), line)
    truth = None
    if node.tag == "tag:yaml.org,2002:bool":
        truth = str(node.value).lower() in ("true", "yes", "on")
    return Entry((str(node.value),), line, truth=truth)


def _command(path: Path, entries: Mapping[str, Entry], sections: Mapping[str, object]) -> Command:
    found: list[Command] = [name for name in COMMANDS if name in sections]
    if len(found) != 1:
        raise ParameterError(
            f"'{path}' must say what to run, once: `gwas:` or `fit:` with its options below it; it has "
            f"{named(found) or 'neither'}."
        )
    return found[0]


def _word(path: Path, entries: Mapping[str, Entry], name: str) -> str:
    entry = entries[name]
    if entry.is_list or not entry.words or not entry.words[0]:
        raise ParameterError(f"'{path}', line {entry.line}: {name} needs one word behind it.")
    return entry.words[0]


def _name(path: Path, entries: Mapping[str, Entry], key: str) -> str | None:
    """Return the name of a release."""
    if key not in entries:
        return None
    name = _word(path, entries, key)
    if len(name) > MAX_NAME:
        raise ParameterError(
            f"'{path}', line {entries[key].line}: the name of a release has {len(name):,} letters but must have at most "
            f"{MAX_NAME}."
        )
    if not _NAME.fullmatch(name) or name in RESERVED:
        raise ParameterError(
            f"'{path}', line {entries[key].line}: {name!r} cannot be the name of a release, which is a folder: use letters, "
            f"digits, '.', '_' and '-', and not {' or '.join(RESERVED)}."
        )
    return name


def _model(path: Path, entries: Mapping[str, Entry]) -> Model:
    if "model" not in entries:
        return "keep"
    word = _word(path, entries, "model")
    for choice in get_args(Model):
        if word == choice:
            return choice  # type: ignore[no-any-return]
    raise ParameterError(f"'{path}', line {entries['model'].line}: model is {word!r} but must be keep or refresh.")
