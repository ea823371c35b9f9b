"""Read a whole genotype file as dosages with one library, in one thread: `readers.py {biolmm,cbgen,pgenlib,cyvcf2} FILE`."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

BLOCK = 256


def biolmm(path: Path) -> float:
    """Decode 8-bit dosages, or calls where the file has no dosages."""
    from biolmm.files.encoding import Encoding
    from biolmm.files.formats import open_source

    source = open_source(path)
    encoding = Encoding.DOSAGE8 if source.has_dosages else Encoding.CALLS
    total = 0.0
    for start in range(0, source.variants.n, BLOCK):
        block = source.decoder.read(start, min(start + BLOCK, source.variants.n), encoding)
        total += float(block.rows[:, 0].sum())
    return total


def cbgen(path: Path) -> float:
    """Read probabilities and make dosages of them."""
    import cbgen as library

    total = 0.0
    metafile = path.with_suffix(".metafile")
    with library.bgen_file(path) as bgen:
        bgen.create_metafile(metafile, verbose=False)
        with library.bgen_metafile(metafile) as index:
            for i in range(index.npartitions):
                for offset in index.read_partition(i).variants.offset:
                    p = bgen.read_genotype(offset).probability
                    total += float((p[:, 1] + 2 * p[:, 2])[0])
    metafile.unlink()
    return total


def pgenlib(path: Path) -> float:
    """Read dosages as single-precision numbers."""
    import pgenlib as library

    total = 0.0
    with library.PgenReader(str(path).encode()) as reader:
        out = np.empty((BLOCK, reader.get_raw_sample_ct()), np.float32)
        n = reader.get_variant_ct()
        for start in range(0, n, BLOCK):
            stop = min(start + BLOCK, n)
            reader.read_dosages_range(start, stop, out)
            total += float(out[: stop - start, 0].sum())
    return total


def cyvcf2(path: Path) -> float:
    """Read the DS field."""
    import cyvcf2 as library

    return sum(float(variant.format("DS")[0, 0]) for variant in library.VCF(str(path)))


if __name__ == "__main__":
    print({each.__name__: each for each in (biolmm, cbgen, pgenlib, cyvcf2)}[sys.argv[1]](Path(sys.argv[2])))
