"""Oxford `.sample` files: who the samples of a BGEN file are.

Two header lines, the names of the columns and their types, then a line a sample:

    ID_1 ID_2 missing sex
    0 0 0 D
    F1 S1 0 1

`ID_1` is the family and `ID_2` the sample, as PLINK 2 writes and reads them; where there is no `ID_2` (QCTOOL v2), or it
says the same 0 or NA for every sample, `ID_1` is the sample. Only the ids and the column `sex` are read: 1, M or male, 2,
F or female; everything else is unknown. Lines that begin with # before the header are comments.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import dropwhile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from biolmm.errors import InputFileError
from biolmm.files.lines import read_lines

_TYPES = frozenset("0DCPB")
_SEX = {"1": 1, "m": 1, "male": 1, "2": 2, "f": 2, "female": 2}
_NO_ID = ({"0"}, {"NA"})


@dataclass(frozen=True, eq=False)
class OxfordSamples:
    """Samples of a `.sample` file, in its order.

    Attributes
    ----------
    path
        The file.
    first_id
        Column `ID_1`.
    sample_id
        `ID_2` where the file has it, else `ID_1`.
    family_id
        `ID_1` where `sample_id` is `ID_2`, else 0.
    sex
        0 unknown, 1 male, 2 female.
    """

    path: Path
    first_id: NDArray[np.str_]
    sample_id: NDArray[np.str_]
    family_id: NDArray[np.str_]
    sex: NDArray[np.int8]


def read_oxford_sample(path: Path) -> OxfordSamples:
    """Read a `.sample` file.

    Raises
    ------
    InputFileError
        When the file cannot be read, lacks its two header lines, holds no sample, or has a line with more or fewer
        columns than its header.
    """
    lines = dropwhile(lambda line: line[1].startswith("#"), read_lines(path))
    header, types = (next(lines, (0, ""))[1].split() for _ in range(2))
    _check_header(path, header, types)
    rows = []
    for number, line in lines:
        fields = line.split()
        if len(fields) != len(header):
            raise InputFileError(
                f"{path}, line {number:,}: {len(fields)} columns where the header has {len(header)} "
                f"({' '.join(header[:5])}…). Columns are separated by spaces or tabs; a missing value is NA."
            )
        rows.append(fields)
    if not rows:
        raise InputFileError(f"{path} names no sample: nothing follows its two header lines.")
    columns = list(zip(*rows, strict=True))
    names = [name.lower() for name in header]
    has_second = len(names) > 1 and names[1] in ("id_2", "iid") and set(columns[1]) not in _NO_ID
    first = np.array(columns[0], np.str_)
    sex = columns[names.index("sex")] if "sex" in names else ()
    return OxfordSamples(
        path=path,
        first_id=first,
        sample_id=np.array(columns[1], np.str_) if has_second else first,
        family_id=first if has_second else np.full(len(rows), "0"),
        sex=np.array([_SEX.get(code.lower(), 0) for code in sex] or [0] * len(rows), np.int8),
    )


def _check_header(path: Path, header: list[str], types: list[str]) -> None:
    if header and len(types) == len(header) and types[0] == "0" and _TYPES.issuperset(types):
        return
    raise InputFileError(
        f"{path} is not an Oxford .sample file: its first line names the columns (ID_1 ID_2 missing sex) and its second "
        f"gives a type to each (0 0 0 D); found '{' '.join(header[:5])}' and '{' '.join(types[:5])}'."
    )
