"""One file as METAL reads it: line by line into what its markers add to the sums, each marker once.

Of a line METAL wants, in this order: as many columns as the header, what filters ask, a usable statistic, alleles that are
those of the marker's first usable record, and with TRACKPOSITIONS its place; and that no line before gave the marker. Lines
that fail are counted by reason.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numba
import numpy as np
from numpy.typing import NDArray

from biolmm.errors import InputFileError
from biolmm.sumstats.ingest.text import TextBlocks
from biolmm.sumstats.ingest.tokens import Spans, number_words, read_numbers, read_tails
from biolmm.sumstats.meta.genomic_control import METAL_MEDIAN
from biolmm.sumstats.meta.tails import z_from_neg_log10_p
from biolmm.sumstats.metal.alleles import PairTable
from biolmm.sumstats.metal.columns import Columns
from biolmm.sumstats.metal.lines import LETTERS, allele_codes, cut_lines, passes, starts_negative
from biolmm.sumstats.metal.markers import Markers
from biolmm.sumstats.metal.settings import SEPARATORS, ProcessFile

Vector = NDArray[np.float64]

BLOCK_BYTES = 4 * 1024**2
_MOST_CONTIGS = 30_000
_REASONS = ("alleles", "duplicates", "chromosomes", "positions")


@dataclass
class Study:
    """What one file adds, by marker; shorter than the markers there are by now, and NaN where it has none.

    Attributes
    ----------
    statistic
        Effect or signed z, of the marker's first allele.
    scale
        Its standard error, or its weight.
    freq
        Frequency of the first allele, where they are read.
    lambda_gc
        Genomic control as applied, at least 1.
    counts
        Lines by what became of them.
    """

    name: str
    statistic: Vector
    scale: Vector
    freq: Vector | None
    lambda_gc: float = 1.0
    counts: Counter[str] = field(default_factory=Counter)


@dataclass
class Shelf:
    """Everything METAL keeps between files: markers, pairs of alleles, names of chromosomes, sums of custom variables."""

    markers: Markers = field(default_factory=Markers)
    pairs: PairTable = field(default_factory=PairTable)
    chromosomes: list[str] = field(default_factory=list)
    custom: list[Vector] = field(default_factory=list)


def read_study(step: ProcessFile, columns: Columns, shelf: Shelf, *, as_metal: bool = False,
               block_bytes: int = BLOCK_BYTES) -> Study:  # fmt: skip
    """Read a file.

    Parameters
    ----------
    step
        The file and the settings it is read under.
    columns
        Where its columns are.
    shelf
        What earlier files left; markers are added to it.
    as_metal
        Read effects, frequencies and directions that are missing as 0, 0 and positive, as METAL does; else leave such lines
        or frequencies out.
    block_bytes
        Text of a block.

    Raises
    ------
    InputFileError
        When the file is damaged.

    Notes
    -----
    **Cost** about half a second a million lines; memory a block's fields, and 16 bytes a marker (24 with frequencies).
    """
    return _StudyReader(step, columns, shelf, as_metal).read(block_bytes)


@dataclass
class _StudyReader:
    step: ProcessFile
    columns: Columns
    shelf: Shelf
    as_metal: bool
    counts: Counter[str] = field(default_factory=Counter)

    def read(self, block_bytes: int) -> Study:
        settings = self.step.settings
        text = TextBlocks(self.step.path, block_bytes)
        text.next_header()
        self.slots, self.slot_of = self.columns.slots()
        self.separator = np.zeros(256, np.bool_)
        self.separator[list(SEPARATORS[settings.separator])] = True
        study = Study(self.step.name, np.empty(0), np.empty(0), np.empty(0) if settings.use_freq else None)
        for _, data in text.blocks():
            self._block(data, study)
        self._widen(study)
        study.counts = self.counts
        study.lambda_gc = self._lambda(study)
        return study

    def _block(self, data: NDArray[np.uint8], study: Study) -> None:
        """Cut a block's lines, read their fields, and let those in that METAL takes."""
        if not data.all():
            raise InputFileError(f"{self.step.path} holds a zero byte, so this is not a text file.")
        room = np.empty((int(self.slots.max()) + 1, int(np.count_nonzero(data == 10)) + 1, 2), np.int64)
        settings = self.step.settings
        single = len(SEPARATORS[settings.separator]) == 1
        kept, wrong, short = cut_lines(
            data, self.separator, single, self.slots, settings.strict, self.columns.least, room
        )
        self.counts["columns"] += wrong if settings.strict else short
        spans = {role: room[slot, :kept] for role, slot in self.slot_of.items()}
        self.counts["lines"] += kept
        spans = self._filtered(data, spans)
        marker = self.shelf.markers.find(data, spans["marker"])
        self._widen(study)
        statistic, scale, valid = self._statistics(data, spans)
        freq = self._numbers(data, spans, "freq", 0.0) if study.freq is not None else None
        pair, negated, complemented = self._alleles(data, spans)
        places = self._places(data, spans)
        custom = [
            np.nan_to_num(self._numbers(data, spans, f"custom:{i}", 0.0), nan=0.0) for i in range(len(settings.custom))
        ]
        markers = self.shelf.markers
        counts = np.zeros(len(_REASONS), np.int64)
        admitted = np.zeros(len(marker), np.bool_)
        none = np.empty(0)
        _admit(marker, valid, pair, negated, complemented, statistic, scale, none if freq is None else freq, *places,
               markers.pair, markers.complemented, markers.chromosome, markers.position,
               study.statistic, study.scale, none if study.freq is None else study.freq, admitted, counts)  # fmt: skip
        for sums, values in zip(self.shelf.custom, custom, strict=True):
            np.add.at(sums, marker[admitted], values[admitted])
        self.counts["used"] += int(admitted.sum())
        for reason, n in zip(_REASONS, counts.tolist(), strict=True):
            self.counts[reason] += n

    def _filtered(self, data: NDArray[np.uint8], spans: dict[str, Spans]) -> dict[str, Spans]:
        """Leave out the lines that a filter does not pass."""
        good: NDArray[np.bool_] | None = None
        for i, condition in enumerate(self.columns.filters):
            passed = passes(data, spans[f"filter:{i}"], condition)
            good = passed if good is None else good & passed
        if good is None or good.all():
            return spans
        self.counts["filters"] += int((~good).sum())
        return {role: each[good] for role, each in spans.items()}

    def _widen(self, study: Study) -> None:
        """Let the study's arrays, and sums of custom variables, be as long as there are markers."""
        n = self.shelf.markers.n
        grown = n - len(study.statistic)
        if grown:
            # Room to spare would be no memory saved: files mostly bring their markers in the first block or none.
            nothing = np.full(grown, np.nan)
            study.statistic = np.concatenate([study.statistic, nothing])
            study.scale = np.concatenate([study.scale, nothing])
            if study.freq is not None:
                study.freq = np.concatenate([study.freq, nothing])
        while len(self.shelf.custom) < len(self.step.settings.custom):
            self.shelf.custom.append(np.zeros(n))
        self.shelf.custom[:] = [np.concatenate([each, np.zeros(n - len(each))]) for each in self.shelf.custom]

    def _numbers(self, data: NDArray[np.uint8], spans: dict[str, Spans], role: str, metal: float) -> Vector:
        values, _ = read_numbers(data, spans[role])
        return np.nan_to_num(values, nan=metal) if self.as_metal else values

    def _statistics(self, data: NDArray[np.uint8], spans: dict[str, Spans]) -> tuple[Vector, Vector, NDArray[np.bool_]]:
        """Read effect and standard error, or signed z and weight, and which of them can be used."""
        if self.step.settings.scheme == "stderr":
            statistic, good = self._effects(data, spans)
            scale, _ = read_numbers(data, spans["stderr"])
            good = self._count_out(scale > 0, "standard errors", good)
        else:
            statistic, good = self._signed_z(data, spans)
            scale = np.full(len(statistic), self.step.settings.default_weight)
            if "weight" in spans:
                scale, _ = read_numbers(data, spans["weight"])
            good = self._count_out(scale > 0, "weights", good)
        return -statistic if self.step.settings.flip else statistic, scale, good

    def _count_out(
        self, passed: NDArray[np.bool_], reason: str, good: NDArray[np.bool_] | None = None
    ) -> NDArray[np.bool_]:
        """Count those that fail, of those still good; give those that are good now."""
        lost = ~passed if good is None else good & ~passed
        self.counts[reason] += int(lost.sum())
        return passed if good is None else good & passed

    def _effects(self, data: NDArray[np.uint8], spans: dict[str, Spans]) -> tuple[Vector, NDArray[np.bool_]]:
        """Read effects, or logarithms of odds ratios."""
        effect = self._numbers(data, spans, "effect", 0.0)
        if not self.columns.log_effect:
            return effect, self._count_out(~np.isnan(effect), "effects")
        good = self._count_out(effect > 0, "effects")
        return np.log(np.where(good, effect, 1.0)), good

    def _signed_z(self, data: NDArray[np.uint8], spans: dict[str, Spans]) -> tuple[Vector, NDArray[np.bool_]]:
        """Read p-values and the direction of effects: the sign that the effect begins with, or an odds ratio below 1."""
        tail, unreadable = read_tails(data, spans["pvalue"])
        good = self._count_out((tail >= 0) & np.isfinite(tail) & ~unreadable, "p-values")
        size = z_from_neg_log10_p(np.where(good, tail, 0.0))
        if "effect" not in spans:
            return size, good
        if self.columns.log_effect:
            ratio = self._numbers(data, spans, "effect", 0.0)
            return np.where(ratio < 1, -size, size), self._count_out(ratio > 0, "effects", good)
        negative, missing = np.empty((2, len(size)), np.bool_)
        starts_negative(data, spans["effect"], negative, missing)
        if not self.as_metal:
            good = self._count_out(~missing, "effects", good)
        return np.where(negative, -size, size), good

    def _alleles(self, data: NDArray[np.uint8], spans: dict[str, Spans]
                 ) -> tuple[NDArray[np.int32], NDArray[np.bool_], NDArray[np.bool_]]:  # fmt: skip
        """Give each line's pair of alleles, -1 where the file has none, and whether it is negated and complemented."""
        n = len(spans["marker"])
        if "allele1" not in spans:
            return np.full(n, -1, np.int32), np.zeros(n, np.bool_), np.zeros(n, np.bool_)
        table, use_strand = self.shelf.pairs, self.step.settings.use_strand
        first, second = spans["allele1"], spans["allele2"]
        strand = spans["strand"] if use_strand else first
        codes = np.empty(n, np.int8)
        allele_codes(data, first, second, strand, use_strand, LETTERS, codes)
        found = table.of_bases[codes]
        for i in np.flatnonzero(codes < 0):
            one, other, side = (
                data[each[i, 0] : each[i, 1]].tobytes().decode("utf-8", "replace") for each in (first, second, strand)
            )
            found[i] = table.coded(one, other, use_strand and side == "-")
        return np.ascontiguousarray(found[:, 0]), found[:, 1] != 0, found[:, 2] != 0

    def _places(self, data: NDArray[np.uint8], spans: dict[str, Spans]) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """Give the number of each line's chromosome, and its position; empty where places are not tracked."""
        if not self.step.settings.track_positions:
            return np.empty(0, np.int32), np.empty(0, np.int64)
        codes, words = np.empty(len(spans["marker"]), np.int32), np.empty((_MOST_CONTIGS, 2), np.int64)
        n_words = number_words(data, spans["chromosome"], codes, words)
        if n_words < 0:
            raise InputFileError(f"{self.step.path}: the column {self.step.settings.chromosome} has more than {_MOST_CONTIGS:,} "
                                 "names in it; is it that of the chromosome?")  # fmt: skip
        names, known = self.shelf.chromosomes, [name.upper() for name in self.shelf.chromosomes]
        numbers = np.empty(n_words, np.int32)
        for i, (start, stop) in enumerate(words[:n_words]):
            name = data[start:stop].tobytes().decode("utf-8", "replace")
            if name.upper() not in known:
                names.append(name)
                known.append(name.upper())
            numbers[i] = known.index(name.upper())
        position, _ = read_numbers(data, spans["position"])
        return numbers[codes], np.nan_to_num(position, nan=-2.0).astype(np.int64)

    def _lambda(self, study: Study) -> float:
        """Give the file's λ as METAL applies it: the upper median of χ², or as set; at least 1."""
        control = self.step.settings.genomic_control
        if not control.on:
            return 1.0
        if control.value is not None:
            return max(1.0, control.value)
        chisq = study.statistic**2
        if self.step.settings.scheme == "stderr":
            chisq = chisq * (1.0 / (study.scale * study.scale))
        if control.markers is not None:
            chisq = chisq[self.shelf.markers.look_up(read_marker_list(control.markers))]
        chisq = chisq[~np.isnan(chisq)]
        if not chisq.size:
            return 1.0
        middle = chisq.size // 2
        return max(1.0, float(np.partition(chisq, middle)[middle]) / METAL_MEDIAN)


def read_marker_list(path: Path) -> list[str]:
    """Read the markers of `GENOMICCONTROL LIST`, one a line.

    Raises
    ------
    InputFileError
        When the file cannot be read or is empty, where METAL would switch genomic control off.
    """
    try:
        names = [line.strip() for line in path.read_text(encoding="utf-8", errors="replace").splitlines()]
    except OSError as error:
        raise InputFileError(f"{path} cannot be read: {error.strerror or error}.") from None
    names = [name for name in names if name]
    if not names:
        raise InputFileError(
            f"{path} lists no markers, and METAL would switch genomic control off; say GENOMICCONTROL OFF."
        )
    return names


@numba.njit(nogil=True, cache=True)
def _admit(  # type: ignore[no-untyped-def]  # pragma: no cover
    marker, valid, pair, negated, complemented, statistic, scale, freq, contig, position, pair_of, complemented_of,
    contig_of, position_of, out_statistic, out_scale, out_freq, admitted, counts,
):  # fmt: skip
    """Let lines in, one by one, that fit what is known of their marker; counts: alleles, duplicates, contigs, positions."""
    for i in range(len(marker)):
        m = marker[i]
        if not valid[i]:
            continue
        if pair[i] >= 0:
            if pair_of[m] < 0:
                pair_of[m] = pair[i]
                complemented_of[m] = complemented[i]
            elif pair_of[m] != pair[i]:
                counts[0] += 1
                continue
        if not np.isnan(out_scale[m]):
            counts[1] += 1
            continue
        if len(contig):
            if contig_of[m] < 0:
                contig_of[m] = contig[i]
            elif contig_of[m] != contig[i]:
                counts[2] += 1
                continue
            if position_of[m] == -1:
                position_of[m] = position[i]
            elif position_of[m] != position[i]:
                counts[3] += 1
                continue
        out_statistic[m] = -statistic[i] if negated[i] else statistic[i]
        out_scale[m] = scale[i]
        if len(freq):
            out_freq[m] = 1.0 - freq[i] if negated[i] else freq[i]
        admitted[i] = True
