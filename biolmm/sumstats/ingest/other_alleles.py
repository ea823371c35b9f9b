"""The other allele of files that name only one, such as PLINK 1's regressions, from the .bim that they were made with."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from biolmm.files.bed_tables import read_bim
from biolmm.sumstats.ingest.fields import Fields
from biolmm.sumstats.ingest.tokens import Spans


@dataclass(frozen=True)
class OtherAlleles:
    """A .bim; its identifiers and alleles are kept in memory, some 100 bytes a variant."""

    path: Path

    @cached_property
    def _table(self) -> tuple[pa.Array, pa.Array, pa.Array]:
        variants = read_bim(self.path)
        columns = (variants.variant_id, variants.alt, variants.ref)
        identifier, first, second = (pa.array(column.tolist(), pa.large_string()) for column in columns)
        return identifier, first, second

    def find(self, fields: Fields) -> tuple[NDArray[np.uint8], Spans]:
        """Give, as text, the allele of the variant with each record's identifier that is not its effect allele.

        Empty where the .bim has no such variant, or neither of its alleles is the effect allele.
        """
        identifier, first, second = self._table
        rows = pc.index_in(_strings(*fields.words("rsid")), value_set=identifier)
        effect = pc.utf8_upper(_strings(*fields.words("effect_allele")))
        one, other = first.take(rows), second.take(rows)
        is_one = pc.fill_null(pc.equal(pc.utf8_upper(one), effect), False)
        is_other = pc.fill_null(pc.equal(pc.utf8_upper(other), effect), False)
        found = pc.if_else(is_one, other, pc.if_else(is_other, one, pa.scalar("", pa.large_string())))
        texts = [text.encode() for text in found.to_pylist()]
        ends = np.cumsum([0, *map(len, texts)])
        return np.frombuffer(b"".join(texts), np.uint8), np.column_stack([ends[:-1], ends[1:]])


def _strings(data: NDArray[np.uint8], spans: Spans) -> pa.Array:
    content = data.tobytes()
    return pa.array([content[a:b].decode("utf-8", "replace") for a, b in spans.tolist()], pa.large_string())
