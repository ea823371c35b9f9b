"""Adding, replacing and removing studies of a store."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
from numpy.typing import NDArray

from biolmm.contigs import contig_order, normalise_build
from biolmm.errors import InputFileError, ParameterError, named
from biolmm.places import require_local
from biolmm.stages import content_hash
from biolmm.store.identity import file_identity
from biolmm.store.tasks import MapTasks, call_one_by_one
from biolmm.sumstats.ingest.options import Rules, StudyInput
from biolmm.sumstats.ingest.records import Reader
from biolmm.sumstats.ingest.runs import StudyRuns, rank_again, sampled_ids, write_runs
from biolmm.sumstats.ingest.sources import open_study
from biolmm.sumstats.matrix.kept import ADDED, ALLELES_TURNED, STRAND_TURNED, KeptStudies, added_number
from biolmm.sumstats.matrix.layout import CHUNK_VARIANTS, FREQUENCY, RSID
from biolmm.sumstats.matrix.merge import Variants, merge_stretch
from biolmm.sumstats.matrix.read import SumstatsStore
from biolmm.sumstats.matrix.stretches import (
    STRETCH_ROWS,
    Gathered,
    OldCatalogue,
    cut_genome,
    read_places,
    read_variants,
)
from biolmm.sumstats.matrix.write import Aside, ChunkWriter, Column
from biolmm.sumstats.places import Contigs
from biolmm.sumstats.status import count_by_reason

_log = logging.getLogger("biolmm.sumstats")

_SHARED_IDS = 20
_SHARED_PLACES = 1000


@dataclass(frozen=True)
class Sizes:
    """How work is cut; results do not depend on it."""

    chunk_variants: int = CHUNK_VARIANTS
    stretch_rows: int = STRETCH_ROWS
    block_bytes: int = 16 * 1024**2
    run_rows: int = 1 << 19


def add_studies(path: Path, studies: Sequence[StudyInput], rules: Rules | None = None, *, replacing: bool = False,
                build: str | None = None, sizes: Sizes | None = None,
                map_tasks: MapTasks = call_one_by_one) -> SumstatsStore:  # fmt: skip
    """Add studies to a store, or make a store of them.

    All files are read into sorted records beside the store; one walk along the genome merges them with the catalogue. Until
    the last moment the old store stays as it is; a killed command, given again, continues.

    Parameters
    ----------
    path
        The store.
    studies
        What to add, in the order of the columns.
    rules
        How alleles are harmonised; by default as the store was made.
    replacing
        Put a study of a name that is there in that one's place; without, such a name is refused.
    build
        GRCh37 or GRCh38, of a new store.
    sizes
        Of blocks and chunks, for tests.
    map_tasks
        Runs studies, and columns of a chunk, side by side.

    Raises
    ------
    InputFileError
        When a file cannot be read, its columns are not what their names say, or its positions are of another build.
    ParameterError
        When names are repeated, or rules contradict those of the store.

    Notes
    -----
    **Cost**: about a second a million records and study. Memory: a few blocks of text a worker; records of a stretch and a
    chunk, 200 bytes × (`stretch_rows` + chunk × studies added). Disk beside the store: 90 to 114 bytes a record added, and
    the new store.
    """
    require_local(path, "A store of summary statistics")
    path = Path(path).absolute()
    aside, sizes = Aside(path), sizes or Sizes()
    aside.recover()
    old = SumstatsStore.open(path) if path.exists() else None
    rules = _agreed_rules(old, rules)
    chosen_build = _agreed_build(old, studies, build)
    columns = _columns(old, studies, replacing)
    key = content_hash("add", old.fingerprint if old else None, rules.as_json(), str(rules.reference), chosen_build, replacing,
                       sizes.chunk_variants, [_identity(study) for study in studies])  # fmt: skip
    aside.begin(key)
    runs = _read_all(aside, old, studies, rules, sizes, map_tasks)
    _compare_places(old, studies, runs)
    contigs = Contigs(list(runs[0].meta["others"]))
    ranks = sorted({*(old.contig_ranks if old else []), *(rank for each in runs for rank in each.meta["contig_ranks"])})
    writer = ChunkWriter(aside, old, columns, old.chunk_variants if old else sizes.chunk_variants, rules.exact, contigs,
                         ranks, map_tasks)  # fmt: skip
    n_variants, first_places = _merge_all(writer, old, studies, runs, rules, sizes)
    n_before = 0 if old is None else 1 + max(added_number(old, at) for at in range(old.n_studies))
    for column in columns:
        if column.new is not None:
            column.meta.update(_source(studies[column.new], runs[column.new]))
            column.meta[ADDED] = n_before + column.new
    writer.finish(n_variants, {"rules": rules.as_json(), "build": chosen_build}, first_places)
    return SumstatsStore.open(path)


def remove_studies(path: Path, names: Sequence[str], *, map_tasks: MapTasks = call_one_by_one) -> SumstatsStore:
    """Remove studies from a store. The catalogue keeps its variants, and the others their files, which are linked.

    Frequencies are those of the studies that stay. Palindromic variants whose strand the studies that go have told are
    judged again, and turned where that says otherwise.

    Raises
    ------
    ParameterError
        When there is no such study, or none would be left.
    """
    path = Path(path).absolute()
    aside = Aside(path)
    aside.recover()
    old = SumstatsStore.open(path)
    gone = set(old.find_studies(list(names)))
    columns = [Column(dict(meta), old=at) for at, meta in enumerate(old.studies) if at not in gone]
    if not columns:
        raise ParameterError(f"{path} would have no study left: remove the folder instead.")
    aside.begin(content_hash("remove", old.fingerprint, sorted(gone)))
    contigs = Contigs(list(old.attributes["others"]))
    writer = ChunkWriter(aside, old, columns, old.chunk_variants, old.exact, contigs, old.contig_ranks, map_tasks)
    kept, n_turned = KeptStudies.without(old, gone), 0
    for chunk in range(old.n_chunks):
        variants, before = read_variants(old, chunk, kept), old.read_column(FREQUENCY, chunk)
        n_turned += int(np.count_nonzero(variants.turned))
        if np.array_equal(variants.eaf, before, equal_nan=True) and not variants.turned.any():
            writer.link(chunk)
        else:
            writer.write(chunk, variants, [])
    _say_turned(path, n_turned, 0)
    writer.finish(old.n_variants, {"rules": old.attributes["rules"], "build": old.build}, old.first_places.tolist())
    return SumstatsStore.open(path)


def _agreed_rules(old: SumstatsStore | None, rules: Rules | None) -> Rules:
    if old is None:
        return rules or Rules()
    if rules is None:
        if old.attributes["rules"]["reference"]:
            raise ParameterError(f"{old.path} was made with the reference {old.attributes['rules']['reference']}: give it again "
                                 "with --reference.")  # fmt: skip
        return old.rules
    mine, theirs = rules.as_json(), old.attributes["rules"]
    different = [name for name in mine if mine[name] != theirs[name] and name != "effects_from_z"]
    if different:
        pairs = (f"{name} {theirs[name]} (now {mine[name]})" for name in different)
        raise ParameterError(
            f"{old.path} was made with {named(pairs)}: add with the same rules, or make another store."
        )
    return rules


def _agreed_build(old: SumstatsStore | None, studies: Sequence[StudyInput], build: str | None) -> str | None:
    """Find the one build of everything."""
    known = old.build if old is not None else None
    for what, given in [("--build", None if build is None else normalise_build(build)),
                        *((str(study.path), study.build) for study in studies)]:  # fmt: skip
        if given is None:
            continue
        if known is not None and given != known:
            raise ParameterError(f"{what} is of {given}, but the store is of {known}: lift positions over first.")
        known = given
    return known


def _columns(old: SumstatsStore | None, studies: Sequence[StudyInput], replacing: bool) -> list[Column]:
    if not studies:
        raise ParameterError("There is no study to add.")
    names = [study.name for study in studies]
    repeated = [name for name, n in Counter(names).items() if n > 1]
    if repeated:
        raise ParameterError(f"Several of the files would be called {named(repeated)}: give names with --name.")
    there = list(old.study_id) if old else []
    both = [name for name in names if name in there]
    if both and not replacing:
        raise ParameterError(f"The store has {named(both)} already: use --replace, or another --name.")
    columns = [Column(dict(meta), old=at) for at, meta in enumerate(old.studies)] if old else []
    for at, name in enumerate(names):
        column = Column({"name": name}, new=at)
        if name in there:
            columns[there.index(name)] = column
        else:
            columns.append(column)
    return columns


def _identity(study: StudyInput) -> dict[str, Any]:
    """Say what a study's runs depend on."""
    files = open_study(study.path, study.columns, trait=study.trait, bim=study.bim).paths
    said = {name: getattr(study, name) for name in ("name", "trait", "n", "build", "trait_type")}
    said["bim"] = None if study.bim is None else file_identity(study.bim)
    return {**said, "columns": dict(study.columns), "files": [file_identity(file) for file in files]}


def _read_all(aside: Aside, old: SumstatsStore | None, studies: Sequence[StudyInput], rules: Rules, sizes: Sizes,
              map_tasks: MapTasks) -> list[StudyRuns]:  # fmt: skip
    """Read every study into runs, unless an interrupted command has; then agree on the order of odd contigs."""
    others = list(old.attributes["others"]) if old else []
    sources = [open_study(s.path, s.columns, trait=s.trait, bim=s.bim, block_bytes=sizes.block_bytes) for s in studies]
    place_of_id = None
    if old is not None and any(not source.layout.has("position") for source in sources):
        place_of_id = _places_of_ids(old)

    def read(at: int) -> StudyRuns:
        study, source = studies[at], sources[at]
        key = content_hash(
            _identity(study), rules.as_json(), str(rules.reference), others, old.fingerprint if old else None
        )
        folder = aside.root / "runs" / key
        found = StudyRuns.open(folder)
        if found is None:
            _log.info("reading %s (%s)", study.path, source.layout.format)
            reader = Reader(study, rules, source.layout, Contigs(list(others)), place_of_id)
            found = write_runs(source, reader, folder, run_rows=sizes.run_rows)
        return found

    runs = map_tasks(read, range(len(studies)))
    new = sorted({name for each in runs for name in each.meta["others"]} - set(others), key=contig_order)
    return [rank_again(each, [*others, *new]) for each in runs]


def _places_of_ids(old: SumstatsStore) -> tuple[NDArray[np.int64], NDArray[np.uint64]]:
    """Give the rs numbers of the catalogue, sorted, and their places: 16 bytes a variant."""
    ids, places = [np.empty(0, np.int64)], [np.empty(0, np.uint64)]
    for chunk in range(old.n_chunks):
        rsid = old.read_column(RSID, chunk)
        there = np.flatnonzero(rsid > 0)
        ids.append(rsid[there])
        places.append(read_places(old, chunk)[there])
    joined, order = np.concatenate(ids), np.argsort(np.concatenate(ids), kind="stable")
    return joined[order], np.concatenate(places)[order]


def _compare_places(old: SumstatsStore | None, studies: Sequence[StudyInput], runs: Sequence[StudyRuns]) -> None:
    """Refuse studies whose rs numbers are at other places than the catalogue's, or those of the studies before."""
    ids, places = np.empty(0, np.int64), np.empty(0, np.uint64)
    for chunk in range(old.n_chunks if old is not None else 0):
        assert old is not None
        sample = sampled_ids(old.read_column(RSID, chunk), read_places(old, chunk))
        ids, places = np.concatenate([ids, sample["id"]]), np.concatenate([places, sample["place"]])
    ids, places = _at_one_place(ids, places)
    for study, each in zip(studies, runs, strict=True):
        mine, here = _at_one_place(*each.sample_ids())
        if len(ids):
            at = np.minimum(np.searchsorted(ids, mine), len(ids) - 1)
            shared = ids[at] == mine
            n, same = int(shared.sum()), int((shared & (places[at] == here)).sum())
            if n >= _SHARED_IDS and same < n / 2:
                raise InputFileError(
                    f"{study.path}: of {n:,} rs numbers that were looked at, {n - same:,} are elsewhere in the catalogue: its "
                    "positions are of another build. Lift them over (GRCh37 to GRCh38 or back) first."
                )
        ids, places = _at_one_place(np.concatenate([ids, mine]), np.concatenate([places, here]))


def _at_one_place(ids: NDArray[np.int64], places: NDArray[np.uint64]) -> tuple[NDArray[np.int64], NDArray[np.uint64]]:
    """Sort rs numbers, each once, without those that are at several places."""
    order = np.lexsort((places, ids))
    ids, places = ids[order], places[order]
    first = np.flatnonzero(np.diff(ids, prepend=-1))
    last = np.append(first[1:], len(ids)) - 1
    sure = first[places[first] == places[last]] if len(ids) else first
    return ids[sure], places[sure]


def _merge_all(writer: ChunkWriter, old: SumstatsStore | None, studies: Sequence[StudyInput], runs: Sequence[StudyRuns],
               rules: Rules, sizes: Sizes) -> tuple[int, list[int]]:  # fmt: skip
    """Walk along the genome and write chunks; puts counts by reason into the runs' metadata."""
    catalogue = None
    if old is not None:
        gone = set(range(old.n_studies)) - {column.old for column in writer.columns}
        catalogue = OldCatalogue(old, KeptStudies.without(old, gone))
    know_ref = None if catalogue is None else catalogue.studies.know_ref
    n_turned = np.zeros(3, np.int64)
    gathered = Gathered(len(runs), writer.chunk_variants)
    counts: list[Counter[str]] = [Counter(each.meta["counts"]) for each in runs]
    n_variants = 0
    first_places: list[int] = []
    stretches = cut_genome(old, runs, sizes.stretch_rows)
    for number, (low, high) in enumerate(stretches, 1):
        before = catalogue.read(low, high) if catalogue is not None else Variants.none()
        variants, cells, counted = merge_stretch(before, [each.read(low, high) for each in runs], rules, know_ref)
        n_turned += np.bincount(variants.turned, minlength=3)
        for total, more, part in zip(counts, counted, cells, strict=True):
            total.update(more)
            total.update(count_by_reason(part.status))
        gathered.add(variants, cells)
        for whole, parts in gathered.chunks(all_of_it=number == len(stretches)):
            writer.write(len(first_places), whole, parts)
            first_places.append(int(whole.place[0]))
            n_variants += len(whole)
    for study, each, total in zip(studies, runs, counts, strict=True):
        _check_alleles(study, total)
        each.meta["counts"] = dict(total)
    _say_turned(writer.aside.path, int(n_turned[STRAND_TURNED]), int(n_turned[ALLELES_TURNED]))
    return n_variants, first_places


def _say_turned(path: Path, n_strands: int, n_indels: int) -> None:
    """Warn that numbers of studies that were not asked about have changed their sign."""
    if n_strands:
        _log.warning("%s: %s palindromic variants were of the strand that the frequencies of a study that goes had told; "
                     "by those of the studies that stay they are of the other one, and all these are turned", path,
                     f"{n_strands:,}")  # fmt: skip
    if n_indels:
        _log.warning("%s: %s insertions and deletions, of which no study had said which allele is REF, have been turned to "
                     "the REF of a study that says so, with the studies that were there", path, f"{n_indels:,}")  # fmt: skip


def _check_alleles(study: StudyInput, counts: Counter[str]) -> None:
    """Refuse a study whose alleles are not those of the catalogue at the same places."""
    known, other = counts["known_variants"], counts["other_alleles"]
    if known + other >= _SHARED_PLACES and other > 0.3 * (known + other):
        raise InputFileError(
            f"{study.path}: at {other:,} of {known + other:,} positions that the catalogue has, it has other alleles: its "
            "positions are of another build, or its alleles are mislabelled."
        )


def _source(study: StudyInput, runs: StudyRuns) -> dict[str, Any]:
    """Say where a study comes from, and what became of its records."""
    files = open_study(study.path, study.columns, trait=study.trait, bim=study.bim).paths
    return {
        "name": study.name,
        "source": [
            {"path": str(file.absolute()), "n_bytes": file.stat().st_size, "crc32c": _crc32c(file)} for file in files
        ],
        "format": runs.meta["format"],
        "build": study.build,
        "trait_type": study.trait_type,
        "n": study.n,
        "counts": runs.meta["counts"],
        "ranges": runs.meta["ranges"],
        "warnings": runs.meta["warnings"],
    }


def _crc32c(file: Path) -> int:
    total = 0
    with file.open("rb") as opened:
        while piece := opened.read(1 << 22):
            total = google_crc32c.extend(total, piece)
    return int(total)
