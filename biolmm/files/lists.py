"""Lists of sample or variant ids: one a line, with or without a header."""

from __future__ import annotations

from pathlib import Path

from biolmm.errors import InputFileError
from biolmm.files.lines import read_lines
from biolmm.files.tables import ID_COLUMNS
from biolmm.places import place

_VARIANT_COLUMNS = ("id", "snp", "snpid", "rsid", "rs", "variant_id", "variant", "markername", "marker")


def read_id_list(path: str | Path, table: str = "samples", *, may_be_empty: bool = False) -> tuple[str, ...]:
    """Read sample ids: one a line, or `FID IID` (what follows is ignored, so a .fam file will do).

    Parameters
    ----------
    path
        Text, gzipped or not. A header naming `IID` or `sample_id` is tolerated, and then says which column is meant.
    table
        What is listed, for messages.
    may_be_empty
        Whether a list of nobody is no mistake: of whom to leave out.

    Returns
    -------
    tuple of str
        Ids in the order of the file, each once, as text.

    Raises
    ------
    InputFileError
        When the file cannot be read, holds no id, or its lines have now one, now two columns.
    """
    path = place(path)
    rows = _read_rows(path)
    field: int | None = None
    if rows:
        names = [name.removeprefix("#").lower() for name in rows[0][1]]
        field = next((position for position, name in enumerate(names) if name in ID_COLUMNS), None)
    if field is not None:
        rows = rows[1:]
    elif rows:
        field = min(len(rows[0][1]) - 1, 1)
    ids = [_field(fields, field or 0, f"'{path}', line {number:,}", rows[0]) for number, fields in rows]
    return _unique(ids, path, table, may_be_empty)


def read_variant_list(path: str | Path, *, may_be_empty: bool = False) -> tuple[str, ...]:
    """Read variant ids: one a line; of several columns, the one that the header names `ID`, `SNP` or `rsid`.

    Returns
    -------
    tuple of str
        Ids in the order of the file, each once, as text.

    Raises
    ------
    InputFileError
        When the file cannot be read, holds no id, or has several columns and no header that names one.
    """
    path = place(path)
    rows = _read_rows(path)
    field = 0
    if rows:
        names = [name.removeprefix("#").lower() for name in rows[0][1]]
        found = next((position for position, name in enumerate(names) if name in _VARIANT_COLUMNS), None)
        if found is None and len(names) > 1:
            raise InputFileError(
                f"'{path}', line {rows[0][0]:,}: {len(names)} columns and no header naming one of them 'ID', 'SNP' or "
                "'rsid'. Give one variant id a line."
            )
        field, rows = (0, rows) if found is None else (found, rows[1:])
    ids = [_field(fields, field, f"'{path}', line {number:,}", rows[0]) for number, fields in rows]
    return _unique(ids, path, "variants", may_be_empty)


def _read_rows(path: Path) -> list[tuple[int, list[str]]]:
    """Split every line at whitespace; lines of `##` are remarks."""
    return [(number, line.split()) for number, line in read_lines(path) if not line.startswith("##")]


def _field(fields: list[str], field: int, where: str, first: tuple[int, list[str]]) -> str:
    """Give one field; every line must have as many as the first, give or take remarks behind the ids."""
    expected = len(first[1])
    if min(len(fields), 2) != min(expected, 2) or len(fields) <= field:
        raise InputFileError(
            f"{where}: the number of columns changes from {expected} (line {first[0]:,}) to {len(fields)}. "
            "Give one id a line, or FID and IID on every line."
        )
    return fields[field]


def _unique(ids: list[str], path: Path, table: str, may_be_empty: bool) -> tuple[str, ...]:
    """Drop repetitions; an empty list is a mistake, but where nobody need be listed."""
    if not ids and not may_be_empty:
        raise InputFileError(f"'{path}' lists no {table}: it is empty. Give one id a line.")
    return tuple(dict.fromkeys(ids))
