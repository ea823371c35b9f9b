"""Genotype files as one: one or many of any format, their variants in order, their people matched by id."""

from __future__ import annotations

import hashlib
import json
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from biolmm.errors import ParameterError
from biolmm.files.encoding import Encoding, Rows
from biolmm.files.formats import expand, open_source
from biolmm.files.genotypes import SampleTable, Source, Strings, VariantTable
from biolmm.store.data import Quality
from biolmm.store.identity import file_identity, table_digest
from biolmm.store.layout import choose_chunk_variants, chunk_range
from biolmm.store.quality import block_quality
from biolmm.store.read import is_store
from biolmm.store.runs import SEQUENTIAL_GAP, Part, Runs
from biolmm.store.samples import MatchedSamples, Which, match_samples
from biolmm.store.variants import order_variants
from biolmm.store.vcz import is_vcz, open_vcz

AskedEncoding = Literal["auto", "calls", "dosage8", "dosage16"]
"""How rows are to be encoded; `auto` is `dosage8` where a file has dosages, else `calls`."""

FEMALE = 2
_KEPT_CHUNKS = 256
"""Chunks whose quality each process remembers: at most 16 MiB."""


@dataclass(frozen=True, eq=False)
class DecodedRows:
    """Rows of a collection; of dosages with their quality, over all samples of the files."""

    rows: Rows
    quality: Quality | None


@dataclass(frozen=True, eq=False)
class Tables:
    """What a collection is, beyond what it takes to read its rows."""

    samples: SampleTable
    variants: VariantTable
    files: tuple[Path, ...]
    provenance: dict[str, Any]


@dataclass(frozen=True, eq=False)
class Collection:
    """Genotype files as `GenotypeData`.

    Other processes get a copy that reads rows and qualities but leaves the tables behind, which are large: there
    `sample_id`, `variant_position` and the like raise `AttributeError`.
    """

    path: Path
    """The first file."""
    n_samples: int
    n_variants: int
    chunk_variants: int
    encoding: Encoding
    """How rows are encoded."""
    fingerprint: str
    """Hash of the tables, and of the name, size and time of change of each file."""
    parts: tuple[Part, ...] = field(repr=False)
    runs: Runs = field(repr=False)
    haploid: tuple[tuple[int, int], ...] = ()
    """Half-open ranges of the variants at which somebody has one allele: X and Y of men, mitochondria."""
    tables: Tables | None = field(repr=False, default=None)

    @classmethod
    def open(
        cls,
        paths: Sequence[Path | str],
        *,
        sample_file: Path | str | None = None,
        encoding: AskedEncoding = "auto",
        samples: Which = "intersection",
        chunk_variants: int | None = None,
    ) -> Collection:
        """Open files of any format as one.

        Parameters
        ----------
        paths
            Files, or file sets by their name, in any order; patterns as `biolmm.files.formats.expand` writes them out.
        sample_file
            The `.sample` file of `.bgen` files.
        encoding
            How rows are encoded; `auto` is `dosage8` where a file has dosages, else `calls`.
        samples
            Whose genotypes are kept where the files hold other people: those in every file, or those in any.
        chunk_variants
            Variants of a chunk, a multiple of 64; by default about 8 MiB of rows.

        Raises
        ------
        ParameterError
            When no file is given, or one twice, or an option has no such value.
        InputFileError
            When a file is missing, unreadable or malformed, or is not sorted and can be read in order only.
        SampleMismatchError
            When no sample is in every file.

        Notes
        -----
        **Cost**: reads what the formats need to know where each variant is; memory about 100 bytes a variant.
        """
        sources = open_sources(paths, sample_file=sample_file)
        return cls.of(sources, encoding=encoding, samples=samples, chunk_variants=chunk_variants)

    @classmethod
    def of(
        cls,
        sources: Sequence[Source],
        *,
        encoding: AskedEncoding = "auto",
        samples: Which | MatchedSamples = "intersection",
        chunk_variants: int | None = None,
        contigs_beside: Sequence[str] = (),
    ) -> Collection:
        """Make a collection of files that are open, as `open` does.

        `samples` may have been matched already; `contigs_beside` are names that occur elsewhere in the same data.
        """
        check_sources(sources)
        chosen = _choose_encoding(sources, encoding)
        matched = samples if isinstance(samples, MatchedSamples) else match_samples(sources, samples)
        ordered = order_variants(sources, contigs_beside)
        people, variants = matched.samples, ordered.variants
        identities = [file_identity(file) for source in sources for file in source.files]
        provenance = {
            "kind": "+".join(dict.fromkeys(str(source.notes.get("kind", "?")) for source in sources)),
            "files": identities,
            "sources": [{"path": str(source.path), **source.notes} for source in sources],
            "left_out_samples": list(matched.left_out),
            **ordered.notes,
        }
        return cls(
            path=sources[0].path,
            n_samples=people.n,
            n_variants=variants.n,
            chunk_variants=choose_chunk_variants(people.n, variants.n, chunk_variants, chosen),
            encoding=chosen,
            fingerprint=_fingerprint(identities, table_digest(people, variants), chosen, matched),
            parts=tuple(
                Part(source.decoder, source.samples.n, columns, source.random_access, source.has_dosages)
                for source, columns in zip(sources, matched.columns, strict=True)
            ),
            runs=ordered.runs,
            haploid=_haploid_ranges(people, variants),
            tables=Tables(people, variants, tuple(file for source in sources for file in source.files), provenance),
        )

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "tables": None}

    def __dask_tokenize__(self) -> tuple[str, str, str]:
        return "Collection", str(self.path), self.fingerprint

    @property
    def n_chunks(self) -> int:
        """Number of chunks."""
        return -(-self.n_variants // self.chunk_variants)

    def chunk_range(self, chunk: int) -> tuple[int, int]:
        """Give the half-open range of variants of a chunk; IndexError when there is no such chunk."""
        return chunk_range(chunk, self.chunk_variants, self.n_variants)

    def read_range(self, start: int, stop: int) -> DecodedRows:
        """Read consecutive variants from the files that hold them.

        Raises
        ------
        InputFileError
            When a file cannot be read, is damaged there, or was changed.

        Notes
        -----
        **Cost**: decoding, by the format. Memory: the rows twice.
        """
        n, encoding = stop - start, self.encoding
        rows = np.empty((n, encoding.width(self.n_samples)), encoding.dtype)
        measured = [np.empty(n, np.float32) for _ in range(2)] if encoding.is_dosage else []
        for piece in self.runs.pieces(start, stop):
            part = self.parts[piece.part]
            gap = 0 if part.random_access else SEQUENTIAL_GAP
            for span in piece.spans(gap, max(n, self.chunk_variants)):
                wanted, place = piece.row[span], piece.place[span]
                first = int(wanted[0])
                block = part.read(first, int(wanted[-1]) + 1, encoding)
                picked = slice(None) if len(wanted) == len(block.rows) else wanted - first
                rows[place] = part.choose(block.rows[picked], encoding)
                if encoding.is_dosage and not part.has_dosages:  # calls in the company of dosages were not imputed
                    for target in measured:
                        target[place] = np.nan
                elif encoding.is_dosage:
                    haploid = np.zeros(len(block.rows), dtype=bool)
                    haploid[wanted - first] = self._has_haploid(start + place)
                    quality = block_quality(block, encoding, has_haploid=haploid)
                    for target, values in zip(measured, (quality.info, quality.r2), strict=True):
                        target[place] = values[picked]
        return DecodedRows(rows, Quality(*measured) if measured else None)

    def _has_haploid(self, variants: NDArray[np.int64]) -> NDArray[np.bool_]:
        found = np.zeros(len(variants), dtype=bool)
        for start, stop in self.haploid:
            found |= (variants >= start) & (variants < stop)
        return found

    def read_rows(self, chunk: int) -> Rows:
        """Read the encoded rows of a chunk, and remember their quality.

        Raises
        ------
        InputFileError
            As `read_range`.
        """
        decoded = self.read_range(*self.chunk_range(chunk))
        if decoded.quality is not None:
            _QUALITY.put((self.fingerprint, self.chunk_variants, chunk), decoded.quality)
        return decoded.rows

    def read_quality(self, variants: NDArray[np.int64]) -> Quality | None:
        """Return the imputation quality of variants; None for hard calls.

        Notes
        -----
        **Cost**: none for variants of chunks that this process read lately; other chunks are decoded.
        """
        if not self.encoding.is_dosage:
            return None
        info, r2 = np.empty(len(variants), np.float32), np.empty(len(variants), np.float32)
        chunk_of = np.asarray(variants) // self.chunk_variants
        for chunk in np.unique(chunk_of).tolist():
            mine = chunk_of == chunk
            quality, within = self._chunk_quality(chunk), variants[mine] - chunk * self.chunk_variants
            info[mine], r2[mine] = quality.info[within], quality.r2[within]
        return Quality(info, r2)

    def _chunk_quality(self, chunk: int) -> Quality:
        known = _QUALITY.get((self.fingerprint, self.chunk_variants, chunk))
        if known is not None:
            return known
        decoded = self.read_range(*self.chunk_range(chunk))
        assert decoded.quality is not None
        _QUALITY.put((self.fingerprint, self.chunk_variants, chunk), decoded.quality)
        return decoded.quality

    @property
    def samples(self) -> SampleTable:
        """Who the samples are."""
        return self._tables.samples

    @property
    def variants(self) -> VariantTable:
        """What the variants are, in order."""
        return self._tables.variants

    @property
    def files(self) -> tuple[Path, ...]:
        """Every file that the rows depend on."""
        return self._tables.files

    @property
    def provenance(self) -> dict[str, Any]:
        """Where the genotypes come from, as JSON: files, formats, people left out, duplicates, contigs renamed."""
        return self._tables.provenance

    @property
    def sample_id(self) -> NDArray[np.str_]:
        """Identifier of each sample, unique."""
        return self.samples.sample_id

    @property
    def family_id(self) -> NDArray[np.str_]:
        """Family of each sample."""
        return self.samples.family_id

    @property
    def sex(self) -> NDArray[np.int8]:
        """Sex of each sample: 0 unknown, 1 male, 2 female."""
        return self.samples.sex

    @property
    def contig_id(self) -> tuple[str, ...]:
        """Contig names, normalised (`1`, not `chr1`), in natural order."""
        return self.variants.contig_id

    @property
    def variant_contig(self) -> NDArray[np.int32]:
        """Index into `contig_id` of each variant."""
        return self.variants.contig

    @property
    def variant_position(self) -> NDArray[np.int64]:
        """Position of each variant in base pairs, 1-based."""
        return self.variants.position

    @property
    def variant_id(self) -> Strings:
        """Identifier of each variant as in its file."""
        return self.variants.variant_id

    @property
    def ref(self) -> Strings:
        """Other allele of each variant."""
        return self.variants.ref

    @property
    def alt(self) -> Strings:
        """Effect allele of each variant, whose copies are counted."""
        return self.variants.alt

    @property
    def _tables(self) -> Tables:
        if self.tables is None:
            raise AttributeError("the copy of a Collection in another process has no tables of samples and variants")
        return self.tables


def open_sources(paths: Sequence[Path | str], *, sample_file: Path | str | None = None) -> list[Source]:
    """Open files of any format, after writing out patterns.

    Raises
    ------
    ParameterError, InputFileError
        As `Collection.open`.
    """
    found = expand(paths)
    is_bgen = [path.suffix.lower() == ".bgen" for path in found]
    if sample_file is not None and not any(is_bgen):
        raise ParameterError(f"a .sample file was given, {sample_file}, but no .bgen file that it could belong to.")
    return [_open(path, sample_file if bgen else None) for path, bgen in zip(found, is_bgen, strict=True)]


def _open(path: Path, sample_file: Path | str | None) -> Source:
    if is_store(path):
        raise ParameterError(f"{path} is a store already: give genotype files.")
    if is_vcz(path):
        return open_vcz(path)
    return open_source(path, sample_file=sample_file)


def check_sources(sources: Sequence[Source]) -> None:
    """Refuse no file at all, and one that is given twice."""
    if not sources:
        raise ParameterError("no genotype file was given.")
    seen: set[str] = set()
    for source in sources:
        place = str(source.path.resolve())
        if place in seen:
            raise ParameterError(f"{source.path} was given twice.")
        seen.add(place)


def _choose_encoding(sources: Sequence[Source], asked: AskedEncoding) -> Encoding:
    if asked == "auto":
        return Encoding.DOSAGE8 if any(source.has_dosages for source in sources) else Encoding.CALLS
    try:
        return Encoding(asked)
    except ValueError:
        raise ParameterError(f"encoding is '{asked}': give auto, calls, dosage8 or dosage16.") from None


def _haploid_ranges(samples: SampleTable, variants: VariantTable) -> tuple[tuple[int, int], ...]:
    """Find the runs of variants at which somebody has one allele; a file that does not say who has no quality there."""
    some = {"MT", "X", "Y"} if np.any(samples.sex != FEMALE) else {"MT"}
    here = np.array([name in some for name in variants.contig_id], dtype=bool)[variants.contig]
    edges = np.flatnonzero(np.diff(np.concatenate([[False], here, [False]]).astype(np.int8)))
    return tuple((int(start), int(stop)) for start, stop in edges.reshape(-1, 2))


def _fingerprint(identities: Sequence[dict[str, Any]], tables: str, encoding: Encoding, matched: MatchedSamples) -> str:
    """Hash what decides the rows; the folder that the files are in does not."""
    files = [[Path(each["path"]).name, each["n_bytes"], each["mtime_ns"]] for each in identities]
    digest = hashlib.sha256(json.dumps([files, tables, encoding.value]).encode())
    for columns in matched.columns:
        digest.update(b"same" if columns is None else columns.astype("<i8").tobytes())
    return digest.hexdigest()


class _QualityCache:
    """Qualities of the chunks that this process read last."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[str, int, int], Quality] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: tuple[str, int, int]) -> Quality | None:
        with self._lock:
            return self._kept.get(key)

    def put(self, key: tuple[str, int, int], quality: Quality) -> None:
        with self._lock:
            self._kept[key] = quality
            self._kept.move_to_end(key)
            while len(self._kept) > _KEPT_CHUNKS:
                self._kept.popitem(last=False)


_QUALITY = _QualityCache()
