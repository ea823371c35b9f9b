"""Files of studies as blocks of fields: text of any delimiter, Parquet, GWAS-VCF, and the results of `biolmm gwas`."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from biolmm.errors import InputFileError, ParameterError, named
from biolmm.files.lines import file_start
from biolmm.results.paths import list_parts, list_traits
from biolmm.sumstats.ingest.fields import ArrowFields, Fields, TextFields
from biolmm.sumstats.ingest.roles import Layout, find_layout
from biolmm.sumstats.ingest.text import BLOCK_BYTES, TextBlocks, split_header
from biolmm.sumstats.ingest.tokens import Spans, pick_subfields, tokenise

PARQUET_ROWS = 1 << 18
_VCF_KEYS = {
    "ES": "beta",
    "SE": "se",
    "LP": "neg_log10_p",
    "AF": "eaf",
    "SS": "n",
    "EZ": "z",
    "SI": "info",
    "NC": "n_cases",
}
"""FORMAT keys of GWAS-VCF 1.0; ALT is the effect allele, LP is −log10 p, SS (NS in 1.2) the sample size."""


class StudySource(ABC):
    """A study's file or folder, read block by block."""

    layout: Layout

    @property
    @abstractmethod
    def paths(self) -> list[Path]:
        """Files that are read."""

    @abstractmethod
    def blocks(self) -> Iterator[Fields]:
        """Read from the beginning; the file is opened for each reading."""


def open_study(path: Path, chosen: Mapping[str, str] | None = None, *, trait: str | None = None,
               bim: Path | None = None, block_bytes: int = BLOCK_BYTES) -> StudySource:  # fmt: skip
    """Find out what a path is, and what its columns are.

    Parameters
    ----------
    path
        A table (plain, gzip, bgzip, zstd), a Parquet file, a GWAS-VCF of one study, or a folder that `biolmm gwas` wrote.
    chosen
        Roles of columns by their names, where the header dictionary does not know them.
    trait
        The trait of a results folder, or the sample of a GWAS-VCF, where there are several.
    bim
        Tells the other allele, where the file names one only.
    block_bytes
        Text of a block.

    Raises
    ------
    InputFileError
        When there is nothing that can be read, or what is needed is not in it.
    """
    if path.is_dir():
        return _results(path, trait, chosen)
    start = file_start(path)
    if start.startswith(b"PAR1"):
        return ParquetSource([path], find_layout(str(path), _parquet_names(path), chosen, bim))
    text = TextBlocks(path, block_bytes)
    header = text.next_header()
    if header is not None and header.startswith("##fileformat=VCF"):
        return VcfSource(path, block_bytes, trait)
    n_lines = 1
    while header is not None and (header.startswith("##") or not header.strip()):
        header, n_lines = text.next_header(), n_lines + 1
    if header is None:
        raise InputFileError(f"{path} has no header: only comments and blank lines.")
    delimiter, names = split_header(header)
    if all(re.fullmatch(r"[-+]?[0-9.]+([eE][-+]?[0-9]+)?", name) or name in ("NA", ".") for name in names[1:]):
        raise InputFileError(
            f"{path} has no header: line {n_lines} holds numbers ({header[:40]!r}). Put names in front."
        )
    return TextSource(path, n_lines, delimiter, find_layout(str(path), names, chosen, bim), block_bytes)


@dataclass(frozen=True)
class TextSource(StudySource):
    """A delimited table."""

    path: Path
    n_header_lines: int
    delimiter: int
    layout: Layout
    block_bytes: int = BLOCK_BYTES

    @property
    def paths(self) -> list[Path]:
        """The table."""
        return [self.path]

    def blocks(self) -> Iterator[Fields]:
        """Cut lines into fields.

        Raises
        ------
        InputFileError
            When a line has more or fewer fields than the header.
        """
        text = TextBlocks(self.path, self.block_bytes)
        for _ in range(self.n_header_lines):
            text.next_header()
        names = list(self.layout.column)
        roles = np.full(len(self.layout.names), -1, np.int32)
        copies = {}
        for number, name in enumerate(names):  # one column may have two roles
            if roles[self.layout.column[name]] < 0:
                roles[self.layout.column[name]] = number
            else:
                copies[name] = names[roles[self.layout.column[name]]]
        for first, data in text.blocks():
            spans = self._cut(first, data, roles, len(names))
            by_role = {name: spans[i] for i, name in enumerate(names) if name not in copies}
            by_role |= {name: by_role[other] for name, other in copies.items()}
            yield TextFields(spans.shape[1], first, data, by_role)

    def _cut(self, first: int, data: NDArray[np.uint8], roles: NDArray[np.int32], n_roles: int) -> NDArray[np.int64]:
        if not data.all():
            line = first + int(np.count_nonzero(data[: int(np.argmin(data))] == 10))
            raise InputFileError(f"{self.path}, line {line:,}: holds a zero byte, so this is not a text file.")
        room = np.zeros((n_roles, int(np.count_nonzero(data == 10)) + 1, 2), np.int64)
        found, seen, wrong = tokenise(data, self.delimiter, roles, room)
        if wrong >= 0:
            what = {9: "tab", 44: "comma", 59: "semicolon", 0: "blank"}[self.delimiter]
            more = "more than " if wrong > len(roles) else ""
            raise InputFileError(
                f"{self.path}, line {first + seen - 1:,}: has {more}{min(wrong, len(roles)):,} columns ({what}-separated) "
                f"where the header has {len(roles):,}: is the file truncated, or a value with a blank in it?"
            )
        return room[:, :found]


@dataclass(frozen=True)
class ParquetSource(StudySource):
    """One or several Parquet files with the same columns."""

    files: list[Path]
    layout: Layout

    @property
    def paths(self) -> list[Path]:
        """The files, in order."""
        return self.files

    def blocks(self) -> Iterator[Fields]:
        """Read batches of rows, the columns that have a role.

        Raises
        ------
        InputFileError
            When a file is damaged or lacks a column.
        """
        wanted = {role: self.layout.names[at] for role, at in self.layout.column.items()}
        first = 1
        for path in self.files:
            try:
                with pq.ParquetFile(path) as file:
                    for batch in file.iter_batches(PARQUET_ROWS, columns=sorted(set(wanted.values()))):
                        columns = {role: _plain(batch.column(name)) for role, name in wanted.items()}
                        yield ArrowFields(batch.num_rows, first, columns)
                        first += batch.num_rows
            except (pa.ArrowInvalid, OSError, KeyError) as error:
                reason = str(error).splitlines()[0]
                raise InputFileError(f"{path} is a damaged Parquet file ({reason}). Copy or make it again.") from None


@dataclass(frozen=True)
class VcfSource(StudySource):
    """A GWAS-VCF: one line a variant and ALT allele, one sample column a study."""

    path: Path
    block_bytes: int = BLOCK_BYTES
    study: str | None = None
    layout: Layout = field(init=False)
    _lines: int = field(init=False)

    def __post_init__(self) -> None:
        """Read the header."""
        text, n = TextBlocks(self.path, self.block_bytes), 0
        while (line := text.next_header()) is not None:
            n += 1
            if not line.startswith("##"):
                break
        names = (line or "").split("\t")
        if names[:1] != ["#CHROM"] or len(names) < 10:
            raise InputFileError(f"{self.path} has no line '#CHROM … FORMAT STUDY': it is no GWAS-VCF.")
        studies = names[9:]
        if self.study is None and len(studies) > 1:
            raise ParameterError(
                f"{self.path} holds {len(studies)} studies ({named(studies)}): say which with --trait."
            )
        if self.study is not None and self.study not in studies:
            raise ParameterError(f"{self.path} has no study {self.study!r}; it has {named(studies)}.")
        column = {"contig": 0, "position": 1, "rsid": 2, "other_allele": 3, "effect_allele": 4, "_format": 8,
                  "_cell": 9 if self.study is None else names.index(self.study)}  # fmt: skip
        object.__setattr__(self, "layout", Layout("GWAS-VCF", column, True, tuple(names)))
        object.__setattr__(self, "_lines", n)

    @property
    def paths(self) -> list[Path]:
        """The file."""
        return [self.path]

    def blocks(self) -> Iterator[Fields]:
        """Cut lines into fields, and cells into the numbers that FORMAT names."""
        table = TextSource(self.path, self._lines, 9, self.layout, self.block_bytes)
        for fields in table.blocks():
            assert isinstance(fields, TextFields)
            by_role = {role: spans for role, spans in fields.spans.items() if not role.startswith("_")}
            for key, role in _VCF_KEYS.items():
                by_role[role] = self._subfields(fields, key)
            if "NS" in self._keys(fields):
                by_role["n"] = self._subfields(fields, "NS")
            yield TextFields(fields.n, fields.first_line, fields.data, by_role)

    def _subfields(self, fields: TextFields, key: str) -> Spans:
        out = np.empty((fields.n, 2), np.int64)
        wanted = np.frombuffer(key.encode(), np.uint8)
        pick_subfields(fields.data, fields.spans["_format"], fields.spans["_cell"], wanted, out)
        return out

    def _keys(self, fields: TextFields) -> list[str]:
        if not fields.n:
            return []
        start, stop = fields.spans["_format"][0]
        return fields.data[start:stop].tobytes().decode("ascii", "replace").split(":")


def _results(path: Path, trait: str | None, chosen: Mapping[str, str] | None) -> StudySource:
    """Open the results of one trait of `biolmm gwas`."""
    traits = list_traits(path)
    if trait is None and len(traits) > 1:
        raise ParameterError(f"{path} holds {len(traits)} traits ({named(traits)}): say which with --trait.")
    files = [part for _, _, part in list_parts(path, trait)]
    found = find_layout(str(path), _parquet_names(files[0]), chosen)
    return ParquetSource(files, Layout("biolmm", found.column, True, found.names))


def _parquet_names(path: Path) -> list[str]:
    try:
        return list(pq.read_schema(path).names)
    except (pa.ArrowInvalid, OSError) as error:
        reason = str(error).splitlines()[0]
        raise InputFileError(f"{path} is a damaged Parquet file ({reason}). Copy or make it again.") from None


def _plain(column: pa.Array) -> pa.Array:
    return column.dictionary_decode() if pa.types.is_dictionary(column.type) else column
