"""Conversion of one file set or many: right, independent of chunks and files, and continued after any interruption."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from itertools import pairwise, repeat
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bed_reader import open_bed

from biolmm.errors import InputFileError, OutputError
from biolmm.memory import parse_bytes
from biolmm.store.collection import Collection
from biolmm.store.convert import call_one_by_one, convert, convert_collection, plan_convert
from biolmm.store.packbits import unpack_calls
from biolmm.store.read import GenotypeStore
from biolmm.store.verify import verify

WritePlink = Callable[..., Path]


def all_calls(store: GenotypeStore) -> Any:
    rows = np.concatenate([store.read_rows(chunk) for chunk in range(store.n_chunks)])
    return unpack_calls(rows, rows.size * 4).reshape(len(rows), -1)[:, : store.n_samples]


def draw(n_variants: int, n_samples: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).integers(0, 4, (n_variants, n_samples), dtype=np.uint8)


def test_real_data_equal_those_of_bed_reader(shared_data: Path, tmp_path: Path) -> None:
    bed = shared_data / "mouse_hs1940" / "mouse_hs1940.bed"
    store = convert([bed], tmp_path / "x.zarr")
    with open_bed(bed) as oracle:
        # Markers without a position, -9, are anywhere in this file; the store has the variants in order.
        order = np.lexsort((oracle.bp_position, oracle.chromosome.astype(int)))
        calls = oracle.read(dtype="int8").T[order]
        assert store.sample_id.tolist() == oracle.iid.tolist()
        assert store.variant_id.tolist() == oracle.sid[order].tolist()
        assert store.alt.tolist() == oracle.allele_1[order].tolist()
        assert store.ref.tolist() == oracle.allele_2[order].tolist()
        assert [store.contig_id[i] for i in store.variant_contig] == oracle.chromosome[order].tolist()
    np.testing.assert_array_equal(all_calls(store), np.where(calls == -127, 3, calls))
    np.testing.assert_array_equal(store.alt_count, np.where(calls < 0, 0, calls).sum(axis=1))
    assert store.attributes["provenance"]["n_negative_positions"] == 1926


def test_what_is_replaced_stays_until_the_new_store_is_whole(write_plink: WritePlink, tmp_path: Path) -> None:
    """A damaged file, or a kill: the old store is there, intact, and the same command goes on."""
    old = convert([write_plink(draw(70, 5), name="old")], tmp_path / "x.zarr")
    bed = write_plink(draw(200, 5, seed=1), name="new")

    class Killed(BaseException):
        pass

    def killed(function: Any, items: Sequence[Any], *shared: Any) -> list[Any]:
        function(items[0], *shared)
        raise Killed

    with pytest.raises(Killed):
        convert([bed], tmp_path / "x.zarr", overwrite=True, chunk_variants=64, map_tasks=killed)
    assert GenotypeStore.open(tmp_path / "x.zarr").fingerprint == old.fingerprint
    assert verify(tmp_path / "x.zarr").is_intact
    new = convert([bed], tmp_path / "x.zarr", overwrite=True, chunk_variants=64)
    assert new.n_variants == 200
    assert [path.name for path in tmp_path.iterdir() if "zarr" in path.name] == ["x.zarr"]


@pytest.mark.parametrize("chunk_variants", [64, 128, None])
def test_many_files_equal_one_whatever_the_chunks(
    write_plink: WritePlink, tmp_path: Path, chunk_variants: int | None
) -> None:
    """Parts of 4, 100 and 90 variants in any order: chunks lie within one file and across up to three."""
    calls, bounds = draw(194, 13), [0, 4, 104, 194]
    contigs = ["1"] * 4 + ["chr2"] * 100 + ["23"] * 90
    parts = [
        write_plink(calls[a:b], name=f"part{i}", contigs=contigs[a:b]) for i, (a, b) in enumerate(pairwise(bounds))
    ]
    parts = [parts[1], parts[0], parts[2]]
    store = convert(parts, tmp_path / "parts.zarr", chunk_variants=chunk_variants)
    whole = convert([write_plink(calls, contigs=contigs)], tmp_path / "whole.zarr", chunk_variants=chunk_variants)
    np.testing.assert_array_equal(all_calls(store), calls)
    assert store.contig_id == whole.contig_id == ("1", "2", "X")
    np.testing.assert_array_equal(store.variant_contig, whole.variant_contig)
    np.testing.assert_array_equal(store.chunk_crc32c, whole.chunk_crc32c)


def test_tasks_may_run_in_threads_and_processes(write_plink: WritePlink, tmp_path: Path) -> None:
    bed = write_plink(draw(300, 33))
    pools: list[Executor] = [ThreadPoolExecutor(4), ProcessPoolExecutor(2, mp_context=get_context("spawn"))]
    fingerprints = {convert([bed], tmp_path / "one_by_one", chunk_variants=64).fingerprint}
    for i, pool in enumerate(pools):
        with pool:

            def map_tasks(
                function: Callable[..., None], items: Sequence[int], shared: object, pool: Executor = pool
            ) -> list[None]:
                return list(pool.map(function, items, repeat(shared)))

            store = convert([bed], tmp_path / f"{i}.zarr", chunk_variants=64, map_tasks=map_tasks)
            fingerprints.add(store.fingerprint)
    assert len(fingerprints) == 1


class Recorder:
    """Runs tasks one by one and remembers which."""

    def __init__(self) -> None:
        self.done: list[int] = []

    def __call__(self, function: Callable[..., None], items: Sequence[int], shared: object) -> list[None]:
        self.done.extend(items)
        return call_one_by_one(function, items, shared)


def test_a_crash_is_continued_where_it_stopped(write_plink: WritePlink, tmp_path: Path) -> None:
    bed, recorder = write_plink(draw(300, 33)), Recorder()

    def crash(function: Callable[..., None], items: Sequence[int], shared: object) -> list[None]:
        for item in items[:3]:
            function(item, shared)
        raise RuntimeError("power cut")

    with pytest.raises(RuntimeError, match="power cut"):
        convert([bed], tmp_path / "x.zarr", chunk_variants=64, map_tasks=crash)
    assert not (tmp_path / "x.zarr").exists()
    store = convert([bed], tmp_path / "x.zarr", chunk_variants=64, map_tasks=recorder)
    assert recorder.done == [3, 4]
    assert store.fingerprint == convert([bed], tmp_path / "y.zarr", chunk_variants=64).fingerprint


def test_kill_minus_9_loses_at_most_the_chunk_in_hand(write_plink: WritePlink, tmp_path: Path) -> None:
    bed = write_plink(draw(640, 33))
    program = (
        "import sys, time\n"
        "from biolmm.store.convert import convert\n"
        "def slowly(function, items, shared):\n"
        "    for item in items:\n"
        "        function(item, shared)\n"
        "        time.sleep(0.2)\n"
        "convert([sys.argv[1]], sys.argv[2], chunk_variants=64, map_tasks=slowly)\n"
    )
    markers = tmp_path / "x.zarr.partial" / "markers"
    with subprocess.Popen([sys.executable, "-c", program, str(bed), str(tmp_path / "x.zarr")]) as process:
        deadline = time.monotonic() + 120
        while (not markers.is_dir() or len(list(markers.iterdir())) < 3) and time.monotonic() < deadline:
            time.sleep(0.005)
        os.kill(process.pid, signal.SIGKILL)
    n_kept, recorder = len(list(markers.iterdir())), Recorder()

    store = convert([bed], tmp_path / "x.zarr", chunk_variants=64, map_tasks=recorder)
    assert 3 <= n_kept < 10
    assert len(recorder.done) == 10 - n_kept
    assert store.fingerprint == convert([bed], tmp_path / "y.zarr", chunk_variants=64).fingerprint


def test_a_finished_conversion_is_recognised(write_plink: WritePlink, tmp_path: Path) -> None:
    bed = write_plink(draw(20, 5))
    convert([bed], tmp_path / "x.zarr")
    before = (tmp_path / "x.zarr" / "zarr.json").stat().st_mtime_ns
    convert([bed], tmp_path / "x.zarr")
    assert (tmp_path / "x.zarr" / "zarr.json").stat().st_mtime_ns == before


def test_another_store_is_replaced_only_when_asked(write_plink: WritePlink, tmp_path: Path) -> None:
    old, new = write_plink(draw(20, 5), name="old"), write_plink(draw(20, 5, seed=1), name="new")
    convert([old], tmp_path / "x.zarr")
    with pytest.raises(OutputError, match=r"x\.zarr exists already"):
        convert([new], tmp_path / "x.zarr")
    store = convert([new], tmp_path / "x.zarr", overwrite=True)
    np.testing.assert_array_equal(all_calls(store), draw(20, 5, seed=1))


def test_a_damaged_store_is_replaced_when_asked(write_plink: WritePlink, tmp_path: Path) -> None:
    bed = write_plink(draw(20, 5))
    for file in ("call_alt_count/c/0/0", "chunk_crc32c/c/0"):
        (convert([bed], tmp_path / "x.zarr").path / file).unlink()
        store = convert([bed], tmp_path / "x.zarr", overwrite=True)
        np.testing.assert_array_equal(all_calls(store), draw(20, 5))


def test_nothing_but_a_store_is_ever_removed(write_plink: WritePlink, tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "thesis.tex").write_text("")
    with pytest.raises(OutputError, match="home exists and is not a store of this biolmm"):
        convert([write_plink(draw(20, 5))], tmp_path / "home", overwrite=True)
    assert (tmp_path / "home" / "thesis.tex").exists()


def test_a_bed_changed_meanwhile_is_noticed(write_plink: WritePlink, tmp_path: Path) -> None:
    bed = write_plink(draw(20, 5))

    def meanwhile(function: Callable[..., None], items: Sequence[int], shared: object) -> list[None]:
        os.utime(bed, ns=(1, 1))
        return call_one_by_one(function, items, shared)

    with pytest.raises(InputFileError, match=r"cohort\.bed was changed while it was read"):
        convert([bed], tmp_path / "x.zarr", map_tasks=meanwhile)


def test_the_plan_bounds_what_happens(write_plink: WritePlink, tmp_path: Path) -> None:
    beds = [write_plink(draw(200, 50), name=name) for name in ("a", "b")]
    collection = Collection.open(beds, chunk_variants=64)
    plan = plan_convert(collection, n_workers=2)
    store = convert_collection(collection, tmp_path / "x.zarr")
    assert plan.n_tasks == store.n_chunks == 7
    assert plan.read_bytes == sum(path.stat().st_size for path in tmp_path.glob("*.???"))
    assert store.encoded_bytes <= plan.written_bytes == 7 * 64 * 16
    assert 0 < plan.peak_bytes < parse_bytes("1MB")
