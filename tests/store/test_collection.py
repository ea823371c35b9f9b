"""Many files as one: variants in order, people by id, whatever the files, their order and their encoding."""

from __future__ import annotations

import logging
import pickle
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from biolmm.contigs import contig_order
from biolmm.errors import InputFileError, ParameterError, SampleMismatchError
from biolmm.files.encoding import dosages_from_rows
from biolmm.files.genotypes import Source
from biolmm.store.collection import Collection
from biolmm.store.runs import SEQUENTIAL_GAP

WritePlink = Callable[..., Path]


def all_dosages(collection: Collection) -> Any:
    rows = np.concatenate([collection.read_rows(chunk) for chunk in range(collection.n_chunks)])
    return dosages_from_rows(rows, collection.encoding, collection.n_samples)


def draw(n_variants: int, n_samples: int, seed: int = 0) -> Any:
    values = np.random.default_rng([seed, n_variants]).integers(0, 4, (n_variants, n_samples)).astype(float)
    return np.where(values == 3, np.nan, values)


def places(collection: Collection) -> list[tuple[str, int]]:
    contigs = [collection.contig_id[i] for i in collection.variant_contig]
    return list(zip(contigs, collection.variant_position.tolist(), strict=True))


@st.composite
def files_of_people(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Draw up to four files: people, and variants anywhere in the genome, in any order."""
    files = []
    for i in range(draw(st.integers(1, 4))):
        people = draw(st.lists(st.integers(0, 9), min_size=1, max_size=9, unique=True))
        site = st.tuples(st.sampled_from(["1", "2", "10", "X", "scaffold_2"]), st.integers(1, 40))
        sites = draw(st.lists(site, min_size=1, max_size=90))
        files.append({"people": [f"P{each}" for each in people], "sites": sites, "seed": i})
    return files


@settings(deadline=None, max_examples=60)
@given(
    files=files_of_people(),
    which=st.sampled_from(["intersection", "union"]),
    encoding=st.sampled_from(["calls", "dosage8", "dosage16"]),
)
def test_any_files_are_one_by_definition(
    make_sources: Any, files: list[dict[str, Any]], which: Any, encoding: Any
) -> None:
    """By definition: sort (contig, position, file, row), and look each person up by name."""
    with TemporaryDirectory() as folder:
        values = [draw(len(each["sites"]), len(each["people"]), each["seed"]) for each in files]
        sources = [
            make_sources(Path(folder))(
                value, f"{i}.mem", each["people"], [c for c, _ in each["sites"]], [p for _, p in each["sites"]]
            )
            for i, (each, value) in enumerate(zip(files, values, strict=True))
        ]
        everyone = list(dict.fromkeys(name for each in files for name in each["people"]))
        shared = [name for name in everyone if all(name in each["people"] for each in files)]
        kept = everyone if which == "union" else shared
        if not kept:
            with pytest.raises(SampleMismatchError, match="no sample is in every file"):
                Collection.of(sources, encoding=encoding, samples=which)
            return
        collection = Collection.of(sources, encoding=encoding, samples=which, chunk_variants=64)
        expected = sorted(
            ((contig_order(c), p, i, j) for i, each in enumerate(files) for j, (c, p) in enumerate(each["sites"]))
        )
        assert collection.sample_id.tolist() == kept
        assert collection.variant_id.tolist() == [f"{i}.mem:{j}" for _, _, i, j in expected]
        assert [(contig_order(c), p) for c, p in places(collection)] == [each[:2] for each in expected]
        matrix = np.full((len(expected), len(kept)), np.nan)
        for row, (_, _, i, j) in enumerate(expected):
            for column, name in enumerate(kept):
                if name in files[i]["people"]:
                    matrix[row, column] = values[i][j, files[i]["people"].index(name)]
        np.testing.assert_array_equal(all_dosages(pickle.loads(pickle.dumps(collection))), matrix)


def test_contigs_have_one_spelling_and_their_natural_order(memory_source: Any) -> None:
    a = memory_source(draw(3, 4), "a.mem", contigs=["chr10", "chr2", "chrX"])
    b = memory_source(draw(3, 4), "b.mem", contigs=["23", "MT", "02"])
    collection = Collection.of([a, b])
    assert collection.contig_id == ("2", "10", "X", "MT")
    assert collection.provenance["renamed_contigs"] == {"chr10": "10", "chr2": "2", "chrX": "X", "23": "X", "02": "2"}
    assert places(collection) == [("2", 2), ("2", 3), ("10", 1), ("X", 1), ("X", 3), ("MT", 2)]


def test_sorted_files_are_read_in_one_run_each(memory_source: Any) -> None:
    """The map of a million sorted variants is as small as that of three; a worker's copy has no tables."""
    many = memory_source(np.zeros((50_000, 1)), "many.mem", contigs=["2"] * 50_000)
    few = memory_source(np.zeros((3, 1)), "few.mem", contigs=["1"] * 3)
    collection = Collection.of([many, few])
    assert collection.runs.start.tolist() == [0, 3]
    copy = pickle.loads(pickle.dumps(collection))
    assert copy.fingerprint == collection.fingerprint
    assert len(pickle.dumps(collection)) < 50_000 * 8 + 5_000  # the matrix of the file in memory, and little else
    with pytest.raises(AttributeError, match="has no tables of samples and variants"):
        copy.sample_id  # noqa: B018


def test_people_that_are_not_in_every_file_are_named(memory_source: Any, caplog: pytest.LogCaptureFixture) -> None:
    a = memory_source(draw(2, 3), "a.mem", sample_ids=["x", "y", "z"])
    b = memory_source(draw(2, 3), "b.mem", sample_ids=["z", "w", "x"], contigs=["2", "2"])
    with caplog.at_level(logging.WARNING):
        collection = Collection.of([a, b])
    assert collection.sample_id.tolist() == ["x", "z"]
    assert [message.split(": ", 1)[1] for message in caplog.messages] == [
        "1 samples are not in every file and are left out: y. 2 samples are in all.",
        "1 samples are not in every file and are left out: w. 2 samples are in all.",
    ]
    assert [(each["n_samples"], each["sample_ids"]) for each in collection.provenance["left_out_samples"]] == [
        (1, ["y"]), (1, ["w"])
    ]  # fmt: skip
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        union = Collection.of([a, b], samples="union")
    assert union.sample_id.tolist() == ["x", "y", "z", "w"]
    assert union.family_id.tolist() == ["F-x", "F-y", "F-z", "F-w"]
    assert [message.split(": ", 1)[1] for message in caplog.messages] == [
        "1 of 4 samples are not in it: their genotypes there are missing.",
        "1 of 4 samples are not in it: their genotypes there are missing.",
    ]


def test_sex_is_that_of_the_first_file_that_knows_it(memory_source: Any) -> None:
    a = memory_source(draw(1, 3), "a.mem", sample_ids=["x", "y", "z"])  # unknown, male, female
    b = memory_source(draw(1, 3), "b.mem", sample_ids=["z", "x", "y"])  # x male, y female
    assert Collection.of([a, b]).sex.tolist() == [1, 1, 2]


def test_no_common_sample_is_refused(memory_source: Any) -> None:
    sources = [memory_source(draw(1, 2), f"{each}.mem", sample_ids=[f"{each}1", f"{each}2"]) for each in "ab"]
    with pytest.raises(
        SampleMismatchError, match=r"no sample is in every file: .*a\.mem has 2 \(a1, a2, …\) and .*b\.mem"
    ):
        Collection.of(sources)


def test_a_person_twice_in_a_file_is_refused(memory_source: Any) -> None:
    with pytest.raises(SampleMismatchError, match=r"a\.mem names 1 samples more than once: x"):
        Collection.of([memory_source(draw(1, 3), sample_ids=["x", "y", "x"])])


def test_duplicates_are_counted_and_said_once(memory_source: Any, caplog: pytest.LogCaptureFixture) -> None:
    a = memory_source(draw(3, 2), "a.mem", positions=[5, 5, 6], alleles=["C", "G", "C"])
    b = memory_source(draw(2, 2), "b.mem", positions=[5, 6], alleles=["G", "T"])
    with caplog.at_level(logging.WARNING):
        collection = Collection.of([a, b])
    assert collection.provenance["n_duplicate_variants"] == 1
    assert caplog.messages == ["1 variants repeat the contig, position and alleles of another: all are kept."]
    assert collection.variant_id.tolist() == ["a.mem:0", "a.mem:1", "b.mem:0", "a.mem:2", "b.mem:1"]


def test_an_unsorted_file_needs_random_access(memory_source: Any) -> None:
    values = draw(4, 2)
    collection = Collection.of([memory_source(values, positions=[9, 3, 7, 1])])
    assert not collection.provenance["was_in_order"]
    np.testing.assert_array_equal(all_dosages(collection), values[[3, 1, 2, 0]])
    with pytest.raises(
        InputFileError, match=r"a\.mem is not sorted: variant 2 at 1:3 comes after 1:9, .* bcftools sort"
    ):
        Collection.of([memory_source(values, positions=[9, 3, 7, 1], random_access=False)])


def test_a_file_to_be_read_in_order_is_not_begun_again_for_every_variant(memory_source: Any) -> None:
    """Every other variant is of the other file; each is read in one go a chunk."""
    a = memory_source(draw(64, 2), "a.mem", positions=range(0, 128, 2), random_access=False)
    b = memory_source(draw(64, 2, 1), "b.mem", positions=range(1, 129, 2))
    collection = Collection.of([a, b], chunk_variants=64)
    for chunk in range(2):
        collection.read_rows(chunk)
    assert a.decoder.reads == [(0, 32), (32, 64)]
    far = memory_source(draw(2000, 2), "c.mem", positions=[3 * i for i in range(2000)], random_access=False)
    between = memory_source(draw(1, 2), "d.mem", positions=[10])
    assert SEQUENTIAL_GAP < 2000
    Collection.of([far, between], chunk_variants=64).read_rows(0)
    assert far.decoder.reads == [(0, 63)]


def test_files_that_make_no_collection_are_refused(memory_source: Any, tmp_path: Path) -> None:
    source = memory_source(draw(2, 2))
    (tmp_path / "folder").mkdir()
    (tmp_path / "link.mem").symlink_to(source.path)
    again = Source(**{**source.__dict__, "path": tmp_path / "link.mem"})
    for sources, message in (([], "no genotype file was given"), ([source, again], r"link\.mem was given twice")):
        with pytest.raises(ParameterError, match=message):
            Collection.of(sources)
    with pytest.raises(InputFileError, match=r"a\.mem holds no variants"):
        Collection.of([memory_source(np.zeros((0, 3)))])
    with pytest.raises(ParameterError, match="encoding is 'bits': give auto, calls, dosage8 or dosage16"):
        Collection.of([source], encoding="bits")  # type: ignore[arg-type]
    with pytest.raises(ParameterError, match="samples is 'all': give 'intersection' or 'union'"):
        Collection.of([source], samples="all")  # type: ignore[arg-type]


def test_the_encoding_follows_the_files(memory_source: Any) -> None:
    calls, dosages = memory_source(draw(2, 2), "a.mem"), memory_source(draw(2, 2) / 2, "b.mem")
    assert Collection.of([calls]).encoding.value == "calls"
    assert Collection.of([calls, dosages]).encoding.value == "dosage8"
    assert Collection.of([calls, dosages], encoding="calls").encoding.value == "calls"


def test_quality_is_that_of_the_whole_file_and_is_remembered(memory_source: Any) -> None:
    values = np.random.default_rng(0).uniform(0, 2, (130, 9))
    a = memory_source(values, "a.mem")
    b = memory_source(values[:, :4], "b.mem", contigs=["2"] * 130)
    alone, both = Collection.of([a], chunk_variants=64), Collection.of([a, b], chunk_variants=64)
    variants = np.array([129, 3, 70])
    np.testing.assert_array_equal(both.read_quality(variants).r2, alone.read_quality(variants).r2)
    theta = values[variants].mean(axis=1) / 2
    by_definition = values[variants].var(axis=1) / (2 * theta * (1 - theta))
    np.testing.assert_allclose(alone.read_quality(variants).r2, by_definition, rtol=1e-6)
    both.read_rows(0)
    n_reads = len(a.decoder.reads)
    both.read_quality(np.arange(64))
    assert len(a.decoder.reads) == n_reads
    assert Collection.of([a], encoding="calls").read_quality(variants) is None


def test_the_fingerprint_follows_files_people_and_encoding(memory_source: Any, write_plink: WritePlink) -> None:
    source = memory_source(draw(5, 4))
    first = Collection.of([source]).fingerprint
    assert Collection.of([source], chunk_variants=64).fingerprint == first
    assert Collection.of([source], encoding="dosage8").fingerprint != first
    other = memory_source(draw(5, 4), "b.mem", sample_ids=["S0", "S2", "T1", "T2"])
    assert Collection.of([source, other]).fingerprint != Collection.of([source, other], samples="union").fingerprint
    source.path.touch()
    assert Collection.of([source]).fingerprint != first


def test_plink_files_open_by_pattern(write_plink: WritePlink, tmp_path: Path) -> None:
    calls = np.random.default_rng(5).integers(0, 4, (30, 7), dtype=np.uint8)
    for i in (10, 2, 1):
        write_plink(calls[: i + 5], name=f"c{i}", contigs=[f"chr{i}"] * (i + 5))
    for pattern in ([tmp_path / "c*.bed"], [tmp_path / "c{1,2,10}"], [str(tmp_path / "c{10,2,1}.bed")]):
        collection = Collection.open(pattern)
        assert collection.contig_id == ("1", "2", "10")
        expected = np.concatenate([calls[:6], calls[:7], calls[:15]]).astype(float)
        np.testing.assert_array_equal(all_dosages(collection), np.where(expected == 3, np.nan, expected))


def test_a_damaged_file_is_named_while_it_is_read(write_plink: WritePlink) -> None:
    bed = write_plink(np.zeros((200, 9), np.uint8))
    collection = Collection.open([bed], chunk_variants=64)
    bed.write_bytes(bed.read_bytes()[:300])
    with pytest.raises(InputFileError, match=r"cohort\.bed is truncated: variants 65 to 128 take 192 bytes"):
        collection.read_rows(1)
