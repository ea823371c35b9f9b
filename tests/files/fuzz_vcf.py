"""Damage a VCF or BCF in many ways and read it: `python fuzz_vcf.py FILE PACKING FIRST LAST`, a process of its own.

Prints how many were refused and how many were read. Fails on anything but a clear refusal or well-formed rows; where
the packed bytes were damaged, whose content has checksums, what is read must be what was there.
"""

from __future__ import annotations

import random
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import numba
import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from biolmm.errors import InputFileError
from biolmm.files.encoding import Encoding, Rows
from biolmm.files.vcf import open_vcf
from oracles.vcf_text import bgzf, unpack_bgzf

ENCODINGS = [each for each in Encoding if each.is_dosage or not numba.config.DISABLE_JIT]
"""Packing calls relies on the arithmetic of compiled code."""


def damage(content: bytes, rng: random.Random) -> bytes:
    """Change, insert, remove or repeat some bytes, or cut the end off."""
    kind, at, n = rng.randrange(6), rng.randrange(len(content)), rng.choice([1, 1, 2, 4, 30])
    if kind == 0:
        return content[:at]
    if kind == 1:
        return content[:at] + rng.randbytes(n) + content[at + n :]
    if kind == 2:
        return content[:at] + bytes([content[at] ^ 1 << rng.randrange(8)]) + content[at + 1 :]
    if kind == 3:
        return content[:at] + content[at + n :]
    if kind == 4:
        return content[:at] + content[at : at + 10 * n] + content[at:]
    return (
        content[:at]
        + rng.choice([b"\xff\xff\xff\x7f", b"\t", b"\n", b".", b"/", b",", b"999999999999"])
        + content[at + n :]
    )


def read(path: Path) -> list[Rows]:
    """Read everything in every encoding, in two parts."""
    source = open_vcf(path)
    cut, n = source.variants.n // 2, source.variants.n
    blocks = [source.decoder.read(a, b, encoding) for encoding in ENCODINGS for a, b in ((0, cut), (cut, n))]
    for block, encoding in zip(blocks, [each for each in ENCODINGS for _ in range(2)], strict=True):
        assert block.rows.shape[1] == encoding.width(source.samples.n)
        if encoding.is_dosage:
            assert ((block.rows <= 2 * encoding.steps) | (block.rows == encoding.missing)).all()
    return [block.rows for block in blocks]


def main(path: Path, packing: str, first: int, last: int) -> None:
    """Run the cases of the seeds `first` to `last`."""
    packed = path.read_bytes()
    content, whole = unpack_bgzf(packed), read(path)
    refused = 0
    with TemporaryDirectory() as folder:
        damaged = Path(folder) / path.name
        for seed in range(first, last):
            rng = random.Random(seed)
            outside = bool(seed % 2)
            spoilt = damage(packed if outside else content, rng)
            damaged.write_bytes(bgzf(spoilt) if packing == "bgzf" and not outside else spoilt)
            print(f"seed {seed}", file=sys.stderr, flush=True)
            try:
                rows = read(damaged)
            except InputFileError as error:
                assert str(damaged) in str(error) and "\n" not in str(error), error
                refused += 1
                continue
            if outside:
                assert all(np.array_equal(a, b) for a, b in zip(rows, whole, strict=True))
    print(f"{refused} refused, {last - first - refused} read")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
