"""Decode a whole genotype file with one library, in one thread: `readers.py {biolmm,cbgen,pgenlib,cyvcf2} FILE`.

Prints a checksum of a kind and the CPU seconds that decoding took, the file being open and the code loaded.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

BLOCK = 256


def biolmm(path: Path) -> Iterator[float]:
    """Decode 8-bit dosages, or calls where the file has no dosages."""
    from biolmm.files.encoding import Encoding
    from biolmm.files.formats import open_source

    source = open_source(path)
    encoding = Encoding.DOSAGE8 if source.has_dosages else Encoding.CALLS
    source.decoder.read(0, 1, encoding)  # loads what is compiled
    yield 0.0
    for start in range(0, source.variants.n, BLOCK):
        yield float(source.decoder.read(start, min(start + BLOCK, source.variants.n), encoding).rows[0, 0])


def cbgen(path: Path) -> Iterator[float]:
    """Read probabilities and make dosages of them."""
    import cbgen as library

    metafile = path.with_suffix(".metafile")
    with library.bgen_file(path) as bgen:
        bgen.create_metafile(metafile, verbose=False)
        with library.bgen_metafile(metafile) as index:
            yield 0.0
            for i in range(index.npartitions):
                for offset in index.read_partition(i).variants.offset:
                    p = bgen.read_genotype(offset).probability
                    yield float((p[:, 1] + 2 * p[:, 2])[0])
    metafile.unlink()


def pgenlib(path: Path) -> Iterator[float]:
    """Read dosages as single-precision numbers, or hard calls as bytes."""
    import pgenlib as library

    with library.PgenReader(str(path).encode()) as reader:
        n, n_samples = reader.get_variant_ct(), reader.get_raw_sample_ct()
        calls = path.name.startswith("calls")
        out = np.empty((BLOCK, n_samples), np.int8 if calls else np.float32)
        yield 0.0
        for start in range(0, n, BLOCK):
            stop = min(start + BLOCK, n)
            if calls:
                reader.read_range(start, stop, out)
            else:
                reader.read_dosages_range(start, stop, out)
            yield float(out[0, 0])


def cyvcf2(path: Path) -> Iterator[float]:
    """Read the DS field."""
    import cyvcf2 as library

    file = library.VCF(str(path))
    yield 0.0
    for variant in file:
        yield float(variant.format("DS")[0, 0])


def main() -> None:
    """Time the decoding from the first yield on."""
    reading = {each.__name__: each for each in (biolmm, cbgen, pgenlib, cyvcf2)}[sys.argv[1]](Path(sys.argv[2]))
    total = next(reading)
    begun = time.process_time()
    total += sum(reading)
    print(total, time.process_time() - begun)


if __name__ == "__main__":
    main()
